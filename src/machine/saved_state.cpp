// The state file of a machine as a set of chunks.
#include "machine/saved_state.hpp"

#include <algorithm>

#include "vmm/cpu_state_codec.hpp"

namespace anyhyve::machine {

std::vector<u8> MachineRecord::encode() const
{
    Encoder encoder;
    encoder.put_u8(static_cast<u8>(kind));
    encoder.put_u64(clock);
    encoder.put_u32(vcpus);
    return encoder.bytes();
}

Result<MachineRecord> MachineRecord::decode(std::span<u8 const> bytes, u32 chunk_version)
{
    if (chunk_version != version)
        return make_error(EBADMSG, "version {} of the state is unknown", chunk_version);
    Decoder decoder(bytes);
    MachineRecord record;
    u8 const kind = decoder.get_u8();
    record.kind = static_cast<Kind>(kind);
    record.clock = decoder.get_u64();
    record.vcpus = decoder.get_u32();
    if (!decoder.ok() || !decoder.at_end() || kind > static_cast<u8>(Kind::suspended))
        return Error("the chunk 'machine' is damaged", EBADMSG);
    return record;
}

std::string vcpu_chunk_name(unsigned vcpu)
{
    return fmt::format("vcpu{}", vcpu);
}

SavedState SavedState::of_loaded(CpuState const& bootstrap_processor)
{
    SavedState state;
    state.m_chunks.push_back({ MachineRecord::name, MachineRecord::version, state.m_record.encode() });
    state.set_cpu_state(0, bootstrap_processor);
    return state;
}

Result<SavedState> SavedState::decode(std::span<u8 const> bytes, std::string const& object)
{
    SavedState state;
    state.m_chunks = TRY(decode_chunks(bytes, object));
    auto const* chunk = state.find(MachineRecord::name);
    if (!chunk)
        return make_error(EBADMSG, "{} is not the state of a machine: it has no chunk 'machine'", object);
    auto record = MachineRecord::decode(chunk->bytes, chunk->version);
    if (!record.ok())
        return make_error(EBADMSG, "{}: {}", object, record.error().message());
    state.m_record = record.value();
    return state;
}

std::vector<u8> SavedState::encode() const
{
    return encode_chunks(m_chunks);
}

Chunk const* SavedState::find(std::string_view name) const
{
    auto const found = std::find_if(m_chunks.begin(), m_chunks.end(), [name](Chunk const& chunk) { return chunk.name == name; });
    return found == m_chunks.end() ? nullptr : &*found;
}

void SavedState::replace(Chunk chunk)
{
    auto const found = std::find_if(m_chunks.begin(), m_chunks.end(), [&chunk](Chunk const& other) { return other.name == chunk.name; });
    if (found == m_chunks.end())
        m_chunks.push_back(std::move(chunk));
    else
        *found = std::move(chunk);
}

Result<CpuState> SavedState::cpu_state(unsigned vcpu) const
{
    auto const* chunk = find(vcpu_chunk_name(vcpu));
    if (!chunk)
        return CpuState::after_reset(vcpu == 0);
    Decoder decoder(chunk->bytes);
    CpuState cpu;
    TRY(decode_cpu_state(decoder, chunk->version, cpu));
    return cpu;
}

void SavedState::set_cpu_state(unsigned vcpu, CpuState const& cpu)
{
    Encoder encoder;
    encode_cpu_state(cpu, encoder);
    replace({ vcpu_chunk_name(vcpu), cpu_state_version, encoder.bytes() });
}

Result<void> restore_part(SavedState const& state, Persistent& part, std::string const& object)
{
    auto const* chunk = state.find(part.state_name());
    if (!chunk) {
        part.reset();
        return {};
    }
    Decoder decoder(chunk->bytes);
    auto const restored = part.restore(decoder, chunk->version);
    if (!restored.ok())
        return make_error(restored.error().code(), "{}: {}", object, restored.error().message());
    return {};
}

Chunk save_part(Persistent const& part)
{
    Encoder encoder;
    part.save(encoder);
    return { std::string(part.state_name()), part.state_version(), encoder.bytes() };
}

} // namespace anyhyve::machine
