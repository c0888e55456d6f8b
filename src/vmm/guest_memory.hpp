// Guest physical RAM: the only place that turns a guest physical address into memory.
// Layout: RAM below 3 GiB at 0, the rest from 4 GiB on; everything else is a hole. Threads: all calls from any thread.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <string>

#include "base/result.hpp"
#include "host/fd.hpp"
#include "host/mapping.hpp"
#include "vmm/address.hpp"
#include "vmm/huge_regions.hpp"

namespace anyhyve {

// Told of every write to RAM that does not come from a vCPU (device DMA, loaders), so that translated code there is dropped.
class MemoryWatcher {
public:
    virtual ~MemoryWatcher() = default;
    virtual void memory_written(Gpa address, u64 size) = 0;
};

class GuestMemory {
public:
    static constexpr u64 low_limit = 3 * GiB;
    static constexpr u64 high_base = 4 * GiB;
    static constexpr u64 page_size = 4096;

    // Maps `file` (an open tmpfs file, kept) as `size` bytes of RAM, shared; it is grown (sparse) to that size. Guard regions surround it.
    static Result<std::unique_ptr<GuestMemory>> map_file(int file, u64 size, std::string const& name);
    // Private anonymous memory: for tests.
    static Result<std::unique_ptr<GuestMemory>> create_anonymous(u64 size);
    GuestMemory(GuestMemory const&) = delete;
    GuestMemory& operator=(GuestMemory const&) = delete;

    u64 size() const { return m_size; }
    u64 low_size() const { return m_size < low_limit ? m_size : low_limit; }
    u64 high_size() const { return m_size - low_size(); }

    // Host memory of [address, address+length), or nullptr when any byte of it is not RAM, or the sum overflows, or length is 0.
    u8* range(Gpa address, u64 length) const
    {
        u64 const a = address.value();
        if (a < m_low_size && length <= m_low_size - a && length != 0)
            return m_base + a;
        return high_range(address, length);
    }
    bool is_ram(Gpa address) const { return range(address, 1) != nullptr; }
    // Offset of RAM in the file, and back: pages numbered without the hole. Only for addresses that are RAM.
    u64 offset_of(Gpa address) const { return address.value() < low_limit ? address.value() : address.value() - high_base + low_limit; }
    Gpa address_at(u64 offset) const { return Gpa(offset < m_low_size ? offset : offset - m_low_size + high_base); }
    u8* host_base() const { return m_base; }

    // Copies; false (nothing or a part copied) when a byte is not RAM. write() tells the watcher.
    bool read(Gpa address, void* to, u64 length) const;
    bool write(Gpa address, void const* from, u64 length);
    template<typename T>
    bool read_value(Gpa address, T& value) const { return read(address, &value, sizeof value); }
    template<typename T>
    bool write_value(Gpa address, T const& value) { return write(address, &value, sizeof value); }

    // Copies from an open file without mapping a page of RAM, which costs more than copying it. Returns how much was copied: up to an end of
    // the file, or none where the host cannot do it. Threads: one at a time.
    u64 fill(Gpa address, int file, u64 offset, u64 length);

    // After writing through a range() pointer.
    void written(Gpa address, u64 length)
    {
        if (auto* watcher = m_watcher.load(std::memory_order_acquire))
            watcher->memory_written(address, length);
    }
    void set_watcher(MemoryWatcher* watcher) { m_watcher.store(watcher, std::memory_order_release); }

    // All zero again, and given back to the host. Tells the watcher.
    void clear();

    // Maps pages of RAM, by their offset, once more, over those at `to`, which are the caller's. False where RAM is no file, or where the host
    // refuses: then nobody may use those at `to` any more, but they stay the caller's.
    bool map_pages(u64 offset, u64 length, u8* to) const;

    HugeRegions& huge_regions() { return m_huge_regions; }

private:
    GuestMemory(host::Mapping reservation, u64 size, host::Fd file);
    u8* high_range(Gpa address, u64 length) const;
    void clear_range(Gpa address, u64 length);

    host::Mapping const m_reservation;
    u8* const m_base;
    u64 const m_size;
    u64 const m_low_size;
    host::Fd const m_file; // a descriptor of our own; none: anonymous memory
    std::atomic<MemoryWatcher*> m_watcher { nullptr };
    HugeRegions m_huge_regions;
};

} // namespace anyhyve
