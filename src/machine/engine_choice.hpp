// Which engine runs the virtual CPUs of a machine, and why.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "vmm/engine.hpp"

namespace anyhyve::machine {

// What the host offers: for people who ask. Reads /proc/cpuinfo, opens /dev/kvm.
struct HostVirtualization {
    bool kvm_present = false; // /dev/kvm exists
    bool kvm_opens = false;
    std::string kvm_trouble;  // why it does not open
    int kvm_api_version = 0;
    bool cpu_has_vmx = false, cpu_has_svm = false;
    bool under_hypervisor = false;
    bool invariant_tsc = false;
    std::string cpu_model;
};
HostVirtualization probe_host();

struct EngineChoice {
    std::string name;
    std::string reason;
};

// `wanted` is the value of the configuration variable `engine`: auto, kvm or soft.
Result<EngineChoice> choose_engine(std::string_view wanted);
Result<std::unique_ptr<Engine>> create_engine(EngineChoice const&, GuestMemory&, EngineOptions const&);

} // namespace anyhyve::machine
