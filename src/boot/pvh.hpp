// ELF kernels with a PVH entry: Linux vmlinux, FreeBSD, unikernels.
// Spec: Xen docs/misc/pvh.pandoc ("x86/HVM direct boot ABI") and public/arch-x86/hvm/start_info.h.
#pragma once

#include "boot/kernel.hpp"

namespace anyhyve::boot {

// The entry is automatic or pvh.
Result<LoadedGuest> load_pvh(GuestMemory&, KernelRequest const&);

} // namespace anyhyve::boot
