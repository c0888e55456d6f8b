// Runs of pages in windows of the host: hot code that knows one goes on finding its pages there, whatever comes to lie beside them.
#include <cstring>

#include <fcntl.h>
#include <sys/mman.h>

#include "execute_machine.hpp"
#include "host/fd.hpp"

namespace anyhyve::soft {
namespace {

class PageWindows : public ExecuteMachine {
protected:
    static constexpr u64 linear = 0x4000'0000, page = 0x1000, window = longest_run * page;
    static constexpr u64 directory = 0x30000, table = 0x31000, other_table = 0x32000, other_frame = 0x2ff000;
    static constexpr u64 accessed = 0x20;

    // What generated code copies from a look-aside entry: it leads to all pages of the entry's run.
    struct Slot {
        u64 first, pages, addend;
        u64 read(u64 number) const
        {
            u64 value = 0;
            // SAFETY: the entry's run holds this page.
            std::memcpy(&value, reinterpret_cast<void const*>(linear + number * page + addend), sizeof value);
            return value;
        }
    };

    PageWindows() : PageWindows(host::Fd(memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING))) {}
    explicit PageWindows(host::Fd ram) : ExecuteMachine(GuestMemory::map_file(ram.get(), ram_size, "guest").release_value()), m_ram(std::move(ram))
    {
        put<u64>(page_tables + 0x1000 + 8, directory | page_present | page_writable);
        put<u64>(directory, table | page_present | page_writable);
        put<u64>(directory + window / (2 * MiB) * 8, other_table | page_present | page_writable); // shares its slots with the first table's pages
    }
    // Frames that are nobody's neighbours, each with its number.
    static u64 frame(u64 number) { return data + (number * 7 + 3) % 32 * 2 * page; }
    void use(u64 number, u64 rights)
    {
        put<u64>(frame(number), number);
        put<u64>(table + number * 8, frame(number) | page_present | rights);
        u64 value = ~u64 { 0 };
        EXPECT_EQ(mmu->read_value(linear + number * page, value), Outcome::next);
        EXPECT_EQ(value, number);
        if (rights & page_writable) {
            EXPECT_EQ(mmu->write_value(linear + number * page, number), Outcome::next);
        }
    }
    // The look-aside table loses this page to another.
    void push_out(u64 number)
    {
        put<u64>(other_table + number * 8, other_frame | page_present);
        u64 value = 0;
        EXPECT_EQ(mmu->read_value(linear + window + number * page, value), Outcome::next);
    }
    bool extend(u64 number) { return mmu->runs().extend(linear + number * page, tlb_supervisor); }
    Slot slot(u64 number) const
    {
        TlbEntry const& entry = cpu.tlb[tlb_supervisor][tlb_slot(linear + number * page)];
        EXPECT_EQ(entry.read_tag, linear + number * page);
        return { entry.run & page_mask, (entry.run & 0xfff) + 1, entry.addend };
    }
    void refuse_to_map() { ASSERT_EQ(fcntl(m_ram.get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0); }

private:
    host::Fd m_ram;
};

// The guest gives a page another frame and other rights, and does not say so: whoever still writes to it, writes to the frame that it had.
TEST_F(PageWindows, KeepAPageThatASlotLeadsTo)
{
    for (u64 i = 0; i < 16; ++i)
        use(i, page_writable);
    ASSERT_TRUE(extend(0));
    Slot const before = slot(0);
    ASSERT_EQ(before.pages, 16u);
    push_out(15);
    put<u64>(other_frame, 1000);
    put<u64>(table + 15 * 8, other_frame | page_present | accessed);
    for (u64 i = 16; i < 32; ++i)
        use(i, 0);

    EXPECT_TRUE(extend(20));
    for (u64 i = 0; i < 16; ++i)
        EXPECT_EQ(before.read(i), i);
    EXPECT_TRUE(mmu->runs().is_full());
    EXPECT_NE(cpu.poll.load(), 0u);

    mmu->forget_pages(); // and with it every slot
    EXPECT_TRUE(extend(20));
    Slot const after = slot(20);
    EXPECT_EQ(after.first, linear + 15 * page);
    EXPECT_EQ(after.pages, 17u);
    EXPECT_EQ(after.read(15), 1000u);
    EXPECT_EQ(after.read(31), 31u);
}

TEST_F(PageWindows, GoOnWhenTheHostMapsNoMore)
{
    for (u64 i = 0; i < 16; ++i)
        use(i, page_writable);
    ASSERT_TRUE(extend(0));
    Slot const before = slot(0);
    ASSERT_EQ(before.pages, 16u);
    refuse_to_map();
    for (u64 i = 16; i < 32; ++i)
        use(i, page_writable);

    EXPECT_FALSE(extend(20));
    for (u64 i = 0; i < 16; ++i)
        EXPECT_EQ(before.read(i), i);
    EXPECT_EQ(slot(20).pages, 1u);
    mmu->forget_pages();
    EXPECT_FALSE(extend(20));
    for (u64 i = 0; i < 32; ++i) {
        EXPECT_EQ(slot(i).pages, 1u);
        EXPECT_EQ(slot(i).read(i), i);
    }
}

} // namespace
} // namespace anyhyve::soft
