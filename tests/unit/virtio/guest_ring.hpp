// The driver's side of a split virtqueue in guest memory, for tests.
#pragma once

#include <atomic>

#include "device/virtio/virtqueue.hpp"

namespace anyhyve {

constexpr u16 ring_next = 1, ring_write = 2, ring_indirect = 4;

class GuestRing {
public:
    GuestRing(GuestMemory& memory, u64 base, u16 size) : m_memory(&memory)
    {
        layout = { size, base, base + 16U * size, (base + 16U * size + 6 + 2U * size + 4095) & ~u64 { 4095 } };
        std::vector<u8> const zeroes(layout.used + 6 + 8U * size - base);
        memory.write(Gpa(base), zeroes.data(), zeroes.size());
    }

    void describe(u64 index, u64 address, u32 length, u16 flags, u16 next = 0) { describe_at(layout.descriptors, index, address, length, flags, next); }
    void describe_at(u64 table, u64 index, u64 address, u32 length, u16 flags, u16 next = 0)
    {
        u64 const at = table + 16 * index;
        m_memory->write_value(Gpa(at), address);
        m_memory->write_value(Gpa(at + 8), length);
        m_memory->write_value(Gpa(at + 12), flags);
        m_memory->write_value(Gpa(at + 14), next);
    }
    // Puts `head` into the available ring.
    void offer(u16 head)
    {
        shared(layout.available + 4 + 2U * (m_available % layout.size)).store(head, std::memory_order_relaxed);
        set_available_index(static_cast<u16>(++m_available));
    }
    void set_available_index(u16 index) { shared(layout.available + 2).store(index, std::memory_order_seq_cst); }
    void set_no_interrupt(u16 flag) { shared(layout.available).store(flag); }
    void set_used_event(u16 index) { shared(layout.available + 4 + 2U * layout.size).store(index); }
    u16 available_event() const { return shared(layout.used + 4 + 8U * layout.size).load(); }
    u16 used_index() const { return shared(layout.used + 2).load(std::memory_order_acquire); }
    u32 used_id(u16 index) const { return value<u32>(layout.used + 4 + 8U * (index % layout.size)); }
    u32 used_length(u16 index) const { return value<u32>(layout.used + 8 + 8U * (index % layout.size)); }

    Virtqueue::Layout layout;

private:
    // Fields that both sides use at the same time.
    std::atomic_ref<u16> shared(u64 address) const
    {
        // SAFETY: tests place their rings in RAM, aligned.
        return std::atomic_ref<u16>(*reinterpret_cast<u16*>(m_memory->range(Gpa(address), sizeof(u16))));
    }
    template<typename T>
    T value(u64 address) const
    {
        T result {};
        m_memory->read_value(Gpa(address), result);
        return result;
    }
    GuestMemory* m_memory;
    u16 m_available = 0;
};

} // namespace anyhyve
