// The setup header of a Linux kernel image and the zero page ("boot_params") built from it.
// Spec: Linux Documentation/arch/x86/boot.rst and zero-page.rst, boot protocol 2.15.
#pragma once

#include <cstddef>

#include "base/integer.hpp"

namespace anyhyve::boot::linux_protocol {

// In the file, at header_offset.
struct [[gnu::packed]] SetupHeader {
    u8 setup_sects;
    u16 root_flags;
    u32 syssize; // of the protected-mode code, in 16-byte units
    u16 ram_size;
    u16 vid_mode;
    u16 root_dev;
    u16 boot_flag;
    u8 jump_opcode, jump_offset; // the header ends where this jump leads
    u32 header;
    u16 version;
    u32 realmode_swtch;
    u16 start_sys_seg;
    u16 kernel_version; // offset of a text, less 0x200
    u8 type_of_loader;
    u8 loadflags;
    u16 setup_move_size;
    u32 code32_start;
    u32 ramdisk_image, ramdisk_size;
    u32 bootsect_kludge;
    u16 heap_end_ptr;
    u8 ext_loader_ver, ext_loader_type;
    u32 cmd_line_ptr;
    u32 initrd_addr_max; // 2.03
    u32 kernel_alignment; // 2.05
    u8 relocatable_kernel; // 2.05
    u8 min_alignment; // 2.10
    u16 xloadflags; // 2.12
    u32 cmdline_size; // 2.06
    u32 hardware_subarch; // 2.07
    u64 hardware_subarch_data;
    u32 payload_offset, payload_length; // 2.08
    u64 setup_data; // 2.09
    u64 pref_address; // 2.10
    u32 init_size; // 2.10
    u32 handover_offset; // 2.11
    u32 kernel_info_offset; // 2.15
};
constexpr u64 header_offset = 0x1f1;
static_assert(sizeof(SetupHeader) == 0x26c - header_offset);
static_assert(offsetof(SetupHeader, header) == 0x202 - header_offset);
static_assert(offsetof(SetupHeader, init_size) == 0x260 - header_offset);

// In guest memory. Fields that the loader leaves zero are not named.
struct [[gnu::packed]] BootParams {
    u8 screen_info[0x40];
    u8 apm_bios_info[0x30];
    u64 acpi_rsdp_addr; // 2.14
    u8 reserved_78[0x48];
    u32 ext_ramdisk_image, ext_ramdisk_size, ext_cmd_line_ptr;
    u8 reserved_cc[0x11c];
    u8 e820_entries;
    u8 eddbuf_entries, edd_mbr_sig_buf_entries, keyboard_status, secure_boot;
    u8 reserved_1ed[2];
    u8 sentinel;
    u8 reserved_1f0;
    SetupHeader hdr;
    u8 reserved_26c[0x2d0 - 0x26c];
    u8 e820_table[128 * 20];
    u8 reserved_cd0[0x330];
};
static_assert(sizeof(BootParams) == 4096);
static_assert(offsetof(BootParams, acpi_rsdp_addr) == 0x70);
static_assert(offsetof(BootParams, e820_entries) == 0x1e8);
static_assert(offsetof(BootParams, hdr) == header_offset);
static_assert(offsetof(BootParams, e820_table) == 0x2d0);

constexpr u16 boot_flag_value = 0xaa55;
constexpr u32 header_magic = 0x53726448; // "HdrS"
constexpr u16 oldest_version = 0x206;
constexpr u64 sector_size = 512;
constexpr u8 default_setup_sects = 4; // what 0 stands for
constexpr u8 loader_undefined = 0xff;
constexpr u32 default_initrd_addr_max = 0x37ffffff;
constexpr u32 default_cmdline_size = 255;
constexpr u64 entry64_offset = 0x200;

enum LoadFlags : u8 { loaded_high = 1 << 0, keep_segments = 1 << 6, can_use_heap = 1 << 7 };
enum XLoadFlags : u16 { kernel_64 = 1 << 0, can_be_loaded_above_4g = 1 << 1 };

} // namespace anyhyve::boot::linux_protocol
