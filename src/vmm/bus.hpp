// Where port and memory-mapped accesses of the guest find their device. One class, used twice: ports and memory.
// Threads: add() before the vCPUs run, or with all of them paused; read()/write() from any thread at any time.
#pragma once

#include <memory>
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
    explicit Bus(std::string name) : m_name(std::move(name)) {}

    // Places `device` (which must outlive its place) at [base, base+size). Fails when it overlaps another one.
    Result<void> add(u64 base, u64 size, BusDevice& device, std::string device_name);
    void remove(u64 base);

    // False when nobody lives at `address`: then the value is all ones and the write is dropped. An access that crosses the
    // end of a device is split into bytes.
    bool read(u64 address, unsigned width, u64& value);
    bool write(u64 address, unsigned width, u64 value);

    struct Statistics {
        std::string device;
        u64 base, size, reads, writes;
    };
    std::vector<Statistics> statistics() const;

private:
    struct Place;
    struct Map;
    std::shared_ptr<Map const> map() const;
    Place* find(Map const&, u64 address) const;

    std::string m_name;
    std::shared_ptr<Map const> m_map; // replaced whole, read by atomic load: a PCI BAR may move while others read
};

} // namespace anyhyve
