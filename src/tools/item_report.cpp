// What a tool answers, item by item.
#include "tools/item_report.hpp"

#include <cstdio>

#include <fmt/core.h>

#include "tools/profile_report.hpp"

namespace anyhyve::tools {

ItemReport::ItemReport(Form form, std::string_view machine)
    : m_form(form)
{
    m_json.begin_object().text("vm", machine).begin_array("items");
}

void ItemReport::line(std::string_view text)
{
    m_written &= std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
}

void ItemReport::register_value(std::string_view name, unsigned vcpu, u64 value)
{
    std::string const hex = fmt::format("0x{:016x}", value);
    if (m_form == Form::json)
        m_json.begin_object().text("name", name).number("vcpu", vcpu).text("value", hex).end_object();
    else
        line(fmt::format("{}[{}]\t{}\n", name, vcpu, hex));
}

void ItemReport::descriptor(std::string_view name, unsigned vcpu, u64 base, u32 limit, u32 access)
{
    std::string const base_text = fmt::format("0x{:016x}", base), limit_text = fmt::format("0x{:08x}", limit), access_text = fmt::format("0x{:08x}", access);
    if (m_form == Form::json)
        m_json.begin_object().text("name", fmt::format("desc-{}", name)).number("vcpu", vcpu).text("base", base_text).text("limit", limit_text).text("access", access_text).end_object();
    else
        line(fmt::format("{} desc[{}]\t{}/{}/{}\n", name, vcpu, base_text, limit_text, access_text));
}

void ItemReport::text(std::string_view name, std::string_view value)
{
    if (m_form == Form::json)
        m_json.begin_object().text("name", name).text("value", value).end_object();
    else
        line(fmt::format("{}\t{}\n", name, value));
}

void ItemReport::number(std::string_view name, u64 value)
{
    text(name, fmt::format("0x{:016x}", value));
}

// vm-bhyve takes the third word of the line "Resident memory".
void ItemReport::counter(std::string_view name, u64 value)
{
    if (m_form == Form::json)
        m_json.begin_object().text("name", name).number("value", value).end_object();
    else
        line(fmt::format("{:<40}\t{}\n", name, value));
}

void ItemReport::profile(Profile const& profile)
{
    if (m_form == Form::lines)
        return line(profile_text(profile));
    m_json.begin_object().text("name", "profile");
    write_profile(m_json, profile);
    m_json.end_object();
}

bool ItemReport::finish()
{
    m_json.end_array().end_object();
    if (m_form == Form::json)
        line(m_json.result() + "\n");
    return std::fflush(stdout) == 0 && m_written;
}

} // namespace anyhyve::tools
