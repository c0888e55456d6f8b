// What the time of a machine's run went into, as its engine knows it: for `bhyve --profile` and `bhyvectl --profile`.
#pragma once

#include <string>
#include <vector>

#include "vmm/statistics.hpp"

namespace anyhyve {

// How an engine watches itself. Off: nothing in the guest's code is slower for it.
struct EngineOptions {
    bool perf_map = false; // name translated code for perf(1), in /tmp/perf-PID.map
    bool profile = false;  // count in translated code and take samples
};

// Counters of one kind, or shares of one whole.
struct ProfileSection {
    std::string title;
    std::vector<Statistic> rows;
};

// A piece of guest code, and how often it was found running.
struct HotCode {
    u64 rip = 0;
    u64 physical = 0;
    std::string mode; // "kernel64"
    u64 samples = 0;
    u64 host_size = 0;
    bool changed = false;                  // the guest has overwritten it since: bytes and lines are what is there now
    std::vector<u8> bytes;
    std::vector<std::string> instructions; // each with its address
};

struct Profile {
    bool detailed = false;       // EngineOptions::profile was set: samples and counters of translated code are there
    u64 run_microseconds = 0;    // of all virtual CPUs together, halted or waiting not included
    u64 halted_microseconds = 0;
    u64 translation_microseconds = 0;
    u64 samples = 0;             // while running
    u64 samples_waiting = 0, samples_lost = 0;
    std::vector<ProfileSection> sections;
    std::vector<HotCode> hottest; // most samples first
};

} // namespace anyhyve
