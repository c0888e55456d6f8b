// bhyve --doctor: what this host offers to virtual machines, and which engine would run them.
#pragma once

#include <string>

#include "machine/engine_choice.hpp"

namespace anyhyve::tools {

struct HostReport {
    machine::HostVirtualization virtualization;
    machine::EngineChoice engine;
    unsigned host_cpus = 0;
    u64 memory = 0;           // bytes
    std::string vmm_directory;
    std::string vmm_trouble;  // why it cannot hold machines; empty: it can
    u64 vmm_room = 0;         // bytes free for guest memory, 0: no limit known
    bool huge_pages = false;  // the host puts guest memory into huge pages
    bool tap_devices = false; // /dev/net/tun opens
};

HostReport examine_host();
std::string report_text(HostReport const&);
std::string report_json(HostReport const&);

} // namespace anyhyve::tools
