// Whose semantics apply where Intel and AMD differ: the guest's CPUID shows the host's vendor, so the host's.
#pragma once

namespace anyhyve::soft {

enum class Vendor : unsigned char { intel, amd };

// The host's vendor; AMD stands for Hygon too. Every other one follows Intel. Fixed before main().
Vendor cpu_vendor();

} // namespace anyhyve::soft
