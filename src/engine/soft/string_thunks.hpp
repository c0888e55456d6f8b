// REP MOVS and REP STOS without a call: passages of generated code that do them page by page with the host's own instruction, as long as
// the look-aside table knows the pages. Whatever else there is (pages to be walked, devices, watched code, elements in two pages, DF, a poll word
// that is set) the general passage goes on with, from the registers as they are.
#pragma once

#include <bit>

#include "engine/soft/code_cache.hpp"

namespace anyhyve::soft {

class StringThunks {
public:
    enum class Kind : u8 { move, store };

    // `general`: Thunks::operation_memory.
    static StringThunks generate(CodeCache&, u8* general);

    // r15 = OperationSite*, flags in memory; for elements of 1, 2, 4 or 8 bytes. All addresses are of the executable view.
    u8* begin() const { return m_code; } // of them all
    u8* of(Kind kind, unsigned width, TlbIndex table) const { return m_begin[static_cast<unsigned>(kind)][std::countr_zero(width)][table]; }

private:
    u8* m_code = nullptr;
    u8* m_begin[2][4][tlb_index_count] {};
};

} // namespace anyhyve::soft
