// Fields of VMCS and VMCB that bhyvectl(8) names: a software CPU has none of them, and no engine of ours exposes the raw ones.
#pragma once

#include <array>
#include <string_view>

namespace anyhyve::tools {

inline constexpr std::array<std::string_view, 47> hardware_fields {
    "eptp", "exception-bitmap", "io-bitmap-address", "msr-bitmap", "msr-bitmap-address", "guest-sysenter", "exit-reason", "apic-access-address",
    "virtual-apic-address", "vmcs-pinbased-ctls", "vmcs-procbased-ctls", "vmcs-procbased-ctls2", "vmcs-entry-interruption-info",
    "vmcs-guest-physical-address", "vmcs-guest-linear-address", "vmcs-host-pat", "vmcs-host-cr0", "vmcs-host-cr3", "vmcs-host-cr4", "vmcs-host-rip",
    "vmcs-host-rsp", "vmcs-cr0-mask", "vmcs-cr0-shadow", "vmcs-cr4-mask", "vmcs-cr4-shadow", "vmcs-cr3-targets", "vmcs-tpr-threshold", "vmcs-vpid",
    "vmcs-instruction-error", "vmcs-exit-ctls", "vmcs-entry-ctls", "vmcs-link", "vmcs-exit-qualification", "vmcs-exit-inst-length",
    "vmcs-exit-interruption-info", "vmcs-exit-interruption-error", "vmcs-interruptibility", "vmcs-ple-gap", "vmcs-ple-window", "vmcb-intercepts",
    "vmcb-asid", "vmcb-exit-details", "vmcb-tlb-ctrl", "vmcb-virq", "avic-apic-bar", "avic-backing-page", "avic-table",
};

} // namespace anyhyve::tools
