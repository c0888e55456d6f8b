// What comes between blocks: interrupts, NMIs, requests from outside, samples.
#include "engine/soft/activity.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/runtime.hpp"
#include "engine/soft/segmentation.hpp"
#include "engine/soft/translator.hpp"
#include "engine/soft/vector_state.hpp"

namespace anyhyve::soft {

namespace {

Outcome take_interrupt(Cpu& cpu)
{
    cpu.events.fetch_and(~u32 { Cpu::event_interrupt });
    int vector = -1;
    {
        VectorStateGuard guard(cpu);
        DeviceScope scope(cpu, cpu.mmu->cache());
        vector = cpu.wires.interrupts->acknowledge();
        if (cpu.wires.interrupts->interrupt_pending())
            cpu.events.fetch_or(Cpu::event_interrupt);
    }
    if (vector < 0)
        return Outcome::next;
    ++cpu.statistics->interrupts;
    ++cpu.statistics->interrupts_by_vector[static_cast<u8>(vector)];
    return deliver_interrupt(cpu, static_cast<u8>(vector), false);
}

// The host was found in a block. When that happens to so many samples out of so many, it is hot: code that is run now and then in a large program,
// such as a kernel's, finds other pages each time, and its slots would be missed more often than not.
void take_sample(Cpu& cpu)
{
    constexpr u8 enough = 4;
    constexpr u32 out_of = 100;
    cpu.events.fetch_and(~u32 { Cpu::event_sample });
    u8 const* const code = cpu.sample.load(std::memory_order_relaxed);
    CodeCache& cache = cpu.mmu->cache();
    VcpuLock lock(cpu, cache, Presence::outside);
    Block* const block = cache.block_at(code);
    if (!block || !block->valid || block->hot || !Translator::can_be_hot(block->mode))
        return;
    u32 const now = cpu.samples.load(std::memory_order_relaxed);
    if (now - block->samples_since > out_of) {
        block->samples_since = now;
        block->samples = 0;
    }
    if (++block->samples >= enough)
        cache.make_hot(*block);
}

// One of those that are on their way.
void take_nmi_event(Cpu& cpu)
{
    u32 events = cpu.events.load();
    while (!cpu.events.compare_exchange_weak(events, events & ~u32 { (events & Cpu::event_second_nmi) ? Cpu::event_second_nmi : Cpu::event_nmi }))
        ;
}

} // namespace

bool take_events(Cpu& cpu)
{
    if (cpu.events.load(std::memory_order_relaxed) & Cpu::event_sample)
        take_sample(cpu);
    u32 const events = cpu.events.load(std::memory_order_acquire);
    if (events & (Cpu::event_kick | Cpu::event_exit)) {
        cpu.leaving = true;
        return false;
    }
    if (events & (Cpu::event_init | Cpu::event_sipi)) {
        cpu.leaving = true; // the run loop changes what the vCPU does
        return false;
    }
    if ((events & Cpu::event_nmi) && !cpu.nmi_blocked) {
        take_nmi_event(cpu);
        if (deliver_interrupt(cpu, x86::vector::nmi, true) == Outcome::leave) {
            cpu.leaving = true;
            return false;
        }
        return true;
    }
    if ((events & Cpu::event_interrupt) && (cpu.rflags & x86::rflags::interrupt)) {
        if (take_interrupt(cpu) == Outcome::leave) {
            cpu.leaving = true;
            return false;
        }
    }
    return true;
}

} // namespace anyhyve::soft
