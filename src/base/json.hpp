// JSON values (RFC 8259): read from text, asked for what they hold, written as text. Threads: as a std::string.
#pragma once

#include <charconv>
#include <concepts>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace anyhyve {

class Json {
public:
    enum class Kind : unsigned char { null, boolean, number, text, array, object };
    struct Member;

    static constexpr int deepest_nesting = 32;

    Json() = default;
    Json(bool value) : m_kind(Kind::boolean), m_text(value ? "true" : "false") {}
    Json(std::integral auto value) : m_kind(Kind::number), m_text(std::to_string(value)) {}
    Json(std::string value) : m_kind(Kind::text), m_text(std::move(value)) {}
    Json(char const* value) : Json(std::string(value)) {}
    static Json array();
    static Json object(std::initializer_list<Member> members);
    static Json object();

    // Refuses whatever is no JSON in UTF-8, and what is nested more than deepest_nesting deep. Of members with one name the last counts.
    static Result<Json> parse(std::string_view);
    // On one line. Bytes of texts that are no UTF-8 become U+FFFD.
    std::string dump() const;

    Kind kind() const { return m_kind; }
    // Of an array; what the members of an object hold.
    std::vector<Json> const& elements() const { return m_elements; }
    void append(Json element) { m_elements.push_back(std::move(element)); }
    // Of an object; nullptr when it has none of this name, or is none.
    Json const* find(std::string_view name) const;
    void set(std::string name, Json value);

    // bool, std::string, an integer type, or a vector of these. EINVAL: it is something else, or does not fit.
    template<typename Value>
    Result<Value> get() const;
    // What a member holds. The error names it.
    template<typename Value>
    Result<Value> get(std::string_view name) const
    {
        Json const* const member = find(name);
        if (!member)
            return make_error(EINVAL, "there is no '{}'", name);
        auto value = member->get<Value>();
        if (!value.ok())
            return make_error(EINVAL, "'{}' {}", name, value.error().message());
        return value;
    }
    bool operator==(Json const&) const = default;

private:
    friend class JsonBuilder;
    template<typename Value>
    struct Reader;

    void write(std::string& text) const;

    Kind m_kind = Kind::null;
    std::string m_text; // of a number and a boolean as JSON has it, of a text what it means
    std::vector<Json> m_elements;
    std::vector<std::string> m_names; // of an object: one for each element
};

struct Json::Member {
    std::string name;
    Json value;
};

// `text` in quotes, as Json::dump() writes it.
void append_json_text(std::string& to, std::string_view text);

template<>
struct Json::Reader<bool> {
    static Result<bool> read(Json const& json)
    {
        if (json.m_kind != Kind::boolean)
            return Error("is neither true nor false", EINVAL);
        return json.m_text == "true";
    }
};

template<>
struct Json::Reader<std::string> {
    static Result<std::string> read(Json const& json)
    {
        if (json.m_kind != Kind::text)
            return Error("is no text", EINVAL);
        return json.m_text;
    }
};

template<std::integral Number>
struct Json::Reader<Number> {
    static Result<Number> read(Json const& json)
    {
        Number number {};
        char const* const end = json.m_text.data() + json.m_text.size();
        auto const [parsed_end, error] = std::from_chars(json.m_text.data(), end, number);
        if (json.m_kind != Kind::number || error != std::errc {} || parsed_end != end)
            return Error("is no whole number, or does not fit", EINVAL);
        return number;
    }
};

template<typename Element>
struct Json::Reader<std::vector<Element>> {
    static Result<std::vector<Element>> read(Json const& json)
    {
        if (json.m_kind != Kind::array)
            return Error("is no list", EINVAL);
        std::vector<Element> list;
        for (auto const& element : json.m_elements)
            list.push_back(TRY(element.get<Element>()));
        return list;
    }
};

template<typename Value>
Result<Value> Json::get() const
{
    return Reader<Value>::read(*this);
}

} // namespace anyhyve
