// Options of a disk's back end, as they follow the path: "nocache,direct,ro,sectorsize=512/4096,nodelete,bootindex=1".
#pragma once

#include <optional>
#include <string>

#include "device/pci/device_options.hpp"

namespace anyhyve {

struct BlockOptions {
    std::string path;
    bool no_cache = false;     // nocache: O_DIRECT
    bool synchronous = false;  // direct or sync: O_SYNC
    bool read_only = false;    // ro
    bool no_delete = false;    // nodelete: the guest may not discard
    u32 logical_sector = 0;    // sectorsize; 0: chosen by the file
    u32 physical_sector = 0;
    std::optional<u64> boot_index; // for the firmware's boot order; the back end keeps it only

    // Reads "path" and the options above; others belong to the device model.
    static Result<BlockOptions> parse(DeviceOptions const&);
};

// Rows for a device's DeviceInfo.
constexpr DeviceOption block_option_rows[] = {
    { "path", "disk image or block device" },
    { "nocache", "bypass the host's page cache" },
    { "direct", "every write is on the disk before it completes" },
    { "sync", "the same as direct" },
    { "ro", "open read-only" },
    { "nodelete", "do not let the guest discard blocks" },
    { "sectorsize", "logical[/physical] sector size in bytes" },
    { "bootindex", "place in the firmware's boot order" },
};

} // namespace anyhyve
