// Numbers as people write them on a command line: memory sizes, CPU topologies.
#pragma once

#include <string_view>
#include <vector>

#include "base/integer.hpp"
#include "base/result.hpp"

namespace anyhyve::machine {

// Digits only, decimal or with 0x, and nothing behind them.
Result<u64> parse_number(std::string_view text, std::string_view object);

// bhyve's -m: a number below 1 Mi counts MiB, else bytes; suffix K, M, G, T, either case. Between smallest_memory and what the
// address space of the guest holds, in whole pages.
constexpr u64 smallest_memory = 2 * MiB;
constexpr u64 largest_memory = 512 * GiB;
Result<u64> parse_memory_size(std::string_view text);
// The shortest of "256M", "3G", "4100K" that says the same.
std::string memory_size_text(u64 size);

constexpr unsigned largest_vcpu_count = 64; // ApicBus::most_apics

struct Topology {
    unsigned cpus = 1, sockets = 1, cores = 1, threads = 1;
};

// Numbers as given; 0: not given. What is missing is filled in; a product that does not match is an error.
Result<Topology> complete_topology(unsigned cpus, unsigned sockets, unsigned cores, unsigned threads);

// Splits at each `separator`; an empty text has one empty part.
std::vector<std::string_view> split(std::string_view text, char separator);

} // namespace anyhyve::machine
