// Priorities, command words and acknowledge cycles of the 8259A pair.
#include "device/irqchip/pic.hpp"

#include <bit>

namespace anyhyve {

namespace {

enum class Port : u64 {
    command = 0, // W: ICW1, OCW2, OCW3; R: IRR, ISR or poll byte
    data = 1,    // RW: mask (OCW1); W: ICW2, ICW3, ICW4
};

// Data sheet figures 7 and 8.
constexpr u8 icw1_select = 1 << 4, icw1_single = 1 << 1, icw1_needs_icw4 = 1 << 0;
constexpr u8 icw4_auto_eoi = 1 << 1, icw4_fully_nested = 1 << 4;
constexpr u8 ocw_select_ocw3 = 1 << 3;
constexpr u8 ocw2_rotate = 1 << 7, ocw2_specific = 1 << 6, ocw2_eoi = 1 << 5;
constexpr u8 ocw3_set_special_mask = 1 << 6, ocw3_special_mask = 1 << 5, ocw3_poll = 1 << 2, ocw3_read = 1 << 1, ocw3_in_service = 1 << 0;

// Lines that must stay edge-triggered: timer, keyboard, cascade; RTC, coprocessor.
constexpr u8 master_level_possible = 0xf8, slave_level_possible = 0xde;
constexpr unsigned spurious_line = 7;

constexpr u8 bit_of(unsigned line)
{
    return static_cast<u8>(1u << line);
}

} // namespace

// The line of highest priority in `set`, or -1.
int Pic::Chip::highest(u8 set) const
{
    if (set == 0)
        return -1;
    unsigned const first = (lowest + 1u) & 7;
    unsigned const distance = static_cast<unsigned>(std::countr_zero(std::rotr(set, static_cast<int>(first))));
    return static_cast<int>((first + distance) & 7);
}

void Pic::Chip::set_input(unsigned line, bool asserted)
{
    u8 const flag = bit_of(line);
    bool const rising = asserted && !(levels & flag);
    levels = asserted ? levels | flag : levels & static_cast<u8>(~flag);
    if (level_triggered & flag)
        request = asserted ? request | flag : request & static_cast<u8>(~flag);
    else if (rising)
        request |= flag; // stays latched when the line drops: a pulse is an edge
}

// The line that this chip asks the next one up to serve, or -1.
int Pic::Chip::pending(bool is_master) const
{
    if (!ready)
        return -1;
    int const line = highest(request & static_cast<u8>(~mask));
    if (line < 0)
        return -1;
    u8 blocking = in_service;
    if (special_mask) // lines masked on purpose while in service block nobody
        blocking &= static_cast<u8>(~mask);
    // Special fully nested mode: the slave may interrupt itself with something more important.
    if (fully_nested && is_master)
        blocking &= static_cast<u8>(~bit_of(cascade_line));
    int const served = highest(blocking);
    bool const important = served < 0 || priority(static_cast<unsigned>(line)) < priority(static_cast<unsigned>(served));
    return important ? line : -1;
}

u8 Pic::Chip::accept(unsigned line)
{
    u8 const flag = bit_of(line);
    if (!(level_triggered & flag))
        request &= static_cast<u8>(~flag);
    if (!auto_eoi)
        in_service |= flag;
    else if (rotate_on_auto_eoi)
        lowest = static_cast<u8>(line);
    return static_cast<u8>(vector_base | line);
}

// ICW1: the edge detectors start anew, masks clear, IRQ 7 is lowest.
void Pic::Chip::initialise(u8 icw1)
{
    request = levels & level_triggered;
    mask = in_service = 0;
    lowest = 7;
    cascade = 0;
    auto_eoi = rotate_on_auto_eoi = fully_nested = special_mask = read_in_service = poll = false;
    single = icw1 & icw1_single;
    needs_icw4 = icw1 & icw1_needs_icw4;
    ready = false;
    next_word = NextWord::icw2;
}

// OCW2: ends of interrupt and rotation.
void Pic::Chip::command(u8 ocw2)
{
    bool const rotate = ocw2 & ocw2_rotate;
    unsigned const named = ocw2 & 7;
    if (!(ocw2 & ocw2_eoi)) {
        if (ocw2 & ocw2_specific) {
            if (rotate)
                lowest = static_cast<u8>(named); // set priority; without rotation: no operation
        } else {
            rotate_on_auto_eoi = rotate;
        }
        return;
    }
    // A non-specific EOI ends the most important one; in special mask mode it does not see masked lines.
    u8 const visible = special_mask ? in_service & static_cast<u8>(~mask) : in_service;
    int const line = ocw2 & ocw2_specific ? static_cast<int>(named) : highest(visible);
    if (line < 0)
        return;
    in_service &= static_cast<u8>(~bit_of(static_cast<unsigned>(line)));
    if (rotate)
        lowest = static_cast<u8>(line);
}

Pic::Pic(std::function<void(bool)> output)
    : m_output_changed(std::move(output))
{
    reset();
}

void Pic::reset()
{
    std::lock_guard const lock(m_mutex);
    for (Chip* const chip : { &m_master, &m_slave }) {
        u8 const levels = chip->levels;
        *chip = {};
        chip->levels = levels;
    }
    update();
}

void Pic::set_output(bool asserted)
{
    if (asserted == m_output)
        return;
    m_output = asserted;
    m_output_changed(asserted);
}

void Pic::update()
{
    m_master.set_input(cascade_line, m_slave.pending(false) >= 0);
    // The slave's output is a level as the master sees it, whatever its edge detector has latched.
    if (!(m_master.levels & bit_of(cascade_line)))
        m_master.request &= static_cast<u8>(~bit_of(cascade_line));
    set_output(m_master.pending(true) >= 0);
}

void Pic::set_level(unsigned line, bool asserted)
{
    if (line >= line_count || line == cascade_line)
        return;
    std::lock_guard const lock(m_mutex);
    u32& assertions = m_assertions[line];
    if (asserted)
        ++assertions;
    else
        assertions -= assertions != 0;
    Chip& chip = line < 8 ? m_master : m_slave;
    chip.set_input(line & 7, assertions != 0);
    update();
}

bool Pic::output() const
{
    std::lock_guard const lock(m_mutex);
    return m_output;
}

u8 Pic::acknowledge_chip(Chip& chip)
{
    int const line = chip.pending(&chip == &m_master);
    // Data sheet, "Interrupt Sequence": without a request it answers as IRQ 7, and ISR stays clear.
    return line < 0 ? static_cast<u8>(chip.vector_base | spurious_line) : chip.accept(static_cast<unsigned>(line));
}

int Pic::acknowledge()
{
    std::lock_guard const lock(m_mutex);
    int const line = m_master.pending(true);
    u8 vector = acknowledge_chip(m_master);
    if (line == static_cast<int>(cascade_line) && !m_master.single)
        vector = acknowledge_chip(m_slave);
    set_output(false); // INTR drops with the acknowledge cycle, so that whoever looks for edges sees the next one
    // A second request of the slave is a new edge for the master.
    m_master.set_input(cascade_line, false);
    update();
    return vector;
}

// OCW3 with the poll bit: the next read acknowledges and tells the line.
u8 Pic::poll_chip(Chip& chip)
{
    chip.poll = false;
    int const line = chip.pending(&chip == &m_master);
    if (line < 0)
        return spurious_line;
    chip.accept(static_cast<unsigned>(line));
    if (&chip == &m_master && line == static_cast<int>(cascade_line))
        m_master.set_input(cascade_line, false);
    update();
    return static_cast<u8>(0x80 | line);
}

u8 Pic::read_chip(Chip& chip, u64 offset)
{
    std::lock_guard const lock(m_mutex);
    if (chip.poll)
        return poll_chip(chip);
    if (static_cast<Port>(offset) == Port::data)
        return chip.mask;
    return chip.read_in_service ? chip.in_service : chip.request;
}

void Pic::write_chip(Chip& chip, u64 offset, u8 value)
{
    std::lock_guard const lock(m_mutex);
    if (static_cast<Port>(offset) == Port::data)
        write_data(chip, value);
    else
        write_command(chip, value);
    update();
}

void Pic::write_command(Chip& chip, u8 value)
{
    if (value & icw1_select) {
        chip.initialise(value);
        return;
    }
    if (!(value & ocw_select_ocw3)) {
        chip.command(value);
        return;
    }
    if (value & ocw3_set_special_mask)
        chip.special_mask = value & ocw3_special_mask;
    if (value & ocw3_poll)
        chip.poll = true;
    else if (value & ocw3_read)
        chip.read_in_service = value & ocw3_in_service;
}

void Pic::write_data(Chip& chip, u8 value)
{
    switch (chip.next_word) {
    case NextWord::none:
        chip.mask = value;
        return;
    case NextWord::icw2:
        chip.vector_base = value & 0xf8;
        chip.next_word = !chip.single ? NextWord::icw3 : chip.needs_icw4 ? NextWord::icw4 : NextWord::none;
        break;
    case NextWord::icw3:
        chip.cascade = value;
        chip.next_word = chip.needs_icw4 ? NextWord::icw4 : NextWord::none;
        break;
    case NextWord::icw4:
        chip.auto_eoi = value & icw4_auto_eoi;
        chip.fully_nested = value & icw4_fully_nested;
        chip.next_word = NextWord::none;
        break;
    }
    chip.ready = chip.next_word == NextWord::none;
}

u8 Pic::read_edge_level(u64 offset)
{
    std::lock_guard const lock(m_mutex);
    return offset == 0 ? m_master.level_triggered : m_slave.level_triggered;
}

void Pic::write_edge_level(u64 offset, u8 value)
{
    std::lock_guard const lock(m_mutex);
    if (offset == 0)
        set_edge_level(m_master, value & master_level_possible);
    else
        set_edge_level(m_slave, value & slave_level_possible);
    update();
}

void Pic::set_edge_level(Chip& chip, u8 value)
{
    u8 const became_level = value & static_cast<u8>(~chip.level_triggered);
    chip.level_triggered = value;
    chip.request = static_cast<u8>((chip.request & ~became_level) | (chip.levels & became_level));
}

void Pic::set_trigger(unsigned line, TriggerMode trigger)
{
    if (line >= line_count)
        return;
    std::lock_guard const lock(m_mutex);
    bool const on_master = line < 8;
    Chip& chip = on_master ? m_master : m_slave;
    u8 const flag = bit_of(line & 7) & (on_master ? master_level_possible : slave_level_possible);
    set_edge_level(chip, trigger == TriggerMode::level ? chip.level_triggered | flag : chip.level_triggered & static_cast<u8>(~flag));
    update();
}

void Pic::Chip::save(Encoder& out) const
{
    for (u8 const value : { request, mask, in_service, level_triggered, vector_base, lowest, cascade, static_cast<u8>(next_word) })
        out.put_u8(value);
    for (bool const flag : { needs_icw4, single, ready, auto_eoi, rotate_on_auto_eoi, fully_nested, special_mask, read_in_service, poll })
        out.put_bool(flag);
}

bool Pic::Chip::restore(Decoder& in)
{
    u8 word = 0;
    for (u8* const value : { &request, &mask, &in_service, &level_triggered, &vector_base, &lowest, &cascade, &word })
        *value = in.get_u8();
    for (bool* const flag : { &needs_icw4, &single, &ready, &auto_eoi, &rotate_on_auto_eoi, &fully_nested, &special_mask, &read_in_service, &poll })
        *flag = in.get_bool();
    bool const sane = in.ok() && lowest < 8 && word <= static_cast<u8>(NextWord::icw4) && (vector_base & 7) == 0;
    if (sane) {
        next_word = static_cast<NextWord>(word);
        request = static_cast<u8>((request & ~level_triggered) | (levels & level_triggered));
    }
    return sane;
}

void Pic::save(Encoder& out) const
{
    std::lock_guard const lock(m_mutex);
    m_master.save(out);
    m_slave.save(out);
}

Result<void> Pic::restore(Decoder& in, u32 version)
{
    reset();
    if (version != state_version())
        return make_error(0, "atpic: version {} of its saved state is unknown", version);
    bool sane = false;
    {
        std::lock_guard const lock(m_mutex);
        bool const master_is_sane = m_master.restore(in);
        sane = m_slave.restore(in) && master_is_sane;
        m_master.level_triggered &= master_level_possible;
        m_slave.level_triggered &= slave_level_possible;
        if (sane) {
            // The cascade wire has the level it had: it must not look like a new edge.
            bool const cascaded = m_slave.pending(false) >= 0;
            m_master.levels = static_cast<u8>((m_master.levels & ~bit_of(cascade_line)) | (cascaded ? bit_of(cascade_line) : 0));
            update();
        }
    }
    if (!sane) {
        reset();
        return make_error(0, "atpic: its saved state is damaged");
    }
    return {};
}

} // namespace anyhyve
