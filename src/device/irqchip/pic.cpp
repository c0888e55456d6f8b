// The 8259A pair: ports, the cascade, acknowledge cycles. What one chip does by itself is in pic_chip.cpp.
#include "device/irqchip/pic_bits.hpp"

namespace anyhyve {

using namespace pic;

namespace {

// Lines that must stay edge-triggered: timer, keyboard, cascade; RTC, coprocessor.
constexpr u8 master_level_possible = 0xf8, slave_level_possible = 0xde;

} // namespace

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

// IBM PC/AT Technical Reference, "Interrupt controller": edge-triggered, cascaded at line 2, 8086 mode.
void Pic::initialise_as_firmware()
{
    constexpr u8 icw1 = 0x11, icw4 = 0x01, master_base = 0x08, slave_base = 0x70;
    for (u8 const word : { icw1, master_base, static_cast<u8>(1 << cascade_line), icw4 })
        write_master(word == icw1 ? 0 : 1, word);
    for (u8 const word : { icw1, slave_base, static_cast<u8>(cascade_line), icw4 })
        write_slave(word == icw1 ? 0 : 1, word);
}

} // namespace anyhyve
