// The registers that bhyvectl shows and sets, by name.
#pragma once

#include <span>
#include <string_view>

#include "vmm/cpu_state.hpp"
#include "x86/instruction.hpp"

namespace anyhyve::tools {

struct RegisterRow {
    std::string_view name;
    unsigned width; // bits
    u64 (*get)(CpuState const&);
    void (*set)(CpuState&, u64);
};

// A segment register or descriptor-table register with its hidden part.
struct DescriptorRow {
    std::string_view name;
    x86::SegmentRegister (*get)(CpuState const&);
    void (*set)(CpuState&, x86::SegmentRegister const&); // the selector is left alone
};

std::span<RegisterRow const> register_rows();
std::span<DescriptorRow const> descriptor_rows();
RegisterRow const* find_register(std::string_view name);
DescriptorRow const* find_descriptor(std::string_view name);

} // namespace anyhyve::tools
