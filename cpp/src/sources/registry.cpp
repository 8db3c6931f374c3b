// The list of sensors: a new one is a file beside this and a line here.
#include "../source.hpp"

#include <array>

// In order of preference: where two sensors read one thing, the earlier line owns it.
// clang-format off
#define CARBONTRACKER_SENSORS(SENSOR) \
    SENSOR(simulated) \
    SENSOR(nvml) \
    SENSOR(rapl_perf) \
    SENSOR(powercap) \
    SENSOR(rapl_msr) \
    SENSOR(cpu_load) \
    /* end of the list, so that a new line changes no other */
// clang-format on

namespace carbontracker {

#define DECLARE(name) Found probe_##name(const Host& host);
CARBONTRACKER_SENSORS(DECLARE)
#undef DECLARE

std::span<const Sensor> registry() {
#define ENTRY(name) Sensor{#name, probe_##name},
    static constexpr auto sensors = std::to_array<Sensor>({CARBONTRACKER_SENSORS(ENTRY)});
#undef ENTRY
    return sensors;
}

} // namespace carbontracker
