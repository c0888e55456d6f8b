// Several local APICs: destinations, arbitration, delivery modes, and threads that all send at once.
#include <random>
#include <thread>

#include "fake_processor.hpp"

namespace anyhyve {

using Reg = ApicRegister;

TEST(ApicBus, PhysicalDestinations)
{
    ApicBoard board(4);
    board.enable_all();
    board.send_ipi(0, 0x40, 2);
    EXPECT_EQ(board.receivers(), 0b0100u);
    board.send_ipi(0, 0x40, 0xff);
    EXPECT_EQ(board.receivers(), 0b1111u);
    board.send_ipi(0, 0x40, 9);
    EXPECT_EQ(board.receivers(), 0u);
}

TEST(ApicBus, Shorthands)
{
    ApicBoard board(4);
    board.enable_all();
    board.send_ipi(1, 0x40 | 1 << 18, 0);
    EXPECT_EQ(board.receivers(), 0b0010u);
    board.send_ipi(1, 0x40 | 2 << 18, 0);
    EXPECT_EQ(board.receivers(), 0b1111u);
    board.send_ipi(1, 0x40 | 3 << 18, 0);
    EXPECT_EQ(board.receivers(), 0b1101u);
}

TEST(ApicBus, FlatLogicalDestinations)
{
    ApicBoard board(4);
    board.enable_all();
    for (unsigned id = 0; id < 4; ++id)
        board.write(id, Reg::logical_destination, 1u << (24 + id));
    board.send_ipi(0, 0x40 | 1 << 11, 0b1010);
    EXPECT_EQ(board.receivers(), 0b1010u);
    board.send_ipi(0, 0x40 | 1 << 11, 0xff);
    EXPECT_EQ(board.receivers(), 0b1111u);
}

TEST(ApicBus, ClusterLogicalDestinations)
{
    ApicBoard board(4);
    board.enable_all();
    for (unsigned id = 0; id < 4; ++id) {
        board.write(id, Reg::destination_format, 0x0fffffff);
        board.write(id, Reg::logical_destination, (id / 2 << 28) | 1u << (24 + id % 2));
    }
    board.send_ipi(0, 0x40 | 1 << 11, 0x13);
    EXPECT_EQ(board.receivers(), 0b1100u);
    board.send_ipi(0, 0x40 | 1 << 11, 0x02);
    EXPECT_EQ(board.receivers(), 0b0010u);
}

TEST(ApicBus, X2ApicDestinations)
{
    ApicBoard board(40);
    for (unsigned id = 0; id < 40; ++id)
        board.enable_x2apic(id);
    auto const send = [&](u64 command) { EXPECT_TRUE(board.apics[0]->write_msr(0x830, command)); };
    send(u64 { 33 } << 32 | 0x40);
    EXPECT_EQ(board.receivers(), u64 { 1 } << 33);
    send(u64 { 0x0002'0006 } << 32 | 0x40 | 1 << 11); // cluster 2, members 1 and 2
    EXPECT_EQ(board.receivers(), u64 { 0b110 } << 32);
    send(u64 { 0xffffffff } << 32 | 0x40);
    EXPECT_EQ(board.receivers(), (u64 { 1 } << 40) - 1);
    send(u64 { 0xff } << 32 | 0x40); // 0xff is an ID here
    EXPECT_EQ(board.receivers(), 0u);
    board.bus.send_msi(0xfee00000 | 37 << 12, 0x40);
    EXPECT_EQ(board.receivers(), u64 { 1 } << 37);
    board.bus.send_msi(0xfeeff000, 0x40);
    EXPECT_EQ(board.receivers(), (u64 { 1 } << 40) - 1);
    u64 id = 0;
    EXPECT_TRUE(board.apics[33]->read_msr(0x80d, id));
    EXPECT_EQ(id, 0x0002'0002u);
}

TEST(ApicBus, LowestPriorityGoesToOne)
{
    ApicBoard board(4);
    board.enable_all();
    for (unsigned id = 0; id < 4; ++id)
        board.write(id, Reg::logical_destination, 1u << (24 + id));
    board.apics[0]->set_cr8(5);
    board.apics[1]->set_cr8(2);
    board.apics[2]->set_cr8(5);
    board.apics[3]->set_cr8(1);
    for (int i = 0; i < 8; ++i) {
        board.bus.send_msi(0xfee00000 | 0x07 << 12 | 1 << 3 | 1 << 2, 0x100 | 0x60);
        EXPECT_EQ(board.receivers(), 0b0010u);
    }
    for (unsigned id = 0; id < 4; ++id)
        board.apics[id]->set_cr8(0);
    u64 seen = 0;
    for (int i = 0; i < 4; ++i) {
        board.bus.send_msi(0xfee00000 | 0x0f << 12 | 1 << 3 | 1 << 2, 0x100 | 0x60);
        u64 const one = board.receivers();
        EXPECT_EQ(std::popcount(one), 1);
        seen |= one;
    }
    EXPECT_EQ(seen, 0b1111u); // in turn
}

TEST(ApicBus, OtherDeliveryModes)
{
    ApicBoard board(3);
    board.send_ipi(0, 0x400 | 3 << 18, 0);          // NMI to all others
    board.send_ipi(0, 0x500 | 0x4000, 1);           // INIT
    board.send_ipi(0, 0x500 | 0x8000, 1);           // de-assert: nothing
    board.send_ipi(0, 0x600 | 0x9a, 1);             // SIPI
    board.send_ipi(0, 0x200, 1);                    // SMI
    EXPECT_EQ(board.processors[0]->nmis, 0);
    EXPECT_EQ(board.processors[1]->nmis, 1);
    EXPECT_EQ(board.processors[2]->nmis, 1);
    EXPECT_EQ(board.processors[1]->inits, 1);
    EXPECT_EQ(board.processors[1]->startups, 1);
    EXPECT_EQ(board.processors[1]->startup_vector, 0x9a);
    EXPECT_EQ(board.processors[2]->inits, 0);
    EXPECT_EQ(board.read(0, Reg::interrupt_command) & 0xff, 0u);
}

TEST(ApicBus, MessagesOutsideTheWindowAreDropped)
{
    ApicBoard board(1);
    board.enable(0);
    board.bus.send_msi(0xfed00000, 0x40);
    board.bus.send_msi(0x1'fee00000, 0x40);
    EXPECT_EQ(board.receivers(), 0u);
}

TEST(ApicBus, StatisticsCountMessages)
{
    ApicBoard board(2);
    board.enable_all();
    board.send_ipi(0, 0x40 | 2 << 18, 0);
    auto const statistics = board.apics[0]->statistics();
    EXPECT_EQ(statistics[statistics.size() - 1].name, "ipis sent to vcpu[1]");
    EXPECT_EQ(statistics[statistics.size() - 1].value, 1u);
}

// Every processor sends to every other one, takes and ends what it gets: nothing is lost, nothing hangs.
TEST(ApicBus, ProcessorsInParallel)
{
    constexpr unsigned count = 4;
    constexpr int rounds = 500;
    ApicBoard board(count);
    board.enable_all();
    IoApic io_apic(board.bus);
    board.bus.set_eoi_listener(&io_apic);
    io_apic.write(0x00, 4, 0x10 + 2 * 20);
    io_apic.write(0x10, 4, 0x100 | 0x70 | 1 << 15 | 1 << 11); // level, lowest priority, logical
    io_apic.write(0x00, 4, 0x11 + 2 * 20);
    io_apic.write(0x10, 4, 0x0f000000);
    for (unsigned id = 0; id < count; ++id)
        board.write(id, Reg::logical_destination, 1u << (24 + id));
    std::atomic<int> level_interrupts { 0 };
    std::atomic<unsigned> finished { 0 };
    std::array<std::atomic<int>, count> received {};
    auto const processor = [&](unsigned id) {
        auto const take = [&] {
            while (board.apics[id]->interrupt_pending()) {
                int const vector = board.apics[id]->acknowledge();
                if (vector == 0x70) {
                    ++level_interrupts;
                    io_apic.set_level(20, false);
                } else if (vector >= 0) {
                    ++received[id];
                }
                if (vector >= 0)
                    board.eoi(id);
            }
        };
        for (int i = 0; i < rounds; ++i) {
            board.send_ipi(id, static_cast<u32>(0x80 + id), static_cast<u8>((id + 1) % count));
            // One at a time: the receiver has seen it when its IRR bit is clear.
            unsigned const other = (id + 1) % count;
            while (board.read(other, static_cast<Reg>(0x24)) >> id & 1) {
                take();
                std::this_thread::yield();
            }
            take();
            if (id == 0)
                io_apic.set_level(20, true);
        }
        ++finished;
        while (finished < count) {
            take();
            std::this_thread::yield();
        }
        take();
    };
    std::vector<std::thread> threads;
    for (unsigned id = 0; id < count; ++id)
        threads.emplace_back(processor, id);
    for (auto& thread : threads)
        thread.join();
    for (unsigned id = 0; id < count; ++id)
        EXPECT_EQ(received[id], rounds);
    EXPECT_GT(level_interrupts, 0);
}

} // namespace anyhyve
