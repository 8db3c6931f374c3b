// On which CPUs the sampling threads run: not on those to which the program is pinned.
#pragma once

#include <sys/types.h>

#include <bitset>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "platform/host.hpp"

namespace carbontracker {

using CpuSet = std::bitset<1024>;

/// What decides about the place of sampling threads.
struct PlacementFacts {
    CpuSet program;    ///< on which the program may run
    CpuSet allocation; ///< on which the job may run; empty: unknown
    CpuSet taken;      ///< to which other programs that share readings are pinned
    std::string wish;  ///< CARBONTRACKER_CPUS, such as "0,4-7"; empty: not set
};

struct Placement {
    CpuSet cpus; ///< empty: where the program is, as threads are by default
    std::string why;
};

/// Only CPUs of the job's own allocation, and of those the ones to which no program is pinned. If
/// there are none, the threads stay where the program is.
[[nodiscard]] Placement choose_cpus(const PlacementFacts& facts);

/// Whether the program is kept to a part of its allocation.
[[nodiscard]] bool is_pinned(const CpuSet& program, const CpuSet& allocation) noexcept;

/// The allocation: the cpuset of the control group, and what Slurm gave the tasks of this node.
/// Empty where neither is known and a batch system shares the machine out.
[[nodiscard]] CpuSet allocation_of(const Host& host);

/// The CPUs of a list such as "0,4-7".
[[nodiscard]] CpuSet cpus_of(std::string_view list);

/// The CPUs in SLURM_CPU_BIND_LIST: masks, or numbers where `type` is "map_cpu:". Null if they
/// cannot be read.
[[nodiscard]] std::optional<CpuSet> slurm_cpus(std::string_view list, std::string_view type);

/// The CPUs on which a thread may run: that of the main thread, which programs and launchers pin,
/// has the number of the process. Empty if unknown.
[[nodiscard]] CpuSet affinity_of(pid_t thread) noexcept;

/// Moves a thread. False if the kernel refuses.
bool set_affinity(pid_t thread, const CpuSet& cpus) noexcept;

/// "CPU 3", "CPUs 0-3,6".
[[nodiscard]] std::string describe(const CpuSet& cpus);

} // namespace carbontracker
