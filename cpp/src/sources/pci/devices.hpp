// Graphics cards and accelerators as the kernel shows them, read by a sensor or not.
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
    std::vector<std::string> nodes; ///< files in /dev, as its classes name them: "dri/card0"
    std::size_t place = 0;          ///< among the devices of its vendor and driver, by address
    std::size_t like = 1;           ///< how many of them there are
};

/// Why a device that is handed on is not read.
inline constexpr const char* kHandedOn =
    "handed on to a virtual machine or a program, whose driver alone can read it";

/// What to do about a device that no sensor reads.
inline constexpr const char* kAssume =
    "count it by an assumption: --sim-gpu NAME --sim-gpu-watts WATTS (in Python sim_gpu=, "
    "sim_gpu_watts=)";

/// Each device once, by its name in the kernel's classes, and those without a driver by their
/// address. A virtual function of a device that is listed too is a part of that one and left out.
std::vector<Device> devices(const std::filesystem::path& root);

/// Whether a driver has it that only hands it on, to a virtual machine or to a program.
bool is_handed_on(const Device& device);

/// Whether this is one of the GPUs that Windows shows below Linux: their makers are not told.
bool is_of_windows(const Device& device);

/// Whether Windows brings NVIDIA's library: then its GPUs are NVIDIA's.
bool has_nvidia_of_windows(const std::filesystem::path& root);

/// Whether the kernel has powered it down: every look at its sensors would wake it.
bool is_asleep(const Device& device);

} // namespace carbontracker::pci
