// What a device of the kernel's classes is: a display that computes nothing, a part of the
// processor, or a card or accelerator of its own.
#pragma once

#include <filesystem>
#include <optional>

#include "sources/pci/devices.hpp"

namespace carbontracker::pci {

/// Whether it is a display that computes nothing: of a management controller, of a hypervisor, or
/// an old one.
bool is_mere_display(const Device& device);

/// Whether its energy is in the counter of the processor's package. This holds on bare metal: a
/// virtual machine may have a card anywhere, and only a share of the package's cores.
bool is_in_processor(const std::filesystem::path& root, const Device& device);

/// The folder of its sensors, if its driver has any: hwmon numbers change at each boot.
std::optional<std::filesystem::path> sensors_of(const Device& device);

} // namespace carbontracker::pci
