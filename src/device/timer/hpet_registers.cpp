// What software reads and writes in the HPET.
#include "device/timer/hpet_registers.hpp"

namespace anyhyve {

using namespace hpet;

u64 Hpet::read(u64 offset, unsigned width)
{
    if (offset >= register_space)
        return mask_of_bytes(width);
    std::lock_guard const lock(m_mutex);
    look_at_clock();
    u64 const shift = 8 * (offset & 7);
    return read_register(offset & ~u64 { 7 }) >> shift & mask_of_bytes(width);
}

void Hpet::write(u64 offset, unsigned width, u64 value)
{
    if (offset >= register_space)
        return;
    std::lock_guard const lock(m_mutex);
    u64 const shift = 8 * (offset & 7);
    look_at_clock();
    catch_up();
    write_register(offset & ~u64 { 7 }, value << shift, mask_of_bytes(width) << shift);
    catch_up(); // what was set too late
    arm();
}

u64 Hpet::read_register(u64 offset)
{
    switch (static_cast<Register>(offset)) {
    case Register::capabilities:
        return u64 { period_femtoseconds } << 32 | hardware_id;
    case Register::config:
        return m_config;
    case Register::status:
        catch_up();
        arm();
        return m_status;
    case Register::counter:
        return counter();
    default:
        break;
    }
    u64 const place = offset - static_cast<u64>(Register::first_comparator);
    if (offset < static_cast<u64>(Register::first_comparator) || place / comparator_stride >= timer_count)
        return 0;
    return read_comparator(static_cast<unsigned>(place / comparator_stride), place % comparator_stride);
}

// `written`: which bits the access covers; the others keep their value.
void Hpet::write_register(u64 offset, u64 value, u64 written)
{
    auto const merge = [&](u64 old) { return (old & ~written) | (value & written); };
    switch (static_cast<Register>(offset)) {
    case Register::capabilities:
        return;
    case Register::config:
        write_general_config(merge(m_config) & (config_enable | config_legacy));
        return;
    case Register::status:
        m_status &= ~(value & written);
        for (unsigned i = 0; i < timer_count; ++i)
            update_line(i);
        return;
    case Register::counter:
        set_counter(merge(counter()));
        return;
    default:
        break;
    }
    u64 const place = offset - static_cast<u64>(Register::first_comparator);
    if (offset < static_cast<u64>(Register::first_comparator) || place / comparator_stride >= timer_count)
        return;
    write_comparator(static_cast<unsigned>(place / comparator_stride), place % comparator_stride, value, written);
}

void Hpet::write_general_config(u64 value)
{
    u64 const changed = m_config ^ value;
    if (changed & config_enable) {
        // What stands still keeps its values; what starts is scheduled from them.
        for (Comparator& comparator : m_comparators)
            comparator.compare = compare_now(comparator);
        m_counter = counter();
        m_started = tick();
        m_config = value;
        schedule_all();
    }
    m_config = value;
    if (changed & config_legacy) {
        bool const replaced = value & config_legacy;
        // Never two drivers on one wire: the replacement starts after the others have let go.
        if (replaced)
            m_wires.legacy_replacement(true);
        select_line(0);
        select_line(1);
        if (!replaced)
            m_wires.legacy_replacement(false);
    }
}

void Hpet::set_counter(u64 value)
{
    for (Comparator& comparator : m_comparators)
        comparator.compare = compare_now(comparator);
    m_counter = value;
    m_started = tick();
    schedule_all();
}

u64 Hpet::read_comparator(unsigned index, u64 offset) const
{
    Comparator const& comparator = m_comparators[index];
    switch (static_cast<ComparatorRegister>(offset)) {
    case ComparatorRegister::config:
        return comparator.config | timer_fixed;
    case ComparatorRegister::compare:
        return compare_now(comparator);
    case ComparatorRegister::message:
        return comparator.message;
    }
    return 0;
}

void Hpet::write_comparator(unsigned index, u64 offset, u64 value, u64 written)
{
    Comparator& comparator = m_comparators[index];
    switch (static_cast<ComparatorRegister>(offset)) {
    case ComparatorRegister::config:
        write_comparator_config(index, ((comparator.config & ~written) | (value & written)) & timer_writable);
        break;
    case ComparatorRegister::compare:
        write_compare(comparator, value, written);
        break;
    case ComparatorRegister::message:
        comparator.message = (comparator.message & ~written) | (value & written);
        break;
    }
}

void Hpet::write_comparator_config(unsigned index, u64 value)
{
    Comparator& comparator = m_comparators[index];
    u64 const changed = comparator.config ^ value;
    u64 const compare = compare_now(comparator);
    comparator.config = value;
    if (changed & (timer_periodic | timer_32_bit)) {
        comparator.compare = compare & mask_of(value);
        schedule(comparator, Late::waits);
    } else if (changed & timer_interrupt) {
        comparator.periods.skip(m_now); // what was not wanted is not made up for
    }
    if (!(value & timer_level))
        m_status &= ~bit(index);
    if (changed & timer_route)
        select_line(index);
    else
        update_line(index);
}

// 2.3.9.2.2: in periodic mode a write sets the period, and the compare value too when VAL_SET was set before.
void Hpet::write_compare(Comparator& comparator, u64 value, u64 written)
{
    u64 const compare = compare_now(comparator);
    bool const periodic = comparator.config & timer_periodic;
    bool const sets_compare = !periodic || comparator.config & timer_value_set;
    u64 const mask = mask_of(comparator.config);
    comparator.compare = sets_compare ? ((compare & ~written) | (value & written)) & mask : compare;
    if (periodic) {
        comparator.period = ((comparator.period & ~written) | (value & written)) & mask;
        comparator.config &= ~timer_value_set;
    }
    schedule(comparator, sets_compare ? Late::fires : Late::waits);
}

} // namespace anyhyve
