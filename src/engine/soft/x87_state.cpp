// FNSAVE, FRSTOR, FNSTENV, FLDENV: the host's instructions on a copy, in the 32-bit format, and the guest's format from that.
// Source: Intel SDM vol. 1 8.1.10 (formats), vol. 2 the instructions. All pointers are zero, which makes the real-mode formats
// the same as the protected-mode ones.
#include "engine/soft/execute_functions.hpp"
#include "engine/soft/extended_state_image.hpp"
#include "engine/soft/mmu.hpp"

namespace anyhyve::soft {

using namespace x86;

namespace {

// Control, status and tag word, instruction pointer and its selector, data pointer and its selector.
constexpr unsigned environment_words = 7;
constexpr unsigned first_pointer = 3;
constexpr unsigned registers_size = 80;
constexpr unsigned environment32_size = environment_words * 4, environment16_size = environment_words * 2;
constexpr unsigned guest_image = 1024; // where in cpu.bounce the guest's format is put together
constexpr u16 status_error_summary = 0x80;

enum class Image : u8 { environment, state };

struct Format {
    unsigned word;        // bytes per word of the environment
    unsigned environment; // bytes
    unsigned total;
};

Format format_of(Instruction const& instruction, Image image)
{
    bool const wide = instruction.operand_size != 2;
    unsigned const environment = wide ? environment32_size : environment16_size;
    return { wide ? 4u : 2u, environment, environment + (image == Image::state ? registers_size : 0) };
}

Outcome check_x87(Cpu& cpu)
{
    return cpu.cr0 & (cr0::em | cr0::ts) ? raise(cpu, vector::device_not_available) : Outcome::next;
}

// FRSTOR and FLDENV wait: an exception that is still pending comes first.
Outcome check_pending_exception(Cpu& cpu)
{
    u16 status = 0;
    asm volatile("fnstsw %0" : "=a"(status));
    return status & status_error_summary ? raise(cpu, vector::x87_error) : Outcome::next;
}

// Guest's format from the host's, and back.
void to_guest(u8* bounce, Format const& format)
{
    for (unsigned i = 0; i < environment_words; ++i) {
        u32 word = get_field<u32>(bounce, i * 4);
        if (i >= first_pointer)
            word = i == environment_words - 1 ? 0xffff0000 : 0; // the upper half of the last one is reserved, and ones
        copy_bytes(bounce + guest_image + i * format.word, &word, format.word);
    }
    copy_bytes(bounce + guest_image + format.environment, bounce + environment32_size, format.total - format.environment);
}

void to_host(u8* bounce, Format const& format)
{
    for (unsigned i = 0; i < environment_words; ++i) {
        u32 word = 0;
        if (i < first_pointer)
            copy_bytes(&word, bounce + guest_image + i * format.word, format.word);
        put_field<u32>(bounce, i * 4, word);
    }
    copy_bytes(bounce + environment32_size, bounce + guest_image + format.environment, format.total - format.environment);
}

void host_load(u8 const* bounce, Image image)
{
    if (image == Image::state)
        asm volatile("frstor (%0)" : : "r"(bounce) : "memory");
    else
        asm volatile("fldenv (%0)" : : "r"(bounce) : "memory");
}

Outcome store(Cpu& cpu, Instruction const& instruction, Image image)
{
    STEP(check_x87(cpu));
    Format const format = format_of(instruction, image);
    u64 linear = 0;
    STEP(cpu.mmu->operand_address(instruction, format.total, Access::write, linear));
    STEP(cpu.mmu->probe(linear, format.total, Access::write));
    u8* const bounce = cpu.bounce.data();
    if (image == Image::state)
        asm volatile("fnsave (%0)" : : "r"(bounce) : "memory");
    else
        asm volatile("fnstenv (%0)" : : "r"(bounce) : "memory");
    to_guest(bounce, format);
    ImageParts parts;
    parts.add(0, guest_image, format.total);
    auto const outcome = parts.write(cpu, linear);
    if (outcome != Outcome::next)
        host_load(bounce, image); // the store also changed the registers
    return outcome;
}

Outcome load(Cpu& cpu, Instruction const& instruction, Image image)
{
    STEP(check_x87(cpu));
    STEP(check_pending_exception(cpu));
    Format const format = format_of(instruction, image);
    u64 linear = 0;
    STEP(cpu.mmu->operand_address(instruction, format.total, Access::read, linear));
    ImageParts parts;
    parts.add(0, guest_image, format.total);
    STEP(parts.read(cpu, linear));
    to_host(cpu.bounce.data(), format);
    host_load(cpu.bounce.data(), image);
    return Outcome::next;
}

} // namespace

Outcome execute_fnsave(Cpu& cpu, Instruction const& instruction) { return store(cpu, instruction, Image::state); }
Outcome execute_fnstenv(Cpu& cpu, Instruction const& instruction) { return store(cpu, instruction, Image::environment); }
Outcome execute_frstor(Cpu& cpu, Instruction const& instruction) { return load(cpu, instruction, Image::state); }
Outcome execute_fldenv(Cpu& cpu, Instruction const& instruction) { return load(cpu, instruction, Image::environment); }

} // namespace anyhyve::soft
