// The registers that bhyvectl shows and sets, by name.
#include "tools/register_table.hpp"

#include <algorithm>

namespace anyhyve::tools {

namespace {

template<unsigned index>
constexpr RegisterRow general(std::string_view name)
{
    return { name, 64, [](CpuState const& state) { return state.gpr[index]; }, [](CpuState& state, u64 value) { state.gpr[index] = value; } };
}

template<u64 CpuState::*member>
constexpr RegisterRow plain(std::string_view name)
{
    return { name, 64, [](CpuState const& state) { return state.*member; }, [](CpuState& state, u64 value) { state.*member = value; } };
}

template<u32 CpuState::*member>
constexpr RegisterRow word(std::string_view name)
{
    return { name, 32, [](CpuState const& state) { return u64 { state.*member }; }, [](CpuState& state, u64 value) { state.*member = static_cast<u32>(value); } };
}

template<unsigned index>
constexpr RegisterRow debug(std::string_view name)
{
    return { name, 64, [](CpuState const& state) { return state.dr[index]; }, [](CpuState& state, u64 value) { state.dr[index] = value; } };
}

template<x86::Segment segment>
constexpr RegisterRow selector(std::string_view name)
{
    constexpr auto index = static_cast<std::size_t>(segment);
    return { name, 16, [](CpuState const& state) { return u64 { state.segments[index].selector }; },
        [](CpuState& state, u64 value) { state.segments[index].selector = static_cast<u16>(value); } };
}

template<x86::SegmentRegister CpuState::*member>
constexpr RegisterRow system_selector(std::string_view name)
{
    return { name, 16, [](CpuState const& state) { return u64 { (state.*member).selector }; },
        [](CpuState& state, u64 value) { (state.*member).selector = static_cast<u16>(value); } };
}

template<x86::Segment segment>
constexpr DescriptorRow descriptor(std::string_view name)
{
    constexpr auto index = static_cast<std::size_t>(segment);
    return { name, [](CpuState const& state) { return state.segments[index]; },
        [](CpuState& state, x86::SegmentRegister const& value) {
            u16 const kept = state.segments[index].selector;
            state.segments[index] = value;
            state.segments[index].selector = kept;
        } };
}

template<x86::SegmentRegister CpuState::*member>
constexpr DescriptorRow system_descriptor(std::string_view name)
{
    return { name, [](CpuState const& state) { return state.*member; },
        [](CpuState& state, x86::SegmentRegister const& value) {
            u16 const kept = (state.*member).selector;
            state.*member = value;
            (state.*member).selector = kept;
        } };
}

template<x86::TableRegister CpuState::*member>
constexpr DescriptorRow table(std::string_view name)
{
    return { name,
        [](CpuState const& state) {
            return x86::SegmentRegister { .selector = 0, .access = 0, .limit = (state.*member).limit, .base = (state.*member).base };
        },
        [](CpuState& state, x86::SegmentRegister const& value) {
            state.*member = { value.base, static_cast<u16>(value.limit) };
        } };
}

constexpr RegisterRow registers[] = {
    plain<&CpuState::efer>("efer"),
    plain<&CpuState::cr0>("cr0"),
    plain<&CpuState::cr2>("cr2"),
    plain<&CpuState::cr3>("cr3"),
    plain<&CpuState::cr4>("cr4"),
    debug<0>("dr0"),
    debug<1>("dr1"),
    debug<2>("dr2"),
    debug<3>("dr3"),
    plain<&CpuState::dr6>("dr6"),
    plain<&CpuState::dr7>("dr7"),
    general<x86::rsp>("rsp"),
    plain<&CpuState::rip>("rip"),
    general<x86::rax>("rax"),
    general<x86::rbx>("rbx"),
    general<x86::rcx>("rcx"),
    general<x86::rdx>("rdx"),
    general<x86::rsi>("rsi"),
    general<x86::rdi>("rdi"),
    general<x86::rbp>("rbp"),
    general<x86::r8>("r8"),
    general<x86::r9>("r9"),
    general<x86::r10>("r10"),
    general<x86::r11>("r11"),
    general<x86::r12>("r12"),
    general<x86::r13>("r13"),
    general<x86::r14>("r14"),
    general<x86::r15>("r15"),
    plain<&CpuState::rflags>("rflags"),
    selector<x86::Segment::ds>("ds"),
    selector<x86::Segment::es>("es"),
    selector<x86::Segment::fs>("fs"),
    selector<x86::Segment::gs>("gs"),
    selector<x86::Segment::cs>("cs"),
    selector<x86::Segment::ss>("ss"),
    system_selector<&CpuState::tr>("tr"),
    system_selector<&CpuState::ldtr>("ldtr"),
    plain<&CpuState::cr8>("cr8"),
    plain<&CpuState::xcr0>("xcr0"),
    word<&CpuState::pkru>("pkru"),
    word<&CpuState::pkrs>("pkrs"),
    plain<&CpuState::star>("star"),
    plain<&CpuState::lstar>("lstar"),
    plain<&CpuState::cstar>("cstar"),
    plain<&CpuState::sfmask>("sfmask"),
    plain<&CpuState::kernel_gs_base>("kernel-gs-base"),
    plain<&CpuState::tsc_aux>("tsc-aux"),
    plain<&CpuState::sysenter_cs>("sysenter-cs"),
    plain<&CpuState::sysenter_esp>("sysenter-esp"),
    plain<&CpuState::sysenter_eip>("sysenter-eip"),
    plain<&CpuState::pat>("guest-pat"),
    plain<&CpuState::tsc_offset>("tsc-offset"),
};

constexpr DescriptorRow descriptors[] = {
    descriptor<x86::Segment::ds>("ds"),
    descriptor<x86::Segment::es>("es"),
    descriptor<x86::Segment::fs>("fs"),
    descriptor<x86::Segment::gs>("gs"),
    descriptor<x86::Segment::cs>("cs"),
    descriptor<x86::Segment::ss>("ss"),
    system_descriptor<&CpuState::tr>("tr"),
    system_descriptor<&CpuState::ldtr>("ldtr"),
    table<&CpuState::gdtr>("gdtr"),
    table<&CpuState::idtr>("idtr"),
};

} // namespace

std::span<RegisterRow const> register_rows()
{
    return registers;
}

std::span<DescriptorRow const> descriptor_rows()
{
    return descriptors;
}

RegisterRow const* find_register(std::string_view name)
{
    auto const row = std::find_if(std::begin(registers), std::end(registers), [name](RegisterRow const& r) { return r.name == name; });
    return row == std::end(registers) ? nullptr : row;
}

DescriptorRow const* find_descriptor(std::string_view name)
{
    auto const row = std::find_if(std::begin(descriptors), std::end(descriptors), [name](DescriptorRow const& r) { return r.name == name; });
    return row == std::end(descriptors) ? nullptr : row;
}

} // namespace anyhyve::tools
