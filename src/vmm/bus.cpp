// The map of places, read without locks: a sequence lock over atomics, and a few remembered hits per thread.
#include "vmm/bus.hpp"

#include <algorithm>
#include <thread>

#include "base/bits.hpp"

namespace anyhyve {

struct Bus::Counters {
    std::atomic<u64> reads { 0 };
    std::atomic<u64> writes { 0 };

    // Not an atomic addition: a lost count costs less than a locked instruction on every access.
    static void count(std::atomic<u64>& counter)
    {
        counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
};

struct Bus::Place {
    u64 base;
    u64 size;
    BusDevice* device;
    std::string name;
    Counters* counters;
};

// What readers see. Loads are acquire and stores release, so that a reader who sees a value of a new map also sees, afterwards, the
// sequence count that announced it (on x86 all of these are plain moves).
struct Bus::Table {
    struct Slot {
        std::atomic<u64> base, size;
        std::atomic<BusDevice*> device;
        std::atomic<Counters*> counters;
    };

    explicit Table(std::size_t size) : capacity(size), slots(new Slot[size] {}) {}

    std::size_t const capacity;
    std::atomic<std::size_t> count { 0 };
    std::unique_ptr<Slot[]> const slots;
};

static std::atomic<u64> s_next_bus { 1 };

Bus::Bus(std::string name)
    : m_name(std::move(name))
    , m_sequence(s_next_bus.fetch_add(1, std::memory_order_relaxed) << 40)
{
    m_tables.push_back(std::make_unique<Table>(64));
    m_table.store(m_tables.back().get(), std::memory_order_release);
}

Bus::~Bus() = default;

Result<void> Bus::add(u64 base, u64 size, BusDevice& device, std::string device_name)
{
    if (size == 0 || size - 1 > ~u64 { 0 } - base)
        return make_error(EINVAL, "{}: {:#x} bytes at {:#x} is no place for {}", m_name, size, base, device_name);
    std::lock_guard const lock(m_mutex);
    auto const at = std::lower_bound(m_places.begin(), m_places.end(), base, [](Place const& place, u64 value) { return place.base < value; });
    Place const* other = nullptr;
    if (at != m_places.end() && at->base - base < size)
        other = &*at;
    else if (at != m_places.begin() && base - std::prev(at)->base < std::prev(at)->size)
        other = &*std::prev(at);
    if (other)
        return make_error(EEXIST, "{}: {} at {:#x}..{:#x} overlaps {} at {:#x}..{:#x}", m_name, device_name, base, base + (size - 1), other->name,
            other->base, other->base + (other->size - 1));

    if (m_free_counters.empty()) {
        m_counters.push_back(std::make_unique<Counters>());
        m_free_counters.push_back(m_counters.back().get());
    }
    Counters* counters = m_free_counters.back();
    m_free_counters.pop_back();
    counters->reads.store(0, std::memory_order_relaxed);
    counters->writes.store(0, std::memory_order_relaxed);
    m_places.insert(at, Place { base, size, &device, std::move(device_name), counters });
    publish();
    return {};
}

void Bus::remove(u64 base)
{
    std::lock_guard const lock(m_mutex);
    auto const at = std::find_if(m_places.begin(), m_places.end(), [&](Place const& place) { return place.base == base; });
    if (at == m_places.end())
        return;
    m_free_counters.push_back(at->counters);
    m_places.erase(at);
    publish();
}

// Shows m_places to readers. Under m_mutex.
void Bus::publish()
{
    u64 const sequence = m_sequence.load(std::memory_order_relaxed);
    m_sequence.store(sequence + 1, std::memory_order_release);
    Table* table = m_table.load(std::memory_order_relaxed);
    if (m_places.size() > table->capacity) {
        m_tables.push_back(std::make_unique<Table>(table->capacity * 2));
        table = m_tables.back().get();
    }
    for (std::size_t i = 0; i < m_places.size(); ++i) {
        auto& slot = table->slots[i];
        slot.base.store(m_places[i].base, std::memory_order_release);
        slot.size.store(m_places[i].size, std::memory_order_release);
        slot.device.store(m_places[i].device, std::memory_order_release);
        slot.counters.store(m_places[i].counters, std::memory_order_release);
    }
    table->count.store(m_places.size(), std::memory_order_release);
    m_table.store(table, std::memory_order_release);
    m_sequence.store(sequence + 2, std::memory_order_release);
}

// The place that holds `address` (device null: none), and where the next place above it begins (all ones: nowhere).
Bus::Hit Bus::find(u64 address, u64& next_base) const
{
    for (;;) {
        u64 const sequence = m_sequence.load(std::memory_order_acquire);
        Table const& table = *m_table.load(std::memory_order_acquire);
        std::size_t const count = std::min(table.count.load(std::memory_order_acquire), table.capacity);
        std::size_t low = 0; // the first slot whose base is above address
        for (std::size_t high = count; low < high;) {
            std::size_t const middle = (low + high) / 2;
            if (table.slots[middle].base.load(std::memory_order_acquire) <= address)
                low = middle + 1;
            else
                high = middle;
        }
        Hit hit;
        next_base = low < count ? table.slots[low].base.load(std::memory_order_acquire) : ~u64 { 0 };
        if (low > 0) {
            auto const& slot = table.slots[low - 1];
            u64 const base = slot.base.load(std::memory_order_acquire);
            u64 const size = slot.size.load(std::memory_order_acquire);
            if (address - base < size)
                hit = { base, size, slot.device.load(std::memory_order_acquire), slot.counters.load(std::memory_order_acquire), sequence };
        }
        if ((sequence & 1) == 0 && m_sequence.load(std::memory_order_relaxed) == sequence)
            return hit;
        std::this_thread::yield(); // a writer is at work, which is rare and short
    }
}

// The place that holds all `width` bytes at `address`, or null: then `crosses` tells whether some of them belong to one.
Bus::Hit const* Bus::find_whole(u64 address, unsigned width, bool& crosses) const
{
    // Neighbouring registers share an entry; a device of several pages fills a few.
    static thread_local std::array<Hit, 16> t_hits;
    Hit& hit = t_hits[((address >> 4) ^ (address >> 12) ^ (m_sequence.load(std::memory_order_relaxed) >> 40)) & 15];
    if (hit.sequence != m_sequence.load(std::memory_order_acquire) || address - hit.base >= hit.size) {
        u64 next_base = 0;
        Hit const found = find(address, next_base);
        if (!found.device) {
            crosses = next_base - address < width && next_base != ~u64 { 0 };
            return nullptr;
        }
        hit = found;
    }
    if (hit.size - (address - hit.base) < width) {
        crosses = true;
        return nullptr;
    }
    return &hit;
}

bool Bus::read(u64 address, unsigned width, u64& value)
{
    bool crosses = false;
    if (Hit const* found = find_whole(address, width, crosses)) {
        Hit const hit = *found; // the device may use this bus itself
        Counters::count(hit.counters->reads);
        value = hit.device->read(address - hit.base, width) & mask_of_bytes(width);
        return true;
    }
    value = mask_of_bytes(width);
    if (!crosses || width == 1) {
        if (m_unclaimed)
            m_unclaimed(address, width);
        return false;
    }
    bool found = false;
    value = 0;
    for (unsigned i = 0; i < width; ++i) {
        u64 byte = 0;
        found |= read(address + i, 1, byte);
        value |= byte << (8 * i);
    }
    return found;
}

bool Bus::write(u64 address, unsigned width, u64 value)
{
    bool crosses = false;
    if (Hit const* found = find_whole(address, width, crosses)) {
        Hit const hit = *found;
        Counters::count(hit.counters->writes);
        hit.device->write(address - hit.base, width, value & mask_of_bytes(width));
        return true;
    }
    if (!crosses || width == 1) {
        if (m_unclaimed)
            m_unclaimed(address, width);
        return false;
    }
    bool found = false;
    for (unsigned i = 0; i < width; ++i)
        found |= write(address + i, 1, (value >> (8 * i)) & 0xff);
    return found;
}

std::vector<Bus::Statistics> Bus::statistics() const
{
    std::lock_guard const lock(m_mutex);
    std::vector<Statistics> list;
    for (auto const& place : m_places)
        list.push_back({ place.name, place.base, place.size, place.counters->reads.load(std::memory_order_relaxed),
            place.counters->writes.load(std::memory_order_relaxed) });
    return list;
}

} // namespace anyhyve
