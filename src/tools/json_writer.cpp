// JSON text, written member by member.
#include "tools/json_writer.hpp"

#include "base/json.hpp"

namespace anyhyve::tools {

void JsonWriter::start_value(std::string_view key)
{
    if (m_needs_comma)
        m_text += ',';
    m_needs_comma = true;
    if (key.empty())
        return;
    append_json_text(m_text, key);
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
    append_json_text(m_text, value);
    return *this;
}

JsonWriter& JsonWriter::number(std::string_view key, u64 value)
{
    start_value(key);
    m_text += std::to_string(value);
    return *this;
}

JsonWriter& JsonWriter::boolean(std::string_view key, bool value)
{
    start_value(key);
    m_text += value ? "true" : "false";
    return *this;
}

} // namespace anyhyve::tools
