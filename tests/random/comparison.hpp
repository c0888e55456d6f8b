// Running a case on both sides, and telling what differs.
#pragma once

#include <string>

#include "engine_runner.hpp"
#include "native_runner.hpp"
#include "x86/instruction.hpp"

namespace anyhyve::random_test {

// One difference per line; empty when the outcomes agree. The runner has just made the engine's.
std::string differences(Case const&, Outcome const& native, Outcome const& engine, EngineRunner const&, Stepping);
// The same, running the case, with the bytes of memory that differ.
std::string run_and_compare(NativeRunner&, EngineRunner&, Case const&, Stepping);

// A case as C++ that tests/random/regressions.cpp takes.
std::string as_source(Case const&, Stepping);
// What its bytes decode to, one after the other.
std::vector<x86::Instruction> instructions(Case const&);
// The same as text, one line each.
std::string listing(Case const&);

// The smallest case that still differs.
Case minimise(NativeRunner&, EngineRunner&, Case, Stepping);

// Cases that once differed. Returns how many do now.
unsigned run_regressions(NativeRunner&, EngineRunner&);

} // namespace anyhyve::random_test
