// Reading and writing JSON.
#include "base/json.hpp"

#include <algorithm>

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

void append_utf8(std::string& to, u32 code)
{
    auto const put = [&](u32 byte) { to += static_cast<char>(byte); };
    if (code < 0x80)
        return put(code);
    if (code < 0x800) {
        put(0xc0 | code >> 6);
    } else {
        if (code < 0x10000) {
            put(0xe0 | code >> 12);
        } else {
            put(0xf0 | code >> 18);
            put(0x80 | (code >> 12 & 0x3f));
        }
        put(0x80 | (code >> 6 & 0x3f));
    }
    put(0x80 | (code & 0x3f));
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

// Takes a text apart from its beginning. Each function leaves what it has not taken; false: this is no JSON.
class JsonParser {
public:
    explicit JsonParser(std::string_view text) : m_rest(text) {}

    bool read_all(Json& json) { return read_value(json, 0) && (skip_space(), m_rest.empty()); }
    bool too_deep() const { return m_too_deep; }

private:
    void skip_space() { m_rest.remove_prefix(std::min(m_rest.find_first_not_of(" \t\r\n"), m_rest.size())); }
    bool take(std::string_view expected)
    {
        bool const found = m_rest.starts_with(expected);
        if (found)
            m_rest.remove_prefix(expected.size());
        return found;
    }
    bool take_after_space(char expected)
    {
        skip_space();
        return take({ &expected, 1 });
    }
    bool read_value(Json&, int depth);
    bool read_array(Json&, int depth);
    bool read_object(Json&, int depth);
    bool read_number(std::string&);
    bool read_digits(std::size_t& at) const;
    bool read_text(std::string&);
    bool read_escape(std::string&);
    bool read_code_unit(u32&);

    std::string_view m_rest;
    bool m_too_deep = false;
};

bool JsonParser::read_value(Json& json, int depth)
{
    skip_space();
    if (m_rest.empty())
        return false;
    switch (m_rest.front()) {
    case '{':
    case '[':
        if (depth == Json::deepest_nesting) {
            m_too_deep = true;
            return false;
        }
        return m_rest.front() == '{' ? read_object(json, depth + 1) : read_array(json, depth + 1);
    case '"':
        json.m_kind = Json::Kind::text;
        return read_text(json.m_text);
    case 't':
        json = true;
        return take("true");
    case 'f':
        json = false;
        return take("false");
    case 'n':
        return take("null");
    default:
        json.m_kind = Json::Kind::number;
        return read_number(json.m_text);
    }
}

bool JsonParser::read_array(Json& json, int depth)
{
    json.m_kind = Json::Kind::array;
    take("[");
    if (take_after_space(']'))
        return true;
    do {
        if (!read_value(json.m_elements.emplace_back(), depth))
            return false;
    } while (take_after_space(','));
    return take("]");
}

bool JsonParser::read_object(Json& json, int depth)
{
    json.m_kind = Json::Kind::object;
    take("{");
    if (take_after_space('}'))
        return true;
    do {
        skip_space();
        if (!read_text(json.m_names.emplace_back()) || !take_after_space(':') || !read_value(json.m_elements.emplace_back(), depth))
            return false;
    } while (take_after_space(','));
    return take("}");
}

// At least one.
bool JsonParser::read_digits(std::size_t& at) const
{
    std::size_t const begin = at;
    while (at < m_rest.size() && m_rest[at] >= '0' && m_rest[at] <= '9')
        ++at;
    return at != begin;
}

bool JsonParser::read_number(std::string& number)
{
    auto const at_one_of = [&](std::size_t at, std::string_view characters) { return at < m_rest.size() && characters.find(m_rest[at]) != characters.npos; };
    std::size_t end = at_one_of(0, "-") ? 1 : 0;
    bool const zero = at_one_of(end, "0");
    std::size_t const begin = end;
    if (!read_digits(end) || (zero && end != begin + 1))
        return false;
    if (at_one_of(end, ".") && !read_digits(++end))
        return false;
    if (at_one_of(end, "eE")) {
        ++end;
        if (at_one_of(end, "+-"))
            ++end;
        if (!read_digits(end))
            return false;
    }
    number = m_rest.substr(0, end);
    m_rest.remove_prefix(end);
    return true;
}

bool JsonParser::read_text(std::string& text)
{
    if (!take("\""))
        return false;
    while (!m_rest.empty()) {
        if (take("\""))
            return true;
        if (take("\\")) {
            if (!read_escape(text))
                return false;
            continue;
        }
        std::size_t const length = sequence_length(m_rest);
        if (length == 0 || static_cast<u8>(m_rest.front()) < 0x20)
            return false;
        text += m_rest.substr(0, length);
        m_rest.remove_prefix(length);
    }
    return false;
}

bool JsonParser::read_code_unit(u32& unit)
{
    if (m_rest.size() < 4)
        return false;
    auto const [end, error] = std::from_chars(m_rest.data(), m_rest.data() + 4, unit, 16);
    bool const whole = error == std::errc {} && end == m_rest.data() + 4;
    m_rest.remove_prefix(4);
    return whole;
}

// Behind the backslash.
bool JsonParser::read_escape(std::string& text)
{
    constexpr std::string_view letters = "\"\\/bfnrt", meanings = "\"\\/\b\f\n\r\t";
    if (m_rest.empty())
        return false;
    auto const letter = letters.find(m_rest.front());
    if (letter != letters.npos) {
        text += meanings[letter];
        m_rest.remove_prefix(1);
        return true;
    }
    u32 unit = 0, second = 0;
    if (!take("u") || !read_code_unit(unit))
        return false;
    if (unit >= 0xd800 && unit <= 0xdfff) { // the first half of a pair
        if (unit >= 0xdc00 || !take("\\u") || !read_code_unit(second) || second < 0xdc00 || second > 0xdfff)
            return false;
        unit = 0x10000 + ((unit - 0xd800) << 10 | (second - 0xdc00));
    }
    append_utf8(text, unit);
    return true;
}

Result<Json> Json::parse(std::string_view text)
{
    JsonParser parser(text);
    Json json;
    if (parser.read_all(json))
        return json;
    if (parser.too_deep())
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
