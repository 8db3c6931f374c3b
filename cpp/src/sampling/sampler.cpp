#include "sampling/sampler.hpp"

#include <sys/prctl.h>

#include <algorithm>
#include <cstdio>
#include <limits>
#include <utility>

#include "platform/threads.hpp"

namespace carbontracker {
namespace {

// A ring holds the samples of this long a silence of the consumer.
constexpr std::int64_t kRingNs = 32 * kNanosPerSecond;
constexpr std::size_t kMinRing = 512;
constexpr std::size_t kMaxRing = std::size_t{1} << 17; // 5 MB a channel

// How long stop() waits for a thread to return from its sensor.
constexpr std::int64_t kStopNs = 2 * kNanosPerSecond;

// Readings that a driver may have kept since the last read.
constexpr std::size_t kHistory = 256;

// How often to check for a suspend, and the largest difference between two clock reads without a
// suspend.
constexpr std::int64_t kLookNs = 50'000'000;
constexpr std::int64_t kSuspendNs = 20'000'000;

// Marks closer than this share one reading.
constexpr std::int64_t kMarkSpacingNs = 2'000'000;

std::size_t ring_capacity(std::int64_t period_ns) {
    return std::clamp(static_cast<std::size_t>(kRingNs / std::max<std::int64_t>(period_ns, 1)),
                      kMinRing, kMaxRing);
}

// For a source that does not state its period.
constexpr std::int64_t kNoPeriodNs = 100'000'000;

std::int64_t usual_period_ns(const Source& source) noexcept {
    return source.default_period_ns() > 0 ? source.default_period_ns() : kNoPeriodNs;
}

std::vector<std::size_t> groups_of(const Source& source) {
    std::vector<std::size_t> groups;
    for (const Channel& channel : source.channels()) groups.push_back(channel.group);
    return groups;
}

std::vector<std::unique_ptr<SampledChannel>> sampled(const Source& source, const Pace& pace) {
    const std::int64_t period_ns = pace.period_ns > 0 ? pace.period_ns : usual_period_ns(source);
    std::vector<std::unique_ptr<SampledChannel>> channels;
    for (const Channel& channel : source.channels()) {
        channels.push_back(std::make_unique<SampledChannel>(channel, ring_capacity(period_ns)));
    }
    return channels;
}

std::vector<Lane*> lanes_of(const std::vector<std::unique_ptr<SampledChannel>>& tracks) {
    std::vector<Lane*> lanes;
    for (const auto& track : tracks) lanes.push_back(&track->lane);
    return lanes;
}

} // namespace

Sampler::Sampler(std::string name, std::unique_ptr<Source> source, Pace pace,
                 const std::vector<Priority>& priorities)
    : name_(std::move(name)), source_(std::move(source)), pace_(pace),
      tracks_(sampled(*source_, pace)),
      scheduler_(lanes_of(tracks_), groups_of(*source_),
                 {usual_period_ns(*source_), pace.period_ns, source_->min_period_ns()}, priorities),
      readings_(tracks_.size()), history_(kHistory) {}

Sampler::~Sampler() {
    stop();
}

void Sampler::start(std::int64_t wait_ns, std::int64_t began_ns) {
    if (stopping_.load(std::memory_order_relaxed) || has_started())
        return; // a sampler runs only once
    thread_ = start_thread(&Sampler::run, this, began_ns != 0 ? began_ns : now_ns());
    counters_.began_ns.store(now_ns(), std::memory_order_relaxed);
    has_started_.store(true, std::memory_order_relaxed);
    await_first_reading(now_ns() + wait_ns);
}

void Sampler::await_first_reading(std::int64_t deadline_ns) const noexcept {
    begun_.wait(0, deadline_ns);
}

void Sampler::ask_to_stop() noexcept {
    if (stopping_.load(std::memory_order_relaxed)) return;
    asked_to_stop_ns_ = now_ns();
    stopping_.store(true, std::memory_order_release); // pairs with the acquire in run()
    wake_event_.signal();
}

bool Sampler::stop() {
    ask_to_stop();
    if (!thread_.joinable()) return !abandoned_;
    finished_.wait(0, asked_to_stop_ns_ + kStopNs);
    if (finished_.count() == 0) {
        // A driver that does not return must not block the measured program.
        thread_.detach();
        abandoned_ = true;
        return false;
    }
    thread_.join();
    return true;
}

void Sampler::mark(std::int64_t t_ns) noexcept {
    // relaxed: two simultaneous marks may both ask for a reading, which is harmless.
    if (t_ns < mark_ready_ns_.load(std::memory_order_relaxed)) return;
    const std::int64_t apart_ns = t_ns - marked_ns_.load(std::memory_order_relaxed);
    if (apart_ns < kMarkSpacingNs) return;
    marked_ns_.store(t_ns, std::memory_order_relaxed);
    mark_ns_.store(t_ns, std::memory_order_relaxed); // the newest mark replaces those before it
    wake_event_.signal();                            // publishes it
}

void Sampler::set_share(double budget, double cpu_share) noexcept {
    budget_.store(budget, std::memory_order_relaxed);
    cpu_share_.store(cpu_share, std::memory_order_relaxed);
}

void Sampler::set_priority(std::size_t index, Priority priority) noexcept {
    scheduler_.set_priority(index, priority); // from the next plan on
}

// ---- the thread -----------------------------------------------------------------------------

void Sampler::run(std::int64_t began_ns) noexcept {
    char name[16]; // limit of the kernel
    std::snprintf(name, sizeof name, "ct-%s", name_.c_str());
    pthread_setname_np(pthread_self(), name);
    // The default slack of 50 us would be most of the lateness of a 1 kHz loop.
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    clockid_t clock = kNoClock;
    if (pthread_getcpuclockid(pthread_self(), &clock) == 0) {
        cpu_clock_.store(clock, std::memory_order_relaxed); // an independent value
    }
    look_for_suspend(now_ns());
    apply_share();
    scheduler_.begin(now_ns(), began_ns, {0, source_->call_cost().probing_ns});
    read_all(); // in this thread, because a sensor may not answer
    begun_.signal();
    std::uint32_t seen = 0; // 0: sees signals from before this thread started
    while (true) {
        wake_event_.wait(seen, scheduler_.due_ns());
        // Take the count before the flag: a stop between the two has signalled since.
        seen = wake_event_.count();
        if (stopping_.load(std::memory_order_acquire)) break;
        const bool marked = serve_mark();
        if (read_due() && marked) add(counters_.edge_reads, std::uint64_t{1});
    }
    read_all(); // stop() counts as a mark
    counters_.cpu_ns.store(thread_cpu_ns(), std::memory_order_relaxed);
    counters_.ended_ns.store(now_ns(), std::memory_order_relaxed);
    // release: a thread that no longer finds the clock finds the final count.
    cpu_clock_.store(kNoClock, std::memory_order_release);
    finished_.signal();
}

void Sampler::apply_share() noexcept {
    scheduler_.set_share(now_ns(), budget_.load(std::memory_order_relaxed),
                         cpu_share_.load(std::memory_order_relaxed));
}

bool Sampler::serve_mark() noexcept {
    const std::int64_t mark_ns = mark_ns_.exchange(0, std::memory_order_relaxed);
    if (mark_ns == 0) return false;
    scheduler_.mark(now_ns(), mark_ns);
    return true;
}

// A suspend shows as a late deadline, or lies between two checks.
void Sampler::look_for_suspend(std::int64_t now_ns) noexcept {
    if (now_ns - wake_.looked_ns < kLookNs) return;
    std::int64_t suspended_ns = pace_.suspended_ns();
    if (wake_.looked_ns != 0) {
        // The value never falls. A difference that a second read does not confirm is not a suspend.
        const std::int64_t least_ns = wake_.suspended_ns + kSuspendNs;
        if (suspended_ns > least_ns) suspended_ns = std::min(suspended_ns, pace_.suspended_ns());
        if (suspended_ns > least_ns) {
            scheduler_.resume();
        }
        suspended_ns = std::max(suspended_ns, wake_.suspended_ns);
    }
    wake_.suspended_ns = suspended_ns;
    wake_.looked_ns = now_ns;
}

bool Sampler::read_due() noexcept {
    std::int64_t time_ns = now_ns();
    look_for_suspend(time_ns);
    apply_share();
    bool any = false;
    while (const auto group = scheduler_.next(time_ns)) {
        if (const auto late_ns = scheduler_.late_ns(); late_ns && !any) {
            counters_.lateness.note(*late_ns);
        }
        any = true;
        time_ns = read_group(*group, time_ns);
    }
    end_round(time_ns);
    if (any) add(counters_.reads, std::uint64_t{1});
    return any;
}

void Sampler::read_all() noexcept {
    // Includes groups in back-off: their counters have counted on.
    std::int64_t time_ns = now_ns();
    for (std::size_t group = 0; group < scheduler_.groups(); ++group) {
        if (scheduler_.is_lost(group) || scheduler_.is_gone(group)) continue;
        time_ns = read_group(group, time_ns);
    }
    end_round(time_ns);
    add(counters_.reads, std::uint64_t{1});
}

// Returns the time when it was done.
std::int64_t Sampler::read_group(std::size_t group, std::int64_t began_ns) noexcept {
    const std::span<const std::size_t> members = scheduler_.members(group);
    const bool is_lost = scheduler_.is_lost(group) && !source_->reopen(group);
    if (!is_lost) {
        source_->read(group, readings_);
        for (const std::size_t i : members) take_history(i);
    }
    Scheduler::Outcome outcome{.began_ns = began_ns, .ended_ns = now_ns(), .any_lost = is_lost};
    add(counters_.held_ns, outcome.ended_ns - began_ns);
    if (!is_quick_) outcome.held_ns = outcome.ended_ns - began_ns;
    for (const std::size_t i : members) {
        if (!is_lost) store(*tracks_[i], readings_[i]);
        outcome.any_lost = outcome.any_lost || readings_[i].status == Status::lost;
        outcome.any_ok = outcome.any_ok || (!is_lost && readings_[i].status == Status::ok);
    }
    scheduler_.took(group, outcome);
    for (const std::size_t i : members) {
        tracks_[i]->lost.store(scheduler_.is_lost(group), std::memory_order_relaxed);
        tracks_[i]->tick_ns.store(tracks_[i]->lane.rhythm().tick_ns(), std::memory_order_relaxed);
    }
    return outcome.ended_ns;
}

// Charges the cost of the readings and of the wake-up before them.
void Sampler::end_round(std::int64_t time_ns) noexcept {
    const std::int64_t cpu_ns = thread_cpu_ns();
    scheduler_.end_round(time_ns, cpu_ns - charged_ns_);
    charged_ns_ = cpu_ns;
    counters_.late.store(scheduler_.missed(), std::memory_order_relaxed);
    mark_ready_ns_.store(scheduler_.mark_ready_ns(time_ns), std::memory_order_relaxed);
    if (scheduler_.take_held_back()) is_held_back_.store(true, std::memory_order_relaxed);
}

void Sampler::take_history(std::size_t channel) noexcept {
    SampledChannel& track = *tracks_[channel];
    for (std::size_t count = history_.size(); count == history_.size();) {
        count = std::min(source_->history(channel, history_), history_.size());
        for (std::size_t i = 0; i < count; ++i) store(track, history_[i]);
    }
}

// ---- readings become samples ------------------------------------------------------------------

void Sampler::store(SampledChannel& track, const Reading& reading) noexcept {
    if (reading.status == Status::gone) track.gone.store(true, std::memory_order_relaxed);
    Sample sample;
    const Outcome outcome = track.lane.take(reading, sample);
    if (outcome == Outcome::unusable) {
        add(track.errors, std::uint64_t{1});
        return;
    }
    if (outcome == Outcome::repeated) return;
    add(track.readings, std::uint64_t{1});
    track.resets.store(track.lane.resets(), std::memory_order_relaxed);
    if (outcome == Outcome::sample) {
        publish(track, sample);
    } else if (!track.published) {
        track.published =
            track.ring.push(track.newest); // a later change to carry it may never come
    }
    if (!track.published) return;
    // release: a thread that sees this time also finds all samples up to it in the ring.
    track.last_read_ns.store(reading.t_ns, std::memory_order_release);
}

void Sampler::publish(SampledChannel& track, Sample sample) noexcept {
    if (!track.published) {
        // The consumer never saw the previous change, so kStoodStill would be wrong here. A gap
        // among the refused samples remains a gap.
        const std::uint32_t kept = track.newest.flags & kKeptByRefusal;
        sample.flags = (sample.flags & ~std::uint32_t{kStoodStill}) | kept;
        if (kept != 0)
            sample.since_last_read_ns =
                sample.t_ns - (track.newest.t_ns - track.newest.since_last_read_ns);
    }
    track.newest = sample;
    track.published = track.ring.push(sample);
    if (!track.published) add(track.dropped, std::uint64_t{1});
}

} // namespace carbontracker
