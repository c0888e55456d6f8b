// Addresses for BARs: bus after bus, the big ones first, so that alignment wastes nothing.
#include <algorithm>

#include "base/bits.hpp"
#include "device/pci/pci_bus.hpp"

namespace anyhyve {

namespace {

using BarKind = PciFunction::BarKind;

// A range that is handed out from its beginning.
struct Space {
    PciRange range;
    u64 next;

    explicit Space(PciRange whole) : range(whole), next(whole.base) {}
    bool take(u64 size, u64& address)
    {
        u64 const start = align_up(next, size);
        if (start < next || start > range.end() || size > range.end() - start)
            return false;
        address = start;
        next = start + size;
        return true;
    }
    // What was taken since `from`, with its end rounded up; the last bus gets all that is left.
    PciRange close(u64 from, u64 granule, bool last)
    {
        next = last ? range.end() : std::min(align_up(next, granule), range.end());
        return { from, next - from };
    }
};

struct Request {
    PciFunction* function;
    unsigned bar;
    PciFunction::BarShape shape;
};

std::vector<Request> requests_of(std::vector<PciFunction*> const& functions, u8 bus)
{
    std::vector<Request> requests;
    for (auto* function : functions) {
        for (unsigned bar = 0; bar < pci_bar_count && function->address().bus == bus; ++bar) {
            auto const shape = function->bar_shape(bar);
            if (shape.size)
                requests.push_back({ function, bar, shape });
        }
    }
    std::stable_sort(requests.begin(), requests.end(), [](auto const& a, auto const& b) { return a.shape.size > b.shape.size; });
    return requests;
}

// Small 64-bit BARs go below 4 GiB, where 32-bit guests reach them too.
constexpr u64 small_bar = 64 * MiB;

bool take(Request const& request, Space& ports, Space& memory32, Space& memory64, u64& address)
{
    auto const& [kind, size] = request.shape;
    if (kind == BarKind::ports)
        return ports.take(size, address);
    if (kind == BarKind::memory32)
        return memory32.take(size, address);
    if (size <= small_bar && memory32.take(size, address))
        return true;
    return memory64.take(size, address) || memory32.take(size, address);
}

} // namespace

Result<void> PciBus::assign_bars(PciWindows const& windows, Decode decode)
{
    Space ports(windows.ports), memory32(windows.memory32), memory64(windows.memory64);
    auto const all = functions();
    auto const used = buses();
    for (u8 const bus : used) {
        u64 const ports_from = ports.next, memory32_from = memory32.next, memory64_from = memory64.next;
        for (auto const& request : requests_of(all, bus)) {
            u64 address = 0;
            if (!take(request, ports, memory32, memory64, address))
                return make_error(ENOSPC, "{}: no room for BAR {} of {} bytes in the {} window", request.function->name(), request.bar,
                    request.shape.size, request.shape.kind == BarKind::ports ? "I/O port" : "PCI memory");
            request.function->set_bar_address(request.bar, address);
        }
        bool const last = bus == used.back();
        m_windows[bus] = { ports.close(ports_from, 0x1000, last), memory32.close(memory32_from, MiB, last),
            memory64.close(memory64_from, MiB, last) };
    }
    for (auto* function : all) {
        u16 command = decode == Decode::on ? pci_command_bus_master : 0;
        for (unsigned bar = 0; bar < pci_bar_count && decode == Decode::on; ++bar) {
            auto const shape = function->bar_shape(bar);
            if (shape.size)
                command |= shape.kind == BarKind::ports ? pci_command_io : pci_command_memory;
        }
        function->set_command(command);
    }
    return {};
}

PciWindows PciBus::windows_of(u8 bus) const
{
    auto const found = m_windows.find(bus);
    return found == m_windows.end() ? PciWindows { {}, {}, {} } : found->second;
}

} // namespace anyhyve
