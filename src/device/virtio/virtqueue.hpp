// A split virtqueue, from the device's side. Everything in it is written by the guest while we look: each field is loaded once, checked,
// then used; a chain is never longer than the queue.
// Spec: virtio 1.2, 2.7. State: split ring with indirect descriptors and event indices. Missing: packed ring.
// Threads: none of its own; the device locks.
#pragma once

#include <string>
#include <vector>

#include "vmm/guest_memory.hpp"
#include "vmm/snapshot.hpp"

namespace anyhyve {

class Virtqueue {
public:
    struct Piece {
        Gpa address;
        u32 length;
        u8* memory;
    };
    // One request: first what the device reads, then what it writes.
    struct Chain {
        u16 head = 0;
        std::vector<Piece> readable;
        std::vector<Piece> writable;
        u64 readable_bytes = 0;
        u64 writable_bytes = 0;
    };
    struct Layout {
        u16 size = 0; // entries, a power of two
        u64 descriptors = 0;
        u64 available = 0;
        u64 used = 0;
    };

    Virtqueue(GuestMemory& memory, u16 largest_size);

    u16 largest_size() const { return m_largest_size; }
    Layout const& layout() const { return m_layout; }
    void set_layout(Layout const& layout) { m_layout = layout; } // only while disabled
    void set_features(u64 features);
    // False when the layout is no queue in RAM: then it is broken.
    bool enable();
    bool enabled() const { return m_enabled; }
    bool broken() const { return m_broken; }
    void reset();

    enum class Pop { empty, chain, broken };
    // The next request, in `chain`. Broken: the guest's rings are wrong, and the queue stays stopped until reset; problem() says how.
    Pop pop(Chain& chain);
    // Hands a chain back, with the number of bytes written into it.
    void push(u16 head, u32 written);
    // Whether the guest wants an interrupt for what was pushed since the last call.
    bool wants_interrupt();
    std::string const& problem() const { return m_problem; }

    void save(Encoder&) const;
    Result<void> restore(Decoder&);

private:
    struct Descriptor;
    Pop fail(std::string problem);
    bool walk(u16 head, Chain& chain);
    bool add_piece(Descriptor const&, Chain& chain);
    u16 load_u16(u8 const* at) const;
    void announce_progress();

    GuestMemory& m_memory;
    u16 m_largest_size;
    Layout m_layout;
    bool m_indirect = false;
    bool m_event_index = false;
    bool m_enabled = false;
    bool m_broken = false;
    std::string m_problem;
    u8* m_descriptors = nullptr;
    u8* m_available = nullptr;
    u8* m_used = nullptr;
    u16 m_next_available = 0; // index of the next entry to take
    u16 m_next_used = 0;      // index of the next entry to fill
    u16 m_last_signalled = 0; // m_next_used at the last wants_interrupt()
};

} // namespace anyhyve
