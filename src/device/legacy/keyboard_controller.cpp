// Commands of the keyboard controller.
#include "device/legacy/keyboard_controller.hpp"

namespace anyhyve {

namespace {

enum Command : u8 {
    read_ram = 0x20,        // ..0x3f
    write_ram = 0x60,       // ..0x7f
    disable_mouse = 0xa7,
    enable_mouse = 0xa8,
    test_mouse = 0xa9,
    self_test = 0xaa,
    test_keyboard = 0xab,
    disable_keyboard = 0xad,
    enable_keyboard = 0xae,
    read_input_port = 0xc0,
    read_output_port = 0xd0,
    write_output_port = 0xd1,
    echo_as_keyboard = 0xd2,
    echo_as_mouse = 0xd3,
    write_mouse = 0xd4,
    disable_a20 = 0xdd,
    enable_a20 = 0xdf,
    read_test_inputs = 0xe0,
    pulse_output_port = 0xf0, // ..0xff
};

constexpr u8 status_output_full = 1 << 0, status_system = 1 << 2, status_command = 1 << 3, status_unlocked = 1 << 4, status_mouse = 1 << 5, status_timeout = 1 << 6;
constexpr u8 mode_keyboard_interrupt = 1 << 0, mode_mouse_interrupt = 1 << 1, mode_system = 1 << 2, mode_keyboard_disabled = 1 << 4, mode_mouse_disabled = 1 << 5;
constexpr u8 port_not_reset = 1 << 0, port_a20 = 1 << 1, port_keyboard_full = 1 << 4, port_mouse_full = 1 << 5;
constexpr u8 self_test_passed = 0x55, port_works = 0x00;
constexpr u8 input_port_value = 0xa0; // keyboard not locked, manufacturing jumper not set
constexpr u8 no_answer = 0xfe; // what the controller puts in the buffer when a device stays silent
constexpr u8 ram_mask = 0x1f;

} // namespace

KeyboardController::KeyboardController(IrqLine keyboard, IrqLine mouse, std::function<void()> reset_machine)
    : m_keyboard_interrupt(keyboard)
    , m_mouse_interrupt(mouse)
    , m_reset_machine(std::move(reset_machine))
{
    reset();
}

void KeyboardController::reset()
{
    std::lock_guard const lock(m_mutex);
    m_ram = {};
    m_ram[0] = mode_keyboard_disabled | mode_mouse_disabled;
    m_output_port = port_not_reset | port_a20;
    m_last_was_command = m_self_tested = false;
    m_waiting_command.reset();
    m_output.reset();
    m_output_source = Source::controller;
    update_interrupts();
}

void KeyboardController::answer(u8 value, Source source)
{
    m_output = value;
    m_output_source = source;
    update_interrupts();
}

void KeyboardController::update_interrupts()
{
    bool const from_mouse = m_output_source == Source::missing_mouse || m_output_source == Source::mouse_echo;
    // The controller's own answers make no interrupt.
    bool const from_device = m_output.has_value() && m_output_source != Source::controller;
    m_keyboard_interrupt.set(from_device && !from_mouse && m_ram[0] & mode_keyboard_interrupt);
    m_mouse_interrupt.set(from_device && from_mouse && m_ram[0] & mode_mouse_interrupt);
}

u8 KeyboardController::read_status(u64)
{
    std::lock_guard const lock(m_mutex);
    u8 status = status_unlocked;
    if (m_self_tested || m_ram[0] & mode_system)
        status |= status_system;
    if (m_last_was_command)
        status |= status_command;
    if (m_output) {
        status |= status_output_full;
        if (m_output_source == Source::missing_mouse || m_output_source == Source::mouse_echo)
            status |= status_mouse;
        if (m_output_source == Source::missing_keyboard || m_output_source == Source::missing_mouse)
            status |= status_timeout;
    }
    return status;
}

u8 KeyboardController::read_data(u64)
{
    std::lock_guard const lock(m_mutex);
    u8 const value = m_output.value_or(0);
    m_output.reset();
    update_interrupts();
    return value;
}

void KeyboardController::write_command(u64, u8 value)
{
    bool reset_machine = false;
    {
        std::lock_guard const lock(m_mutex);
        m_last_was_command = true;
        m_waiting_command.reset();
        reset_machine = execute(value);
    }
    if (reset_machine && m_reset_machine)
        m_reset_machine();
}

// True when it resets the machine.
bool KeyboardController::execute(u8 command)
{
    if (command >= pulse_output_port)
        return !(command & port_not_reset); // a 0 pulls the line low
    if (command >= read_ram && command <= (read_ram | ram_mask)) {
        answer(m_ram[command & ram_mask]);
        return false;
    }
    if (command >= write_ram && command <= (write_ram | ram_mask)) {
        m_waiting_command = command;
        return false;
    }
    switch (command) {
    case disable_mouse: m_ram[0] |= mode_mouse_disabled; break;
    case enable_mouse: m_ram[0] &= static_cast<u8>(~mode_mouse_disabled); break;
    case disable_keyboard: m_ram[0] |= mode_keyboard_disabled; break;
    case enable_keyboard: m_ram[0] &= static_cast<u8>(~mode_keyboard_disabled); break;
    case self_test:
        m_self_tested = true;
        m_ram[0] |= mode_keyboard_disabled | mode_mouse_disabled | mode_system;
        answer(self_test_passed);
        break;
    case test_keyboard:
    case test_mouse: answer(port_works); break;
    case read_input_port: answer(input_port_value); break;
    case read_output_port: {
        u8 const full = !m_output ? 0 : m_output_source == Source::missing_mouse ? port_mouse_full : port_keyboard_full;
        answer(m_output_port | full);
        break;
    }
    case disable_a20: m_output_port &= static_cast<u8>(~port_a20); break;
    case enable_a20: m_output_port |= port_a20; break;
    case read_test_inputs: answer(0); break;
    case write_output_port:
    case echo_as_keyboard:
    case echo_as_mouse:
    case write_mouse: m_waiting_command = command; break;
    default: break;
    }
    return false;
}

void KeyboardController::write_data(u64, u8 value)
{
    bool reset_machine = false;
    {
        std::lock_guard const lock(m_mutex);
        m_last_was_command = false;
        if (m_waiting_command) {
            u8 const command = *m_waiting_command;
            m_waiting_command.reset();
            reset_machine = execute_with_data(command, value);
        } else {
            m_ram[0] &= static_cast<u8>(~mode_keyboard_disabled); // talking to the keyboard enables its port
            answer(no_answer, Source::missing_keyboard);
        }
    }
    if (reset_machine && m_reset_machine)
        m_reset_machine();
}

bool KeyboardController::execute_with_data(u8 command, u8 value)
{
    switch (command) {
    case write_output_port:
        m_output_port = value;
        return !(value & port_not_reset);
    case echo_as_keyboard:
        answer(value, Source::keyboard_echo);
        return false;
    case echo_as_mouse:
        answer(value, Source::mouse_echo);
        return false;
    case write_mouse:
        m_ram[0] &= static_cast<u8>(~mode_mouse_disabled);
        answer(no_answer, Source::missing_mouse);
        return false;
    default:
        m_ram[command & ram_mask] = value;
        update_interrupts();
        return false;
    }
}

void KeyboardController::save(Encoder& out) const
{
    std::lock_guard const lock(m_mutex);
    out.put_bytes(m_ram);
    out.put_u8(m_output_port);
    out.put_bool(m_last_was_command);
    out.put_bool(m_self_tested);
    out.put_bool(m_waiting_command.has_value());
    out.put_u8(m_waiting_command.value_or(0));
    out.put_bool(m_output.has_value());
    out.put_u8(m_output.value_or(0));
    out.put_u8(static_cast<u8>(m_output_source));
}

Result<void> KeyboardController::restore(Decoder& in, u32 version)
{
    reset();
    if (version != state_version())
        return make_error(0, "i8042: version {} of its saved state is unknown", version);
    std::array<u8, s_ram_size> ram {};
    in.get_bytes(ram);
    u8 const output_port = in.get_u8();
    bool const last_was_command = in.get_bool();
    bool const self_tested = in.get_bool();
    bool const waits = in.get_bool();
    u8 const waiting = in.get_u8();
    bool const full = in.get_bool();
    u8 const output = in.get_u8();
    u8 const source = in.get_u8();
    if (!in.ok() || source > static_cast<u8>(Source::mouse_echo))
        return make_error(0, "i8042: its saved state is damaged");
    std::lock_guard const lock(m_mutex);
    m_ram = ram;
    m_output_port = output_port;
    m_last_was_command = last_was_command;
    m_self_tested = self_tested;
    m_waiting_command = waits ? std::optional(waiting) : std::nullopt;
    m_output = full ? std::optional(output) : std::nullopt;
    m_output_source = static_cast<Source>(source);
    update_interrupts();
    return {};
}

} // namespace anyhyve
