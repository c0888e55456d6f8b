// Bits of the 16550A's registers (National Semiconductor PC16550D datasheet, chapter 8), for the files of Uart only.
#pragma once

#include "base/integer.hpp"

namespace anyhyve::uart_bits {

// Interrupt enable (PC16550D 8.7).
constexpr u8 enable_received = 1 << 0;
constexpr u8 enable_transmit = 1 << 1;
constexpr u8 enable_line_status = 1 << 2;
constexpr u8 enable_modem_status = 1 << 3;
constexpr u8 enable_all = 0x0f;

// Interrupt identification (8.6), the highest priority first.
constexpr u8 identify_line_status = 0x06;
constexpr u8 identify_received = 0x04;
constexpr u8 identify_timeout = 0x0c;
constexpr u8 identify_transmit = 0x02;
constexpr u8 identify_modem_status = 0x00;
constexpr u8 identify_none = 0x01;
constexpr u8 identify_fifo = 0xc0;

// FIFO control (8.5).
constexpr u8 fifo_enable = 1 << 0;
constexpr u8 fifo_clear_receiver = 1 << 1;
constexpr u8 fifo_kept_bits = 0xc1; // enable, trigger level

constexpr u8 line_divisor_latch = 1 << 7;

// Modem control (8.8) and status (8.9).
constexpr u8 modem_dtr = 1 << 0;
constexpr u8 modem_rts = 1 << 1;
constexpr u8 modem_out1 = 1 << 2;
constexpr u8 modem_out2 = 1 << 3;
constexpr u8 modem_loopback = 1 << 4;
constexpr u8 modem_control_bits = 0x1f;
constexpr u8 status_cts = 1 << 4;
constexpr u8 status_dsr = 1 << 5;
constexpr u8 status_ring = 1 << 6;
constexpr u8 status_carrier = 1 << 7;
constexpr u8 status_deltas = 0x0f;
constexpr u8 status_ring_ended = 1 << 2;
constexpr u8 status_connected = status_cts | status_dsr | status_carrier; // with carrier, so that opening does not wait

// Line status (8.4).
constexpr u8 line_data_ready = 1 << 0;
constexpr u8 line_overrun = 1 << 1;
constexpr u8 line_transmit_empty = 1 << 5 | 1 << 6; // holding register and shift register

} // namespace anyhyve::uart_bits
