// What a tool answers, item by item: lines of name and value, or one JSON object. Threads: one.
#pragma once

#include <string_view>

#include "tools/json_writer.hpp"
#include "vmm/profile.hpp"

namespace anyhyve::tools {

class ItemReport {
public:
    enum class Form { lines, json };
    ItemReport(Form form, std::string_view machine);

    // rip[0]<TAB>0x00000000000fff0
    void register_value(std::string_view name, unsigned vcpu, u64 value);
    // ds desc[0]<TAB>base/limit/access
    void descriptor(std::string_view name, unsigned vcpu, u64 base, u32 limit, u32 access);
    void text(std::string_view name, std::string_view value);
    void number(std::string_view name, u64 value);         // as 0x...
    void counter(std::string_view name, u64 value);        // decimal, in a column
    void profile(Profile const&);
    // Ends the answer. False: it could not be written.
    bool finish();

private:
    void line(std::string_view text);

    Form const m_form;
    JsonWriter m_json;
    bool m_written = true;
};

} // namespace anyhyve::tools
