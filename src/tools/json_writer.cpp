// JSON text, written member by member.
#include "tools/json_writer.hpp"

#include <fmt/core.h>

namespace anyhyve::tools {

void JsonWriter::append_string(std::string_view value)
{
    m_text += '"';
    for (char const c : value) {
        auto const byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') {
            m_text += '\\';
            m_text += c;
        } else if (byte < 0x20) {
            m_text += fmt::format("\\u{:04x}", byte);
        } else {
            m_text += c;
        }
    }
    m_text += '"';
}

void JsonWriter::start_value(std::string_view key)
{
    if (m_needs_comma)
        m_text += ',';
    m_needs_comma = true;
    if (key.empty())
        return;
    append_string(key);
    m_text += ':';
}

JsonWriter& JsonWriter::begin(std::string_view key, char bracket)
{
    start_value(key);
    m_text += bracket;
    m_needs_comma = false;
    return *this;
}

JsonWriter& JsonWriter::end(char bracket)
{
    m_text += bracket;
    m_needs_comma = true;
    return *this;
}

JsonWriter& JsonWriter::text(std::string_view key, std::string_view value)
{
    start_value(key);
    append_string(value);
    return *this;
}

JsonWriter& JsonWriter::number(std::string_view key, u64 value)
{
    start_value(key);
    m_text += fmt::format("{}", value);
    return *this;
}

JsonWriter& JsonWriter::boolean(std::string_view key, bool value)
{
    start_value(key);
    m_text += value ? "true" : "false";
    return *this;
}

} // namespace anyhyve::tools
