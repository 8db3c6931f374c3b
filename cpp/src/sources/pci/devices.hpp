// Graphics cards and accelerators as the kernel shows them, whoever may read their energy.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace carbontracker::pci {

struct Device {
    std::string name;           ///< "card0", "accel0"; its address where the kernel has no driver
    std::string address;        ///< "0000:41:00.0"; empty where the tree does not tell
    std::filesystem::path path; ///< the folder with its files
    std::string vendor;         ///< "0x1002"; empty for what is not on a PCI bus
    std::string model;          ///< "0x744c"
    std::string driver;         ///< "amdgpu"; empty where none is bound
    bool is_gpu = false;        ///< a graphics card, not another accelerator
    std::vector<std::string> nodes; ///< all its names in the kernel's classes
};

/// What to do about a device that no sensor reads.
inline constexpr const char* kAssume =
    "count it by an assumption: --sim-gpu NAME --sim-gpu-watts WATTS (in Python sim_gpu=, "
    "sim_gpu_watts=)";

/// Each device once, by its name in the kernel's classes, and those without a driver by their
/// address. A virtual function of a device that is listed too is a part of that one and left out.
std::vector<Device> devices(const std::filesystem::path& root);

/// Whether this is a container that was not given the device: the kernel shows it all the same.
bool is_withheld(const std::filesystem::path& root, const Device& device);

/// Whether the kernel has powered it down: every look at its sensors would wake it.
bool is_asleep(const Device& device);

} // namespace carbontracker::pci
