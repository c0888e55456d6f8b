// A machine that a bhyve process runs, asked through its control socket.
#include "tools/running_machine.hpp"

#include <nlohmann/json.hpp>

#include "machine/saved_state.hpp"
#include "tools/hexadecimal.hpp"
#include "vmm/cpu_state_codec.hpp"

namespace anyhyve::tools {

using Json = nlohmann::json;

namespace {

// Answers come from a process of the same user, but may be another version's.
template<typename Value>
Result<Value> member(Json const& answer, char const* name)
{
    try {
        return answer.at(name).get<Value>();
    } catch (Json::exception const&) {
        return make_error(EPROTO, "the machine's answer has no '{}' that makes sense", name);
    }
}

u64 hexadecimal_number(Json const& text)
{
    return std::stoull(text.get<std::string>(), nullptr, 16);
}

HotCode hot_code_of(Json const& row)
{
    HotCode code { .rip = hexadecimal_number(row.at("rip")), .physical = hexadecimal_number(row.at("physical")), .mode = row.at("mode"), .samples = row.at("samples"),
        .host_size = row.at("host_size"), .changed = row.at("changed"), .bytes = {}, .instructions = row.at("instructions").get<std::vector<std::string>>() };
    if (auto bytes = from_hexadecimal(row.at("bytes").get<std::string>()); bytes.ok())
        code.bytes = bytes.release_value();
    return code;
}

// Throws where the answer is not what write_profile() writes.
Profile profile_of(Json const& answer)
{
    Profile profile { .detailed = answer.at("detailed"), .run_microseconds = answer.at("run_microseconds"), .halted_microseconds = answer.at("halted_microseconds"),
        .translation_microseconds = answer.at("translation_microseconds"), .samples = answer.at("samples"), .samples_waiting = answer.at("samples_waiting"), .samples_lost = answer.at("samples_lost"), .sections = {}, .hottest = {} };
    for (auto const& section : answer.at("sections")) {
        ProfileSection& added = profile.sections.emplace_back(ProfileSection { section.at("title"), {} });
        for (auto const& row : section.at("rows"))
            added.rows.push_back({ row.at("name"), row.at("value") });
    }
    for (auto const& row : answer.at("hottest"))
        profile.hottest.push_back(hot_code_of(row));
    return profile;
}

} // namespace

Result<bool> RunningMachine::is_paused()
{
    auto const answer = TRY(m_client.call("status", Json::object()));
    return member<bool>(answer, "paused");
}

Result<std::vector<unsigned>> RunningMachine::held_vcpus()
{
    auto const answer = TRY(m_client.call("status", Json::object()));
    return member<std::vector<unsigned>>(answer, "held");
}

Result<unsigned> RunningMachine::vcpu_count()
{
    auto const answer = TRY(m_client.call("status", Json::object()));
    return member<unsigned>(answer, "vcpus");
}

Result<CpuState> RunningMachine::cpu_state(unsigned vcpu)
{
    auto const answer = TRY(m_client.call("get-part", { { "name", machine::vcpu_chunk_name(vcpu) } }));
    auto const text = TRY(member<std::string>(answer, "bytes"));
    auto const bytes = TRY(from_hexadecimal(text));
    Decoder decoder(bytes);
    u32 const version = TRY(member<u32>(answer, "version"));
    CpuState state;
    TRY(decode_cpu_state(decoder, version, state));
    return state;
}

Result<void> RunningMachine::set_cpu_state(unsigned vcpu, CpuState const& state)
{
    Encoder encoder;
    encode_cpu_state(state, encoder);
    TRY(m_client.call("set-part",
        { { "name", machine::vcpu_chunk_name(vcpu) }, { "version", cpu_state_version }, { "bytes", to_hexadecimal(encoder.bytes()) } }));
    return {};
}

Result<i64> RunningMachine::rtc_time()
{
    auto const answer = TRY(m_client.call("rtc", Json::object()));
    return member<i64>(answer, "time");
}

Result<void> RunningMachine::set_rtc_time(i64 seconds)
{
    TRY(m_client.call("rtc", { { "set-time", seconds } }));
    return {};
}

Result<u8> RunningMachine::rtc_memory(unsigned offset)
{
    auto const answer = TRY(m_client.call("rtc", { { "offset", offset } }));
    return member<u8>(answer, "memory");
}

Result<void> RunningMachine::set_rtc_memory(unsigned offset, u8 value)
{
    TRY(m_client.call("rtc", { { "offset", offset }, { "set-memory", value } }));
    return {};
}

Result<std::vector<Statistic>> RunningMachine::statistics(unsigned vcpu)
{
    auto const answer = TRY(m_client.call("statistics", { { "vcpu", vcpu } }));
    std::vector<Statistic> rows;
    for (auto const& row : answer) {
        auto name = TRY(member<std::string>(row, "name"));
        u64 const value = TRY(member<u64>(row, "value"));
        rows.push_back({ std::move(name), value });
    }
    return rows;
}

Result<Profile> RunningMachine::profile()
{
    auto const answer = TRY(m_client.call("profile", Json::object()));
    try {
        return profile_of(answer);
    } catch (std::exception const&) { // of the JSON library, or of a number
        return make_error(EPROTO, "the machine's answer makes no sense as a profile");
    }
}

Result<void> RunningMachine::inject_nmi(unsigned vcpu)
{
    TRY(m_client.call("inject-nmi", { { "vcpu", vcpu } }));
    return {};
}

Result<void> RunningMachine::assert_local_interrupt(unsigned vcpu, unsigned pin)
{
    TRY(m_client.call("assert-lapic-lvt", { { "vcpu", vcpu }, { "pin", pin } }));
    return {};
}

Result<void> RunningMachine::command(std::string const& name)
{
    TRY(m_client.call(name, Json::object()));
    return {};
}

Result<void> RunningMachine::command(std::string const& name, unsigned vcpu)
{
    TRY(m_client.call(name, { { "vcpu", vcpu } }));
    return {};
}

} // namespace anyhyve::tools
