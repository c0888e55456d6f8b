// Every address of the board, once: guest physical memory, ports, and where loaders and tables are laid.
// The map is bhyve's (its firmware and its guests' drivers rely on it); ports are those of the PC/AT and of the ICH.
#pragma once

#include "base/integer.hpp"

namespace anyhyve::memory_map {

// RAM: [0, low_ram_limit) and from high_ram on.
constexpr u64 low_ram_limit = 3 * GiB;
constexpr u64 high_ram = 4 * GiB;
constexpr u64 conventional_ram_end = 0xa0000; // 640 KiB
constexpr u64 extended_ram = 0x100000;

// The window of VGA and of option ROMs and tables: RAM that the memory map calls reserved.
constexpr u64 vga_window = 0xa0000, vga_window_size = 0x20000;
constexpr u64 option_roms = 0xc0000;
constexpr u64 table_area = 0xf0000, table_area_end = 0x100000;
constexpr u64 mp_table = 0xf0000;
constexpr u64 smbios_table = 0xf1000;
constexpr u64 acpi_tables = 0xf2400;
constexpr u64 acpi_tables_end = table_area_end;

// PCI: bars of 32 bits, and configuration space of 256 buses (PCI Express Base Specification 7.2.2).
constexpr u64 pci_bars_32 = 0xc0000000, pci_bars_32_end = 0xe0000000;
constexpr u64 pci_ecam = 0xe0000000, pci_ecam_size = 256 * MiB;
constexpr u8 pci_last_bus = 255;
// Bars of 64 bits lie above RAM: the window starts at the end of RAM rounded up to its own size.
constexpr u64 pci_bars_64_size = 32 * GiB;
constexpr u64 pci_bars_64(u64 ram_size)
{
    u64 const ram_end = ram_size > low_ram_limit ? high_ram + (ram_size - low_ram_limit) : high_ram;
    return (ram_end + pci_bars_64_size - 1) / pci_bars_64_size * pci_bars_64_size;
}

constexpr u64 ioapic = 0xfec00000, ioapic_size = 0x1000;
constexpr u64 hpet = 0xfed00000, hpet_size = 0x400;
constexpr u64 tpm = 0xfed40000, tpm_size = 0x5000;
constexpr u64 local_apic = 0xfee00000, local_apic_size = 0x1000;
// Boot ROM: ends at 4 GiB; the variable file lies directly beneath it, both inside this region.
constexpr u64 boot_rom_region = 0xff000000, boot_rom_region_size = 16 * MiB;
constexpr u64 boot_rom_end = 4 * GiB;

// pc-testdev's, where a boot ROM would be.
constexpr u64 test_memory = 0xff000000;

// Rate of the local APIC timer before its divider; guests measure it.
constexpr u64 local_apic_bus_hz = 128 * MiB;

// Where loaders put what a kernel reads at its start: below 640 KiB, in RAM that the kernel takes over later.
namespace loader {
constexpr u64 scratch = 0x1000, scratch_end = 0x30000;
constexpr u64 task_state = 0x1000;
constexpr u64 descriptor_table = 0x2000;
constexpr u64 linux_boot_params = 0x3000;
constexpr u64 pvh_start_info = 0x4000;
constexpr u64 pvh_modules = 0x4100;
constexpr u64 pvh_memory_map = 0x5000;
// Multiboot's structures share that space: only one protocol is used at a time.
constexpr u64 multiboot_information = 0x3000, multiboot_information_size = 0x74;
constexpr u64 multiboot_memory_map = 0x3100;
constexpr u64 multiboot_modules = 0x4000, multiboot_modules_size = 0x1000;
constexpr u64 multiboot_strings = 0x5000, multiboot_strings_size = 0x2000;
constexpr u64 multiboot_end = 0x8000; // some kernels begin this low
constexpr u64 stack_top = 0x8000;
constexpr u64 page_tables = 0x8000, page_tables_end = 0xe000; // PML4, PDPT, four page directories
constexpr u64 command_line = 0x20000, command_line_size = 0x10000;
} // namespace loader

} // namespace anyhyve::memory_map

namespace anyhyve::ports {

constexpr u16 pic_master = 0x20, pic_slave = 0xa0;
constexpr u16 pit = 0x40, pit_size = 4;
constexpr u16 keyboard_data = 0x60, keyboard_command = 0x64;
constexpr u16 system_control = 0x61; // NMI status and speaker
constexpr u16 rtc = 0x70, rtc_size = 2, rtc_reserved = 0x72, rtc_reserved_size = 6;
constexpr u16 test_latch = 0xe0, test_lines = 0x2000, test_lines_end = 0x3000;
constexpr u16 debug_exit = 0xf4, debug_exit_size = 4;
constexpr u16 post_code = 0x80, post_code_diagnostic = 0x84;
constexpr u16 system_control_a = 0x92; // fast reset, address line 20
constexpr u16 smi_command = 0xb2;
constexpr u16 bvm_console = 0x220, bvm_debug = 0x224;
constexpr u16 com1 = 0x3f8, com2 = 0x2f8, com3 = 0x3e8, com4 = 0x2e8, com_size = 8;
constexpr u16 vga = 0x3c0, vga_size = 0x20;
constexpr u16 pm1_event = 0x400, pm1_event_size = 4;
constexpr u16 pm1_control = 0x404, pm1_control_size = 2;
constexpr u16 pm_timer = 0x408, pm_timer_size = 4;
constexpr u16 guest_notify = 0x488;
constexpr u16 elcr = 0x4d0, elcr_size = 2;
constexpr u16 firmware_config = 0x510, firmware_config_size = 2;
constexpr u16 pci_config_address = 0xcf8, pci_config_data = 0xcfc;
constexpr u16 reset_control = 0xcf9;
constexpr u32 pci_bars = 0x2000, pci_bars_end = 0x10000;

} // namespace anyhyve::ports

// Values that the board and its tables must agree on.
namespace anyhyve::board {

constexpr u8 smi_acpi_enable = 0xa0, smi_acpi_disable = 0xa1; // to ports::smi_command
constexpr u8 reset_value = 6;                                  // to ports::reset_control
constexpr u8 sleep_type_s5 = 5;                                // PM1 control, SLP_TYP
constexpr u8 sci_irq = 9;
constexpr u8 rtc_century_register = 0x32;
constexpr u8 com1_irq = 4, com2_irq = 3, com3_irq = 4, com4_irq = 3, rtc_irq = 8, pit_irq = 0, pic_cascade_irq = 2, keyboard_irq = 1, mouse_irq = 12;
constexpr u8 ioapic_id = 0, ioapic_version = 0x11;
constexpr u8 ioapic_pins = 24;
constexpr u8 pit_ioapic_pin = 2;                     // ISA interrupt 0 is wired there
constexpr u8 pci_first_ioapic_pin = 16;              // INTx of PCI devices: 16..23
constexpr u16 pirq_mask = 0xdef8;                    // ISA interrupts that PIRQ A-H may be routed to
constexpr u8 lpc_pirq_a = 0x60, lpc_pirq_e = 0x68;   // configuration registers of the LPC bridge
constexpr u8 lpc_default_slot = 31;

} // namespace anyhyve::board
