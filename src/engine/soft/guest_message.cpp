// The writing half of report_guest(). Compiled for all registers: the guest's vector state is put away when it runs.
#include "base/log.hpp"
#include "engine/soft/vector_state.hpp"

namespace anyhyve::soft {

void write_guest_message(unsigned vcpu, u64 rip, char const* text, u64 detail)
{
    static log::RateLimit limit;
    log::guest(limit, "vCPU {}: {} {:#x} at {:#x}", vcpu, text, detail, rip);
}

} // namespace anyhyve::soft
