// The engine's side of a case: see engine_runner.hpp.
// Spec: Intel SDM vol. 3A 4.5 (4-level paging), 6.14 (64-bit gates and stack frames), 8.7 (task state segment).
#include "engine_runner.hpp"

#include <algorithm>
#include <cstring>

#include "engine/soft/flags.hpp"
#include "engine/soft/host_signals.hpp"
#include "engine/soft/host_vector_unit.hpp"
#include "instruction_builder.hpp"

namespace anyhyve::random_test {

using namespace x86;

// Where the supervisor's things lie: physical addresses, which it sees at `high` + the same.
namespace place {
constexpr u64 high = 0xffff800000000000;
constexpr u64 idt = 0x1000, gdt = 0x2000, task_state = 0x3000, handlers = 0x4000, stack_top = 0x9000, page_tables = 0x10000;
constexpr u64 case_pages = 0x400000;
constexpr u64 memory_size = 8 * MiB;
} // namespace place

constexpr u16 kernel_code = 0x10, user_code32 = 0x23, user_data = 0x2b, user_code64 = 0x33, task_selector = 0x40;

class EngineSignals : public soft::SignalScope {
    using SignalScope::SignalScope;
};

// Neighbours in linear memory are none in physical memory.
static u64 physical_of(unsigned page)
{
    return place::case_pages + (page * 5 % 16) * 0x3000;
}

VcpuWires EngineRunner::wires()
{
    VcpuWires wires;
    wires.memory = m_memory.get();
    wires.ports = &m_ports;
    wires.mmio = &m_mmio;
    wires.clock = m_clock.get();
    wires.interrupts = &m_interrupts;
    return wires;
}

std::array<u8*, layout::page_count> EngineRunner::host_pages() const
{
    std::array<u8*, layout::page_count> pages {};
    for (unsigned n = 0; n < layout::page_count; ++n)
        pages[n] = m_memory->range(Gpa(physical_of(n)), layout::page);
    return pages;
}

EngineRunner::EngineRunner()
    : m_memory(GuestMemory::create_anonymous(place::memory_size).release_value()), m_cache(soft::CodeCache::create(*m_memory).release_value()),
      m_thunks(soft::Thunks::generate(*m_cache)), m_clock(create_host_clock()), m_cpuid(wires()), m_cpu(std::make_unique<soft::Cpu>()), m_mmu(*m_cpu, *m_cache),
      m_translator(*m_cpu, *m_cache, m_thunks), m_pages(*this, host_pages())
{
    m_cpu->wires = wires();
    m_cpu->mmu = &m_mmu;
    m_cpu->cpuid = &m_cpuid;
    m_cpu->translator = &m_translator;
    m_cpu->thunks = &m_thunks;
    m_cpu->statistics = &m_statistics;
    m_cpu->clock_tsc_offset = m_clock->tsc_offset();
    {
        std::lock_guard lock(m_cache->lock());
        m_cache->add_cpu(*m_cpu);
        m_cache->set_checks_translations(true);
    }
    m_mmu.flush_all();
    write_tables();
    m_signals = std::make_unique<EngineSignals>(*m_cpu);
    set_heat(soft::CodeCache::Heat::never);
}

EngineRunner::~EngineRunner()
{
    m_signals.reset();
    std::lock_guard lock(m_cache->lock());
    m_cache->remove_cpu(*m_cpu);
}

void EngineRunner::put(u64 physical, u64 value)
{
    m_memory->write(Gpa(physical), &value, sizeof value);
}

void EngineRunner::write_tables()
{
    write_page_tables();
    write_descriptors();
    for (unsigned vector = 0; vector < 256; ++vector) {
        u8 const halt = 0xf4;
        m_memory->write(Gpa(place::handlers + vector * 16), &halt, 1);
    }
}

void EngineRunner::write_page_tables()
{
    constexpr u64 present = 1, writable = 2, user = 4, large = 0x80, no_execute = u64 { 1 } << 63;
    u64 next = place::page_tables + 0x1000;
    auto const descend = [&](u64 table, unsigned index) {
        u64 entry = 0;
        m_memory->read(Gpa(table + index * 8), &entry, sizeof entry);
        if (entry == 0) {
            entry = next | present | writable | user;
            next += 0x1000;
            put(table + index * 8, entry);
        }
        return entry & ~u64 { 0xfff };
    };
    auto const index = [](u64 linear, unsigned shift) { return static_cast<unsigned>(linear >> shift & 511); };
    u64 const high = descend(descend(place::page_tables, index(place::high, 39)), index(place::high, 30));
    put(high, present | writable | large);
    for (unsigned n = 0; n < layout::page_count; ++n) {
        auto const& page = layout::pages[n];
        u64 const table = descend(descend(descend(place::page_tables, index(page.linear, 39)), index(page.linear, 30)), index(page.linear, 21));
        put(table + index(page.linear, 12) * 8,
            physical_of(n) | present | user | (page.rights == layout::Rights::read_only ? 0 : writable) | (page.rights == layout::Rights::read_write_execute ? 0 : no_execute));
    }
}

void EngineRunner::write_descriptors()
{
    put(place::gdt + kernel_code, 0x00af9b000000ffff);
    put(place::gdt + (user_code32 & ~7u), 0x00cffb000000ffff);
    put(place::gdt + (user_data & ~7u), 0x00cff3000000ffff);
    put(place::gdt + (user_code64 & ~7u), 0x00affb000000ffff);
    u64 const stack = place::high + place::stack_top;
    m_memory->write(Gpa(place::task_state + 4), &stack, sizeof stack);
    u16 const no_ports = 0xffff; // the I/O permission bitmap lies beyond the limit
    m_memory->write(Gpa(place::task_state + 0x66), &no_ports, sizeof no_ports);
    for (unsigned vector = 0; vector < 256; ++vector) {
        u64 const handler = place::high + place::handlers + vector * 16;
        u64 const level = vector == vector::breakpoint || vector == vector::overflow ? 3 : 0;
        put(place::idt + vector * 16, (handler & 0xffff) | u64 { kernel_code } << 16 | (0x8e | level << 5) << 40 | (handler >> 16 & 0xffff) << 48);
        put(place::idt + vector * 16 + 8, handler >> 32);
    }
}

// The rest of the vCPU stays as the last case has left it.
void EngineRunner::set_segments(Case const& c)
{
    soft::Cpu& cpu = *m_cpu;
    constexpr u32 user = access::present | access::non_system | access::dpl_mask | access::accessed | access::granular;
    SegmentRegister const data { user_data, user | access::writable | access::big, 0xffffffff, 0 };
    cpu.segments.fill(data);
    for (auto s : { Segment::fs, Segment::gs })
        cpu.segment(s) = { 0, access::unusable, 0xffffffff, 0 };
    cpu.segment(Segment::gs).base = c.gs_base;
    u16 const selector = c.long_mode ? user_code64 : user_code32;
    cpu.segment(Segment::cs) = { selector, user | access::code | access::readable | (c.long_mode ? access::long_mode : access::big), 0xffffffff, 0 };
    cpu.cpl = 3;
    cpu.gdtr = { place::high + place::gdt, 0x7f };
    cpu.idtr = { place::high + place::idt, 0xfff };
    cpu.tr = { task_selector, access::present | 0xb, 0x67, place::high + place::task_state };
}

void EngineRunner::set_state(Case const& c)
{
    soft::Cpu& cpu = *m_cpu;
    cpu.gpr = c.gpr;
    cpu.rip = c.start();
    cpu.rflags = c.flags;
    cpu.cr0 = cr0::pe | cr0::pg | cr0::ne | cr0::wp | cr0::mp | cr0::et | cr0::am;
    cpu.cr3 = place::page_tables;
    cpu.cr4 = cr4::pae | cr4::osfxsr | cr4::osxmmexcpt | cr4::osxsave | cr4::fsgsbase | cr4::pge;
    cpu.efer = efer::lme | efer::lma | efer::nxe | efer::sce;
    cpu.xcr0 = soft::host_vector_unit().mask;
    cpu.dr6 = 0xffff0ff0;
    cpu.halted = cpu.leaving = cpu.interrupt_shadow = cpu.stepping = cpu.step_once = false;
    cpu.poll.store(0);
    set_segments(c);
    std::array<u8, xsave_bytes> xsave;
    fill_vector_state(c, xsave);
    std::copy(xsave.begin(), xsave.end(), cpu.xsave.begin());
    m_mmu.update_mode();
    soft::split_flags(cpu);
}

void EngineRunner::Pages::line_changes(unsigned page, unsigned offset)
{
    std::lock_guard lock(m_runner.m_cache->lock());
    m_runner.m_cache->invalidate(physical_of(page) + offset, 64);
}

// A block that stays in each code page keeps the page known as translated, which costs a sweep of the look-aside tables each time.
void EngineRunner::keep_translations()
{
    for (unsigned page = 0; page < layout::code_pages; ++page) {
        Case c;
        c.code_offset = static_cast<u16>(page * layout::page + 0x40);
        run(c, m_heat == soft::CodeCache::Heat::always ? Stepping::hot_blocks : Stepping::whole_blocks);
    }
}

// What was translated before is translated anew.
void EngineRunner::set_heat(soft::CodeCache::Heat heat)
{
    if (heat == m_heat)
        return;
    m_heat = heat;
    {
        std::lock_guard lock(m_cache->lock());
        m_cache->set_heat(heat);
        for (unsigned page = 0; page < layout::code_pages; ++page)
            m_cache->invalidate(physical_of(page), layout::page);
    }
    keep_translations();
}

Ending EngineRunner::go(Stepping stepping)
{
    constexpr unsigned most_steps = 20'000;
    soft::Cpu& cpu = *m_cpu;
    for (unsigned n = 0; n < most_steps && !cpu.halted && !m_stopped.load(); ++n) {
        cpu.step_once = stepping == Stepping::single_steps;
        cpu.leaving = false;
        soft::run_generated_code(cpu);
    }
    cpu.events.store(0);
    if (m_stopped.exchange(false))
        return Ending::time_out;
    return cpu.halted ? Ending::exception : Ending::too_many_steps;
}

void EngineRunner::stop()
{
    m_stopped.store(true);
    m_cpu->exit_reason = RunExit::kicked;
    m_cpu->events.fetch_or(soft::Cpu::event_kick);
    m_cpu->poll.store(1);
}

Outcome EngineRunner::result()
{
    soft::Cpu const& cpu = *m_cpu;
    Outcome outcome {};
    outcome.gpr = cpu.gpr;
    outcome.ending = Ending::exception;
    outcome.vector = (cpu.rip - place::high - place::handlers) / 16;
    u64 frame = cpu.gpr[rsp] - place::high; // error code, RIP, CS, RFLAGS, RSP, SS
    auto const pop = [&] {
        u64 value = 0;
        m_memory->read(Gpa(frame), &value, sizeof value);
        frame += 8;
        return value;
    };
    if (has_error_code(outcome.vector))
        outcome.error_code = pop();
    outcome.rip = pop();
    pop();
    outcome.flags = pop();
    outcome.gpr[rsp] = pop();
    outcome.fault_address = cpu.cr2;
    return outcome;
}

void EngineRunner::begin(Case const& c, Stepping stepping)
{
    if (stepping != Stepping::single_steps)
        set_heat(stepping == Stepping::hot_blocks ? soft::CodeCache::Heat::always : soft::CodeCache::Heat::never);
    m_image.prepare(c);
    m_pages.load(m_image);
    set_state(c);
    m_stopped.store(false);
}

unsigned EngineRunner::bytes_at(u64 linear, u8* to, unsigned count) const
{
    for (unsigned n = 0; n < count; ++n) {
        u64 const at = linear + n;
        auto const page = std::find_if(std::begin(layout::pages), std::end(layout::pages), [&](layout::Page const& p) { return at - p.linear < layout::page; });
        if (page == std::end(layout::pages))
            return n;
        to[n] = m_pages.page(static_cast<unsigned>(page - layout::pages))[at - page->linear];
    }
    return count;
}

bool EngineRunner::meets_unfit_code(Case const& c)
{
    constexpr unsigned most_steps = 10'000'000; // a loop of forty instructions that counts 16 bits takes 2.6 million
    soft::Cpu& cpu = *m_cpu;
    begin(c, Stepping::single_steps);
    for (unsigned n = 0; n < most_steps && !cpu.halted && cpu.cpl == 3; ++n) {
        std::array<u8, 15> bytes;
        Instruction insn;
        unsigned const available = bytes_at(cpu.rip, bytes.data(), 15);
        if (decode(bytes.data(), available, c.long_mode ? CodeSize::bits64 : CodeSize::bits32, insn) == DecodeStatus::ok && unfit_for_host(insn))
            return true;
        cpu.step_once = true;
        cpu.leaving = false;
        soft::run_generated_code(cpu);
    }
    return false;
}

Outcome EngineRunner::run(Case const& c, Stepping stepping)
{
    begin(c, stepping);
    Outcome outcome {};
    m_turns.fetch_add(1);
    outcome.ending = go(stepping);
    m_turns.fetch_add(1);
    if (outcome.ending != Ending::exception)
        return outcome;
    outcome = result();
    outcome.memory_hash = m_pages.hash(m_image);
    std::copy_n(m_cpu->xsave.begin(), xsave_bytes, outcome.xsave.begin());
    normalise_vector_state(outcome.xsave);
    return outcome;
}

std::vector<u8> EngineRunner::memory() const
{
    std::vector<u8> bytes;
    for (unsigned n = 0; n < layout::page_count; ++n)
        bytes.insert(bytes.end(), m_pages.page(n), m_pages.page(n) + layout::page);
    return bytes;
}

} // namespace anyhyve::random_test
