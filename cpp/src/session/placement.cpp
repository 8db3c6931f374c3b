#include "session/placement.hpp"

#include <sched.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

namespace carbontracker {
namespace {

constexpr std::array kBatchSystems = {"SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "SGE_TASK_ID"};

// The path of this process in a hierarchy: the line "0::/a/b", or "4:cpuset:/a/b" of version 1.
std::string group_path(std::string_view table, std::string_view controller) {
    while (!table.empty()) {
        const std::string_view line = table.substr(0, table.find('\n'));
        table.remove_prefix(std::min(table.size(), line.size() + 1));
        const std::size_t first = line.find(':');
        const std::size_t second = line.find(':', first + 1);
        if (second == std::string_view::npos) continue;
        const std::string_view names = line.substr(first + 1, second - first - 1);
        if (names == controller) return std::string(line.substr(second + 1));
    }
    return "";
}

CpuSet cpus_in(const std::filesystem::path& file) {
    const auto text = read_text(file);
    return text ? cpus_of(*text) : CpuSet{};
}

// A container sees its own group as the root.
CpuSet group_cpus(const Host& host) {
    const std::string table = read_text(host.root / "proc/self/cgroup").value_or("");
    // Text: a path of GCC 12's library that lacks memory while it is joined frees what it never
    // had.
    const std::string groups = host.root.native() + "/sys/fs/cgroup";
    const std::string candidates[] = {
        groups + "/" + group_path(table, "") + "/cpuset.cpus.effective",
        groups + "/cpuset.cpus.effective",
        groups + "/cpuset/" + group_path(table, "cpuset") + "/cpuset.effective_cpus",
        groups + "/cpuset/cpuset.effective_cpus",
    };
    for (const std::string& file : candidates) {
        if (const CpuSet cpus = cpus_in(file); cpus.any()) return cpus;
    }
    return {};
}

} // namespace

CpuSet cpus_of(std::string_view list) {
    CpuSet cpus;
    for (const unsigned cpu : parse_cpu_list(list)) {
        if (cpu < cpus.size()) cpus.set(cpu);
    }
    return cpus;
}

std::optional<CpuSet> slurm_cpus(std::string_view list, std::string_view type) {
    const bool is_map = type.starts_with("map_cpu");
    if (!is_map && !type.empty() && !type.starts_with("mask_cpu")) return std::nullopt;
    CpuSet cpus;
    while (!list.empty()) {
        std::string_view item = list.substr(0, list.find(','));
        list.remove_prefix(std::min(list.size(), item.size() + 1));
        const bool is_hex = item.starts_with("0x");
        if (is_hex) item.remove_prefix(2);
        if (item.empty()) return std::nullopt;
        if (is_map) {
            unsigned cpu = 0;
            const auto [end, error] =
                std::from_chars(item.data(), item.data() + item.size(), cpu, is_hex ? 16 : 10);
            if (error != std::errc{} || end != item.data() + item.size()) return std::nullopt;
            if (cpu < cpus.size()) cpus.set(cpu);
            continue;
        }
        for (std::size_t i = 0; i < item.size(); ++i) { // the last digit has CPUs 0 to 3
            const char* const digit = item.data() + item.size() - 1 - i;
            unsigned bits = 0;
            if (std::from_chars(digit, digit + 1, bits, 16).ec != std::errc{}) return std::nullopt;
            for (unsigned bit = 0; bit < 4; ++bit) {
                const std::size_t cpu = 4 * i + bit;
                if (((bits >> bit) & 1U) != 0 && cpu < cpus.size()) cpus.set(cpu);
            }
        }
    }
    return cpus;
}

CpuSet allocation_of(const Host& host) {
    CpuSet cpus = group_cpus(host);
    if (const auto list = host.variable("SLURM_CPU_BIND_LIST"); list && !list->empty()) {
        const auto bound = slurm_cpus(*list, host.variable("SLURM_CPU_BIND_TYPE").value_or(""));
        if (!bound || bound->none()) return {};
        return cpus.any() ? cpus & *bound : *bound;
    }
    const CpuSet online = cpus_in(host.root / "sys/devices/system/cpu/online");
    const bool is_shared_out =
        std::any_of(kBatchSystems.begin(), kBatchSystems.end(),
                    [&](const char* name) { return host.variable(name).has_value(); });
    // All CPUs: nothing tells the job's part from that of others.
    if (is_shared_out && (cpus.none() || cpus == online)) return {};
    return cpus.any() ? cpus : online;
}

bool is_pinned(const CpuSet& program, const CpuSet& allocation) noexcept {
    return program.any() && allocation.any() && (allocation & ~program).any();
}

Placement choose_cpus(const PlacementFacts& facts) {
    if (!facts.wish.empty()) {
        const CpuSet wish = cpus_of(facts.wish);
        const CpuSet possible = facts.allocation.any() ? wish & facts.allocation : wish;
        if (possible.any()) return {possible, describe(possible) + ", as CARBONTRACKER_CPUS says"};
    }
    if (!is_pinned(facts.program, facts.allocation)) {
        return {{}, "where the program runs, which is not pinned"};
    }
    const CpuSet free = facts.allocation & ~facts.program & ~facts.taken;
    if (free.any()) return {free, describe(free) + ", to which no program is pinned"};
    return {{}, "where the program is pinned: others are pinned to the other CPUs of the job"};
}

CpuSet affinity_of(pid_t thread) noexcept {
    CpuSet cpus;
    cpu_set_t set;
    static_assert(CPU_SETSIZE == 1024);
    CPU_ZERO(&set);
    if (::sched_getaffinity(thread, sizeof set, &set) != 0) return cpus;
    for (unsigned cpu = 0; cpu < cpus.size(); ++cpu) {
        if (CPU_ISSET(cpu, &set)) cpus.set(cpu);
    }
    return cpus;
}

bool set_affinity(pid_t thread, const CpuSet& cpus) noexcept {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (unsigned cpu = 0; cpu < cpus.size(); ++cpu) {
        if (cpus.test(cpu)) CPU_SET(cpu, &set);
    }
    return ::sched_setaffinity(thread, sizeof set, &set) == 0;
}

std::string describe(const CpuSet& cpus) {
    std::string text = cpus.count() == 1 ? "CPU " : "CPUs ";
    bool is_first = true;
    for (std::size_t cpu = 0; cpu < cpus.size(); ++cpu) {
        if (!cpus.test(cpu)) continue;
        std::size_t last = cpu;
        while (last + 1 < cpus.size() && cpus.test(last + 1)) ++last;
        text += (is_first ? "" : ",") + std::to_string(cpu);
        if (last > cpu) text += "-" + std::to_string(last);
        is_first = false;
        cpu = last;
    }
    return text;
}

} // namespace carbontracker
