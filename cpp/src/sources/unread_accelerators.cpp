// Lists the accelerators that this version cannot read, so that it is known what is missing from
// the total. Another source lists the devices of the vendors that it reads.
//
// Interfaces: Linux Documentation/gpu/amdgpu/thermal.rst, Documentation/accel, PCI IDs of vendors.
#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "platform/host.hpp"
#include "sources/model/cpuinfo.hpp"
#include "sources/pci/devices.hpp"
#include "sources/pci/roles.hpp"
#include "sources/pci/unread.hpp"
#include "sources/pci/vendors.hpp"
#include "sources/source.hpp"

namespace carbontracker {
namespace {

using pci::Device;

struct Reads {
    std::string_view vendor;
    bool gpus_only;
};

// A new source that reads accelerators of a vendor adds the vendor here.
constexpr auto kReadByOtherSources = std::to_array<Reads>({
    {pci::vendor::kNvidia, false},
    {pci::vendor::kAmdGraphics, false},
    {pci::vendor::kIntel, true},
});

bool is_read_by_another_source(const Device& device) {
    return std::any_of(kReadByOtherSources.begin(), kReadByOtherSources.end(),
                       [&](const Reads& one) {
                           return one.vendor == device.vendor && (device.is_gpu || !one.gpus_only);
                       });
}

} // namespace

ProbeResult probe_unread_accelerators(const Host& host) {
    ProbeResult found;
    const std::vector<Device> devices = pci::devices(host.root);
    if (devices.empty()) return found;
    const std::string assume = pci::assumption(host.root, devices);
    const bool is_virtual = model::read_processors(host.root).is_virtual();
    for (const Device& device : devices) {
        if (is_read_by_another_source(device) || pci::is_mere_display(device)) continue;
        if (pci::is_of_windows(device) && pci::has_nvidia_of_windows(host.root)) continue;
        found.missing.push_back(!is_virtual && pci::is_in_processor(host.root, device)
                                    ? pci::part_of_processor("unread_accelerators", device)
                                    : pci::unread("unread_accelerators", host.root, device,
                                                  "this version cannot read it", assume));
    }
    return found;
}

} // namespace carbontracker
