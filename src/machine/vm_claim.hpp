// Taking a virtual machine over to put something into it: what bhyveload and `bhyve -b` begin with.
#pragma once

#include <memory>
#include <string>

#include "machine/machine_config.hpp"
#include "vmm/vm_directory.hpp"

namespace anyhyve::machine {

struct ClaimedVm {
    std::unique_ptr<Vm> vm; // locked
    bool created = false;   // there was none of this name
};

// Creates the machine, or takes the one of this name back to how it was created: no state, zero memory of this size.
Result<ClaimedVm> claim_for_loading(VmDirectory&, std::string const& name, u64 memory_size, ConfigTree config);

// Takes back what a failure must not leave behind: a machine that was created here.
void abandon(VmDirectory&, ClaimedVm);

// Destroys a machine, and its appearance in /dev/vmm.
Result<void> destroy_vm(VmDirectory&, std::string const& name);

// Variables that make each start, also one of another process in another folder, load the same files.
Result<void> remember_boot_request(ConfigTree&, BootRequest const&);
// Follows paths to the files they mean now.
BootRequest with_absolute_paths(BootRequest);

} // namespace anyhyve::machine
