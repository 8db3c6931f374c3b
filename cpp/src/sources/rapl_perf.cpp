// RAPL through the kernel's `power` PMU: one system call reads all counters of a package.
//
// Interface and traps: perf_event_open(2), Linux arch/x86/events/rapl.c and
// drivers/powercap/intel_rapl_common.c. The PMU `power_core` is left alone: its counters are parts
// of the package's.
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <set>
#include <tuple>
#include <utility>

#include "../clock.hpp"
#include "../host.hpp"
#include "../source.hpp"
#include "rapl/naming.hpp"
#include "rapl/perf_door.hpp"
#include "rapl/topology.hpp"

namespace carbontracker {
namespace {

using rapl::Descriptor;
using rapl::Event;
using rapl::Place;

constexpr std::size_t kMostMembers = 8;

// Counters are renewed every millisecond (8 ms if filtered), the coarsest after one joule. What has
// counted nothing after this long is not wired up, or is a hypervisor's invention.
constexpr std::int64_t kSettleNs = 30'000'000;
constexpr std::int64_t kSettleStepNs = 1'000'000;

constexpr double kKernelScale = 0x1p-32; // joules per count
constexpr std::uint64_t kSafeTurn = std::uint64_t{1} << 48;
constexpr int kWidestTurn = 62;

constexpr std::string_view kMendParanoid =
    "sudo sysctl kernel.perf_event_paranoid=0   (until the next boot, and for everybody: mind "
    "PLATYPUS, CVE-2020-8694; docs/sensors.md has the right for one program only)";
constexpr std::string_view kMendSeccomp = "docker run --cap-add PERFMON ...";

/// The kernel counts in 2^-32 J whatever the register counts in. Its PMU of the newest servers
/// forgets the register's wraps: its count falls by 2^32 units of the register. Taken modulo that,
/// it has the wraps of a register, which the meter undoes. Half that or a quarter does as well, so
/// where the unit is not known it is taken for the smallest there is.
std::uint64_t turn_counts(const Event& event, const rapl::Processor& processor) {
    if (event.joules_per_count != kKernelScale) return 0;
    const auto unit = rapl::usual_unit_joules(processor, event.domain);
    int exponent = 0;
    if (!unit || std::frexp(*unit, &exponent) != 0.5) return kSafeTurn;
    return std::uint64_t{1} << std::min(64 + exponent - 1, kWidestTurn);
}

struct Member {
    Event event;
    Descriptor descriptor;
    std::uint64_t turn = 0;   // counts are handed over modulo this power of two; 0: as they are
    std::uint64_t origin = 0; // what had been handed over when the event was opened
    std::uint64_t newest = 0; // what was handed over last
    std::size_t channel = 0;
};

struct Group {
    Place reader;
    std::vector<Member> members;
    std::uint64_t idle_ns = 0; // for how long the events have not been running, all in all
};

struct Refusal {
    std::string event;
    int error;
    bool operator<(const Refusal& other) const {
        return std::tie(error, event) < std::tie(other.error, other.event);
    }
};

// As read() fills it for PERF_FORMAT_GROUP and both times.
struct Counts {
    std::uint64_t members;
    std::uint64_t enabled_ns;
    std::uint64_t running_ns;
    std::array<std::uint64_t, kMostMembers> values;
};

bool is_open(const Member& member) {
    return member.descriptor.get() >= 0;
}

int leader_of(const Group& group) {
    const auto first = std::find_if(group.members.begin(), group.members.end(), is_open);
    return first == group.members.end() ? -1 : first->descriptor.get();
}

// Opens what can be opened; whoever comes first leads. An event that the kernel lists and does not
// open is no fault of the others.
bool open_group(const rapl::PerfCalls& calls, std::uint32_t type, Group& group,
                std::set<Refusal>& refused) {
    int leader = -1;
    group.idle_ns = 0;
    for (Member& member : group.members) member.descriptor = Descriptor();
    for (Member& member : group.members) {
        const perf_event_attr attr = rapl::attributes(type, member.event.config);
        const int fd = calls.open(&attr, -1, group.reader.cpu, leader, PERF_FLAG_FD_CLOEXEC);
        if (fd < 0) {
            refused.insert({member.event.name, errno});
            continue;
        }
        member.descriptor = Descriptor(fd);
        member.origin = member.newest;
        if (leader < 0) leader = fd;
    }
    return leader >= 0;
}

Status read_counts(const rapl::PerfCalls& calls, Group& group, Counts& counts) noexcept {
    const int leader = leader_of(group);
    if (leader < 0) return Status::lost;
    const ssize_t got = calls.read(leader, &counts, sizeof counts);
    if (got < 0) return rapl::has_moved(errno) ? Status::lost : Status::retry;
    if (got == 0) return Status::lost; // the kernel's answer once the PMU has been taken away
    // Both times are sums since the opening: only what was added since is about this interval.
    const std::uint64_t idle_ns = counts.enabled_ns - counts.running_ns;
    const bool was_idle = idle_ns > group.idle_ns;
    group.idle_ns = idle_ns;
    return was_idle ? Status::retry : Status::ok;
}

std::uint64_t hand_over(Member& member, std::uint64_t count) noexcept {
    const std::uint64_t sum = member.origin + count; // modulo 2^64, as the kernel counts
    member.newest = member.turn == 0 ? sum : sum & (member.turn - 1);
    return member.newest;
}

class RaplPerf final : public Source {
public:
    RaplPerf(Host host, rapl::PerfCalls calls, rapl::Processor processor, std::vector<Group> groups)
        : host_(std::move(host)), calls_(calls), processor_(processor), groups_(std::move(groups)) {
        for (std::size_t i = 0; i < groups_.size(); ++i) {
            for (Member& member : groups_[i].members) add_channel(i, member);
        }
    }

    [[nodiscard]] const std::vector<Channel>& channels() const noexcept override {
        return channels_;
    }

    // Stamped in the middle of the call: it takes microseconds and the counters are a millisecond
    // old, so that the kernel's own time of the reading would sharpen nothing.
    void read(std::size_t group, std::span<Reading> readings) noexcept override {
        Counts counts{};
        const std::int64_t before_ns = now_ns();
        const Status status = read_counts(calls_, groups_[group], counts);
        const std::int64_t t_ns = before_ns + (now_ns() - before_ns) / 2;
        std::size_t place = 0;
        for (Member& member : groups_[group].members) {
            Reading& reading = readings[member.channel];
            reading = {t_ns, 0, status, 0};
            if (status != Status::ok) continue;
            if (!is_open(member) || place >= counts.members) {
                reading.status = Status::retry;
            } else {
                reading.raw = hand_over(member, counts.values[place++]);
            }
        }
    }

    // The kernel counts from the opening on: a new event goes on where the old one was, and what
    // was drawn in between is not booked.
    bool reopen(std::size_t index) noexcept override {
        const auto pmu = rapl::read_pmu(host_);
        if (!pmu) return false;
        Group& group = groups_[index];
        for (const Place& place :
             rapl::readers(rapl::online_places(host_), processor_, pmu->cpumask)) {
            if (place.package == group.reader.package && place.die == group.reader.die) {
                group.reader.cpu = place.cpu;
            }
        }
        for (const Event& event : pmu->events) {
            for (Member& member : group.members) {
                if (member.event.name == event.name) member.event.config = event.config;
            }
        }
        std::set<Refusal> refused; // the next reading tells which are missing
        return open_group(calls_, pmu->type, group, refused);
    }

    [[nodiscard]] std::int64_t default_period_ns() const noexcept override {
        return rapl::kDefaultPeriodNs;
    }

private:
    void add_channel(std::size_t index, Member& member) {
        const Place& reader = groups_[index].reader;
        Channel channel = rapl::describe(member.event.domain, reader, processor_,
                                         "perf power/" + member.event.name + "/ on CPU " +
                                             std::to_string(reader.cpu));
        channel.units_per_raw = member.event.joules_per_count;
        channel.modulus = member.turn;
        channel.group = index;
        member.channel = channels_.size();
        channels_.push_back(std::move(channel));
    }

    const Host host_;
    const rapl::PerfCalls calls_;
    const rapl::Processor processor_;
    std::vector<Group> groups_;
    std::vector<Channel> channels_;
};

// ---- probing -------------------------------------------------------------------------------

Unavailable missing(std::string reason, std::string_view remedy = "") {
    return {"rapl_perf", "cpu, dram", std::move(reason), std::string(remedy)};
}

Unavailable explain(const Refusal& refusal, const Host& host) {
    const std::string reason = "perf_event_open: " + describe_errno(refusal.error);
    if (refusal.error == EACCES) {
        const auto level = read_text(host.root / "proc/sys/kernel/perf_event_paranoid");
        return missing(reason + ": kernel.perf_event_paranoid is " + level.value_or("above 0"),
                       kMendParanoid);
    }
    if (refusal.error == EPERM) {
        return missing(reason + ": a seccomp profile, such as a container's, forbids the call",
                       kMendSeccomp);
    }
    return {"rapl_perf", refusal.event, reason + ", although the kernel lists it", ""};
}

// A refused right is refused to all events alike: one line of it is enough.
void explain_all(const std::set<Refusal>& refused, const Host& host,
                 std::vector<Unavailable>& result) {
    std::set<int> said;
    for (const Refusal& refusal : refused) {
        const bool right = refusal.error == EACCES || refusal.error == EPERM;
        if (right && !said.insert(refusal.error).second) continue;
        result.push_back(explain(refusal, host));
    }
}

std::vector<Group> plan_groups(const rapl::Pmu& pmu, const std::vector<Place>& readers,
                               const rapl::Processor& processor) {
    std::vector<Group> groups;
    for (const Place& reader : readers) {
        Group& group = groups.emplace_back();
        group.reader = reader;
        for (const Event& event : pmu.events) {
            Member& member = group.members.emplace_back();
            member.event = event;
            member.turn = turn_counts(event, processor);
        }
    }
    return groups;
}

// A measured program needs most of its files for itself.
bool takes_too_many_files(std::size_t count, std::string& reason) {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || count <= limit.rlim_cur / 2) return false;
    reason = "would take " + std::to_string(count) + " of the " + std::to_string(limit.rlim_cur) +
             " files that this process may open";
    return true;
}

void note_counting(const rapl::PerfCalls& calls, std::vector<Group>& groups) {
    for (Group& group : groups) {
        Counts counts{};
        if (read_counts(calls, group, counts) != Status::ok) continue;
        for (std::size_t i = 0; i < group.members.size() && i < counts.members; ++i) {
            hand_over(group.members[i], counts.values[i]);
        }
    }
}

bool is_silent(const Member& member) {
    return member.newest == 0;
}

bool all_count(const std::vector<Group>& groups) {
    return std::all_of(groups.begin(), groups.end(), [](const Group& group) {
        return std::none_of(group.members.begin(), group.members.end(), is_silent);
    });
}

// Waits until every event has counted something, and drops those that do not. A platform counter
// that nobody wired up reads 0, which is not 0 W.
void drop_silent(const rapl::PerfCalls& calls, std::uint32_t type, std::vector<Group>& groups,
                 std::vector<Unavailable>& missing_events) {
    const Bell nobody_rings;
    const std::int64_t deadline_ns = now_ns() + kSettleNs;
    note_counting(calls, groups);
    while (!all_count(groups) && now_ns() < deadline_ns) {
        nobody_rings.wait(0, now_ns() + kSettleStepNs);
        note_counting(calls, groups);
    }
    for (Group& group : groups) {
        std::string silent;
        for (const Member& member : group.members) {
            if (is_silent(member)) silent += (silent.empty() ? "" : ", ") + member.event.name;
        }
        if (silent.empty()) continue;
        missing_events.push_back(
            {"rapl_perf", silent,
             rapl::package_name(group.reader) + ": counts nothing: not fitted, or a hypervisor's 0",
             ""});
        std::erase_if(group.members, is_silent);
        std::set<Refusal> refused;               // the others were open a moment ago
        open_group(calls, type, group, refused); // the leader may have been among the silent
    }
    std::erase_if(groups, [](const Group& group) { return leader_of(group) < 0; });
}

Found open_all(const Host& host, const rapl::PerfCalls& calls, const rapl::Pmu& pmu,
               std::vector<Group> groups) {
    Found found;
    std::set<Refusal> refused;
    for (Group& group : groups) {
        open_group(calls, pmu.type, group, refused);
        std::erase_if(group.members, [](const Member& member) { return !is_open(member); });
    }
    explain_all(refused, host, found.missing);
    std::erase_if(groups, [](const Group& group) { return group.members.empty(); });
    drop_silent(calls, pmu.type, groups, found.missing);
    if (!groups.empty()) {
        found.source =
            std::make_unique<RaplPerf>(host, calls, rapl::read_processor(host), std::move(groups));
    }
    return found;
}

} // namespace

Found probe_rapl_perf(const Host& host) {
    const auto pmu = rapl::read_pmu(host);
    if (!pmu) return {nullptr, {missing("the kernel offers no `power` PMU")}};
    const auto calls = rapl::load_perf(host.perf_library);
    if (!calls) return {nullptr, {missing(host.perf_library + " cannot be loaded")}};
    const rapl::Processor processor = rapl::read_processor(host);
    const std::vector<Place> readers =
        rapl::readers(rapl::online_places(host), processor, pmu->cpumask);
    std::string reason;
    if (takes_too_many_files(readers.size() * pmu->events.size(), reason)) {
        return {nullptr, {missing(reason, "ulimit -n 4096")}};
    }
    Found found = open_all(host, *calls, *pmu, plan_groups(*pmu, readers, processor));
    for (const std::string& name : pmu->unknown) {
        found.missing.push_back({"rapl_perf", name, "what it counts, or its unit, is unknown", ""});
    }
    return found;
}

} // namespace carbontracker
