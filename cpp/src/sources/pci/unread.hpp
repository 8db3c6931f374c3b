// The entries for devices that no sensor reads.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "sources/pci/devices.hpp"
#include "sources/source.hpp"

namespace carbontracker::pci {

/// "card0: AMD GPU (amdgpu), vendor 0x1002 device 0x744c"
std::string title(const Device& device);

/// How to count an unread device anyway; empty if a GPU is read, which an assumption would replace.
std::string assumption(const std::filesystem::path& root, const std::vector<Device>& devices);

/// The entry of `source` for a device that is not read: `why` is the reason unless the device was
/// not given to this container or is passed through. `assume` is from assumption().
SkippedSensor unread(const std::string& source, const std::filesystem::path& root,
                     const Device& device, const std::string& why, const std::string& assume);

/// The entry of `source` for a device whose energy is in that of the processor.
SkippedSensor part_of_processor(const std::string& source, const Device& device);

/// The entry of `source` for a device that the kernel has powered down.
SkippedSensor asleep(const std::string& source, const Device& device);

} // namespace carbontracker::pci
