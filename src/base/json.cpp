// Reading JSON, through the library nlohmann-json, and writing it.
#include "base/json.hpp"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "base/integer.hpp"

namespace anyhyve {

namespace {

constexpr std::string_view replacement = "\xef\xbf\xbd"; // U+FFFD

// Bytes of the well-formed UTF-8 sequence at the beginning (Unicode standard, table 3-7); 0: there is none.
std::size_t sequence_length(std::string_view text)
{
    auto const byte = [&](std::size_t i) { return i < text.size() ? static_cast<u8>(text[i]) : u8 { 0 }; };
    u8 const first = byte(0), second = byte(1);
    if (first < 0x80)
        return 1;
    std::size_t const length = first >= 0xc2 && first <= 0xdf ? 2 : (first & 0xf0) == 0xe0 ? 3 : first >= 0xf0 && first <= 0xf4 ? 4 : 0;
    u8 const lowest = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    u8 const highest = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (length == 0 || second < lowest || second > highest)
        return 0;
    for (std::size_t i = 2; i < length; ++i) {
        if ((byte(i) & 0xc0) != 0x80)
            return 0;
    }
    return length;
}

} // namespace

void append_json_text(std::string& to, std::string_view text)
{
    to += '"';
    while (!text.empty()) {
        std::size_t const length = sequence_length(text);
        auto const byte = static_cast<u8>(text.front());
        if (length == 0)
            to += replacement;
        else if (byte < 0x20)
            to += fmt::format("\\u{:04x}", byte);
        else if (byte == '"' || byte == '\\')
            (to += '\\') += text.front();
        else
            to += text.substr(0, length);
        text.remove_prefix(std::max<std::size_t>(length, 1));
    }
    to += '"';
}

// What nlohmann's reader finds, put together. Each function tells whether it shall go on; the arguments' types are the reader's.
class JsonBuilder final : public nlohmann::json::json_sax_t {
public:
    explicit JsonBuilder(Json& root) : m_root(root) {}
    bool too_deep() const { return m_too_deep; }

    bool null() override { return place({}); }
    bool boolean(bool value) override { return place(value); }
    bool number_integer(number_integer_t value) override { return place(value); }
    bool number_unsigned(number_unsigned_t value) override { return place(value); }
    bool number_float(number_float_t, string_t const& as_written) override
    {
        Json json = 0;
        json.m_text = as_written;
        return place(std::move(json));
    }
    bool string(string_t& value) override { return place(std::move(value)); }
    bool binary(binary_t&) override { return false; }
    bool start_object(std::size_t) override { return open(Json::object()); }
    bool key(string_t& name) override
    {
        m_open.back()->m_names.push_back(std::move(name));
        return true;
    }
    bool end_object() override { return close(); }
    bool start_array(std::size_t) override { return open(Json::array()); }
    bool end_array() override { return close(); }
    bool parse_error(std::size_t, std::string const&, nlohmann::detail::exception const&) override { return false; }

private:
    bool place(Json value)
    {
        if (m_open.empty())
            m_root = std::move(value);
        else
            m_open.back()->m_elements.push_back(std::move(value));
        return true;
    }
    bool open(Json container)
    {
        m_too_deep = m_open.size() == Json::deepest_nesting;
        if (m_too_deep)
            return false;
        place(std::move(container));
        m_open.push_back(m_open.empty() ? &m_root : &m_open.back()->m_elements.back());
        return true;
    }
    bool close()
    {
        m_open.pop_back();
        return true;
    }

    Json& m_root;
    std::vector<Json*> m_open; // arrays and objects around what comes next; each the last element of the one before
    bool m_too_deep = false;
};

Result<Json> Json::parse(std::string_view text)
{
    Json json;
    JsonBuilder builder(json);
    if (nlohmann::json::sax_parse(text.begin(), text.end(), &builder))
        return json;
    if (builder.too_deep())
        return make_error(EINVAL, "The values are nested more than {} deep.", deepest_nesting);
    return Error("This is no JSON.", EINVAL);
}

Json Json::array()
{
    Json json;
    json.m_kind = Kind::array;
    return json;
}

Json Json::object()
{
    Json json;
    json.m_kind = Kind::object;
    return json;
}

Json Json::object(std::initializer_list<Member> members)
{
    Json json = object();
    for (auto const& member : members)
        json.set(member.name, member.value);
    return json;
}

Json const* Json::find(std::string_view name) const
{
    for (std::size_t i = m_names.size(); i-- > 0;) {
        if (m_names[i] == name)
            return &m_elements[i];
    }
    return nullptr;
}

void Json::set(std::string name, Json value)
{
    m_names.push_back(std::move(name));
    m_elements.push_back(std::move(value));
}

void Json::write(std::string& text) const
{
    char const* separator = "";
    switch (m_kind) {
    case Kind::null: text += "null"; break;
    case Kind::boolean:
    case Kind::number: text += m_text; break;
    case Kind::text: append_json_text(text, m_text); break;
    case Kind::array:
        text += '[';
        for (auto const& element : m_elements) {
            text += separator;
            element.write(text);
            separator = ",";
        }
        text += ']';
        break;
    case Kind::object:
        text += '{';
        for (std::size_t i = 0; i < m_names.size(); ++i) {
            text += separator;
            append_json_text(text, m_names[i]);
            text += ':';
            m_elements[i].write(text);
            separator = ",";
        }
        text += '}';
    }
}

std::string Json::dump() const
{
    std::string text;
    write(text);
    return text;
}

} // namespace anyhyve
