// What a running machine answers on its control socket.
#include "tools/control_service.hpp"

#include <unistd.h>

#include "tools/hexadecimal.hpp"
#include "tools/profile_report.hpp"

namespace anyhyve::tools {

using machine::save_part;

Result<std::unique_ptr<ControlService>> ControlService::create(host::EventLoop& loop, Vm const& vm, machine::Pc& pc, std::string engine, Owner owner)
{
    std::unique_ptr<ControlService> service(new ControlService(pc, std::move(engine), std::move(owner)));
    service->m_server = TRY(ControlServer::create(loop, vm.directory(), Vm::control_socket));
    service->add_commands(loop);
    return service;
}

void ControlService::add_commands(host::EventLoop& loop)
{
    m_server->add("status", [this](Json const&) { return status(); });
    m_server->add("get-part", [this](Json const& arguments) { return get_part(arguments); });
    m_server->add("set-part", [this](Json const& arguments) { return set_part(arguments); });
    m_server->add("inject-nmi", [this](Json const& arguments) { return inject_nmi(arguments); });
    m_server->add("assert-lapic-lvt", [this](Json const& arguments) { return assert_local_interrupt(arguments); });
    m_server->add("rtc", [this](Json const& arguments) { return rtc(arguments); });
    m_server->add("statistics", [this](Json const& arguments) { return statistics(arguments); });
    m_server->add("profile", [this](Json const&) { return Json::parse(profile_json(m_pc.profile())); });
    m_server->add("pause", [this](Json const&) -> Result<Json> {
        m_paused_by_user = true;
        m_pc.pause();
        return Json();
    });
    m_server->add("resume", [this](Json const&) -> Result<Json> {
        m_paused_by_user = false;
        m_pc.resume();
        return Json();
    });
    m_server->add("hold", [this](Json const& arguments) -> Result<Json> {
        m_pc.hold(TRY(vcpu_of(arguments)));
        return Json();
    });
    m_server->add("release", [this](Json const& arguments) -> Result<Json> {
        m_pc.release(TRY(vcpu_of(arguments)));
        return Json();
    });
    m_server->add("step", [this](Json const& arguments) -> Result<Json> {
        TRY(m_pc.step(TRY(vcpu_of(arguments))));
        return Json();
    });
    // These end this object: they are done when the answer is on its way.
    m_server->add("reset", [this, &loop](Json const&) -> Result<Json> {
        loop.post([end = m_owner.end] { end(RunExit::reset); });
        return Json();
    });
    m_server->add("power-off", [this, &loop](Json const&) -> Result<Json> {
        loop.post([end = m_owner.end] { end(RunExit::power_off); });
        return Json();
    });
    m_server->add("destroy", [this, &loop](Json const&) -> Result<Json> {
        loop.post([destroy = m_owner.destroy] { destroy(); });
        return Json();
    });
}

// {} -> {"pid", "engine", "vcpus", "paused", "held", "memory"}
Result<Json> ControlService::status() const
{
    Json held = Json::array();
    for (unsigned vcpu = 0; vcpu < m_pc.vcpu_count(); ++vcpu)
        if (m_pc.is_held(vcpu))
            held.append(vcpu);
    return Json::object({ { "pid", getpid() }, { "engine", m_engine }, { "vcpus", m_pc.vcpu_count() }, { "paused", m_pc.is_paused() }, { "held", held },
        { "memory", m_pc.config().memory_size } });
}

// {"name"} -> {"version", "bytes"}: the saved state of one part of the machine.
Result<Json> ControlService::get_part(Json const& arguments)
{
    auto const name = TRY(arguments.get<std::string>("name"));
    auto const* part = m_pc.part(name);
    if (!part)
        return make_error(ENOENT, "{} has no part '{}'", m_pc.config().name, name);
    m_pc.pause();
    auto const chunk = save_part(*part);
    if (!m_paused_by_user)
        m_pc.resume();
    return Json::object({ { "version", chunk.version }, { "bytes", to_hexadecimal(chunk.bytes) } });
}

// {"name", "version", "bytes"} -> nothing
Result<Json> ControlService::set_part(Json const& arguments)
{
    auto const name = TRY(arguments.get<std::string>("name"));
    auto* const part = m_pc.part(name);
    if (!part)
        return make_error(ENOENT, "{} has no part '{}'", m_pc.config().name, name);
    auto const bytes = TRY(from_hexadecimal(TRY(arguments.get<std::string>("bytes"))));
    auto const version = TRY(arguments.get<u32>("version"));
    m_pc.pause();
    auto const before = save_part(*part);
    Decoder decoder(bytes);
    auto const restored = part->restore(decoder, version);
    if (!restored.ok()) {
        Decoder old(before.bytes);
        if (auto const undone = part->restore(old, before.version); !undone.ok())
            log::error("{}", undone.error().message());
    }
    if (!m_paused_by_user)
        m_pc.resume();
    if (!restored.ok())
        return restored.error();
    return Json();
}

Result<unsigned> ControlService::vcpu_of(Json const& arguments) const
{
    auto const vcpu = TRY(arguments.get<unsigned>("vcpu"));
    if (vcpu >= m_pc.vcpu_count())
        return make_error(EINVAL, "{} has no virtual CPU {}", m_pc.config().name, vcpu);
    return vcpu;
}

// {"vcpu"} -> nothing
Result<Json> ControlService::inject_nmi(Json const& arguments)
{
    m_pc.inject_nmi(TRY(vcpu_of(arguments)));
    return Json();
}

// {"vcpu", "pin"} -> nothing. Pins in bhyve's order.
Result<Json> ControlService::assert_local_interrupt(Json const& arguments)
{
    constexpr LvtEntry pins[] = { LvtEntry::lint0, LvtEntry::lint1, LvtEntry::timer, LvtEntry::error, LvtEntry::performance, LvtEntry::thermal, LvtEntry::cmci };
    unsigned const vcpu = TRY(vcpu_of(arguments));
    auto const pin = TRY(arguments.get<unsigned>("pin"));
    if (pin >= std::size(pins))
        return make_error(EINVAL, "a local vector table has no entry {}: 0 to 6 are LINT0, LINT1, timer, error, performance, thermal, CMCI", pin);
    m_pc.assert_local_interrupt(vcpu, pins[pin]);
    return Json();
}

// {"set-time"?, "offset"?, "set-memory"?} -> {"time", "memory"?}: the real-time clock.
Result<Json> ControlService::rtc(Json const& arguments)
{
    if (arguments.find("set-time"))
        TRY(m_pc.rtc().set_time(TRY(arguments.get<i64>("set-time"))));
    Json answer = Json::object({ { "time", m_pc.rtc().time() } });
    if (!arguments.find("offset"))
        return answer;
    auto const offset = TRY(arguments.get<unsigned>("offset"));
    if (arguments.find("set-memory"))
        TRY(m_pc.rtc().set_memory(offset, TRY(arguments.get<u8>("set-memory"))));
    answer.set("memory", TRY(m_pc.rtc().memory(offset)));
    return answer;
}

// {"vcpu"} -> [{"name", "value"}...]: of this virtual CPU, then of devices.
Result<Json> ControlService::statistics(Json const& arguments) const
{
    unsigned const vcpu = TRY(vcpu_of(arguments));
    Json rows = Json::array();
    std::string const ours = fmt::format("vcpu{}", vcpu); // the virtual CPU and its local APIC
    for (auto const* source : m_pc.statistics_sources()) {
        std::string const name = source->statistics_name();
        bool const of_processor = name.starts_with("vcpu");
        if (of_processor && name != ours)
            continue;
        for (auto const& statistic : source->statistics())
            rows.append(Json::object({ { "name", of_processor ? statistic.name : name + " " + statistic.name }, { "value", statistic.value } }));
    }
    for (auto const& row : m_pc.bus_statistics()) {
        rows.append(Json::object({ { "name", row.device + " reads" }, { "value", row.reads } }));
        rows.append(Json::object({ { "name", row.device + " writes" }, { "value", row.writes } }));
    }
    return rows;
}

} // namespace anyhyve::tools
