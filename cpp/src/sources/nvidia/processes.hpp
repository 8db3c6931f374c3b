// Finds the GPUs that a process uses.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <set>

#include "sources/nvidia/library.hpp"

namespace carbontracker::nvml {

/// The process and all its descendants, by the process tree below `root`.
std::set<pid_t> family(const std::filesystem::path& root, pid_t process);

/// Whether one of `processes` has a compute or a graphics context on the GPU.
bool works_on(const Library& library, Device device, const std::set<pid_t>& processes);

} // namespace carbontracker::nvml
