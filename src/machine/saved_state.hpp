// The state file of a machine as a set of chunks: what bhyveload writes, bhyve starts from, and bhyvectl looks at and changes.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vmm/cpu_state.hpp"
#include "vmm/engine.hpp"
#include "vmm/snapshot.hpp"

namespace anyhyve::machine {

// What kind of state it is: the chunk "machine".
struct MachineRecord {
    enum class Kind : u8 {
        loaded = 0,    // by a boot loader: the processors' chunks, and of other parts those that were changed since power-on
        ended = 1,     // of a machine that has come to its end: to look at
        suspended = 2, // of a machine that may go on
    };
    static constexpr u32 version = 1;
    static constexpr char name[] = "machine";

    Kind kind = Kind::loaded;
    u64 clock = 0; // machine time
    u32 vcpus = 1;

    std::vector<u8> encode() const;
    static Result<MachineRecord> decode(std::span<u8 const>, u32 version);
};

class SavedState {
public:
    // A machine that is ready for its first instruction.
    static SavedState of_loaded(CpuState const& bootstrap_processor);
    // `object` names the file in messages.
    static Result<SavedState> decode(std::span<u8 const> bytes, std::string const& object);
    std::vector<u8> encode() const;

    MachineRecord const& record() const { return m_record; }
    std::vector<Chunk> const& chunks() const { return m_chunks; }
    Chunk const* find(std::string_view name) const;
    void replace(Chunk);

    // A processor without a chunk is as after power-on.
    Result<CpuState> cpu_state(unsigned vcpu) const;
    void set_cpu_state(unsigned vcpu, CpuState const&);

private:
    MachineRecord m_record;
    std::vector<Chunk> m_chunks; // all, "machine" too
};

// Brings a part to what `state` says of it: its chunk, or the state after power-on.
Result<void> restore_part(SavedState const& state, Persistent& part, std::string const& object);
Chunk save_part(Persistent const& part);
std::string vcpu_chunk_name(unsigned vcpu);

} // namespace anyhyve::machine
