// One piece of random guest code with the state it starts from, and what came of it.
#pragma once

#include <array>

#include "base/integer.hpp"

namespace anyhyve::random_test {

// The linear addresses that both sides map. What is not listed is absent.
namespace layout {
constexpr u64 page = 0x1000;
constexpr u64 code = 0x10000000, data = 0x20000000;

enum class Rights : u8 { read_write, read_only, read_write_execute };
struct Page {
    u64 linear;
    Rights rights;
};
// Behind the code, and in the data between present pages, are pages that are absent.
constexpr Page pages[] = {
    { code, Rights::read_write_execute },
    { code + page, Rights::read_write_execute },
    { data, Rights::read_write },
    { data + page, Rights::read_write },
    { data + 2 * page, Rights::read_only },
    { data + 4 * page, Rights::read_write },
    { data + 5 * page, Rights::read_only },
    { data + 6 * page, Rights::read_write },
};
constexpr unsigned page_count = sizeof pages / sizeof *pages;
constexpr unsigned code_pages = 2;
constexpr u64 code_size = code_pages * page;
constexpr u64 data_size = 7 * page;
constexpr u8 filler = 0xcc; // INT3, all around the code
} // namespace layout

constexpr unsigned xsave_bytes = 2432; // x87 to AVX-512, standard format

struct Case {
    bool long_mode = true;    // 64-bit code, else 32-bit in compatibility mode
    u16 code_offset = 0x200;  // from layout::code
    u16 code_length = 0;
    std::array<u8, 1024> code {};
    std::array<u64, 16> gpr {};
    u64 flags = 0x202;
    u64 gs_base = 0;
    u64 vector_seed = 0;      // x87 to AVX-512: fill_vector_state(); 0: the initial state
    u64 memory_seed = 0;      // the pages' bytes: MemoryImage; 0: zeros
    u32 mxcsr = 0x1f80;
    u16 control_word = 0x37f;

    u64 start() const { return layout::code + code_offset; }
};

// too_many_steps: of the engine, one at a time; nobody knows how it would have ended.
enum class Ending : u8 { exception, time_out, crash, too_many_steps };

struct Outcome {
    std::array<u64, 16> gpr;
    u64 rip, flags;
    u64 vector, error_code, fault_address; // the last two where the exception has them
    u64 memory_hash;
    Ending ending;
    alignas(64) std::array<u8, xsave_bytes> xsave;
};

// The state a case starts with.
void fill_vector_state(Case const&, std::array<u8, xsave_bytes>&);
// The same state always has the same image: components in their initial state are spelled out, instruction and data pointers cleared.
void normalise_vector_state(std::array<u8, xsave_bytes>&);

bool has_error_code(u64 vector);

} // namespace anyhyve::random_test
