// A machine's profile as a text for people and as JSON.
#include "tools/profile_report.hpp"

#include <fmt/core.h>

#include "tools/hexadecimal.hpp"

namespace anyhyve::tools {

namespace {

std::string milliseconds(u64 microseconds)
{
    return fmt::format("{}.{:03}", microseconds / 1000, microseconds % 1000);
}

double percent(u64 part, u64 whole)
{
    return whole ? 100.0 * static_cast<double>(part) / static_cast<double>(whole) : 0;
}

std::string section_text(ProfileSection const& section, u64 whole)
{
    std::string text = fmt::format("\n{}\n", section.title);
    for (auto const& row : section.rows) {
        if (row.value == 0)
            continue;
        text += fmt::format("  {:>16}", row.value);
        if (whole)
            text += fmt::format("  {:5.1f} %", percent(row.value, whole));
        text += fmt::format("  {}\n", row.name);
    }
    return text;
}

std::string hot_code_text(HotCode const& code, u64 samples)
{
    std::string text = fmt::format("\n  {:5.1f} %  {:x} {} (physical {:x}): {} samples, {} bytes of guest code, {} of host code{}\n", percent(code.samples, samples), code.rip,
        code.mode, code.physical, code.samples, code.bytes.size(), code.host_size, code.changed ? "; overwritten since" : "");
    for (auto const& line : code.instructions)
        text += fmt::format("           {}\n", line);
    return text;
}

} // namespace

std::string profile_text(Profile const& profile)
{
    std::string text = fmt::format("Time of virtual CPUs\n  {:>16} ms running\n  {:>16} ms halted or waiting\n  {:>16} ms translating, {:.2f} % of running\n",
        milliseconds(profile.run_microseconds), milliseconds(profile.halted_microseconds), milliseconds(profile.translation_microseconds),
        percent(profile.translation_microseconds, profile.run_microseconds));
    for (std::size_t i = 0; i < profile.sections.size(); ++i)
        text += section_text(profile.sections[i], profile.detailed && i == 0 ? profile.samples : 0);
    if (!profile.detailed)
        return text + "\nThe machine was started without --profile: there are no samples and no counters of translated code.\n";
    text += fmt::format("\nSamples: {} while running, {} while halted or waiting\n", profile.samples, profile.samples_waiting);
    if (profile.samples_lost)
        text += fmt::format("{} samples were lost.\n", profile.samples_lost);
    text += "\nHottest blocks\n";
    for (auto const& code : profile.hottest)
        text += hot_code_text(code, profile.samples);
    return text;
}

void write_profile(JsonWriter& json, Profile const& profile)
{
    json.boolean("detailed", profile.detailed).number("run_microseconds", profile.run_microseconds).number("halted_microseconds", profile.halted_microseconds);
    json.number("translation_microseconds", profile.translation_microseconds).number("samples", profile.samples).number("samples_waiting", profile.samples_waiting);
    json.number("samples_lost", profile.samples_lost);
    json.begin_array("sections");
    for (auto const& section : profile.sections) {
        json.begin_object().text("title", section.title).begin_array("rows");
        for (auto const& row : section.rows)
            json.begin_object().text("name", row.name).number("value", row.value).end_object();
        json.end_array().end_object();
    }
    json.end_array().begin_array("hottest");
    for (auto const& code : profile.hottest) {
        json.begin_object().text("rip", fmt::format("0x{:016x}", code.rip)).text("physical", fmt::format("0x{:016x}", code.physical)).text("mode", code.mode);
        json.number("samples", code.samples).number("host_size", code.host_size).boolean("changed", code.changed).text("bytes", to_hexadecimal(code.bytes));
        json.begin_array("instructions");
        for (auto const& line : code.instructions)
            json.text({}, line);
        json.end_array().end_object();
    }
    json.end_array();
}

std::string profile_json(Profile const& profile)
{
    JsonWriter json;
    json.begin_object();
    write_profile(json, profile);
    json.end_object();
    return json.result();
}

} // namespace anyhyve::tools
