// Pages at neighbouring linear addresses whose frames are nobody's neighbours: between them lie pages of zeros.
#pragma once

#include "guest_machine.hpp"

namespace anyhyve::soft {

template<u64 Count>
struct ScatteredMapping {
    static constexpr u64 linear = 0x4000'0000, page = 0x1000, pages = Count;
    static constexpr u64 directory = 0x20000, table = 0x21000, frames = 0x400000;

    static u64 frame(u64 number) { return frames + (number * 7 + 3) % pages * 2 * page; }
    static void put_entry(GuestMachine& m, u64 at, u64 to) { m.put<u64>(at, to | 7); }
    // Beside what GuestMachine::long_mode() maps.
    static void map(GuestMachine& m)
    {
        put_entry(m, GuestMachine::page_tables + 0x1000 + 8, directory);
        put_entry(m, directory, table);
        for (u64 i = 0; i < pages; ++i)
            put_entry(m, table + i * 8, frame(i));
    }
};

template<u64 Count>
class ScatteredPages : public ::testing::Test, protected ScatteredMapping<Count> {
protected:
    using Mapping = ScatteredMapping<Count>;

    // The machine's state, with the pages mapped.
    CpuState scattered()
    {
        auto s = m.long_mode();
        Mapping::map(m);
        return s;
    }
    void put_entry(u64 at, u64 to) { Mapping::put_entry(m, at, to); }
    // Behind so many bytes of the pages.
    template<typename T>
    void put(u64 offset, T value) { m.put<T>(Mapping::frame(offset / Mapping::page) + offset % Mapping::page, value); }

    GuestMachine m;
};

} // namespace anyhyve::soft
