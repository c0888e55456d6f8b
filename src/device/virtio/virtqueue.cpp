// Taking requests from a split virtqueue, and giving them back.
#include "device/virtio/virtqueue.hpp"

#include <atomic>
#include <bit>
#include <cstring>

#include <fmt/core.h>

#include "base/assert.hpp"
#include "base/bits.hpp"

namespace anyhyve {

namespace {

// Descriptor flags (2.7.5).
constexpr u16 descriptor_next = 1;
constexpr u16 descriptor_write = 2;
constexpr u16 descriptor_indirect = 4;
constexpr u64 descriptor_size = 16;

// Available and used rings (2.7.6, 2.7.8).
constexpr u64 ring_index = 2;
constexpr u64 ring_entries = 4;
constexpr u64 used_entry_size = 8;
constexpr u16 available_no_interrupt = 1;

constexpr u64 available_bytes(u64 size) { return ring_entries + 2 * size + 2; }
constexpr u64 used_bytes(u64 size) { return ring_entries + used_entry_size * size + 2; }

} // namespace

struct Virtqueue::Descriptor {
    u64 address;
    u32 length;
    u16 flags;
    u16 next;
};

Virtqueue::Virtqueue(GuestMemory& memory, u16 largest_size)
    : m_memory(memory)
    , m_largest_size(largest_size)
{
    ASSERT(std::has_single_bit(largest_size) && largest_size <= 32768, "a virtqueue's size is a power of two up to 32768");
    reset();
}

void Virtqueue::reset()
{
    m_layout = { m_largest_size, 0, 0, 0 };
    m_indirect = m_event_index = m_enabled = m_broken = false;
    m_problem.clear();
    m_descriptors = m_available = m_used = nullptr;
    m_next_available = m_next_used = m_last_signalled = 0;
}

void Virtqueue::set_features(u64 features)
{
    m_indirect = features & bit(28);
    m_event_index = features & bit(29);
}

bool Virtqueue::enable()
{
    auto const& [size, descriptors, available, used] = m_layout;
    m_enabled = true;
    if (!std::has_single_bit(size) || size > m_largest_size)
        return fail(fmt::format("its size is {}", size)) != Pop::broken;
    if (!is_aligned(descriptors, 16) || !is_aligned(available, 2) || !is_aligned(used, 4))
        return fail("its rings are not aligned") != Pop::broken;
    m_descriptors = m_memory.range(Gpa(descriptors), descriptor_size * size);
    m_available = m_memory.range(Gpa(available), available_bytes(size));
    m_used = m_memory.range(Gpa(used), used_bytes(size));
    if (!m_descriptors || !m_available || !m_used)
        return fail("its rings are not in RAM") != Pop::broken;
    return true;
}

Virtqueue::Pop Virtqueue::fail(std::string problem)
{
    m_broken = true;
    m_problem = std::move(problem);
    return Pop::broken;
}

u16 Virtqueue::load_u16(u8 const* at) const
{
    // SAFETY: enable() checked that the rings lie in RAM and are aligned to 2; the guest changes them at the same time.
    return std::atomic_ref<u16>(*reinterpret_cast<u16*>(const_cast<u8*>(at))).load(std::memory_order_acquire);
}

Virtqueue::Pop Virtqueue::pop(Chain& chain)
{
    if (!m_enabled)
        return Pop::empty;
    if (m_broken)
        return Pop::broken;
    u16 waiting = static_cast<u16>(load_u16(m_available + ring_index) - m_next_available);
    if (waiting == 0) {
        if (!m_event_index)
            return Pop::empty;
        announce_progress();
        waiting = static_cast<u16>(load_u16(m_available + ring_index) - m_next_available);
        if (waiting == 0)
            return Pop::empty;
    }
    if (waiting > m_layout.size)
        return fail("its available index runs ahead");
    u16 const head = load_u16(m_available + ring_entries + 2 * (m_next_available & (m_layout.size - 1)));
    ++m_next_available;
    if (!walk(head, chain))
        return Pop::broken;
    return Pop::chain;
}

// 2.7.10: the guest kicks when its index passes this one. It must be visible before the index is looked at again.
void Virtqueue::announce_progress()
{
    u8* const event = m_used + ring_entries + used_entry_size * m_layout.size;
    // SAFETY: inside the used ring, which is aligned to 4 and lies in RAM.
    std::atomic_ref<u16>(*reinterpret_cast<u16*>(event)).store(m_next_available, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
}

bool Virtqueue::walk(u16 head, Chain& chain)
{
    chain.head = head;
    chain.readable.clear();
    chain.writable.clear();
    chain.readable_bytes = chain.writable_bytes = 0;

    u8 const* table = m_descriptors;
    u64 table_size = m_layout.size;
    u64 index = head;
    bool in_indirect = false;
    for (unsigned left = m_layout.size; left != 0; --left) {
        if (index >= table_size)
            return fail(fmt::format("descriptor {} is beyond the table", index)) != Pop::broken;
        Descriptor descriptor;
        static_assert(sizeof descriptor == descriptor_size);
        std::memcpy(&descriptor, table + descriptor_size * index, sizeof descriptor);
        std::atomic_signal_fence(std::memory_order_seq_cst); // the copy is made once, whatever the compiler would prefer

        if (descriptor.flags & descriptor_indirect) {
            if (!m_indirect || in_indirect || (descriptor.flags & descriptor_next))
                return fail("an indirect descriptor stands where none may") != Pop::broken;
            table_size = descriptor.length / descriptor_size;
            table = m_memory.range(Gpa(descriptor.address), descriptor.length);
            if (!table || descriptor.length % descriptor_size != 0)
                return fail("an indirect table is not in RAM or of a wrong length") != Pop::broken;
            in_indirect = true;
            index = 0;
            left = m_layout.size + 1U; // the table's own descriptors count anew (2.7.5.3.1)
            continue;
        }
        if (!add_piece(descriptor, chain))
            return false;
        if (!(descriptor.flags & descriptor_next))
            return true;
        index = descriptor.next;
    }
    return fail("a chain is longer than the queue") != Pop::broken;
}

bool Virtqueue::add_piece(Descriptor const& descriptor, Chain& chain)
{
    bool const writable = descriptor.flags & descriptor_write;
    if (!writable && !chain.writable.empty())
        return fail("a device-readable descriptor follows a writable one") != Pop::broken;
    if (descriptor.length == 0)
        return true;
    u8* const memory = m_memory.range(Gpa(descriptor.address), descriptor.length);
    if (!memory)
        return fail(fmt::format("a buffer at {:#x} is not in RAM", descriptor.address)) != Pop::broken;
    (writable ? chain.writable : chain.readable).push_back({ Gpa(descriptor.address), descriptor.length, memory });
    (writable ? chain.writable_bytes : chain.readable_bytes) += descriptor.length;
    return true;
}

void Virtqueue::push(u16 head, u32 written)
{
    if (!m_enabled || m_broken)
        return;
    u64 const entry_offset = ring_entries + used_entry_size * (m_next_used & (m_layout.size - 1));
    u32 const id = head;
    std::memcpy(m_used + entry_offset, &id, sizeof id);
    std::memcpy(m_used + entry_offset + 4, &written, sizeof written);
    ++m_next_used;
    // SAFETY: enable() checked the ring; release: the guest sees entry and data before the index.
    std::atomic_ref<u16>(*reinterpret_cast<u16*>(m_used + ring_index)).store(m_next_used, std::memory_order_release);
    m_memory.written(Gpa(m_layout.used), used_bytes(m_layout.size));
}

bool Virtqueue::wants_interrupt()
{
    if (!m_enabled || m_broken || m_next_used == m_last_signalled)
        return false;
    // 2.7.7.2, 2.7.10: the index must be visible before the guest's wish is read.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    u16 const before = m_last_signalled;
    m_last_signalled = m_next_used;
    if (!m_event_index)
        return !(load_u16(m_available) & available_no_interrupt);
    u16 const event = load_u16(m_available + ring_entries + 2 * m_layout.size);
    return static_cast<u16>(m_next_used - event - 1) < static_cast<u16>(m_next_used - before);
}

void Virtqueue::save(Encoder& encoder) const
{
    encoder.put_u16(m_layout.size);
    encoder.put_u64(m_layout.descriptors);
    encoder.put_u64(m_layout.available);
    encoder.put_u64(m_layout.used);
    encoder.put_bool(m_enabled);
    encoder.put_bool(m_broken);
    encoder.put_u16(m_next_available);
    encoder.put_u16(m_next_used);
    encoder.put_u16(m_last_signalled);
}

Result<void> Virtqueue::restore(Decoder& decoder)
{
    m_layout.size = decoder.get_u16();
    m_layout.descriptors = decoder.get_u64();
    m_layout.available = decoder.get_u64();
    m_layout.used = decoder.get_u64();
    bool const was_enabled = decoder.get_bool();
    bool const was_broken = decoder.get_bool();
    m_next_available = decoder.get_u16();
    m_next_used = decoder.get_u16();
    m_last_signalled = decoder.get_u16();
    if (!decoder.ok())
        return make_error(EINVAL, "the saved virtqueue is cut short");
    if (was_enabled && !enable() && !was_broken)
        return make_error(EINVAL, "the saved virtqueue is wrong: {}", m_problem);
    if (was_broken)
        fail("it was broken when saved");
    return {};
}

} // namespace anyhyve
