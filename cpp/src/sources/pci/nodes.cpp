#include "sources/pci/nodes.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "platform/host.hpp"
#include "sources/pci/vendors.hpp"

namespace carbontracker::pci {
namespace {

namespace fs = std::filesystem;

/// How a vendor's drivers name the files of their devices: `prefix` and a number, in a folder of
/// /dev. Drivers with classes in the kernel's tree need no row: `nodes_in_tree`.
/// Sources: the vendors' instructions for containers; Linux drivers/accel, drivers/vfio.
struct Series {
    std::string_view vendor;
    const char* folder;
    std::string_view prefix;
};
constexpr auto kSeries = std::to_array<Series>({
    {vendor::kTenstorrent, "tenstorrent", ""},
    {vendor::kHuawei, "", "davinci"},  // Huawei Ascend
    {vendor::kHuawei, "", "vdavinci"}, // a part of one
    {vendor::kGoogle, "", "accel"},    // Google TPU; from v5 on it is passed through
    {vendor::kHabana, "", "hl"},       // Gaudi
    {vendor::kHabana, "accel", "accel"},
    {vendor::kCambricon, "", "cambricon_dev"},
    {vendor::kMooreThreads, "", "mtgpu."}, // Moore Threads
    {vendor::kAmazon, "", "neuron"},       // AWS
    {vendor::kHailo, "", "hailo"},
    {vendor::kAmdGraphics, "dri", "renderD"}, // AMD
    {vendor::kHygon, "dri", "renderD"},       // Hygon
    {vendor::kIntel, "dri", "renderD"},       // Intel
    {vendor::kIntel, "accel", "accel"},
});

/// One file for all devices of a vendor.
struct Gate {
    std::string_view vendor;
    const char* file;
};
constexpr auto kGates = std::to_array<Gate>({
    {vendor::kNvidia, "nvidiactl"},  // NVIDIA
    {vendor::kNvidia, "nvhost-gpu"}, // that of a chip
    {vendor::kNvidia, "nvgpu"},
    {vendor::kMicrosoft, "dxg"}, // those of Windows
});

// The files that the kernel lists for the device.
std::vector<fs::path> nodes_in_tree(const Device& device) {
    std::vector<fs::path> nodes(device.nodes.begin(), device.nodes.end());
    if (device.path.empty()) return nodes;
    for (const std::string& folder : names_in(device.path)) {
        for (const std::string& entry : names_in(device.path / folder)) {
            const auto text = read_text(device.path / folder / entry / "uevent");
            constexpr std::string_view kKey = "DEVNAME=";
            const std::size_t at = text ? text->find(kKey) : std::string::npos;
            if (at == std::string::npos) continue;
            const std::size_t start = at + kKey.size();
            nodes.emplace_back(text->substr(start, text->find('\n', start) - start));
        }
    }
    std::error_code error;
    const fs::path group = fs::read_symlink(device.path / "iommu_group", error).filename();
    if (is_passed_through(device) && !group.empty()) nodes.push_back("vfio" / group);
    return nodes;
}

// The files of a series are usually numbered in order of the addresses. If a number is too high for
// that, any file may be that of this device.
bool is_in_series(const fs::path& root, const Series& series, const Device& device) {
    std::set<std::uint64_t> numbers;
    for (const std::string& name : names_in(root / "dev" / series.folder)) {
        if (const auto number = number_after(name, series.prefix)) numbers.insert(*number);
    }
    return !numbers.empty() && (numbers.contains(device.place) || *numbers.rbegin() >= device.like);
}

} // namespace

bool is_withheld(const fs::path& root, const Device& device) {
    if (!is_container(root)) return false;
    std::vector<fs::path> nodes = nodes_in_tree(device);
    for (const Gate& gate : kGates) {
        if (gate.vendor == device.vendor) nodes.emplace_back(gate.file);
    }
    if (!nodes.empty()) {
        return std::none_of(nodes.begin(), nodes.end(),
                            [&](const fs::path& node) { return is_there(root / "dev" / node); });
    }
    if (is_passed_through(device)) return !is_in_series(root, {device.vendor, "vfio", ""}, device);
    bool is_known = device.driver.empty(); // otherwise programs cannot use it
    for (const Series& series : kSeries) {
        if (series.vendor != device.vendor) continue;
        if (is_in_series(root, series, device)) return false;
        is_known = true;
    }
    return is_known;
}

} // namespace carbontracker::pci
