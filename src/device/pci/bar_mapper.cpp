// Live placing of BARs on the memory and port buses.
#include "device/pci/bar_mapper.hpp"

namespace anyhyve {

void BarMapper::place(Space space, u64 base, u64 size, BusDevice& device, std::string const& name)
{
    std::lock_guard lock(m_mutex);
    for (auto const& wish : m_wishes) {
        if (wish.device == &device && wish.space == space && wish.base == base && wish.size == size)
            return;
    }
    remove_locked(device);
    m_wishes.push_back({ space, base, size, &device, name, false });
    map_waiting_locked();
}

void BarMapper::withdraw(BusDevice& device)
{
    std::lock_guard lock(m_mutex);
    remove_locked(device);
    map_waiting_locked();
}

bool BarMapper::is_mapped(BusDevice const& device) const
{
    std::lock_guard lock(m_mutex);
    for (auto const& wish : m_wishes) {
        if (wish.device == &device)
            return wish.mapped;
    }
    return false;
}

void BarMapper::remove_locked(BusDevice& device)
{
    m_wishes.remove_if([&](Wish const& wish) {
        if (wish.device != &device)
            return false;
        if (wish.mapped)
            bus(wish.space).remove(wish.base);
        return true;
    });
}

void BarMapper::map_waiting_locked()
{
    for (auto& wish : m_wishes) {
        if (!wish.mapped)
            wish.mapped = bus(wish.space).add(wish.base, wish.size, *wish.device, wish.name).ok();
    }
}

} // namespace anyhyve
