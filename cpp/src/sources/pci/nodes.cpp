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
    {"0x1e52", "tenstorrent", ""},
    {"0x19e5", "", "davinci"},  // Huawei Ascend
    {"0x19e5", "", "vdavinci"}, // a part of one
    {"0x1ae0", "", "accel"},    // Google TPU; from v5 on it is handed on
    {"0x1da3", "", "hl"},       // Gaudi
    {"0x1da3", "accel", "accel"},
    {"0xcabc", "", "cambricon_dev"},
    {"0x1ed5", "", "mtgpu."}, // Moore Threads
    {"0x1d0f", "", "neuron"}, // AWS
    {"0x1e60", "", "hailo"},
    {"0x1002", "dri", "renderD"}, // AMD
    {"0x1d94", "dri", "renderD"}, // Hygon
    {"0x8086", "dri", "renderD"}, // Intel
    {"0x8086", "accel", "accel"},
});

/// One file for all devices of a vendor.
struct Gate {
    std::string_view vendor;
    const char* file;
};
constexpr auto kGates = std::to_array<Gate>({
    {"0x10de", "nvidiactl"},  // NVIDIA
    {"0x10de", "nvhost-gpu"}, // that of a chip
    {"0x10de", "nvgpu"},
    {"0x1414", "dxg"}, // those of Windows
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
    if (is_handed_on(device) && !group.empty()) nodes.push_back("vfio" / group);
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
    if (is_handed_on(device)) return !is_in_series(root, {device.vendor, "vfio", ""}, device);
    bool is_known = device.driver.empty(); // otherwise programs cannot use it
    for (const Series& series : kSeries) {
        if (series.vendor != device.vendor) continue;
        if (is_in_series(root, series, device)) return false;
        is_known = true;
    }
    return is_known;
}

} // namespace carbontracker::pci
