// FXSAVE, FXRSTOR and the XSAVE family: the host's own instructions, on the guest's image or on a copy of it.
// Source: Intel SDM vol. 1 10.5 and chapter 13; vol. 2, the instructions.
//
// The guest's registers are live in the host's. Its images have the host's layout, so a save goes straight to guest memory where that
// is one page of RAM. A restore always works on a copy: the host would fault on an image that another vCPU spoils after the check.
// Instruction and data pointers of the x87 would name translated code, so images carry zeros there.
#include "base/bits.hpp"
#include "engine/soft/execute_functions.hpp"
#include "engine/soft/extended_state_image.hpp"
#include "engine/soft/mmu.hpp"
#include "engine/soft/vector_state.hpp"

namespace anyhyve::soft {

using namespace x86;

namespace {

constexpr u64 page_size = 0x1000;
constexpr u64 xsave_alignment = 64, fxsave_alignment = 16;

enum class Save : u8 { plain, optimized, compacted };

void host_xsave(u8* image, u64 mask)
{
    asm volatile("xsave64 (%0)" : : "r"(image), "a"(static_cast<u32>(mask)), "d"(0u) : "memory");
}
void host_xsaveopt(u8* image, u64 mask)
{
    asm volatile("xsaveopt64 (%0)" : : "r"(image), "a"(static_cast<u32>(mask)), "d"(0u) : "memory");
}
void host_xsavec(u8* image, u64 mask)
{
    asm volatile("xsavec64 (%0)" : : "r"(image), "a"(static_cast<u32>(mask)), "d"(0u) : "memory");
}
void host_xrstor(u8 const* image, u64 mask)
{
    asm volatile("xrstor64 (%0)" : : "r"(image), "a"(static_cast<u32>(mask)), "d"(0u) : "memory");
}

RegisterFile register_file(Cpu const& cpu) { return cpu.code64() ? RegisterFile::all : RegisterFile::eight; }

u64 requested(Cpu const& cpu)
{
    return ((cpu.gpr[rdx] << 32) | static_cast<u32>(cpu.gpr[rax])) & cpu.xcr0;
}

// May the x87 unit hold pointers to translated code?
bool x87_in_use()
{
    if (!host_vector_unit().xgetbv1)
        return true;
    u32 low = 0, high = 0;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(1));
    return (low & xcr0::x87) != 0;
}

// PKRU is a register of ours: the host's instructions leave out what follows adds to an image, or takes from one.
u64 live_pkru(Cpu const& cpu) { return cpu.key_rights[user_pages].value; }
// Of the components in `mask`: is PKRU not in its initial state?
u64 pkru_in_use(Cpu const& cpu, u64 mask) { return live_pkru(cpu) != 0 ? mask & xcr0::pkru : 0; }

// What the host's instruction would have written of it. `compacted`: the image's components, or 0.
void add_pkru(Cpu const& cpu, u8* image, u64 mask, u64 compacted, Save how)
{
    using namespace xsave_image;
    if (!(mask & xcr0::pkru))
        return;
    u64 const in_use = pkru_in_use(cpu, mask);
    auto const& unit = host_vector_unit();
    u32 const at = compacted ? unit.compacted_offset(compacted, xcr0::pkru_component) : unit.components[xcr0::pkru_component].offset;
    if (in_use || how == Save::plain)
        put_field<u64>(image, at, live_pkru(cpu));
    put_field<u64>(image, xstate_bv, (get_field<u64>(image, xstate_bv) & ~xcr0::pkru) | in_use);
    if (compacted)
        put_field<u64>(image, xcomp_bv, get_field<u64>(image, xcomp_bv) | xcr0::pkru);
}

void clear_x87_pointers(u8* image)
{
    using namespace xsave_image;
    put_field<u16>(image, opcode, 0);
    put_field<u64>(image, instruction_pointer, 0);
    put_field<u64>(image, data_pointer, 0);
}

Outcome check_xsave(Cpu& cpu)
{
    if (!(cpu.cr4 & cr4::osxsave))
        return raise_ud(cpu);
    return cpu.cr0 & cr0::ts ? raise(cpu, vector::device_not_available) : Outcome::next;
}

Outcome image_address(Cpu& cpu, Instruction const& instruction, u32 size, u64 alignment, Access access, u64& linear)
{
    STEP(cpu.mmu->operand_address(instruction, size, access, linear));
    return is_aligned(linear, alignment) ? Outcome::next : raise_gp(cpu);
}

// A save by way of the bounce buffer.
Outcome save_copy(Cpu& cpu, u64 linear, u64 mask, Save how)
{
    using namespace xsave_image;
    u8* const image = cpu.bounce.data();
    zero_words(image + xstate_bv, header_size);
    host_xsave(image, mask & ~xcr0::pkru);
    add_pkru(cpu, image, mask, 0, Save::plain);
    clear_x87_pointers(image);
    u64 in_use = get_field<u64>(image, xstate_bv) & mask;
    if (how == Save::compacted && get_field<u32>(image, mxcsr) != mxcsr_initial)
        in_use |= mask & xcr0::sse; // there MXCSR counts as a part of the SSE state (SDM vol. 1 13.6, 13.10)
    ImageParts parts;
    u64 const written = how == Save::plain ? mask : in_use;
    parts.add_components(written, how == Save::compacted ? mask : 0, register_file(cpu));
    if (how == Save::compacted) {
        put_field<u64>(image, xstate_bv, in_use);
        put_field<u64>(image, xcomp_bv, mask | compacted);
        parts.add_same(xstate_bv, 16);
    } else {
        // MXCSR goes along with SSE or AVX; of the header only the bits asked for change (SDM vol. 1 13.7).
        if ((mask & (xcr0::sse | xcr0::avx)) && !(written & xcr0::sse))
            parts.add_same(mxcsr, x87_registers - mxcsr);
        u64 before = 0;
        STEP(cpu.mmu->read_value(linear + xstate_bv, before));
        put_field<u64>(image, xstate_bv, (before & ~mask) | in_use);
        parts.add_same(xstate_bv, 8);
    }
    return parts.write(cpu, linear);
}

Outcome save(Cpu& cpu, Instruction const& instruction, Save how)
{
    STEP(check_xsave(cpu));
    auto const& unit = host_vector_unit();
    u64 const mask = requested(cpu);
    u32 const size = how == Save::compacted ? unit.compacted_size(mask) : unit.standard_size(mask);
    u64 linear = 0;
    STEP(image_address(cpu, instruction, size, xsave_alignment, Access::write, linear));
    u8* host = nullptr;
    bool const one_page = (linear & (page_size - 1)) + size <= page_size;
    if (one_page && cpu.code64() && !((mask & xcr0::x87) && x87_in_use()))
        STEP(cpu.mmu->host_pointer(linear, size, Access::write, host));
    if (host == nullptr)
        return save_copy(cpu, linear, mask, how);
    u64 const by_host = mask & ~xcr0::pkru;
    switch (how) {
    case Save::plain: host_xsave(host, by_host); break;
    case Save::optimized: host_xsaveopt(host, by_host); break;
    case Save::compacted: host_xsavec(host, by_host); break;
    }
    add_pkru(cpu, host, mask, how == Save::compacted ? mask : 0, how);
    return Outcome::next;
}

// The header of an image about to be restored, once copied and checked.
struct Header {
    u64 present = 0;   // XSTATE_BV
    u64 compacted = 0; // components that a compacted image has room for; 0: standard format
};

// Which formats an instruction takes.
enum class Formats : u8 { both, compacted_only };

bool all_zero(u8 const* bytes, unsigned count)
{
    for (unsigned i = 0; i < count; i += 8) {
        if (get_field<u64>(bytes, i) != 0)
            return false;
    }
    return true;
}

// SDM vol. 1 13.8: what makes XRSTOR refuse an image.
Outcome check_header(Cpu& cpu, Formats formats, Header& header)
{
    using namespace xsave_image;
    u8 const* const image = cpu.bounce.data();
    u64 const layout = get_field<u64>(image, xcomp_bv);
    header.present = get_field<u64>(image, xstate_bv);
    bool good = false;
    if (layout & compacted) {
        header.compacted = layout;
        u64 const room = layout & ~compacted;
        good = host_vector_unit().xsavec && !(room & ~cpu.xcr0) && !(header.present & ~room) && all_zero(image + xcomp_bv + 8, header_size - 16);
    } else
        good = formats == Formats::both && !(header.present & ~cpu.xcr0) && all_zero(image + xcomp_bv, 16);
    return good ? Outcome::next : raise_gp(cpu);
}

u32 live_mxcsr()
{
    u32 value = 0;
    asm volatile("stmxcsr %0" : "=m"(value));
    return value;
}

// Outside 64-bit mode registers 8 and up keep what they have: it is put into the image that is about to be loaded.
void keep_high_registers(Cpu& cpu, u64 mask, u64& present)
{
    auto const& unit = host_vector_unit();
    u64 const split = mask & (xcr0::sse | xcr0::avx | xcr0::zmm_high256 | xcr0::high16_zmm);
    u8* const image = cpu.bounce.data();
    u8* const live = cpu.xsave.data();
    host_xsave(live, unit.mask);
    u64 const live_present = get_field<u64>(live, xsave_image::xstate_bv);
    for (unsigned n = 1; n < xcr0::component_count; ++n) {
        if (!(split & bit(n)))
            continue;
        u32 const low = component_size(n, RegisterFile::eight);
        u32 const at = unit.components[n].offset;
        if (!(present & bit(n)))
            zero_bytes(image + at, low);
        if (live_present & bit(n))
            copy_bytes(image + at + low, live + at + low, unit.components[n].size - low);
        else
            zero_bytes(image + at + low, unit.components[n].size - low);
        present |= live_present & bit(n);
    }
}

Outcome restore(Cpu& cpu, Instruction const& instruction, Formats formats)
{
    using namespace xsave_image;
    STEP(check_xsave(cpu));
    u64 const mask = requested(cpu);
    u64 linear = 0;
    STEP(image_address(cpu, instruction, extended, xsave_alignment, Access::read, linear));
    u64 const page_room = page_size - (linear & (page_size - 1));
    u8* host = nullptr; // of the part of the image in its first page
    STEP(cpu.mmu->host_pointer(linear, 1, Access::read, host));
    ImageParts header_part;
    header_part.add_same(xstate_bv, header_size);
    if (host != nullptr && page_room >= extended)
        header_part.read_host(cpu, host);
    else
        STEP(header_part.read(cpu, linear));
    Header header;
    STEP(check_header(cpu, formats, header));

    u8* const image = cpu.bounce.data();
    u64 present = header.present & mask;
    u32 const size = header.compacted ? host_vector_unit().compacted_size(header.compacted & ~compacted) : host_vector_unit().standard_size(present);
    if (size > extended)
        STEP(cpu.mmu->operand_address(instruction, size, Access::read, linear));
    ImageParts parts;
    bool const mxcsr_from_memory = header.compacted ? (present & xcr0::sse) != 0 : (mask & (xcr0::sse | xcr0::avx)) != 0;
    parts.add_components(present, header.compacted & ~compacted, register_file(cpu));
    if (mxcsr_from_memory && !(present & xcr0::sse))
        parts.add_same(mxcsr, x87_registers - mxcsr);
    if (host != nullptr && page_room >= size)
        parts.read_host(cpu, host);
    else
        STEP(parts.read(cpu, linear));
    if (!mxcsr_from_memory)
        put_field<u32>(image, mxcsr, mask & xcr0::sse ? mxcsr_initial : live_mxcsr());
    if (get_field<u32>(image, mxcsr) & ~host_vector_unit().mxcsr_mask)
        return raise_gp(cpu);
    if (register_file(cpu) == RegisterFile::eight)
        keep_high_registers(cpu, mask, present);
    put_field<u64>(image, xstate_bv, present & ~xcr0::pkru);
    zero_words(image + xcomp_bv, header_size - 8);
    host_xrstor(image, mask & ~xcr0::pkru);
    if (mask & xcr0::pkru)
        cpu.mmu->set_key_rights(user_pages, present & xcr0::pkru ? get_field<u32>(image, host_vector_unit().components[xcr0::pkru_component].offset) : 0);
    return Outcome::next;
}

Outcome check_fxsave(Cpu& cpu)
{
    return cpu.cr0 & (cr0::em | cr0::ts) ? raise(cpu, vector::device_not_available) : Outcome::next;
}

void host_fxsave(u8* image) { asm volatile("fxsave64 (%0)" : : "r"(image) : "memory"); }
void host_fxrstor(u8 const* image) { asm volatile("fxrstor64 (%0)" : : "r"(image) : "memory"); }

} // namespace

Outcome execute_fxsave(Cpu& cpu, Instruction const& instruction)
{
    STEP(check_fxsave(cpu));
    u64 linear = 0;
    STEP(image_address(cpu, instruction, xsave_image::legacy_size, fxsave_alignment, Access::write, linear));
    host_fxsave(cpu.bounce.data());
    clear_x87_pointers(cpu.bounce.data());
    ImageParts parts;
    parts.add_components(xcr0::x87 | xcr0::sse, 0, register_file(cpu));
    return parts.write(cpu, linear);
}

Outcome execute_fxrstor(Cpu& cpu, Instruction const& instruction)
{
    using namespace xsave_image;
    STEP(check_fxsave(cpu));
    u64 linear = 0;
    STEP(image_address(cpu, instruction, legacy_size, fxsave_alignment, Access::read, linear));
    u8* const image = cpu.bounce.data();
    host_fxsave(image); // what the instruction leaves alone: XMM8-15 outside 64-bit mode, all SSE state without CR4.OSFXSR
    ImageParts parts;
    parts.add_components(cpu.cr4 & cr4::osfxsr ? xcr0::x87 | xcr0::sse : xcr0::x87, 0, register_file(cpu));
    STEP(parts.read(cpu, linear));
    if (get_field<u32>(image, mxcsr) & ~host_vector_unit().mxcsr_mask)
        return raise_gp(cpu);
    host_fxrstor(image);
    return Outcome::next;
}

Outcome execute_xsave(Cpu& cpu, Instruction const& instruction) { return save(cpu, instruction, Save::plain); }
Outcome execute_xsaveopt(Cpu& cpu, Instruction const& instruction) { return save(cpu, instruction, Save::optimized); }
Outcome execute_xsavec(Cpu& cpu, Instruction const& instruction) { return save(cpu, instruction, Save::compacted); }
Outcome execute_xrstor(Cpu& cpu, Instruction const& instruction) { return restore(cpu, instruction, Formats::both); }

// IA32_XSS is always 0, so that XSAVES and XRSTORS differ from XSAVEC and XRSTOR only in privilege and in the format they take.
Outcome execute_xsaves(Cpu& cpu, Instruction const& instruction)
{
    STEP(check_xsave(cpu));
    return cpu.cpl != 0 ? raise_gp(cpu) : save(cpu, instruction, Save::compacted);
}

Outcome execute_xrstors(Cpu& cpu, Instruction const& instruction)
{
    STEP(check_xsave(cpu));
    return cpu.cpl != 0 ? raise_gp(cpu) : restore(cpu, instruction, Formats::compacted_only);
}

} // namespace anyhyve::soft
