// Graphics cards and accelerators as the kernel shows them, whether a sensor reads them or not.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "platform/host.hpp"

namespace carbontracker::pci {

struct Device {
    std::string name;               ///< "card0", "accel0"; its address if the kernel has no driver
    std::string address;            ///< "0000:41:00.0"; empty if unknown
    std::filesystem::path path;     ///< the folder with its files
    std::string vendor;             ///< "0x1002"; empty for a device that is not on a PCI bus
    std::string model;              ///< "0x744c"
    std::string driver;             ///< "amdgpu"; empty if none is bound
    bool is_gpu = false;            ///< a graphics card, not another accelerator
    std::vector<std::string> nodes; ///< files in /dev, as named by its classes: "dri/card0"
    std::size_t place = 0; ///< index among the devices of its vendor and driver, by address
    std::size_t like = 1;  ///< number of these devices
};

/// Why a device that is passed through is not read.
inline constexpr const char* kPassedThrough =
    "passed through to a virtual machine or a program: only the driver there can read it";

/// What to do about a device that no sensor reads.
inline constexpr const char* kAssume =
    "count it by an assumption: --sim-gpu NAME --sim-gpu-watts WATTS (in Python sim_gpu=, "
    "sim_gpu_watts=)";

/// Each device once, by its name in the kernel's classes; those without a driver by address. A
/// virtual function is omitted if its device is listed too.
std::vector<Device> devices(const std::filesystem::path& root);

/// Whether its driver only passes it through to a virtual machine or a program.
bool is_passed_through(const Device& device);

/// Whether it is one of the GPUs that Windows shows in WSL, without their vendor.
bool is_of_windows(const Device& device);

/// Whether Windows provides NVIDIA's library: then its GPUs are NVIDIA's.
bool has_nvidia_of_windows(const std::filesystem::path& root);

/// Whether the kernel has powered it down: reading its sensors would wake it.
bool is_asleep(const Device& device);

/// The same from an open file "power/runtime_status", without an allocation.
bool is_suspended(const File& status) noexcept;

} // namespace carbontracker::pci
