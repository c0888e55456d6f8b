// Collapsing regions of guest RAM into huge pages.
#include "vmm/huge_regions.hpp"

#include "host/mapping.hpp"

namespace anyhyve {

// A host without huge pages to give is not asked for each region.
static constexpr int s_patience = 8;

static_assert(HugeRegions::region_size == host::Mapping::huge_page_size);

HugeRegions::HugeRegions(u8* base, u64 size)
    : m_base(base)
    , m_regions(size >> region_shift)
    , m_uses(std::make_unique<std::atomic<u8>[]>((size >> region_shift) + 1))
    , m_failures_left(s_patience)
{
}

void HugeRegions::collapse(u64 offset)
{
    u64 const region = offset >> region_shift;
    if (region >= m_regions || m_failures_left.load(std::memory_order_relaxed) <= 0)
        return;
    if (host::Mapping::make_huge(m_base + (region << region_shift), region_size)) {
        m_collapsed.fetch_add(1, std::memory_order_relaxed);
        m_failures_left.store(s_patience, std::memory_order_relaxed);
    } else
        m_failures_left.fetch_sub(1, std::memory_order_relaxed);
}

void HugeRegions::forget()
{
    for (u64 region = 0; region < m_regions; ++region)
        m_uses[region].store(0, std::memory_order_relaxed);
    m_collapsed.store(0, std::memory_order_relaxed);
}

} // namespace anyhyve
