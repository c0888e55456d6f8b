// The virtio entropy device.
#include "device/virtio/virtio_rnd.hpp"

#include <algorithm>

#include <sys/random.h>

namespace anyhyve {

namespace {

constexpr u16 queue_size = 64;
// Of one request; the guest learns how much it got. Small, because it is done while the vCPU waits.
constexpr u32 largest_answer = 4096;
constexpr u32 class_encryption = 0x100000;

} // namespace

DeviceInfo const VirtioRnd::info { "virtio-rnd", "", {}, "virtio entropy device" };

Result<std::unique_ptr<VirtioRnd>> VirtioRnd::create(VirtioWires wires, PciAddress address, DeviceOptions const&)
{
    return std::unique_ptr<VirtioRnd>(new VirtioRnd(wires, address));
}

VirtioRnd::VirtioRnd(VirtioWires wires, PciAddress address)
    : VirtioPci(wires, address,
        VirtioModel { .name = std::string(info.name),
            .type = VirtioType::entropy,
            .transitional_device = 0x1005,
            .class_code = class_encryption,
            .queue_sizes = { queue_size },
            .config_size = 0 })
{
}

void VirtioRnd::queue_notified(unsigned index)
{
    // A guest that refills the ring as fast as it is emptied waits for its next kick.
    for (unsigned left = 64 * queue_size; left != 0; --left) {
        auto const popped = queue(index).pop(m_chain);
        if (popped == Virtqueue::Pop::broken)
            queue_broke(index);
        if (popped != Virtqueue::Pop::chain)
            break;
        u32 const given = fill(m_chain);
        ++m_requests;
        m_bytes += given;
        queue(index).push(m_chain.head, given);
    }
    signal_queue(index);
}

u32 VirtioRnd::fill(Virtqueue::Chain const& chain)
{
    u32 given = 0;
    for (auto const& piece : chain.writable) {
        u32 const wanted = std::min(piece.length, largest_answer - given);
        ssize_t const got = wanted ? ::getrandom(piece.memory, wanted, 0) : 0;
        if (got > 0) {
            memory().written(piece.address, static_cast<u64>(got));
            given += static_cast<u32>(got);
        }
        if (got != static_cast<ssize_t>(piece.length))
            break;
    }
    return given;
}

std::vector<Statistic> VirtioRnd::statistics() const
{
    std::lock_guard lock(m_mutex);
    return { { "requests", m_requests }, { "bytes given", m_bytes } };
}

} // namespace anyhyve
