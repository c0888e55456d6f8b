// A machine that a bhyve process runs, asked through its control socket.
#include "tools/running_machine.hpp"

#include <charconv>

#include "machine/saved_state.hpp"
#include "tools/hexadecimal.hpp"
#include "vmm/cpu_state_codec.hpp"

namespace anyhyve::tools {

namespace {

// Answers come from a process of the same user, but may be another version's.
template<typename Value>
Result<Value> member(Json const& answer, char const* name)
{
    auto value = answer.get<Value>(name);
    if (!value.ok())
        return make_error(EPROTO, "the machine's answer has no '{}' that makes sense", name);
    return value;
}

Result<std::vector<Json>> list(Json const& answer, char const* name)
{
    Json const* const elements = answer.find(name);
    if (!elements || elements->kind() != Json::Kind::array)
        return make_error(EPROTO, "the machine's answer has no '{}' that makes sense", name);
    return elements->elements();
}

Result<u64> hexadecimal_number(Json const& row, char const* name)
{
    auto const text = TRY(member<std::string>(row, name));
    std::string_view const digits = std::string_view(text).substr(text.starts_with("0x") ? 2 : 0);
    u64 number = 0;
    auto const [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number, 16);
    if (error != std::errc {} || end != digits.data() + digits.size())
        return make_error(EPROTO, "the machine's answer has no '{}' that makes sense", name);
    return number;
}

Result<HotCode> hot_code_of(Json const& row)
{
    HotCode code;
    code.rip = TRY(hexadecimal_number(row, "rip"));
    code.physical = TRY(hexadecimal_number(row, "physical"));
    code.mode = TRY(member<std::string>(row, "mode"));
    code.samples = TRY(member<u64>(row, "samples"));
    code.host_size = TRY(member<u64>(row, "host_size"));
    code.changed = TRY(member<bool>(row, "changed"));
    code.instructions = TRY(member<std::vector<std::string>>(row, "instructions"));
    code.bytes = TRY(from_hexadecimal(TRY(member<std::string>(row, "bytes"))));
    return code;
}

// What write_profile() has written.
Result<Profile> profile_of(Json const& answer)
{
    Profile profile;
    profile.detailed = TRY(member<bool>(answer, "detailed"));
    profile.run_microseconds = TRY(member<u64>(answer, "run_microseconds"));
    profile.halted_microseconds = TRY(member<u64>(answer, "halted_microseconds"));
    profile.translation_microseconds = TRY(member<u64>(answer, "translation_microseconds"));
    profile.samples = TRY(member<u64>(answer, "samples"));
    profile.samples_waiting = TRY(member<u64>(answer, "samples_waiting"));
    profile.samples_lost = TRY(member<u64>(answer, "samples_lost"));
    for (auto const& section : TRY(list(answer, "sections"))) {
        ProfileSection& added = profile.sections.emplace_back(ProfileSection { TRY(member<std::string>(section, "title")), {} });
        for (auto const& row : TRY(list(section, "rows"))) {
            auto name = TRY(member<std::string>(row, "name"));
            added.rows.push_back({ std::move(name), TRY(member<u64>(row, "value")) });
        }
    }
    for (auto const& row : TRY(list(answer, "hottest")))
        profile.hottest.push_back(TRY(hot_code_of(row)));
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
    auto const answer = TRY(m_client.call("get-part", Json::object({ { "name", machine::vcpu_chunk_name(vcpu) } })));
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
    TRY(m_client.call("set-part", Json::object({ { "name", machine::vcpu_chunk_name(vcpu) }, { "version", cpu_state_version }, { "bytes", to_hexadecimal(encoder.bytes()) } })));
    return {};
}

Result<i64> RunningMachine::rtc_time()
{
    auto const answer = TRY(m_client.call("rtc", Json::object()));
    return member<i64>(answer, "time");
}

Result<void> RunningMachine::set_rtc_time(i64 seconds)
{
    TRY(m_client.call("rtc", Json::object({ { "set-time", seconds } })));
    return {};
}

Result<u8> RunningMachine::rtc_memory(unsigned offset)
{
    auto const answer = TRY(m_client.call("rtc", Json::object({ { "offset", offset } })));
    return member<u8>(answer, "memory");
}

Result<void> RunningMachine::set_rtc_memory(unsigned offset, u8 value)
{
    TRY(m_client.call("rtc", Json::object({ { "offset", offset }, { "set-memory", value } })));
    return {};
}

Result<std::vector<Statistic>> RunningMachine::statistics(unsigned vcpu)
{
    auto const answer = TRY(m_client.call("statistics", Json::object({ { "vcpu", vcpu } })));
    std::vector<Statistic> rows;
    for (auto const& row : answer.elements()) {
        auto name = TRY(member<std::string>(row, "name"));
        u64 const value = TRY(member<u64>(row, "value"));
        rows.push_back({ std::move(name), value });
    }
    return rows;
}

Result<Profile> RunningMachine::profile()
{
    return profile_of(TRY(m_client.call("profile", Json::object())));
}

Result<void> RunningMachine::inject_nmi(unsigned vcpu)
{
    TRY(m_client.call("inject-nmi", Json::object({ { "vcpu", vcpu } })));
    return {};
}

Result<void> RunningMachine::assert_local_interrupt(unsigned vcpu, unsigned pin)
{
    TRY(m_client.call("assert-lapic-lvt", Json::object({ { "vcpu", vcpu }, { "pin", pin } })));
    return {};
}

Result<void> RunningMachine::command(std::string const& name)
{
    TRY(m_client.call(name, Json::object()));
    return {};
}

Result<void> RunningMachine::command(std::string const& name, unsigned vcpu)
{
    TRY(m_client.call(name, Json::object({ { "vcpu", vcpu } })));
    return {};
}

} // namespace anyhyve::tools
