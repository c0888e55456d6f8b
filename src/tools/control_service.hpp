// What a running machine answers on its control socket. The commands, with their arguments and results, are the rows of
// control_service.cpp; bhyvectl is their client. Threads: all on the event loop's.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "machine/pc.hpp"
#include "vmm/control_server.hpp"
#include "vmm/vm.hpp"

namespace anyhyve::tools {

class ControlService {
public:
    // What the machine's owner does when it is asked.
    struct Owner {
        std::function<void(RunExit)> end; // reset or power_off
        std::function<void()> destroy;    // end it, and the VM with it
    };

    static Result<std::unique_ptr<ControlService>> create(host::EventLoop&, Vm const&, machine::Pc&, std::string engine, Owner);

private:
    ControlService(machine::Pc& pc, std::string engine, Owner owner) : m_pc(pc), m_engine(std::move(engine)), m_owner(std::move(owner)) {}
    void add_commands(host::EventLoop&);
    Result<Json> status() const;
    Result<Json> get_part(Json const&);
    Result<Json> set_part(Json const&);
    Result<Json> inject_nmi(Json const&);
    Result<Json> assert_local_interrupt(Json const&);
    Result<Json> rtc(Json const&);
    Result<Json> statistics(Json const&) const;
    Result<unsigned> vcpu_of(Json const&) const;

    machine::Pc& m_pc;
    std::string m_engine;
    Owner m_owner;
    bool m_paused_by_user = false;
    std::unique_ptr<ControlServer> m_server;
};

} // namespace anyhyve::tools
