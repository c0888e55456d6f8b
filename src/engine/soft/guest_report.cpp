// Messages about the guest from code that must not touch vector registers.
#include "engine/soft/vector_state.hpp"

namespace anyhyve::soft {

void report_guest(Cpu& cpu, char const* text, u64 detail)
{
    VectorStateGuard const guard(cpu);
    write_guest_message(cpu.wires.id, cpu.rip, text, detail);
}

} // namespace anyhyve::soft
