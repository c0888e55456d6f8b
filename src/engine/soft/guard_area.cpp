// Operands between forbidden pages: see guard_area.hpp.
#include "engine/soft/guard_area.hpp"

#include <sys/mman.h>

namespace anyhyve::soft {

GuardArea::~GuardArea()
{
    if (m_base)
        munmap(m_base, size);
}

u64 GuardArea::number() const
{
    // SAFETY: an address, only compared.
    return reinterpret_cast<std::uintptr_t>(m_base);
}

bool GuardArea::map()
{
    if (m_base)
        return true;
    // SAFETY: fresh memory of our own.
    void* const memory = mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return false;
    m_base = static_cast<u8*>(memory);
    return mprotect(m_base + page, page, PROT_READ | PROT_WRITE) == 0;
}

u8* GuardArea::place(u64 offset, bool first, bool second)
{
    if (!map())
        return nullptr;
    return m_base + (first ? page : second ? 0 : 2 * page) + offset;
}

} // namespace anyhyve::soft
