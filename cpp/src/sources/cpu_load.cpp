// A labelled estimate where there is no counter: processor and memory power from utilisation.
//
// P = idle + (full - idle) * utilisation, per machine; model/ provides both ends for each part.
// docs/accuracy.md lists the sources of the figures.
#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <thread>
#include <utility>

#include "platform/clock.hpp"
#include "platform/host.hpp"
#include "sources/model/memory.hpp"
#include "sources/model/processor.hpp"
#include "sources/model/text.hpp"
#include "sources/source.hpp"

namespace carbontracker {
namespace {

using model::Estimate;
using model::rounded;

constexpr double kMicro = 1e6;

struct Ticks {
    std::uint64_t busy = 0;
    std::uint64_t total = 0;
    std::uint64_t stolen = 0;
};

// First line of /proc/stat: user nice system idle iowait irq softirq steal; guest time is already
// included in user, and time stolen by the hypervisor was not used here.
std::optional<Ticks> parse_ticks(std::string_view text) noexcept {
    std::array<std::uint64_t, 8> value{};
    if (text.substr(0, 4) != "cpu ") return std::nullopt;
    text.remove_prefix(4);
    for (std::uint64_t& field : value) {
        while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), field);
        if (error != std::errc{}) return std::nullopt;
        text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    }
    Ticks ticks;
    ticks.stolen = value.back();
    for (const std::uint64_t field : value) ticks.total += field;
    ticks.total -= ticks.stolen;
    ticks.busy = ticks.total - value[3] - value[4];
    return ticks;
}

std::optional<Ticks> read_ticks(const File& stat) noexcept {
    char text[256];
    const long got = stat.read_start(text, sizeof text);
    return got > 0 ? parse_ticks({text, static_cast<std::size_t>(got)}) : std::nullopt;
}

// A kernel counts every tick of every CPU, busy or idle. If less than a tenth of one CPU's 100
// ticks a second are counted, the file is a copy, a sandbox's replacement, or frozen: not usable.
constexpr std::int64_t kNsPerTick = 100'000'000;
constexpr std::int64_t kStillNs = 2 * kNanosPerSecond;

bool has_moved(const Ticks& from, const Ticks& to, std::int64_t elapsed_ns) noexcept {
    const std::uint64_t before = from.total + from.stolen;
    const std::uint64_t after = to.total + to.stolen;
    const auto least = static_cast<std::uint64_t>((elapsed_ns + kNsPerTick - 1) / kNsPerTick);
    return after > before && after - before >= least;
}

// With one CPU a tick may show only after 70 ms, because each field is rounded down. With many CPUs
// it shows sooner, as the kernel counts every 10 ms. A copied file may be slower.
constexpr std::int64_t kMinLookNs = 60'000'000;

bool is_alive(const File& stat, int cpus) {
    const auto first = read_ticks(stat);
    if (!first) return true; // its readings fail, and report it
    const std::int64_t until_ns = now_ns() + std::max(kMinLookNs, kNsPerTick / cpus);
    bool is_last = false;
    while (!is_last) {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        is_last = now_ns() >= until_ns; // before the reading, so that a pause cannot hide it
        const auto next = read_ticks(stat);
        if (!next || has_moved(*first, *next, 0)) return true;
    }
    return false;
}

class CpuLoad final : public Source {
public:
    /// `follows_load`: the file was seen to change.
    CpuLoad(File stat, bool follows_load, std::vector<Channel> channels,
            std::vector<Estimate> estimates)
        : stat_(std::move(stat)), follows_load_(follows_load), channels_(std::move(channels)),
          estimates_(std::move(estimates)), joules_(estimates_.size(), 0.0) {}

    [[nodiscard]] const std::vector<Channel>& channels() const noexcept override {
        return channels_;
    }

    void read(std::size_t /*group*/, std::span<Reading> readings) noexcept override {
        const auto ticks = read_ticks(stat_);
        const std::int64_t t_ns = now_ns();
        const bool is_known = ticks && (!follows_load_ || !stands_still(*ticks, t_ns));
        if (is_known) advance(*ticks, t_ns);
        for (std::size_t i = 0; i < estimates_.size(); ++i) {
            readings[i] = {t_ns, static_cast<std::uint64_t>(joules_[i] * kMicro),
                           is_known ? Status::ok : Status::retry};
        }
    }

    [[nodiscard]] bool counts_for_all() const noexcept override { return false; }

    [[nodiscard]] std::int64_t default_period_ns() const noexcept override { return 100'000'000; }

    // Processor time is counted in ticks of 10 ms; a few of them make a utilisation.
    [[nodiscard]] std::int64_t min_period_ns() const noexcept override { return 50'000'000; }

private:
    // Start of a long time without ticks: the utilisation is unknown.
    bool stands_still(const Ticks& ticks, std::int64_t t_ns) noexcept {
        if (moved_ns_ == 0 || has_moved(moved_, ticks, t_ns - moved_ns_)) {
            moved_ = ticks;
            moved_ns_ = t_ns;
        }
        return t_ns - moved_ns_ > kStillNs;
    }

    void advance(const Ticks& ticks, std::int64_t t_ns) noexcept {
        if (t_ns_ != 0) {
            // iowait may decrease, and the sums with it: ignore such a step.
            if (ticks.total > ticks_.total && ticks.busy >= ticks_.busy) {
                const auto busy = static_cast<double>(ticks.busy - ticks_.busy);
                const auto total = static_cast<double>(ticks.total - ticks_.total);
                utilisation_ = std::min(1.0, busy / total);
            }
            const double seconds =
                static_cast<double>(t_ns - t_ns_) / static_cast<double>(kNanosPerSecond);
            for (std::size_t i = 0; i < estimates_.size(); ++i) {
                joules_[i] += estimates_[i].watts(utilisation_) * seconds;
            }
        }
        t_ns_ = t_ns;
        ticks_ = ticks;
    }

    File stat_;
    const bool follows_load_;
    Ticks moved_; // when it last moved
    std::int64_t moved_ns_ = 0;
    std::vector<Channel> channels_;
    std::vector<Estimate> estimates_;
    std::vector<double> joules_;
    Ticks ticks_;
    double utilisation_ = 0.0;
    std::int64_t t_ns_ = 0;
};

std::string percent(double factor) {
    const long off = std::lround(100.0 * (factor - 1.0));
    return (off < 0 ? "" : "+") + std::to_string(off) + " %";
}

// One interval around the estimate that contains both ends.
double farther_end(double lower, double upper) {
    return std::max(upper - 1.0, 1.0 - lower);
}

Channel describe(const std::string& kind, const Estimate& estimate) {
    Channel channel;
    channel.id = kind + ":0";
    channel.kind = kind;
    channel.name = estimate.name;
    channel.domain = "model/" + kind;
    channel.quality = Quality::modelled;
    channel.units_per_raw = 1.0 / kMicro;
    channel.max_watts = 1e6;
    channel.relative_error = farther_end(estimate.lower, estimate.upper);
    channel.tick_ns = 0; // computed at each reading
    channel.detail = "modelled: " + estimate.assumption + "; " + rounded(estimate.idle_watts) +
                     " W idle to " + rounded(estimate.full_watts) + " W busy, " +
                     percent(estimate.lower) + " to " + percent(estimate.upper);
    return channel;
}

// Without a utilisation the power is between idle and busy: use the middle and a matching interval.
void forget_utilisation(Estimate& estimate, Channel& channel) {
    if (estimate.idle_watts == estimate.full_watts) return; // independent of the load
    const double middle = 0.5 * (estimate.idle_watts + estimate.full_watts);
    channel.relative_error = farther_end(estimate.lower * estimate.idle_watts / middle,
                                         estimate.upper * estimate.full_watts / middle);
    channel.detail += "; utilisation unknown: half way between the two";
    estimate.idle_watts = estimate.full_watts = middle;
}

} // namespace

ProbeResult probe_cpu_load(const Host& host) {
    File stat(host.root / "proc/stat");
    if (stat.error() != 0) {
        return {nullptr,
                {{"cpu_load", "cpu, dram",
                  (host.root / "proc/stat").string() + ": " + describe_errno(stat.error()), ""}}};
    }
    const model::Processors machine = model::read_processors(host.root);
    std::vector<Estimate> estimates = {model::processors(machine, host.root, host.data_dir)};
    std::vector<std::string> kinds = {"cpu"};
    std::vector<SkippedSensor> missing;
    model::Memory memory = model::memory(host.root, machine);
    if (memory.estimate) {
        estimates.push_back(*std::move(memory.estimate));
        kinds.emplace_back("dram");
    } else {
        missing.push_back({"cpu_load", "dram", std::move(memory.absent), ""});
    }
    const bool moves = is_alive(stat, std::max(1, machine.logical));
    if (!moves) {
        missing.push_back(
            {"cpu_load", "utilisation",
             (host.root / "proc/stat").string() +
                 " does not change (a sandbox, a copy, a frozen file): the utilisation "
                 "is unknown, and the estimate lies between idle and busy",
             ""});
    }
    std::vector<Channel> channels;
    for (std::size_t i = 0; i < estimates.size(); ++i) {
        channels.push_back(describe(kinds[i], estimates[i]));
        if (!moves) forget_utilisation(estimates[i], channels[i]);
    }
    return {std::make_unique<CpuLoad>(std::move(stat), moves, std::move(channels),
                                      std::move(estimates)),
            std::move(missing)};
}

} // namespace carbontracker
