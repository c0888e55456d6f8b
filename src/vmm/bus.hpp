// Where port and memory-mapped accesses of the guest find their device. One class, used twice: ports and memory.
// Threads: read(), write(), add(), remove() and statistics() from any thread at any time. read() and write() take no lock and never
// wait for one another. One that runs at the same time as a remove() may still reach the removed device: before destroying a
// device, pause the vCPUs. A device may add and remove places (its BARs) from within its own read() or write().
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/integer.hpp"
#include "base/result.hpp"

namespace anyhyve {

// A device as the bus sees it: registers at offsets from wherever it was placed. `width` is 1, 2, 4 or 8 bytes; values are
// little-endian numbers with the bits above the width clear. Unknown registers read as all ones and ignore writes.
class BusDevice {
public:
    virtual ~BusDevice() = default;
    virtual u64 read(u64 offset, unsigned width) = 0;
    virtual void write(u64 offset, unsigned width, u64 value) = 0;
};

class Bus {
public:
    explicit Bus(std::string name);
    ~Bus();
    Bus(Bus const&) = delete;
    Bus& operator=(Bus const&) = delete;

    // Places `device` (which must outlive its place) at [base, base+size). Fails (EEXIST) when it overlaps another one, (EINVAL)
    // when size is 0 or the end is beyond 2^64.
    Result<void> add(u64 base, u64 size, BusDevice& device, std::string device_name);
    // Nothing happens when no place begins at `base`.
    void remove(u64 base);

    // False when nobody lives at `address`: then the value is all ones and the write is dropped. An access that crosses the
    // beginning or the end of a device is split into bytes; it is false when none of them reached a device.
    bool read(u64 address, unsigned width, u64& value);
    bool write(u64 address, unsigned width, u64 value);

    // Told, on the thread of the access, of each one that reaches nobody. Before the vCPUs run.
    void set_unclaimed_listener(std::function<void(u64 address, unsigned width)> listener) { m_unclaimed = std::move(listener); }

    // Counts of accesses since the place was added; two vCPUs on one device at the same instant may count once.
    struct Statistics {
        std::string device;
        u64 base, size, reads, writes;
    };
    std::vector<Statistics> statistics() const; // by rising address

private:
    struct Place;
    struct Table;
    struct Counters;
    struct Hit {
        u64 base = 0, size = 0;
        BusDevice* device = nullptr;
        Counters* counters = nullptr;
        u64 sequence = 1; // of the map it was found in; odd: never valid
    };

    Hit find(u64 address, u64& next_base) const;
    Hit const* find_whole(u64 address, unsigned width, bool& crosses) const;
    void publish();

    std::string m_name;
    std::function<void(u64, unsigned)> m_unclaimed;
    // The map of places is a table of atomics under a sequence count: odd while a writer changes it, and a new number after. Its
    // first value is different in every Bus of the process, so that a thread's remembered hit cannot belong to an earlier Bus.
    std::atomic<u64> m_sequence;
    std::atomic<Table*> m_table { nullptr };

    mutable std::mutex m_mutex; // protects all below; held by writers and statistics() only
    std::vector<Place> m_places; // sorted by base
    std::vector<std::unique_ptr<Table>> m_tables; // outgrown ones stay: a reader may still look at them
    std::vector<std::unique_ptr<Counters>> m_counters;
    std::vector<Counters*> m_free_counters;
};

} // namespace anyhyve
