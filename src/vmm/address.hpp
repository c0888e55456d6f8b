// The three kinds of address of a virtual machine. Only GuestMemory turns one into a pointer.
#pragma once

#include "base/integer.hpp"

namespace anyhyve {

using Gpa = StrongInteger<struct GuestPhysicalTag>; // guest physical
using Gva = StrongInteger<struct GuestLinearTag>;   // guest linear ("virtual")

} // namespace anyhyve
