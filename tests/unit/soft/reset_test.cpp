// INIT: what it leaves alone, and that it waits while another virtual CPU has this one stand still.
#include <chrono>
#include <thread>

#include "engine/soft/activity.hpp"
#include "cpu_pair.hpp"
#include "guest_machine.hpp"

namespace anyhyve::soft {
namespace {

// SDM vol. 3A table 9-1: x87 and SSE registers are unchanged.
TEST(Reset, LeavesVectorRegistersAlone)
{
    constexpr u64 handler = 0x500, invalid_opcode_vector = 6 * 4;
    constexpr u16 control_word = 0x27f;
    constexpr unsigned xmm5 = 160 + 5 * 16;
    GuestMachine m;
    m.put<u32>(invalid_opcode_vector, handler); // nothing is at the reset vector
    m.load(handler, { 0xf4 });
    auto s = m.long_mode();
    std::memcpy(s.xsave.data(), &control_word, sizeof control_word);
    std::memset(s.xsave.data() + xmm5, 0x5c, 16);
    s.xsave[512] = 3;
    m.vcpu->set_state(s);
    m.vcpu->init();
    ASSERT_EQ(m.vcpu->run(), RunExit::halted);
    auto const e = m.vcpu->state();
    EXPECT_EQ(e.rip, handler + 1);
    EXPECT_EQ(std::memcmp(e.xsave.data(), &control_word, sizeof control_word), 0);
    EXPECT_EQ(std::memcmp(e.xsave.data() + xmm5, s.xsave.data() + xmm5, 16), 0);
}

using ResetBesideOthers = CpuPair;

// Who has the others stand still goes through their look-aside tables.
TEST_F(ResetBesideOthers, WaitsUntilItMayRun)
{
    for (bool const start_up : { false, true }) {
        std::atomic<bool> done { false };
        cache->lock().lock();
        cache->begin_standstill(cpu);
        std::thread start([&] {
            start_up ? start_by_sipi(other, 8) : reset_by_init(other);
            done = true;
        });
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        EXPECT_FALSE(done);
        cache->end_standstill();
        cache->lock().unlock();
        start.join();
        EXPECT_EQ(other.presence.load(), static_cast<u8>(Presence::outside));
    }
}

} // namespace
} // namespace anyhyve::soft
