// The files in /dev through which programs use a device: in a container they tell what it was
// given.
#pragma once

#include <filesystem>

#include "sources/pci/devices.hpp"

namespace carbontracker::pci {

/// Whether this is a container that was not given the device: the kernel shows it all the same. A
/// device whose files are not known counts as given, because its energy may be ours.
bool is_withheld(const std::filesystem::path& root, const Device& device);

} // namespace carbontracker::pci
