// The MSI-X table and pending-bit array of one function, as they lie in its BAR: table at 0, pending bits behind it.
// Spec: PCI Local Bus 3.0, 6.8.2. State: complete. Missing: nothing.
// Threads: none of its own; PciFunction locks.
#pragma once

#include <vector>

#include "base/integer.hpp"
#include "base/result.hpp"
#include "vmm/irq_line.hpp"
#include "vmm/snapshot.hpp"

namespace anyhyve {

class MsixTable {
public:
    MsixTable(MsiSink& sink, unsigned vectors);

    unsigned vectors() const { return static_cast<unsigned>(m_entries.size()); }
    u32 table_offset() const { return 0; }
    u32 pending_offset() const { return m_pending_offset; }
    u32 bar_size() const; // a power of two, at least a page

    u64 read(u64 offset, unsigned width) const;
    void write(u64 offset, unsigned width, u64 value);

    // The enable and function-mask bits of message control. Sends what waited when nothing stops it any more.
    enum class Gate { disabled, masked, open };
    void set_gate(Gate);
    // Sends the message of `vector`, or remembers it while that is masked. Vectors beyond the table are dropped.
    void raise(unsigned vector);

    void reset();
    void save(Encoder&) const;
    Result<void> restore(Decoder&);

private:
    struct Entry {
        u32 address_low = 0;
        u32 address_high = 0;
        u32 data = 0;
        u32 control = mask_bit;
        bool pending = false;
    };
    static constexpr u32 mask_bit = 1;
    static constexpr u32 entry_size = 16;
    u32 read_dword(u64 offset) const;
    void write_dword(u64 offset, u32 value);
    void send_pending(Entry&);

    MsiSink& m_sink;
    std::vector<Entry> m_entries;
    u32 m_pending_offset;
    Gate m_gate = Gate::disabled;
};

} // namespace anyhyve
