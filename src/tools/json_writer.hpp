// JSON text, written member by member (RFC 8259). Threads: one.
#pragma once

#include <string>
#include <string_view>

#include "base/integer.hpp"

namespace anyhyve::tools {

class JsonWriter {
public:
    // Members of an object take a key, elements of an array an empty one.
    JsonWriter& begin_object(std::string_view key = {}) { return begin(key, '{'); }
    JsonWriter& end_object() { return end('}'); }
    JsonWriter& begin_array(std::string_view key = {}) { return begin(key, '['); }
    JsonWriter& end_array() { return end(']'); }
    JsonWriter& text(std::string_view key, std::string_view value);
    JsonWriter& number(std::string_view key, u64 value);
    JsonWriter& boolean(std::string_view key, bool value);

    std::string const& result() const { return m_text; }

private:
    JsonWriter& begin(std::string_view key, char bracket);
    JsonWriter& end(char bracket);
    void start_value(std::string_view key);

    std::string m_text;
    bool m_needs_comma = false;
};

} // namespace anyhyve::tools
