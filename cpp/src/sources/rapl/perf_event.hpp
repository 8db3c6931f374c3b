// perf_event_open(2) for package counters, and the description of their unit in sysfs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "platform/host.hpp"
#include "sources/rapl/topology.hpp"

namespace carbontracker::rapl {

/// The two kernel calls, or a library that replaces them; both report errors through errno.
struct PerfCalls {
    int (*open)(const void* attr, int pid, int cpu, int group, unsigned long flags) = nullptr;
    long (*read)(int descriptor, void* buffer, unsigned long size) = nullptr;
};

/// The kernel's calls if `library` is empty; nullopt if the library lacks them.
std::optional<PerfCalls> perf_calls(const std::string& library);

struct PerfEvent {
    std::string name; ///< "energy-pkg"
    std::uint64_t config = 0;
    double joules_per_count = 0.0;
};

/// The `power` unit as it is registered now.
struct PerfUnit {
    std::uint32_t type = 0;
    std::vector<unsigned> cpus;    ///< its cpumask: not always one CPU per package
    std::vector<PerfEvent> events; ///< sorted by name
};

/// nullopt if there is no unit, or none of its events is understood.
std::optional<PerfUnit> read_perf_unit(const std::filesystem::path& root);

/// Opens an event of a package on `cpu` in the group of `leader` (-1: as the leader); -errno if
/// refused.
int open_event(const PerfCalls& calls, std::uint32_t type, std::uint64_t config, unsigned cpu,
               int leader);

/// Result of reading a group: this header, and one count for each member.
struct GroupHeader {
    std::uint64_t members;
    std::uint64_t enabled_ns;
    std::uint64_t running_ns;
};

} // namespace carbontracker::rapl
