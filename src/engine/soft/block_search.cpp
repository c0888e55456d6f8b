// The block at cpu.rip: found, or translated when it was not there yet.
#include "engine/soft/activity.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/mode.hpp"
#include "engine/soft/profiler.hpp"
#include "engine/soft/runtime.hpp"
#include "engine/soft/segmentation.hpp"
#include "engine/soft/translator.hpp"
#include "engine/soft/vector_state.hpp"

namespace anyhyve::soft {

namespace {

Outcome check_code_limit(Cpu& cpu)
{
    if (cpu.code64())
        return is_canonical(cpu.rip) ? Outcome::next : raise_gp(cpu);
    return cpu.rip <= cpu.segment(x86::Segment::cs).limit ? Outcome::next : raise_gp(cpu);
}

Outcome second_page_moved(Cpu& cpu, Block const& block, bool& moved)
{
    u64 physical = 0, guard = 0;
    u64 const next_page = (cpu.code_linear(cpu.rip) & ~u64 { 0xfff }) + 0x1000;
    STEP(cpu.mmu->fetch_page(next_page & cpu.mmu->linear_mask(), physical, guard));
    moved = physical != (block.second_physical & ~u64 { 0xfff });
    return Outcome::next;
}

// The translator's time.
class [[nodiscard]] TranslationScope {
public:
    explicit TranslationScope(Cpu& cpu) : m_cpu(cpu), m_begin(__builtin_ia32_rdtsc())
    {
        if (m_cpu.profile)
            m_cpu.profile->translating = true;
    }
    ~TranslationScope()
    {
        m_cpu.statistics->translation_ticks += __builtin_ia32_rdtsc() - m_begin;
        if (m_cpu.profile)
            m_cpu.profile->translating = false;
    }
    TranslationScope(TranslationScope const&) = delete;
    TranslationScope& operator=(TranslationScope const&) = delete;

private:
    Cpu& m_cpu;
    u64 const m_begin;
};

Outcome translate_block(Cpu& cpu, u64 physical, ModeBits mode, Block*& block)
{
    AddressSanitizerGuard const guard(cpu);
    TranslationScope time(cpu);
    return cpu.translator->translate(physical, mode, block);
}

// Lock held. False: another vCPU is in the way for a moment.
bool make_room(Cpu& cpu)
{
    if (cpu.mmu->cache().has_room())
        return true;
    VectorStateGuard guard(cpu);
    return cpu.mmu->cache().try_drop_everything(cpu);
}

// As Translator::translate() has it.
Outcome find_or_translate(Cpu& cpu, u64 physical, ModeBits mode, Block*& block)
{
    CodeCache& cache = cpu.mmu->cache();
    VcpuLock lock(cpu, cache, Presence::outside);
    block = cache.find(physical, cpu.rip, mode);
    if (block && block->crosses_page) {
        bool moved = false;
        STEP(second_page_moved(cpu, *block, moved));
        if (moved) {
            cache.invalidate(physical, 1);
            block = nullptr;
        }
    }
    if (block || !make_room(cpu))
        return Outcome::next;
    return translate_block(cpu, physical, mode, block);
}

} // namespace

Outcome find_block(Cpu& cpu, Block*& block, u64& guard, ModeBits also)
{
    STEP(check_code_limit(cpu));
    u64 const linear = cpu.code_linear(cpu.rip);
    u64 physical = 0;
    STEP(cpu.mmu->fetch_page(linear, physical, guard));
    physical |= linear & 0xfff;
    ModeBits const mode = cpu.mode | also | (cpu.stepping ? mode::single_step : 0);
    Outcome outcome {};
    while ((outcome = find_or_translate(cpu, physical, mode, block)) == Outcome::jump)
        cpu.translator->read_device_code();
    cpu.translator->forget_device_code();
    return outcome;
}

} // namespace anyhyve::soft
