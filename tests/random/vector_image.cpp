// Vector state of cases: made from a seed, and brought to one form for comparison.
// Spec: Intel SDM vol. 1 chapter 13 (XSAVE images), 10.5.1 (the legacy region).
#include <cstring>

#include "engine/soft/host_vector_unit.hpp"
#include "random.hpp"
#include "test_case.hpp"

namespace anyhyve::random_test {

using Image = std::array<u8, xsave_bytes>;
namespace image = soft::xsave_image;
namespace xcr0 = soft::xcr0;

namespace {

template<typename T>
void put(Image& to, unsigned at, T value)
{
    std::memcpy(&to[at], &value, sizeof value);
}
template<typename T>
T get(Image const& from, unsigned at)
{
    T value {};
    std::memcpy(&value, &from[at], sizeof value);
    return value;
}

soft::HostVectorUnit::Component component(unsigned n)
{
    return soft::host_vector_unit().components[n];
}

enum class Lanes : u8 { small, floats, doubles, integers, bits, mixed };

u64 lane(Random& random, Lanes lanes)
{
    switch (lanes) {
    case Lanes::small: return random.below(0x1800) | random.below(0x1800) << 32;
    case Lanes::floats: return corner_float(random) | u64 { corner_float(random) } << 32;
    case Lanes::doubles: return corner_double(random);
    case Lanes::integers: return corner_integer(random);
    case Lanes::bits: return random();
    case Lanes::mixed: break;
    }
    return lane(random, static_cast<Lanes>(random.below(5)));
}

void fill(Image& to, Random& random, Lanes lanes, unsigned at, unsigned size)
{
    for (unsigned i = 0; i < size; i += 8)
        put(to, at + i, lane(random, lanes));
}

void fill_x87(Image& to, Random& random)
{
    for (unsigned n = 0; n < 8; ++n) {
        unsigned const at = image::x87_registers + n * 16;
        u64 const mantissa = random.one_in(4) ? corner_integer(random) : random() | u64 { 1 } << 63;
        u16 const exponent = random.one_in(3) ? static_cast<u16>(random.one_in(2) ? 0x7fff : random.one_in(2) ? 0 : 0xffff) : static_cast<u16>(0x3fff - 70 + random.below(140) + (random() & 0x8000));
        put(to, at, random.one_in(8) ? 0 : mantissa);
        put(to, at + 8, exponent);
    }
    put<u8>(to, image::tag_byte, static_cast<u8>(random.one_in(3) ? 0xff : random()));
    // Condition codes and top of stack. Pending exceptions only sometimes: they keep nearly everything from running.
    u16 status = static_cast<u16>(random() & 0x7f00);
    if (random.one_in(32))
        status |= static_cast<u16>(random() & 0x7f);
    put<u16>(to, image::status_word, status);
}

void set_error_summary(Image& to, u16 control)
{
    u16 status = get<u16>(to, image::status_word);
    constexpr u16 exceptions = 0x3f, summary_and_busy = 0x8080;
    if (status & ~control & exceptions)
        status |= summary_and_busy;
    put<u16>(to, image::status_word, status);
}

void initialise(Image& of, unsigned at, unsigned size)
{
    std::memset(&of[at], 0, size);
}

} // namespace

static void fill_all(u64 seed, Image& to)
{
    Random random(seed);
    to.fill(0);
    u64 const mask = soft::host_vector_unit().mask;
    put<u64>(to, image::xstate_bv, xcr0::x87 | xcr0::sse | (random.one_in(4) ? random() & mask : mask));
    Lanes const lanes = static_cast<Lanes>(random.below(6));
    fill_x87(to, random);
    fill(to, random, lanes, image::xmm, 256);
    for (unsigned n : { 2u, 6u, 7u })
        fill(to, random, lanes, component(n).offset, component(n).size);
    for (unsigned n = 0; n < 8; ++n)
        put<u64>(to, component(5).offset + n * 8, random.one_in(3) ? ~u64 { 0 } : random.one_in(3) ? random.below(16) : random());
}

void fill_vector_state(Case const& c, Image& to)
{
    // The cases of a batch have only a few seeds, see Generator::begin_batch().
    struct Kept {
        u64 seed = 0;
        Image image;
    };
    static Kept s_kept[16];
    if (c.vector_seed != 0) {
        Kept& kept = s_kept[c.vector_seed >> 1 & 15];
        if (kept.seed != c.vector_seed) {
            fill_all(c.vector_seed, kept.image);
            kept.seed = c.vector_seed;
        }
        to = kept.image;
        set_error_summary(to, c.control_word);
    } else {
        to.fill(0);
        put<u64>(to, image::xstate_bv, xcr0::x87 | xcr0::sse);
    }
    put<u16>(to, image::control_word, c.control_word);
    put<u32>(to, image::mxcsr, c.mxcsr);
}

void normalise_vector_state(Image& of)
{
    u64 const present = get<u64>(of, image::xstate_bv);
    if (!(present & xcr0::x87)) {
        initialise(of, 0, image::mxcsr);
        initialise(of, image::x87_registers, 128);
        put<u16>(of, image::control_word, image::control_word_initial);
    }
    if (!(present & xcr0::sse))
        initialise(of, image::xmm, 256);
    for (unsigned n : { 2u, 5u, 6u, 7u }) {
        if (!(present >> n & 1))
            initialise(of, component(n).offset, component(n).size);
    }
    initialise(of, image::opcode, image::mxcsr - image::opcode);
    put<u32>(of, image::mxcsr_mask, 0);
    for (unsigned n = 0; n < 8; ++n)
        initialise(of, image::x87_registers + n * 16 + 10, 6);
    initialise(of, image::xmm + 256, image::xstate_bv + 64 - image::xmm - 256);
}

bool has_error_code(u64 vector)
{
    return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

} // namespace anyhyve::random_test
