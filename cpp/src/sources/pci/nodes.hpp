// The files in /dev through which programs use a device: they show which devices a container
// got.
#pragma once

#include <filesystem>

#include "sources/pci/devices.hpp"

namespace carbontracker::pci {

/// Whether this is a container that may not use the device, although the kernel shows it. A device
/// with unknown files counts as usable, because its energy may belong to the container.
bool is_withheld(const std::filesystem::path& root, const Device& device);

} // namespace carbontracker::pci
