// perf_event_open(2) for counters that belong to a package, and what sysfs says of their unit.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "platform/host.hpp"
#include "sources/rapl/topology.hpp"

namespace carbontracker::rapl {

/// The two calls to the kernel, or a library's stand-ins for them; both report through errno.
struct PerfCalls {
    int (*open)(const void* attr, int pid, int cpu, int group, unsigned long flags) = nullptr;
    long (*read)(int descriptor, void* buffer, unsigned long size) = nullptr;
};

/// The kernel's where `library` is empty; nullopt if the library lacks them.
std::optional<PerfCalls> perf_calls(const std::string& library);

struct PerfEvent {
    std::string name; ///< "energy-pkg"
    std::uint64_t config = 0;
    double joules_per_count = 0.0;
};

/// The `power` unit as it is registered now.
struct PerfUnit {
    std::uint32_t type = 0;
    std::vector<unsigned> cpus;    ///< as its cpumask lists them: not always one a package
    std::vector<PerfEvent> events; ///< sorted by name
};

/// nullopt where there is none, or no event of it can be understood.
std::optional<PerfUnit> read_perf_unit(const std::filesystem::path& root);

/// Opens an event of a package on `cpu` in the group of `leader` (-1: as a leader); -errno if
/// refused.
int open_event(const PerfCalls& calls, std::uint32_t type, std::uint64_t config, unsigned cpu,
               int leader);

/// What one read of a group brings: this, and one count for each member.
struct GroupHeader {
    std::uint64_t members;
    std::uint64_t enabled_ns;
    std::uint64_t running_ns;
};

} // namespace carbontracker::rapl
