// Update periods and averaging windows of the power sensors, by kind of GPU.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace carbontracker::nvml {

/// Prior knowledge about a GPU's sensors. The core starts from the refresh periods until it has
/// learned the real ones; the windows cannot be observed.
struct SensorTraits {
    const char* model = "";             ///< the class of GPUs on which this was measured
    std::int64_t tick_ns = 0;           ///< refresh period of the power readings
    std::int64_t counter_tick_ns = 0;   ///< refresh period of the energy counter
    std::int64_t usage_window_ns = 0;   ///< of nvmlDeviceGetPowerUsage
    std::int64_t instant_window_ns = 0; ///< of the field named instant
    std::int64_t average_window_ns = 0; ///< of the field named average; 0: it has none
    bool low_pass = false;              ///< an exponential filter instead of a mean
    bool assumed = false;               ///< not measured on this GPU
};

/// `architecture` is the number from nvmlDeviceGetArchitecture; nullopt if the driver is too old to
/// report it.
SensorTraits sensor_traits(std::optional<unsigned> architecture, const std::string& name);

/// Whether its energy counter is known to include the processor in every scope: where no comparison
/// shows it, see find_modules().
bool counts_its_module(const std::string& name);

} // namespace carbontracker::nvml
