// RAPL through perf_event: all counters of a package in one call, without privileges where the
// administrator allows it.
//
// Interface and traps: Linux arch/x86/events/rapl.c, drivers/powercap/intel_rapl_common.c,
// perf_event_open(2). AMD's second unit, `power_core`, is not read: the package counter includes
// its energy.
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <exception>
#include <map>
#include <string_view>
#include <thread>
#include <utility>

#include "platform/clock.hpp"
#include "platform/host.hpp"
#include "sources/rapl/naming.hpp"
#include "sources/rapl/perf_event.hpp"
#include "sources/rapl/topology.hpp"
#include "sources/source.hpp"

namespace carbontracker {
namespace {

constexpr std::size_t kMaxMembers = 16; // of a group; the kernel has five
constexpr std::size_t kHeaderWords = sizeof(rapl::GroupHeader) / sizeof(std::uint64_t);

// The count has 64 bits and never wraps, but some kernels let it fall by 2^32 register units when
// the register wraps. No unit is finer than 2^-16 J, and all are powers of two, so that 2^48 counts
// of 2^-32 J divide every such fall.
constexpr std::uint64_t kFallCounts = std::uint64_t{1} << 48;

// The measured program needs descriptors: use at most this part of its limit.
constexpr std::size_t kDescriptorShare = 4;

struct Member {
    std::size_t channel;
    std::string event;
    double joules_per_count;
    File file;
    std::size_t slot = 0;      // its index in the result of a read; undefined while closed
    std::uint64_t last = 0;    // the kernel's count
    std::uint64_t carried = 0; // counts since it was opened, with falls undone

    [[nodiscard]] bool is_open() const noexcept { return file.descriptor() >= 0; }

    std::uint64_t carry(std::uint64_t count) noexcept {
        std::uint64_t counts = count - last;
        if (static_cast<std::int64_t>(counts) < 0) counts %= kFallCounts;
        last = count;
        carried += counts;
        return carried;
    }
};

struct Group {
    std::string socket; // its name: the CPU may change
    std::vector<Member> members;
    int leader = -1;
    std::uint64_t enabled_ns = 0;
    std::uint64_t running_ns = 0;
};

using Words = std::array<std::uint64_t, kHeaderWords + kMaxMembers>;

std::size_t open_count(const Group& group) noexcept {
    return static_cast<std::size_t>(std::count_if(group.members.begin(), group.members.end(),
                                                  [](const Member& m) { return m.is_open(); }));
}

Status read_words(const rapl::PerfCalls& calls, const Group& group, Words& words) noexcept {
    const std::size_t members = open_count(group);
    const std::size_t wanted = (kHeaderWords + members) * sizeof(std::uint64_t);
    errno = 0;
    const long got = calls.read(group.leader, words.data(), wanted);
    if (got < 0) {
        const bool lost = errno == ENODEV || errno == ENOENT || errno == ENXIO;
        return lost ? Status::lost : Status::retry;
    }
    // The kernel reports a failed group by an empty read.
    const bool whole = static_cast<std::size_t>(got) == wanted && words[0] == members;
    return whole ? Status::ok : Status::lost;
}

// Whether the counters ran the whole time since the previous reading.
bool ran_throughout(Group& group, const Words& words) noexcept {
    const std::uint64_t enabled_ns = words[1] - group.enabled_ns;
    const std::uint64_t running_ns = words[2] - group.running_ns;
    group.enabled_ns = words[1];
    group.running_ns = words[2];
    return running_ns >= enabled_ns;
}

// Counting starts here; a group that cannot be read now may be readable later.
void set_out(const rapl::PerfCalls& calls, Group& group) noexcept {
    Words words{};
    if (read_words(calls, group, words) != Status::ok) return;
    group.enabled_ns = words[1];
    group.running_ns = words[2];
    for (Member& member : group.members) {
        if (member.is_open()) member.last = words[kHeaderWords + member.slot];
    }
}

/// Opens all events that can be opened on `cpu`; the first one leads. Returns errnos of the rest.
std::map<std::size_t, int> open_group(const rapl::PerfCalls& calls, const rapl::PerfUnit& unit,
                                      unsigned cpu, Group& group) {
    std::map<std::size_t, int> failures; // by channel
    group.leader = -1;
    std::size_t slot = 0;
    for (Member& member : group.members) {
        const auto event =
            std::find_if(unit.events.begin(), unit.events.end(), [&](const rapl::PerfEvent& e) {
                return e.name == member.event && e.joules_per_count == member.joules_per_count;
            });
        const int opened = event == unit.events.end()
                               ? -ENOENT
                               : open_event(calls, unit.type, event->config, cpu, group.leader);
        member.file = opened < 0 ? File() : File::adopt(opened);
        member.carried = 0;
        member.last = 0;
        if (opened < 0) {
            failures[member.channel] = -opened;
            continue;
        }
        member.slot = slot++;
        if (group.leader < 0) group.leader = opened;
    }
    if (group.leader >= 0) set_out(calls, group);
    return failures;
}

// Intel has a counter for each die if the unit lists one CPU of each die. Any other list means that
// the counter is the package's.
std::vector<rapl::Socket> sockets_of(const std::filesystem::path& root,
                                     const rapl::PerfUnit& unit) {
    const bool by_die = rapl::read_processor(root).vendor == rapl::Vendor::intel &&
                        rapl::are_one_of_each_die(root, unit.cpus);
    return rapl::read_sockets(root, by_die);
}

class RaplPerf final : public Source {
public:
    RaplPerf(std::filesystem::path root, rapl::PerfCalls calls)
        : root_(std::move(root)), calls_(calls) {}

    /// Takes a group whose members' channels are `channels`, in order.
    void add(Group group, std::vector<Channel> channels) {
        for (std::size_t i = 0; i < channels.size(); ++i) {
            channels[i].group = groups_.size();
            group.members[i].channel = channels_.size();
            channels_.push_back(std::move(channels[i]));
        }
        groups_.push_back(std::move(group));
    }

    [[nodiscard]] const std::vector<Channel>& channels() const noexcept override {
        return channels_;
    }

    void read(std::size_t index, std::span<Reading> readings) noexcept override {
        Group& group = groups_[index];
        Words words{};
        const std::int64_t before_ns = now_ns();
        Status status = read_words(calls_, group, words);
        const std::int64_t after_ns = now_ns();
        const std::int64_t t_ns = before_ns + (after_ns - before_ns) / 2;
        if (status == Status::ok && !ran_throughout(group, words)) status = Status::retry;
        for (Member& member : group.members) {
            Reading& reading = readings[member.channel];
            reading = {t_ns, 0, status};
            if (status != Status::ok) continue;
            if (member.is_open()) {
                reading.raw = member.carry(words[kHeaderWords + member.slot]);
            } else {
                reading.status = Status::retry; // its event was refused when the group was reopened
            }
        }
    }

    // The unit may have been registered again with another type. The counts restart at 0: the
    // unwrapper, for which these counters never wrap, treats the fall as a reset.
    bool reopen(std::size_t index) noexcept override {
        Group& group = groups_[index];
        try {
            const auto unit = rapl::read_perf_unit(root_);
            if (!unit) return false;
            for (const rapl::Socket& socket : sockets_of(root_, *unit)) {
                if (socket.name != group.socket) continue;
                open_group(calls_, *unit, socket.cpus.front(), group);
                return group.leader >= 0;
            }
        } catch (const std::exception&) {
            return false; // out of memory, or the tree changed while it was walked: retry later
        }
        return false;
    }

    [[nodiscard]] std::int64_t default_period_ns() const noexcept override {
        return rapl::kPeriodNs;
    }

private:
    const std::filesystem::path root_;
    const rapl::PerfCalls calls_;
    std::vector<Channel> channels_;
    std::vector<Group> groups_;
};

Channel describe(const rapl::PerfEvent& event, const rapl::Socket& socket) {
    // Never destroyed: a probe may outlive the program's end.
    static constexpr std::array<std::pair<std::string_view, const char*>, 3> parts = {
        {{"energy-ram", "dram"}, {"energy-cores", "core"}, {"energy-gpu", "uncore"}}};
    const std::string number = rapl::package_number(socket.name);
    const auto* const part = std::find_if(parts.begin(), parts.end(), [&](const auto& candidate) {
        return candidate.first == event.name;
    });
    Channel channel;
    if (event.name == "energy-pkg") {
        channel = rapl::describe(socket.name, "", "");
    } else if (part != parts.end()) {
        channel = rapl::describe(part->second, socket.name, "");
    } else if (event.name == "energy-psys") {
        channel = rapl::describe(number == "0" ? "psys" : "psys-" + number, "", "");
    } else {
        const std::string name = event.name.substr(event.name.find('-') + 1) + "-" + number;
        channel = rapl::describe(name, "", "other:" + name);
    }
    channel.units_per_raw = event.joules_per_count;
    channel.detail = "perf power/" + event.name + "/ on cpu " + std::to_string(socket.cpus.front());
    return channel;
}

SkippedSensor refused(const Host& host, int error) {
    if (error == EPERM) {
        return {"rapl_perf", "cpu, dram",
                describe_errno(error) + ": a container's seccomp filter or a security module "
                                        "refuses perf_event_open",
                "docker run --cap-add PERFMON ..."};
    }
    const auto paranoid = read_text(host.root / "proc/sys/kernel/perf_event_paranoid");
    return {
        "rapl_perf", "cpu, dram",
        describe_errno(error) + ": kernel.perf_event_paranoid is " + paranoid.value_or("unknown") +
            ", and 0 or CAP_PERFMON is needed",
        "sudo sysctl kernel.perf_event_paranoid=0   (until the next boot; opens the counters to "
        "every user, see PLATYPUS, CVE-2020-8694; docs/sensors.md has a way for one program)"};
}

class Probing {
public:
    Probing(const Host& host, rapl::PerfCalls calls, rapl::PerfUnit unit)
        : host_(host), calls_(calls), unit_(std::move(unit)),
          source_(std::make_unique<RaplPerf>(host.root, calls)) {
        rlimit limit{};
        getrlimit(RLIMIT_NOFILE, &limit);
        descriptors_left_ = limit.rlim_cur / kDescriptorShare;
    }

    void take(const rapl::Socket& socket) {
        if (descriptors_left_ < unit_.events.size()) {
            found_.missing.push_back({"rapl_perf", socket.name,
                                      "too few open files are allowed (RLIMIT_NOFILE)",
                                      "ulimit -n 4096"});
            return;
        }
        Group group;
        group.socket = socket.name;
        std::vector<Channel> channels;
        for (const rapl::PerfEvent& event : unit_.events) {
            group.members.push_back({channels.size(), event.name, event.joules_per_count, File()});
            channels.push_back(describe(event, socket));
        }
        note_failures(channels, open_group(calls_, unit_, socket.cpus.front(), group));
        if (group.leader < 0) return;
        drop_dead(group, channels);
        if (channels.empty()) return;
        descriptors_left_ -= channels.size();
        // Without the dropped ones, which a read would still return.
        open_group(calls_, unit_, socket.cpus.front(), group);
        if (group.leader < 0) return;
        source_->add(std::move(group), std::move(channels));
    }

    ProbeResult finish() {
        if (!source_->channels().empty()) found_.source = std::move(source_);
        return std::move(found_);
    }

private:
    void note_failures(const std::vector<Channel>& channels,
                       const std::map<std::size_t, int>& failures) {
        for (const auto& [index, error] : failures) {
            if (error != EACCES && error != EPERM) {
                found_.missing.push_back({"rapl_perf",
                                          channels[index].id + " (" + channels[index].name + ")",
                                          unit_.events[index].name + ": " + describe_errno(error),
                                          error == EMFILE ? "ulimit -n 4096" : ""});
            } else if (!std::exchange(refused_, true)) {
                found_.missing.push_back(refused(host_, error)); // one cause, one line
            }
        }
    }

    // Every count starts at 0: one that does not change is absent, whatever sysfs lists.
    void drop_dead(Group& group, std::vector<Channel>& channels) {
        const std::int64_t deadline_ns = now_ns() + rapl::kSettleNs;
        std::vector<bool> moved(channels.size(), false);
        Words words{};
        do {
            if (read_words(calls_, group, words) != Status::ok) continue;
            for (std::size_t i = 0; i < moved.size(); ++i) {
                const Member& member = group.members[i];
                moved[i] = moved[i] || (member.is_open() && words[kHeaderWords + member.slot] != 0);
            }
        } while (std::count(moved.begin(), moved.end(), false) > 0 && wait_until(deadline_ns));
        for (std::size_t i = moved.size(); i-- > 0;) {
            if (moved[i]) continue;
            if (group.members[i].is_open()) {
                found_.missing.push_back(rapl::stays_at_zero("rapl_perf", channels[i]));
            }
            group.members.erase(group.members.begin() + static_cast<std::ptrdiff_t>(i));
            channels.erase(channels.begin() + static_cast<std::ptrdiff_t>(i));
        }
    }

    static bool wait_until(std::int64_t deadline_ns) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        return now_ns() < deadline_ns;
    }

    const Host& host_;
    const rapl::PerfCalls calls_;
    const rapl::PerfUnit unit_;
    std::unique_ptr<RaplPerf> source_;
    std::size_t descriptors_left_ = 0;
    bool refused_ = false;
    ProbeResult found_;
};

ProbeResult nothing(const std::string& reason) {
    return {nullptr, {{"rapl_perf", "cpu, dram", reason, ""}}};
}

} // namespace

ProbeResult probe_rapl_perf(const Host& host) {
    auto unit = rapl::read_perf_unit(host.root);
    if (!unit) return nothing("the kernel has no `power` unit for this processor");
    if (unit->events.size() > kMaxMembers) unit->events.resize(kMaxMembers);
    const auto calls = rapl::perf_calls(host.perf_library);
    if (!calls) return nothing(host.perf_library + " lacks the two perf calls");
    const auto sockets = sockets_of(host.root, *unit);
    if (sockets.empty()) return nothing("no CPU is listed below sys/devices/system/cpu");
    Probing probing(host, *calls, std::move(*unit));
    for (const rapl::Socket& socket : sockets) probing.take(socket);
    return probing.finish();
}

} // namespace carbontracker
