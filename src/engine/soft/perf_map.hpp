// Names of translated code for perf(1) and debuggers: /tmp/perf-PID.map, a line "START SIZE NAME" (hexadecimal) per block.
// Spec: Linux, tools/perf/Documentation/jit-interface.txt.
// The file is mapped: a line costs no system call, and all lines are there for whoever looks at the running process, or at its remains.
// Threads: one at a time (the code cache's lock).
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/integer.hpp"
#include "base/result.hpp"

namespace anyhyve::soft {

class PerfMap {
public:
    // `path`: for tests; else the one that perf looks for.
    static Result<std::unique_ptr<PerfMap>> create(std::string path = {});
    ~PerfMap();
    PerfMap(PerfMap const&) = delete;
    PerfMap& operator=(PerfMap const&) = delete;

    void add(void const* start, u64 size, std::string_view name);
    // Lines so far stay when all others are dropped: they name the thunks.
    void keep_lines_so_far() { m_floor = m_used; }
    // The addresses will name other code from now on.
    void drop();
    std::string const& path() const { return m_path; }

private:
    static constexpr u64 step = 256 * KiB;

    PerfMap(std::string path, int file) : m_path(std::move(path)), m_file(file) {}
    Result<void> grow();

    std::string const m_path;
    int const m_file;
    char* m_text = nullptr;
    u64 m_size = 0, m_used = 0, m_floor = 0;
};

} // namespace anyhyve::soft
