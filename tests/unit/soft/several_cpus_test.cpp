// What virtual CPUs and other threads do to one another: events that come at any time, and stores next to one another's.
#include <atomic>
#include <chrono>
#include <future>
#include <thread>

#include <sys/resource.h>

#include "engine/soft/activity.hpp"
#include "cpu_pair.hpp"
#include "guest_machine.hpp"
#include "scattered_pages.hpp"

namespace anyhyve::soft {

// One translates code while the other waits to store.
using StoreBesideCode = CpuPair;

// The first page has code, and the store must wait for its turn to say so: the code of the second one that comes meanwhile is seen as well.
TEST_F(StoreBesideCode, FindsCodeThatCameWhileItToldOfAnotherPage)
{
    constexpr u64 second = data + 0x1000;
    ASSERT_EQ(mmu->write_value<u64>(second, 0), Outcome::next); // known, and writable
    cache->lock().lock();
    cache->watch(other, data, 0x1000);
    std::thread store([this] {
        RunningScope const running(cpu, *cache);
        EXPECT_EQ(mmu->write_value<u64>(second - 4, ~u64 { 0 }), Outcome::next);
    });
    // It waits for us, as in a device.
    while (cpu.presence.load() != static_cast<u8>(Presence::in_device) && mmu->statistics().code_writes == 0)
        std::this_thread::yield();
    bool const stored = get<u32>(second) != 0;
    cache->watch(other, second, 0x1000);
    cache->lock().unlock();
    store.join();
    EXPECT_EQ(get<u32>(second), ~u32 { 0 });
    EXPECT_EQ(mmu->statistics().code_writes, stored ? 1u : 2u);
}

namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

// One interrupt at a time, from another thread.
class OneInterrupt : public QuietInterrupts {
public:
    static constexpr int vector_number = 0x20;

    bool interrupt_pending() const override { return m_waits.load(); }
    int acknowledge() override { return m_waits.exchange(false) ? vector_number : -1; }
    void request() { m_waits = true; }

private:
    std::atomic<bool> m_waits { false };
};

// Without the timer that samples where virtual CPUs are, and so makes them look for events now and then: the host allows no more of them.
class NoSampling {
public:
    NoSampling()
    {
        getrlimit(RLIMIT_SIGPENDING, &m_before);
        rlimit const none { 0, m_before.rlim_max };
        setrlimit(RLIMIT_SIGPENDING, &none);
    }
    ~NoSampling() { setrlimit(RLIMIT_SIGPENDING, &m_before); }
    NoSampling(NoSampling const&) = delete;
    NoSampling& operator=(NoSampling const&) = delete;

private:
    rlimit m_before {};
};

// 0: it was.
u64 wait_for_more_than(u64 const& counter, u64 before)
{
    auto const patience = steady_clock::now() + 2s;
    for (unsigned turns = 1;; ++turns) {
        u64 const now = __atomic_load_n(&counter, __ATOMIC_ACQUIRE);
        if (now > before)
            return now;
        if (turns % 256 == 0 && steady_clock::now() > patience)
            return 0;
    }
}

// The next interrupt is sent as soon as the handler of the last has begun, while the virtual CPU is on its way back to code that looks for nothing but
// the poll word.
TEST(Events, AreNotLostWhileTheOnesBeforeAreTaken)
{
    NoSampling const no_sampling;
    constexpr u64 idt = 0x9000, handler = 0x110000, counter = GuestMachine::data;
    constexpr unsigned wanted = 300'000;
    GuestMachine m({}, 2);
    OneInterrupt interrupts;
    m.vcpu = m.create_vcpu(interrupts, 0, 2);
    CpuState start = m.long_mode();
    m.put<u64>(GuestMachine::gdt + 8, 0x00af9b000000ffff);
    m.put<u64>(GuestMachine::gdt + 0x10, 0x00cf93000000ffff);
    m.put<u64>(idt + OneInterrupt::vector_number * 16, (handler & 0xffff) | 0x08 << 16 | u64 { 0x8e00 } << 32 | (handler >> 16) << 48);
    m.load(handler, { 0x49, 0xff, 0x07, 0x48, 0xcf }); // inc qword [r15]; iretq
    start.gdtr = { GuestMachine::gdt, 0x17 };
    start.idtr = { idt, 0xfff };
    start.gpr[15] = counter;
    u64 const& taken = *reinterpret_cast<u64 const*>(m.memory->range(Gpa(counter), 8));
    bool lost = false;
    std::thread device([&] {
        auto const end = steady_clock::now() + 3s;
        for (u64 i = 0; i < wanted && !lost && steady_clock::now() < end; ++i) {
            for (u64 n = 0; n < i % 64; ++n)
                __builtin_ia32_pause();
            interrupts.request();
            m.vcpu->interrupt_pending();
            lost = wait_for_more_than(taken, i) == 0;
        }
        m.vcpu->kick();
    });
    m.run(start, { 0xfb, 0x90, 0xeb, 0xfe }); // sti; nop; jmp $
    device.join();
    EXPECT_EQ(m.last_exit, RunExit::kicked);
    EXPECT_FALSE(lost);
}

// The handler of #DB has a breakpoint on its first instruction, and a stack of its own, so it never gets beyond it.
TEST(Standstill, DoesNotWaitForBreakpointsThatNeverEnd)
{
    constexpr u64 idt = 0x9000, handler = 0x110000, task_state = 0xa000, interrupt_stack = 0x220000, elsewhere = 0x400000;
    GuestMachine m({}, 2);
    CpuState trapped = m.long_mode();
    m.put<u64>(GuestMachine::gdt + 8, 0x00af9b000000ffff);
    m.put<u64>(idt + 16, (handler & 0xffff) | 0x08 << 16 | u64 { 0x8e01 } << 32 | (handler >> 16) << 48); // stack 1
    m.put<u64>(task_state + 0x24, interrupt_stack);
    trapped.gdtr = { GuestMachine::gdt, 0x17 };
    trapped.idtr = { idt, 0xfff };
    trapped.tr = { 0x18, x86::access::present | 11, 0x67, task_state };
    trapped.dr[0] = trapped.rip = handler;
    trapped.dr7 = 0x402;
    m.vcpu->set_state(trapped);
    std::thread first([&] { m.last_exit = m.vcpu->run(); });
    while (m.get<u64>(interrupt_stack - 40) != handler)
        std::this_thread::yield();

    // Its pages had no code before, so the other one must stand while they are marked.
    QuietInterrupts interrupts;
    auto const vcpu = m.create_vcpu(interrupts, 1, 2);
    CpuState start = m.long_mode();
    start.rip = elsewhere;
    m.load(elsewhere, { 0xf4 });
    vcpu->set_state(start);
    std::atomic<bool> done { false };
    std::thread second([&] {
        vcpu->run();
        done = true;
    });
    auto const patience = steady_clock::now() + 5s;
    while (!done && steady_clock::now() < patience)
        std::this_thread::sleep_for(1ms);
    EXPECT_TRUE(done);
    m.vcpu->kick();
    first.join();
    second.join();
    EXPECT_EQ(m.last_exit, RunExit::kicked);
    EXPECT_EQ(vcpu->state().rip, elsewhere + 1);
}

// A page whose code is rewritten again and again stays watched, also for a virtual CPU that stores there just as it becomes so.
TEST(WatchedPages, StayWatchedWhileTheirCodeChanges)
{
    constexpr u64 first = 4 * MiB, pages = 2000, cell = GuestMachine::data;
    GuestMachine m;
    for (u64 i = 0; i < pages; ++i)
        m.load(first + i * 0x1000, { 0xb0, 1, 0xc3 }); // mov al,1; ret
    CpuState start = m.long_mode();
    start.gpr[x86::rbx] = first;
    start.gpr[x86::rdi] = first + pages * 0x1000;
    start.gpr[x86::rbp] = cell;
    u64& page = *reinterpret_cast<u64*>(m.memory->range(Gpa(cell), 8));
    std::atomic<bool> over { false };
    std::thread device([&] {
        auto const end = steady_clock::now() + 2s; // a host with little time to spare does fewer pages
        for (unsigned turns = 1; !over; ++turns) {
            u64 const changed = __atomic_load_n(&page, __ATOMIC_ACQUIRE);
            if (turns % 1024 == 0) {
                std::this_thread::yield();
                if (steady_clock::now() > end)
                    return m.vcpu->kick();
            }
            if (changed == 0)
                continue;
            m.memory->written(Gpa(changed), 1);
            __atomic_store_n(&page, 0, __ATOMIC_RELEASE);
        }
    });
    // page: mov ecx,8; round: call rbx; mov [rbp],rbx; mov edx,r8d; delay: dec edx; jns delay; mov [rbx+0x1000800],edx; mov [rbx+0x800],edx
    // wait: cmp qword [rbp],0; jne wait; dec ecx; jne round
    // call rbx; mov byte [rbx+1],2; call rbx; cmp al,2; setne al; movzx eax,al; add esi,eax
    // add r8d,1; and r8d,127; add rbx,0x1000; cmp rbx,rdi; jne page
    m.run(start, { 0xb9, 8, 0, 0, 0, 0xff, 0xd3, 0x48, 0x89, 0x5d, 0, 0x44, 0x89, 0xc2, 0xff, 0xca, 0x79, 0xfc, 0x89, 0x93, 0, 8, 0, 1, 0x89, 0x93, 0, 8, 0, 0,
                     0x48, 0x83, 0x7d, 0, 0, 0x75, 0xf9, 0xff, 0xc9, 0x75, 0xdc,
                     0xff, 0xd3, 0xc6, 0x43, 1, 2, 0xff, 0xd3, 0x3c, 2, 0x0f, 0x95, 0xc0, 0x0f, 0xb6, 0xc0, 0x01, 0xc6,
                     0x41, 0x83, 0xc0, 1, 0x41, 0x83, 0xe0, 127, 0x48, 0x81, 0xc3, 0, 0x10, 0, 0, 0x48, 0x39, 0xfb, 0x75, 0xb1 });
    over = true;
    device.join();
    EXPECT_EQ(m.vcpu->state().gpr[x86::rsi], 0u);
}

using TwoPages = ScatteredMapping<2>;

// What a mask leaves out of an operand in two pages is another's, who may store there at the same time.
TEST(MaskedStores, LeaveAloneWhatTheMaskLeavesOut)
{
    constexpr u64 rounds = 200'000;
    if (!__builtin_cpu_supports("avx"))
        GTEST_SKIP() << "no VMASKMOVPS";
    GuestMachine m({}, 2);
    CpuState start = m.long_mode();
    TwoPages::map(m);
    m.put<u32>(GuestMachine::data, ~u32 { 0 }); // the mask: the first of eight elements
    start.gpr[x86::rdi] = TwoPages::linear + 0xff0;
    start.gpr[x86::rsi] = GuestMachine::data;
    start.gpr[x86::rcx] = rounds;
    u32& ours = *reinterpret_cast<u32*>(m.memory->range(Gpa(TwoPages::frame(1) + 4), 4));
    u64 lost = 0;
    std::atomic<bool> over { false };
    std::thread other([&] {
        for (u32 n = 1; !over; ++n) {
            __atomic_store_n(&ours, n, __ATOMIC_RELAXED);
            for (unsigned i = 0; i < 8; ++i)
                lost += __atomic_load_n(&ours, __ATOMIC_RELAXED) != n;
        }
    });
    // vmovups ymm1,[rsi]; again: vmaskmovps [rdi],ymm1,ymm1; dec rcx; jne again
    m.run(start, { 0xc5, 0xfc, 0x10, 0x0e, 0xc4, 0xe2, 0x75, 0x2e, 0x0f, 0x48, 0xff, 0xc9, 0x75, 0xf6 });
    over = true;
    other.join();
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(m.get<u32>(TwoPages::frame(0) + 0xff0), ~u32 { 0 });
    EXPECT_EQ(lost, 0u);
}

// Two virtual CPUs change an operand in two pages.
class LockedInTwoPages : public ::testing::Test {
protected:
    static constexpr u32 rounds = 20'000;

    // Both run `bytes` so many times, with RDI = operand, RAX = 0 or 1.
    void run(std::vector<u8> bytes)
    {
        // again: ...; dec ecx; jne again; hlt
        u8 const back = static_cast<u8>(0 - (bytes.size() + 4));
        bytes.insert(bytes.end(), { 0xff, 0xc9, 0x75, back, 0xf4 });
        m.load(GuestMachine::code, bytes);
        CpuState start = m.long_mode();
        TwoPages::map(m);
        start.gpr[x86::rdi] = TwoPages::linear + 0xffd;
        start.gpr[x86::rcx] = rounds;
        m.vcpu->set_state(start);
        start.gpr[x86::rax] = 1;
        other->set_state(start);
        std::thread beside([this] { EXPECT_EQ(other->run(), RunExit::halted); });
        EXPECT_EQ(m.vcpu->run(), RunExit::halted);
        beside.join();
    }
    u64 operand() const { return (m.get<u32>(TwoPages::frame(0) + 0xffd) & 0xffffff) | m.get<u64>(TwoPages::frame(1)) << 24; }

    GuestMachine m { {}, 2 };
    QuietInterrupts other_interrupts;
    std::unique_ptr<Vcpu> other = m.create_vcpu(other_interrupts, 1, 2);
};

TEST_F(LockedInTwoPages, Add)
{
    run({ 0xf0, 0x48, 0xff, 0x07 }); // lock inc qword [rdi]
    EXPECT_EQ(operand(), 2 * rounds);
}

TEST_F(LockedInTwoPages, BitTest)
{
    // lock bts [rdi],rax; adc rbx,0; lock btr [rdi],rax; cmc; adc rbx,0
    run({ 0xf0, 0x48, 0x0f, 0xab, 0x07, 0x48, 0x83, 0xd3, 0, 0xf0, 0x48, 0x0f, 0xb3, 0x07, 0xf5, 0x48, 0x83, 0xd3, 0 });
    EXPECT_EQ(m.vcpu->state().gpr[x86::rbx], 0u); // how often its bit was not as it had left it
    EXPECT_EQ(other->state().gpr[x86::rbx], 0u);
}

// Bytes of HLT, which it takes from another thread that writes to memory meanwhile, as a device does under its lock.
class CodeInDevice : public BusDevice {
public:
    explicit CodeInDevice(GuestMemory& memory) : m_memory(memory) {}
    u64 read(u64, unsigned) override
    {
        std::packaged_task<void()> write([this] { m_memory.written(Gpa(GuestMachine::code), 1); });
        std::future<void> const written = write.get_future();
        std::thread(std::move(write)).detach();
        waited_in_vain |= written.wait_for(2s) != std::future_status::ready;
        return 0xf4f4f4f4'f4f4f4f4;
    }
    void write(u64, unsigned, u64) override {}

    bool waited_in_vain = false;

private:
    GuestMemory& m_memory;
};

TEST(CodeInDevices, IsReadWhileOthersMayWriteToMemory)
{
    GuestMachine m({}, 2);
    CodeInDevice device(*m.memory);
    ASSERT_TRUE(m.mmio.add(GuestMachine::ram_size, 0x1000, device, "device").ok());
    CpuState start = m.long_mode();
    start.gpr[x86::rbx] = GuestMachine::ram_size;
    CpuState const end = m.run(start, { 0xff, 0xe3 }); // jmp rbx
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(end.rip, GuestMachine::ram_size + 1);
    EXPECT_FALSE(device.waited_in_vain);
}

// An instruction that begins in RAM.
TEST(CodeInDevices, IsReadWhereOnlyItsEndLies)
{
    constexpr u64 last = GuestMachine::ram_size - 1;
    GuestMachine m({}, 2);
    CodeInDevice device(*m.memory);
    ASSERT_TRUE(m.mmio.add(GuestMachine::ram_size, 0x1000, device, "device").ok());
    m.load(last - 2, { 0xff, 0xc1, 0xb0 }); // inc ecx; mov al,0xf4
    CpuState start = m.long_mode();
    start.gpr[x86::rbx] = last - 2;
    CpuState const end = m.run(start, { 0xff, 0xe3 }); // jmp rbx
    EXPECT_EQ(m.last_exit, RunExit::halted);
    EXPECT_EQ(end.rip, GuestMachine::ram_size + 2);
    EXPECT_EQ(end.gpr[x86::rax], 0xf4u);
    EXPECT_EQ(end.gpr[x86::rcx], 1u);
    EXPECT_FALSE(device.waited_in_vain);
}

// One virtual CPU rewrites two functions again and again, one of them across the end of a page, and then says how often; the other one, which has
// serialized after it heard of that, must not run what was there before. Devices write there as well, and what they write is what is there.
TEST(ChangingCode, IsRunAsItWasWhenTheOtherHeardOfIt)
{
    constexpr u64 one = 0x400000, two = 0x500ffd, other_code = 0x180000, told = GuestMachine::data;
    constexpr u32 rounds = 20'000;
    GuestMachine m({}, 2);
    QuietInterrupts other_interrupts;
    auto const other = m.create_vcpu(other_interrupts, 1, 2);
    for (u64 const function : { one, two })
        m.load(function, { 0xb8, 0, 0, 0, 0, 0xc3 }); // mov eax,0; ret
    CpuState writer = m.long_mode(), reader = writer;
    writer.gpr[x86::rbx] = reader.gpr[x86::rbx] = one;
    writer.gpr[x86::rdi] = reader.gpr[x86::rdi] = two;
    writer.gpr[x86::rsi] = reader.gpr[x86::rsi] = told;
    writer.rip = other_code;
    writer.gpr[x86::rsp] -= 0x1000;
    // again: mov edx,ecx; and edx,63; delay: dec edx; jns delay; inc ecx; mov [rbx+1],ecx; mov [rdi+1],ecx; mov [rsi],ecx
    // wait: cmp [rbx+0x80],ecx; jb wait; cmp ecx,rounds; jb again; hlt
    m.load(other_code, { 0x89, 0xca, 0x83, 0xe2, 63, 0xff, 0xca, 0x79, 0xfc, 0xff, 0xc1, 0x89, 0x4b, 1, 0x89, 0x4f, 1, 0x89, 0x0e,
                           0x39, 0x8b, 0x80, 0, 0, 0, 0x72, 0xf8, 0x81, 0xf9, rounds & 0xff, rounds >> 8, 0, 0, 0x72, 0xdd, 0xf4 });
    other->set_state(writer);
    std::atomic<bool> over { false };
    std::thread beside([&] { static_cast<void>(other->run()); });
    std::thread device([&] {
        auto const end = steady_clock::now() + 2s; // a busy host does fewer rounds
        while (!over) {
            for (u64 const function : { one, two })
                m.memory->written(Gpa(function), 8);
            std::this_thread::sleep_for(20us);
            if (steady_clock::now() > end) {
                m.vcpu->kick();
                other->kick();
            }
        }
    });
    // again: mov r12d,[rsi]; mov r13,rbx; xor eax,eax; cpuid; mov rbx,r13; call rbx; cmp eax,r12d; jb bad; call two; cmp eax,r12d; jb bad
    // mov [rbx+0x80],eax; cmp r12d,rounds; jb again; bad: hlt
    constexpr u32 to_two = static_cast<u32>(two - (GuestMachine::code + 0x1c));
    CpuState const at_end = m.run(reader, { 0x44, 0x8b, 0x26, 0x49, 0x89, 0xdd, 0x31, 0xc0, 0x0f, 0xa2, 0x4c, 0x89, 0xeb, 0xff, 0xd3, 0x44, 0x39, 0xe0, 0x90, 0x90, 0x90, 0x72, 0x19,
        0xe8, static_cast<u8>(to_two), static_cast<u8>(to_two >> 8), static_cast<u8>(to_two >> 16), 0, 0x44, 0x39, 0xe0, 0x72, 0x0f, 0x89, 0x83, 0x80, 0, 0, 0, 0x41, 0x81, 0xfc, rounds & 0xff, rounds >> 8, 0, 0, 0x72, 0xd0 });
    if (m.last_exit == RunExit::halted) { // else it was told to end
        EXPECT_EQ(at_end.gpr[x86::r12], rounds);
        EXPECT_GE(at_end.gpr[x86::rax], at_end.gpr[x86::r12]);
        if (at_end.gpr[x86::r12] < rounds)
            other->kick();
    }
    beside.join();
    over = true;
    device.join();
}

// More code than the cache has room for, which two virtual CPUs run at once, and devices write over: everything is dropped now and then, though never
// while one of them is in it.
TEST(ManyFunctions, AreRunByTwoWhileAllIsDropped)
{
    constexpr u64 first = 16 * MiB, step = 16;
    constexpr u32 calls = 150'000;
    GuestMachine m({}, 2);
    QuietInterrupts other_interrupts;
    auto const other = m.create_vcpu(other_interrupts, 1, 2);
    std::vector<u8> functions(16 * MiB);
    for (u64 at = 0; at < functions.size(); at += step) {
        u32 const value = static_cast<u32>(first + at);
        functions[at] = 0xb8; // mov eax,its address; ret
        std::memcpy(&functions[at + 1], &value, sizeof value);
        functions[at + 5] = 0xc3;
    }
    m.load(first, functions);
    CpuState start = m.long_mode();
    start.gpr[x86::rcx] = calls;
    start.gpr[8] = 1;
    // again: imul r8,r8,0x5851f42d; add r8,0x14057b7d; mov rbx,r8; shr rbx,20; and ebx,0xfffff0; add ebx,first; call rbx; cmp eax,ebx; jne bad
    // dec ecx; jne again; bad: hlt
    m.load(start.rip, { 0x4d, 0x69, 0xc0, 0x2d, 0xf4, 0x51, 0x58, 0x49, 0x81, 0xc0, 0x7d, 0x7b, 0x05, 0x14, 0x4c, 0x89, 0xc3, 0x48, 0xc1, 0xeb, 20, 0x81, 0xe3, 0xf0, 0xff, 0xff, 0,
                          0x81, 0xc3, 0, 0, 0, 1, 0xff, 0xd3, 0x39, 0xd8, 0x75, 4, 0xff, 0xc9, 0x75, 0xd5, 0xf4 });
    m.vcpu->set_state(start);
    start.gpr[8] = 0x1234567;
    start.gpr[x86::rsp] -= 0x1000;
    other->set_state(start);
    std::atomic<bool> over { false };
    std::thread beside([&] { EXPECT_EQ(other->run(), RunExit::halted); });
    std::thread device([&] {
        for (u64 n = 0; !over; ++n) {
            m.memory->written(Gpa(first + n * 0x13370 % (16 * MiB)), 0x800);
            std::this_thread::sleep_for(20us);
        }
    });
    EXPECT_EQ(m.vcpu->run(), RunExit::halted);
    beside.join();
    over = true;
    device.join();
    EXPECT_EQ(m.vcpu->state().gpr[x86::rcx], 0u);
    EXPECT_EQ(other->state().gpr[x86::rcx], 0u);
    for (auto const& row : m.vcpu->statistics()) {
        if (row.name == "code cache flushes") {
            EXPECT_GT(row.value, 1u);
        }
    }
}

} // namespace
} // namespace anyhyve::soft
