// The configuration variables of a machine, read once into plain values.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "device/pci/device_options.hpp"
#include "device/pci/pci_registers.hpp"
#include "machine/quantities.hpp"
#include "vmm/config_tree.hpp"
#include "vmm/profile.hpp"

namespace anyhyve::machine {

// A kernel to load at each start: from `bhyve -b`, or what bhyveload remembered.
struct BootRequest {
    std::string kernel, initrd, command_line;
    std::string entry = "auto";
    std::vector<std::string> modules; // of a multiboot kernel: a path, and words behind a blank
    bool wanted() const { return !kernel.empty(); }
};

struct PciDeviceConfig {
    PciAddress address;
    std::string device;
    DeviceOptions options;
};

// One of COM1 to COM4.
struct ComPortConfig {
    unsigned number = 1;
    std::string path; // "stdio", a terminal device, ...
    std::string tcp;  // or a host:port to listen at
};

struct MachineConfig {
    std::string name;
    Topology topology;
    u64 memory_size = 256 * MiB;
    bool memory_given = false; // by the user, not by default
    bool memory_wired = false;
    bool memory_huge_pages = true;
    bool memory_in_core = false;

    bool x2apic = true;
    bool strict_io = false;
    bool strict_msr = true;
    bool exit_on_halt = true;
    bool exit_on_pause = true;
    bool mp_table = true;
    bool rtc_local_time = true;
    bool virtio_msix = true;

    bool destroy_on_power_off = false;
    bool monitor = false;
    bool restart_on_reset = true;

    std::string engine = "auto";
    EngineOptions engine_options;
    std::string profile_file; // where the profile goes at the end; empty: to the standard error output
    bool profile_json = false;
    std::string uuid;
    std::map<std::string, std::string> smbios; // "bios.vendor" and so on, as given
    BootRequest boot;
    std::vector<PciDeviceConfig> pci_devices;
    std::vector<ComPortConfig> com_ports;
    bool test_device = false; // pc-testdev
    bool debug_exit = false;
    std::map<unsigned, std::vector<unsigned>> host_cpus; // by virtual CPU

    // Every value is checked; unknown variables are left alone, as in bhyve_config(5).
    static Result<MachineConfig> read(ConfigTree const&);
    // Parts of it, for tools that want no more.
    static Result<Topology> read_topology(ConfigTree const&);
    static Result<BootRequest> read_boot_request(ConfigTree const&);
};

// What -k, -o and flags leave unset and a dump should show.
Result<void> set_default_variables(ConfigTree&);

} // namespace anyhyve::machine
