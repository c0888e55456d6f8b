// The software engine: guest instructions run on the host CPU, copied (docs: ARCHITECTURE.md, "The soft engine").
#pragma once

#include "vmm/engine.hpp"

namespace anyhyve::soft {

// One per machine: its vCPUs share the translated code of `memory`, which it watches for writes by devices. `memory` outlives it.
// Fails where executable memory cannot be had.
Result<std::unique_ptr<Engine>> create_engine(GuestMemory& memory, EngineOptions const& = {});

} // namespace anyhyve::soft
