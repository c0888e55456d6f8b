// An ExecuteMachine for instructions that work on live vector registers, beside the host's own execution of the same bytes.
#pragma once

#include <cstring>
#include <random>
#include <sys/mman.h>

#include "engine/soft/vector_state.hpp"
#include "execute_machine.hpp"

namespace anyhyve::soft {

struct alignas(64) VectorStateImage {
    std::array<u8, 4096> bytes {};
};

class VectorLiveMachine : public ExecuteMachine {
protected:
    std::mt19937_64 random { 7 };
    u64 const mask = host_vector_unit().mask;
    // SAFETY: a private page for the bytes of the instruction under test and a return.
    u8* const native_code = static_cast<u8*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

    ~VectorLiveMachine() override { munmap(native_code, 4096); }

    VectorStateImage random_state()
    {
        VectorStateImage image;
        for (auto& byte : image.bytes)
            byte = static_cast<u8>(random());
        std::memset(image.bytes.data(), 0, 32);
        u16 const control = 0x37f;
        u32 const mxcsr = 0x1f80;
        std::memcpy(image.bytes.data(), &control, 2);
        std::memcpy(image.bytes.data() + 24, &mxcsr, 4);
        std::memset(image.bytes.data() + 512, 0, 64);
        std::memcpy(image.bytes.data() + 512, &mask, 8);
        return image;
    }
    u8* vector_register(VectorStateImage& image, unsigned number) { return image.bytes.data() + 160 + number * 16; }
    u8* vector_register_high(VectorStateImage& image, unsigned number) { return image.bytes.data() + host_vector_unit().components[2].offset + number * 16; }
    u8* vector_register_top(VectorStateImage& image, unsigned number) { return image.bytes.data() + host_vector_unit().components[6].offset + number * 32; }
    u8* mask_register(VectorStateImage& image, unsigned number) { return image.bytes.data() + host_vector_unit().components[5].offset + number * 8; }

    [[gnu::noinline]] Outcome run_live(Execute function, x86::Instruction const& instruction, VectorStateImage& state)
    {
        asm volatile("xrstor64 %0" : : "m"(state), "a"(static_cast<u32>(mask)), "d"(0) : "memory");
        Outcome const outcome = function(cpu, instruction);
        asm volatile("xsave64 %0" : "+m"(state) : "a"(static_cast<u32>(mask)), "d"(0) : "memory");
        reset_vector_unit();
        return outcome;
    }
    Outcome execute_live(std::vector<u8> bytes, VectorStateImage& state)
    {
        auto const instruction = decoded(std::move(bytes));
        Execute const function = execute_function(instruction.info->operation);
        if (function == nullptr) {
            ADD_FAILURE() << "no code for " << instruction.info->name;
            return Outcome::leave;
        }
        return run_live(function, instruction, state);
    }
    // The host runs the same bytes with RBX and RDI pointing to `memory_address`.
    [[gnu::noinline]] void execute_native(std::vector<u8> const& bytes, VectorStateImage& state, u8* memory_address)
    {
        std::memcpy(native_code, bytes.data(), bytes.size());
        native_code[bytes.size()] = 0xc3;
        asm volatile("xrstor64 %0" : : "m"(state), "a"(static_cast<u32>(mask)), "d"(0) : "memory");
        // SAFETY: the call pushes below the red zone.
        asm volatile("lea -128(%%rsp), %%rsp\n\tcall *%1\n\tlea 128(%%rsp), %%rsp" : "+b"(memory_address) : "r"(native_code), "D"(memory_address) : "memory", "cc");
        asm volatile("xsave64 %0" : "+m"(state) : "a"(static_cast<u32>(mask)), "d"(0) : "memory");
        reset_vector_unit();
    }
    void expect_same(VectorStateImage const& a, VectorStateImage const& b, unsigned round)
    {
        auto const same = [&](u32 offset, u32 size) { return std::memcmp(a.bytes.data() + offset, b.bytes.data() + offset, size) == 0; };
        ASSERT_TRUE(same(32, 384)) << round;
        for (unsigned n = 2; n < xcr0::component_count; ++n) {
            if (mask >> n & 1) {
                ASSERT_TRUE(same(host_vector_unit().components[n].offset, host_vector_unit().components[n].size)) << round << " component " << n;
            }
        }
    }
};

} // namespace anyhyve::soft
