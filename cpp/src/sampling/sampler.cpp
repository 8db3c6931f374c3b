#include "sampling/sampler.hpp"

#include <sys/prctl.h>

#include <algorithm>
#include <cstdio>
#include <limits>
#include <utility>

#include "platform/threads.hpp"
#include "sampling/power_integrator.hpp"

namespace carbontracker {
namespace {

// A ring holds the samples of this long a silence of the consumer.
constexpr std::int64_t kRingNs = 8 * kNanosPerSecond;
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

// Readings that are due this close together are taken at once: less than a wake-up takes.
constexpr std::int64_t kTogetherNs = 60'000;

// After a reading that took this long, pause ten times as long. After a failure, pause a tenth of
// the time since the first failure.
constexpr std::int64_t kPatience = 10;
constexpr std::int64_t kSlowNs = 50'000'000;
constexpr std::int64_t kSlowFactor = 10;
constexpr std::int64_t kFirstPauseNs = 20'000'000;
constexpr std::int64_t kMaxPauseNs = 10 * kNanosPerSecond;

std::size_t ring_capacity(std::int64_t period_ns) {
    return std::clamp(static_cast<std::size_t>(kRingNs / std::max<std::int64_t>(period_ns, 1)),
                      kMinRing, kMaxRing);
}

// For a source that does not state its period.
constexpr std::int64_t kNoPeriodNs = 100'000'000;

std::int64_t usual_period_ns(const Source& source) noexcept {
    return source.default_period_ns() > 0 ? source.default_period_ns() : kNoPeriodNs;
}

// Due time of a group that was just read and is not planned yet.
constexpr std::int64_t kJustRead = std::numeric_limits<std::int64_t>::min();

} // namespace

Sampler::Sampler(std::string name, std::unique_ptr<Source> source, Pace pace,
                 const std::vector<Priority>& priorities)
    : name_(std::move(name)), source_(std::move(source)), pace_(pace),
      usual_ns_(usual_period_ns(*source_)), history_(kHistory) {
    const std::vector<Channel>& channels = source_->channels();
    for (std::size_t i = 0; i < channels.size(); ++i) {
        const std::int64_t period_ns = pace_.period_ns > 0 ? pace_.period_ns : usual_ns_;
        tracks_.push_back(
            std::make_unique<Track>(channels[i], ring_capacity(period_ns), priorities[i]));
        groups_.resize(std::max(groups_.size(), channels[i].group + 1));
        groups_[channels[i].group].members.push_back(i);
    }
    readings_.resize(tracks_.size());
    searches_ = Searches(groups_.size());
}

Sampler::~Sampler() {
    stop();
}

void Sampler::start(std::int64_t wait_ns) {
    if (stopping_.load(std::memory_order_relaxed) || has_started()) return;
    finished_before_ = finished_.count();
    cpu_before_ns_.store(counters_.cpu_ns.load(std::memory_order_relaxed),
                         std::memory_order_relaxed);
    counters_.ended_ns.store(0, std::memory_order_relaxed);
    thread_ = start_thread(&Sampler::run, this);
    if (counters_.began_ns.load(std::memory_order_relaxed) == 0) {
        counters_.began_ns.store(now_ns(), std::memory_order_relaxed);
    }
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
    finished_.wait(finished_before_, asked_to_stop_ns_ + kStopNs);
    if (finished_.count() == finished_before_) {
        // A driver that does not return must not block the measured program.
        thread_.detach();
        abandoned_ = true;
        return false;
    }
    thread_.join();
    return true;
}

void Sampler::make_ready() noexcept {
    for (std::size_t i = 0; i < tracks_.size(); ++i) {
        tracks_[i]->lane.begin_anew(source_->channels()[i]);
        tracks_[i]->published = true; // a later sample makes up for one that was refused
    }
    for (Group& group : groups_) group.due_ns = 0;
    wake_ = {};
    steady_ns_ = charged_ns_ = 0;
    has_started_.store(false, std::memory_order_relaxed);
    stopping_.store(false, std::memory_order_relaxed); // start() publishes it to the next thread
}

void Sampler::mark(std::int64_t t_ns) noexcept {
    // relaxed: two simultaneous marks may both ask for a reading, which is harmless.
    const std::int64_t apart_ns = t_ns - marked_ns_.load(std::memory_order_relaxed);
    if (apart_ns < mark_spacing_ns_.load(std::memory_order_relaxed)) return;
    marked_ns_.store(t_ns, std::memory_order_relaxed);
    mark_ns_.store(t_ns, std::memory_order_relaxed); // the newest mark replaces those before it
    wake_event_.signal();                            // publishes it
}

void Sampler::lend(std::int64_t cpu_ns) noexcept {
    if (!has_started()) allowance_.lend(cpu_ns);
}

void Sampler::set_limits(const SamplingLimits& limits) noexcept {
    spacing_total_.store(limits.spacing_total, std::memory_order_relaxed);
    spacing_others_.store(limits.spacing_others, std::memory_order_relaxed);
    mark_spacing_ns_.store(limits.mark_spacing_ns, std::memory_order_relaxed);
    cpu_share_.store(limits.cpu_share, std::memory_order_relaxed);
}

void Sampler::set_priority(std::size_t index, Priority priority) noexcept {
    tracks_[index]->priority.store(priority, std::memory_order_relaxed); // from the next reading on
}

// ---- the thread -----------------------------------------------------------------------------

void Sampler::run() noexcept {
    thread_id_.store(carbontracker::thread_id(), std::memory_order_relaxed);
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
    read_all(); // in this thread, because a sensor may not answer
    begun_.signal();
    std::uint32_t seen = 0; // 0: sees signals from before this thread started
    while (true) {
        wake_event_.wait(seen, earliest_due_ns());
        // Take the count before the flag: a stop between the two has signalled since.
        seen = wake_event_.count();
        if (stopping_.load(std::memory_order_acquire)) break;
        const bool marked = serve_mark();
        if (read_due(now_ns()) && marked) {
            add(counters_.edge_reads, std::uint64_t{1});
        }
    }
    read_all(); // stop() counts as a mark
    counters_.cpu_ns.store(cpu_before_ns_.load(std::memory_order_relaxed) + thread_cpu_ns(),
                           std::memory_order_relaxed);
    counters_.ended_ns.store(now_ns(), std::memory_order_relaxed);
    thread_id_.store(0, std::memory_order_relaxed);
    // release: a thread that no longer finds the clock finds the final count.
    cpu_clock_.store(kNoClock, std::memory_order_release);
    finished_.signal();
}

std::int64_t Sampler::earliest_due_ns() const noexcept {
    std::int64_t due_ns = std::numeric_limits<std::int64_t>::max();
    for (const Group& group : groups_) due_ns = std::min(due_ns, group.due_ns);
    return due_ns;
}

bool Sampler::serve_mark() noexcept {
    const std::int64_t mark_ns = mark_ns_.exchange(0, std::memory_order_relaxed);
    if (mark_ns == 0) return false;
    for (std::size_t i = 0; i < groups_.size(); ++i) {
        if (groups_[i].backoff_until_ns <= mark_ns) mark_group(i, mark_ns);
    }
    return true;
}

// Under throttling, only channels in the total get reads for marks.
bool Sampler::benefits_from_edge_read(const Track& track) const noexcept {
    const bool total = track.priority.load(std::memory_order_relaxed) == Priority::total;
    const bool throttled = spacing_others_.load(std::memory_order_relaxed) > 1.0;
    return (total || !throttled) && track.lane.benefits_from_edge_read();
}

void Sampler::mark_group(std::size_t index, std::int64_t mark_ns) noexcept {
    Group& group = groups_[index];
    bool at_once = false;
    bool wanted = false;
    for (const std::size_t i : group.members) {
        Track& track = *tracks_[i];
        if (!benefits_from_edge_read(track)) continue;
        wanted = true;
        at_once = track.lane.rhythm().mark(mark_ns) || at_once;
    }
    if (at_once) {
        group.due_ns = 0;
    } else if (wanted) {
        plan_group(index, now_ns());
    }
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
            for (const auto& track : tracks_) track->lane.resume();
        }
        suspended_ns = std::max(suspended_ns, wake_.suspended_ns);
    }
    wake_.suspended_ns = suspended_ns;
    wake_.looked_ns = now_ns;
}

bool Sampler::read_due(std::int64_t now_ns) noexcept {
    look_for_suspend(now_ns);
    if (searches_.is_saving()) choose_searches(now_ns); // before the credit is spent
    bool any = false;
    std::int64_t time_ns = now_ns;
    for (std::size_t i = 0; i < groups_.size(); ++i) {
        const std::int64_t due_ns = groups_[i].due_ns;
        if (due_ns > now_ns + std::max(kTogetherNs, groups_[i].early_ns)) continue;
        if (!any && due_ns > 0 && due_ns <= now_ns) counters_.lateness.note(now_ns - due_ns);
        any = true;
        time_ns = read_group(i, time_ns);
    }
    if (!any) return false;
    charge(time_ns);
    choose_searches(time_ns);
    for (std::size_t i = 0; i < groups_.size(); ++i) {
        if (groups_[i].due_ns == kJustRead) plan_group(i, time_ns);
    }
    add(counters_.reads, std::uint64_t{1});
    bool wanted = false;
    for (const auto& track : tracks_) wanted = wanted || benefits_from_edge_read(*track);
    benefits_from_edge_read_.store(wanted, std::memory_order_relaxed);
    return true;
}

void Sampler::read_all() noexcept {
    // Includes groups in back-off: their counters have counted on.
    for (std::size_t i = 0; i < groups_.size(); ++i) {
        const bool gone = groups_[i].backoff_until_ns == std::numeric_limits<std::int64_t>::max();
        if (groups_[i].lost || gone) continue;
        read_group(i, now_ns());
    }
    choose_searches(now_ns());
    for (std::size_t i = 0; i < groups_.size(); ++i) {
        if (groups_[i].due_ns == kJustRead) plan_group(i, now_ns());
    }
    add(counters_.reads, std::uint64_t{1});
}

// Returns the time when it was done.
std::int64_t Sampler::read_group(std::size_t index, std::int64_t began_ns) noexcept {
    Group& group = groups_[index];
    if (group.lost) group.lost = !source_->reopen(index);
    if (!group.lost) {
        source_->read(index, readings_);
        for (const std::size_t i : group.members) {
            take_history(i);
            store(*tracks_[i], readings_[i]);
        }
    }
    const std::int64_t ended_ns = now_ns();
    add(counters_.held_ns, ended_ns - began_ns); // the arithmetic takes less than a microsecond
    update_backoff(group, began_ns, ended_ns);
    group.due_ns = kJustRead;
    return ended_ns;
}

void Sampler::take_history(std::size_t channel) noexcept {
    Track& track = *tracks_[channel];
    for (std::size_t count = history_.size(); count == history_.size();) {
        count = std::min(source_->history(channel, history_), history_.size());
        for (std::size_t i = 0; i < count; ++i) store(track, history_[i]);
    }
}

// Decides from the newest readings when the group may be read again.
void Sampler::update_backoff(Group& group, std::int64_t began_ns, std::int64_t ended_ns) noexcept {
    bool any_ok = false;
    bool any_lost = false;
    bool all_gone = true;
    for (const std::size_t i : group.members) {
        any_lost = any_lost || readings_[i].status == Status::lost;
        any_ok = any_ok || (!group.lost && readings_[i].status == Status::ok);
        all_gone = all_gone && tracks_[i]->gone.load(std::memory_order_relaxed);
    }
    group.lost = group.lost || (any_lost && !any_ok); // if no channel of it answers
    if (any_ok) {
        group.failing_since_ns = group.backoff_until_ns = 0;
    } else {
        if (group.failing_since_ns == 0) group.failing_since_ns = began_ns;
        group.backoff_until_ns =
            ended_ns +
            std::clamp((ended_ns - group.failing_since_ns) / kPatience, kFirstPauseNs, kMaxPauseNs);
    }
    if (const std::int64_t took_ns = ended_ns - began_ns; took_ns > kSlowNs) {
        group.backoff_until_ns = std::max(group.backoff_until_ns,
                                          ended_ns + std::min(kSlowFactor * took_ns, kMaxPeriodNs));
    }
    if (all_gone) group.backoff_until_ns = std::numeric_limits<std::int64_t>::max();
    for (const std::size_t i : group.members) {
        tracks_[i]->lost.store(group.lost, std::memory_order_relaxed);
    }
}

// Charges the cost of the readings and of the wake-up before them.
void Sampler::charge(std::int64_t now_ns) noexcept {
    const std::int64_t cpu_ns = thread_cpu_ns();
    allowance_.spend(now_ns, cpu_ns - charged_ns_, cpu_share_.load(std::memory_order_relaxed));
    charged_ns_ = cpu_ns;
    free_ns_.store(allowance_.free_ns(), std::memory_order_relaxed);
}

void Sampler::choose_searches(std::int64_t now_ns) noexcept {
    for (std::size_t i = 0; i < groups_.size(); ++i) {
        for (const std::size_t member : groups_[i].members) {
            const Track& track = *tracks_[member];
            if (groups_[i].lost || track.gone.load(std::memory_order_relaxed)) continue;
            searches_.consider(i, track.lane, track.priority.load(std::memory_order_relaxed));
        }
    }
    searches_.choose(now_ns, allowance_);
}

void Sampler::plan_group(std::size_t index, std::int64_t now_ns) noexcept {
    Group& group = groups_[index];
    const DueConstraints constraints = due_constraints(index, now_ns);
    std::int64_t due_ns = std::numeric_limits<std::int64_t>::max();
    group.early_ns = 0;
    for (const std::size_t i : group.members) {
        Track& track = *tracks_[i];
        if (track.gone.load(std::memory_order_relaxed)) continue;
        const Priority priority = track.priority.load(std::memory_order_relaxed);
        const std::int64_t its_ns = next_due_ns(now_ns, track.lane, priority, constraints);
        // Searches of one source run in step: a wake-up costs more than a read.
        if (its_ns < due_ns) {
            const bool searches = constraints.searches && track.lane.rhythm().searching();
            group.early_ns = searches ? (its_ns - now_ns) / 2 : 0;
        }
        due_ns = std::min(due_ns, its_ns);
        track.tick_ns.store(track.lane.rhythm().tick_ns(), std::memory_order_relaxed);
    }
    group.due_ns = std::max(due_ns, group.backoff_until_ns);
}

DueConstraints Sampler::due_constraints(std::size_t group, std::int64_t now_ns) noexcept {
    return {usual_ns_,
            pace_.period_ns > 0 ? next_steady_ns(now_ns) : 0,
            spacing_total_.load(std::memory_order_relaxed),
            spacing_others_.load(std::memory_order_relaxed),
            allowance_.free_ns(),
            allowance_.urgent_ns(),
            searches_.may(group),
            searches_.is_saving()};
}

// A rate that the user asked for: absolute deadlines; missed ones are counted and skipped.
std::int64_t Sampler::next_steady_ns(std::int64_t now_ns) noexcept {
    const std::int64_t soon_ns = now_ns + kTogetherNs;
    if (soon_ns < steady_ns_) return steady_ns_;
    if (steady_ns_ == 0) steady_ns_ = now_ns;
    const std::int64_t steps = (soon_ns - steady_ns_) / pace_.period_ns + 1;
    if (steps > 1) add(counters_.late, static_cast<std::uint64_t>(steps - 1));
    steady_ns_ += steps * pace_.period_ns;
    return steady_ns_;
}

// ---- readings become samples ------------------------------------------------------------------

void Sampler::store(Track& track, const Reading& reading) noexcept {
    if (reading.status == Status::gone) track.gone.store(true, std::memory_order_relaxed);
    Sample sample;
    const Outcome outcome = track.lane.take(reading, sample);
    if (outcome == Outcome::unusable) {
        add(track.errors, std::uint64_t{1});
        // A source that refuses a value itself says so by Status::retry and leaves it in `raw`.
        const bool answered = reading.status == Status::ok || reading.status == Status::retry;
        const double watts = answered ? track.lane.refused_watts(reading) : 0.0;
        if (watts > track.refused_watts.load(std::memory_order_relaxed)) {
            track.refused_watts.store(watts, std::memory_order_relaxed);
        }
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

void Sampler::publish(Track& track, Sample sample) noexcept {
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
