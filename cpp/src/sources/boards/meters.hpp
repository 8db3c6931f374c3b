// Which GPUs the meters of boards read, for the sensors that cannot read them.
#pragma once

#include <vector>

#include "platform/host.hpp"

namespace carbontracker {

/// Whether a rail that `hwmon` reads is that of a GPU.
bool reads_gpu_rail(const Host& host);

/// For each module that has a power meter, by its socket: whether `grace` reads the meter.
std::vector<bool> modules_read(const Host& host);

} // namespace carbontracker
