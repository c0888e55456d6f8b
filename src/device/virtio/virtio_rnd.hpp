// The virtio entropy device: random bytes from the host kernel.
// Spec: virtio 1.2, 5.4. State: complete. Missing: nothing.
#pragma once

#include <memory>

#include "device/pci/device_options.hpp"
#include "device/virtio/virtio_pci.hpp"
#include "vmm/statistics.hpp"

namespace anyhyve {

class VirtioRnd final : public VirtioPci, public StatisticsSource {
public:
    static DeviceInfo const info; // "virtio-rnd": 1af4:1005

    static Result<std::unique_ptr<VirtioRnd>> create(VirtioWires, PciAddress, DeviceOptions const&);

    std::string statistics_name() const override { return name(); }
    std::vector<Statistic> statistics() const override;

private:
    VirtioRnd(VirtioWires, PciAddress);
    u64 device_features() const override { return 0; }
    void queue_notified(unsigned queue) override;
    u8 read_config_byte(u64) const override { return 0; }
    u32 fill(Virtqueue::Chain const&);

    Virtqueue::Chain m_chain;
    u64 m_requests = 0;
    u64 m_bytes = 0;
};

} // namespace anyhyve
