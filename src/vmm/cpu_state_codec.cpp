// Encoding, decoding and checking CpuState. One walk over the fields serves both directions, so they cannot differ.
#include "vmm/cpu_state_codec.hpp"

#include <cstring>

#include "base/bits.hpp"

namespace anyhyve {

namespace {

struct Writer {
    Encoder& to;
    void number(u64 const& value) const { to.put_u64(value); }
    void number(u32 const& value) const { to.put_u32(value); }
    void number(u16 const& value) const { to.put_u16(value); }
    void number(bool const& value) const { to.put_bool(value); }
    void number(Activity const& value) const { to.put_u8(static_cast<u8>(value)); }
    void bytes(std::span<u8 const> value) const { to.put_bytes(value); }
};

struct Reader {
    Decoder& from;
    void number(u64& value) const { value = from.get_u64(); }
    void number(u32& value) const { value = from.get_u32(); }
    void number(u16& value) const { value = from.get_u16(); }
    void number(bool& value) const { value = from.get_bool(); }
    void number(Activity& value) const { value = static_cast<Activity>(from.get_u8()); }
    void bytes(std::span<u8> value) const { from.get_bytes(value); }
};

template<typename Direction, typename Segment>
void walk_segment(Direction direction, Segment& segment)
{
    direction.number(segment.selector);
    direction.number(segment.access);
    direction.number(segment.limit);
    direction.number(segment.base);
}

// State is CpuState, const when it is written.
template<typename Direction, typename State>
void walk(Direction direction, State& state, u32 version)
{
    auto const all = [&](auto&... values) { (direction.number(values), ...); };
    auto const each = [&](auto& values) {
        for (auto& value : values)
            direction.number(value);
    };
    each(state.gpr);
    all(state.rip, state.rflags);
    for (auto& segment : state.segments)
        walk_segment(direction, segment);
    walk_segment(direction, state.ldtr);
    walk_segment(direction, state.tr);
    all(state.gdtr.base, state.gdtr.limit, state.idtr.base, state.idtr.limit);
    all(state.cr0, state.cr2, state.cr3, state.cr4, state.cr8, state.xcr0);
    each(state.pdpte);
    each(state.dr);
    all(state.dr6, state.dr7);
    all(state.efer, state.star, state.lstar, state.cstar, state.sfmask, state.kernel_gs_base, state.tsc_aux);
    all(state.sysenter_cs, state.sysenter_esp, state.sysenter_eip);
    all(state.pat, state.misc_enable, state.xss, state.spec_ctrl, state.tsc_offset, state.tsc_adjust, state.mtrr_def_type);
    each(state.mtrr_fixed);
    each(state.mtrr_variable);
    direction.bytes(state.xsave);
    all(state.activity, state.interrupt_shadow, state.nmi_blocked, state.nmi_pending);
    if (version >= 2)
        all(state.pkru, state.pkrs);
}

Result<void> require(bool good, char const* what)
{
    if (!good)
        return make_error(EBADMSG, "{}", what);
    return {};
}

// Of a CPU with 5-level paging at most: 57 bits.
bool canonical(u64 address)
{
    return static_cast<u64>(sign_extend(address, 57)) == address;
}

Result<void> check_modes(CpuState const& state)
{
    namespace cr0 = x86::cr0;
    namespace cr4 = x86::cr4;
    namespace efer = x86::efer;
    constexpr u64 cr0_known = cr0::pe | cr0::mp | cr0::em | cr0::ts | cr0::et | cr0::ne | cr0::wp | cr0::am | cr0::nw | cr0::cd | cr0::pg;
    constexpr u64 efer_known = efer::sce | efer::lme | efer::lma | efer::nxe | (1 << 12) | (1 << 13) | (1 << 14); // SVME, LMSLE, FFXSR: AMD APM vol. 2 3.1.7
    TRY(require((state.cr0 & ~cr0_known) == 0, "CR0 has reserved bits set"));
    TRY(require(!(state.cr0 & cr0::pg) || (state.cr0 & cr0::pe), "CR0 has paging without protection"));
    TRY(require(!(state.cr0 & cr0::nw) || (state.cr0 & cr0::cd), "CR0 has NW without CD"));
    TRY(require((state.cr4 >> 32) == 0, "CR4 has reserved bits set"));
    TRY(require(state.cr8 <= 15, "CR8 is above 15"));
    TRY(require((state.efer & ~efer_known) == 0, "EFER has reserved bits set"));
    bool const active = (state.efer & efer::lme) && (state.cr0 & cr0::pg);
    TRY(require(active == ((state.efer & efer::lma) != 0), "EFER.LMA is not what EFER.LME and CR0.PG make it"));
    TRY(require(!active || (state.cr4 & cr4::pae), "long mode is active without CR4.PAE"));
    TRY(require(!(state.cr4 & cr4::pcide) || active, "CR4.PCIDE is set outside long mode"));
    TRY(require((state.cr3 >> 52) == 0, "CR3 has reserved bits set"));
    TRY(require((state.rflags & ~(x86::rflags::writable)) == x86::rflags::fixed, "RFLAGS has reserved bits wrong"));
    TRY(require((state.dr6 >> 32) == 0 && (state.dr7 >> 32) == 0, "DR6 or DR7 has reserved bits set"));
    TRY(require(canonical(state.rip), "RIP is not canonical"));
    return {};
}

Result<void> check_segments(CpuState const& state)
{
    constexpr u32 known = 0x1f0ff;
    bool good = !(state.ldtr.access & ~known) && !(state.tr.access & ~known);
    bool addresses = canonical(state.ldtr.base) && canonical(state.tr.base) && canonical(state.gdtr.base) && canonical(state.idtr.base);
    for (auto const& segment : state.segments) {
        good = good && !(segment.access & ~known);
        addresses = addresses && canonical(segment.base);
    }
    TRY(require(good, "a segment register has reserved attributes set"));
    return require(addresses, "the base of a segment or table is not canonical");
}

Result<void> check_msrs(CpuState const& state)
{
    for (u64 const address : { state.lstar, state.cstar, state.kernel_gs_base, state.sysenter_esp, state.sysenter_eip })
        TRY(require(canonical(address), "an MSR that holds an address is not canonical"));
    for (unsigned i = 0; i < 8; ++i) {
        u64 const type = (state.pat >> (8 * i)) & 0xff; // SDM vol. 3A table 11-10
        TRY(require(type <= 7 && type != 2 && type != 3, "PAT has an unknown memory type"));
    }
    TRY(require((state.tsc_aux >> 32) == 0, "TSC_AUX has more than 32 bits"));
    // SDM vol. 3A 11.11.2.1: type, fixed-range enable, enable.
    return require((state.mtrr_def_type & ~u64 { 0xcff }) == 0, "MTRR_DEF_TYPE has reserved bits set");
}

// SDM vol. 1 13.3 (XCR0), 13.4 (the area): legacy region, then the header at 512.
Result<void> check_xsave(CpuState const& state)
{
    auto const quad = [&](std::size_t offset) {
        u64 value;
        std::memcpy(&value, state.xsave.data() + offset, sizeof value);
        return value;
    };
    constexpr u64 sse_avx = 6, avx512 = 0xe0;
    TRY(require(state.xcr0 & 1, "XCR0 is without x87"));
    TRY(require(!(state.xcr0 >> 63) && ((state.xcr0 & 4) == 0 || (state.xcr0 & 2)), "XCR0 has AVX without SSE or a reserved bit"));
    TRY(require((state.xcr0 & avx512) == 0 || ((state.xcr0 & avx512) == avx512 && (state.xcr0 & sse_avx) == sse_avx), "XCR0 has a part of AVX-512 only"));
    u64 const present = quad(512);
    // SSE state exists without XCR0.SSE too: FXSAVE moves it.
    constexpr u64 pkru = 1 << 9;
    TRY(require((present & ~((state.xcr0 & ~pkru) | 3)) == 0, "the XSAVE area has components that XCR0 does not have, or PKRU"));
    for (std::size_t offset = 520; offset < 576; offset += 8)
        TRY(require(quad(offset) == 0, "the header of the XSAVE area has reserved bytes set"));
    u32 mxcsr;
    std::memcpy(&mxcsr, state.xsave.data() + 24, sizeof mxcsr);
    return require((mxcsr & 0xffff0000) == 0, "MXCSR has reserved bits set");
}

} // namespace

void encode_cpu_state(CpuState const& state, Encoder& encoder)
{
    walk(Writer { encoder }, state, cpu_state_version);
}

Result<void> check_cpu_state(CpuState const& state)
{
    TRY(require(state.activity <= Activity::stopped, "the activity of the vCPU is unknown"));
    TRY(check_modes(state));
    TRY(check_segments(state));
    TRY(check_msrs(state));
    return check_xsave(state);
}

Result<void> decode_cpu_state(Decoder& decoder, u32 version, CpuState& state)
{
    if (version == 0 || version > cpu_state_version)
        return make_error(EBADMSG, "version {} of a vCPU's state is unknown", version);
    CpuState decoded;
    walk(Reader { decoder }, decoded, version);
    if (!decoder.ok())
        return Error("the state of a vCPU ends too early", EBADMSG);
    TRY(check_cpu_state(decoded));
    state = decoded;
    return {};
}

} // namespace anyhyve
