#include "sampler.hpp"

#include <signal.h>
#include <sys/prctl.h>

#include <algorithm>
#include <utility>

namespace carbontracker {
namespace {

// The rings outlast this much silence of the consumer (a training that holds the interpreter).
constexpr std::int64_t kRingNs = 64 * kNanosPerSecond;
constexpr std::size_t kLeastRing = 256;
constexpr std::size_t kMostRing = std::size_t{1} << 17; // 4 MB a channel

// How long a thread may take to come back from its sensor when it is to stop.
constexpr std::int64_t kStopNs = 2 * kNanosPerSecond;

constexpr std::int64_t kAccountingNs = kNanosPerSecond;

// A mark that follows a reading this closely (in periods) gains nothing from another.
constexpr std::int64_t kEdgeReadFraction = 8;

// Of the thread's own period once the budget has stretched it; before, of the sensor's, if that is
// shorter: a thread that is asked to read seldom still reads the edges sharply.
std::int64_t edge_spacing_ns(std::int64_t period_ns, const Pace& pace, const Source& source) {
    if (period_ns > pace.period_ns) return period_ns / kEdgeReadFraction;
    return std::min(period_ns, source.default_period_ns()) / kEdgeReadFraction;
}

std::size_t ring_capacity(std::int64_t period_ns) {
    return std::clamp(static_cast<std::size_t>(kRingNs / period_ns), kLeastRing, kMostRing);
}

// Signals belong to the program being measured: the thread is born with all of them blocked.
class SignalsBlocked {
public:
    SignalsBlocked() noexcept {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    SignalsBlocked(const SignalsBlocked&) = delete;
    SignalsBlocked& operator=(const SignalsBlocked&) = delete;
    ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

private:
    sigset_t before_{};
};

} // namespace

Sampler::Sampler(std::string name, std::unique_ptr<Source> source, Pace pace)
    : name_(std::move(name)), source_(std::move(source)), pace_(pace) {
    for (const Channel& channel : source_->channels()) {
        lanes_.push_back(std::make_unique<Lane>(channel, ring_capacity(pace_.period_ns)));
        groups_ = std::max(groups_, channel.group + 1);
    }
    readings_.resize(lanes_.size());
    counters_.period_ns.store(pace_.period_ns, std::memory_order_relaxed);
}

Sampler::~Sampler() {
    stop();
}

void Sampler::start() {
    if (stopping_.load(std::memory_order_relaxed)) return; // a sampler runs once
    read_all(); // so that no mark can come before the first reading
    const SignalsBlocked blocked;
    thread_ = std::thread(&Sampler::run, this);
    pthread_setname_np(thread_.native_handle(), ("ct-" + name_).substr(0, 15).c_str());
}

bool Sampler::stop() {
    if (!thread_.joinable()) return !abandoned_;
    stopping_.store(true, std::memory_order_release); // pairs with the acquire in run()
    bell_.ring();
    finished_.wait(0, now_ns() + kStopNs);
    if (finished_.count() == 0) {
        // A driver that does not return must not hold up the program that is being measured.
        thread_.detach();
        abandoned_ = true;
        return false;
    }
    thread_.join();
    return true;
}

void Sampler::run() noexcept {
    // The default slack of 50 us would be most of the lateness of a kHz loop.
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    clockid_t clock = kNoClock;
    if (pthread_getcpuclockid(pthread_self(), &clock) == 0) {
        cpu_clock_.store(clock, std::memory_order_relaxed); // a value by itself
    }
    std::int64_t deadline_ns = read_ns_ + pace_.period_ns; // start() has just read
    accounted_.wall_ns = read_ns_;
    std::uint32_t seen = 0; // a bell that has rung before we came is heard
    while (true) {
        bell_.wait(seen, deadline_ns);
        // The count comes before the flag: a stop that falls between the two has rung since.
        seen = bell_.count();
        if (stopping_.load(std::memory_order_acquire)) break;
        const std::int64_t now = now_ns();
        const std::int64_t period_ns = counters_.period_ns.load(std::memory_order_relaxed);
        if (now >= deadline_ns) {
            read_all();
        } else if (now - read_ns_ >= edge_spacing_ns(period_ns, pace_, *source_)) {
            read_all();
            counters_.edge_reads.fetch_add(1, std::memory_order_relaxed);
        }
        deadline_ns = next_deadline(deadline_ns);
    }
    read_all(); // stopping is a mark too
    counters_.cpu_ns.store(thread_cpu_ns(), std::memory_order_relaxed);
    // release: whoever no longer finds the clock finds the final count instead.
    cpu_clock_.store(kNoClock, std::memory_order_release);
    finished_.ring();
}

void Sampler::read_all() noexcept {
    read_ns_ = now_ns();
    for (std::size_t group = 0; group < groups_; ++group) source_->read(group, readings_);
    for (std::size_t i = 0; i < lanes_.size(); ++i) store(*lanes_[i], readings_[i]);
    counters_.reads.fetch_add(1, std::memory_order_relaxed);
}

void Sampler::store(Lane& lane, const Reading& reading) noexcept {
    if (reading.status == Status::gone) lane.gone.store(true, std::memory_order_relaxed);
    if (reading.status != Status::ok) {
        lane.errors.fetch_add(1, std::memory_order_relaxed);
        return;
    }
    Sample sample;
    const Meter::Outcome outcome = lane.meter.take(reading, sample);
    if (outcome == Meter::Outcome::unusable) {
        lane.errors.fetch_add(1, std::memory_order_relaxed);
        return;
    }
    lane.resets.store(lane.meter.resets(), std::memory_order_relaxed);
    if (outcome == Meter::Outcome::sample) {
        publish(lane, sample);
    } else if (!lane.published) {
        lane.published = lane.ring.push(lane.newest); // no later change may come to carry it
    }
    if (!lane.published) return;
    // release: whoever sees this time also finds every sample up to it in the ring.
    lane.last_read_ns.store(reading.t_ns, std::memory_order_release);
}

void Sampler::publish(Lane& lane, Sample sample) noexcept {
    if (!lane.published) {
        // The reader never saw the change before this one: what stood still came after that, and a
        // gap among the refused samples is a gap still.
        sample.flags = (sample.flags & ~kStoodStill) | (lane.newest.flags & kGap);
        if ((lane.newest.flags & kGap) != 0) {
            sample.span_ns = sample.t_ns - (lane.newest.t_ns - lane.newest.span_ns);
        }
    }
    lane.newest = sample;
    lane.published = lane.ring.push(sample);
    if (!lane.published) lane.dropped.fetch_add(1, std::memory_order_relaxed);
}

std::int64_t Sampler::next_deadline(std::int64_t deadline_ns) noexcept {
    const std::int64_t now = now_ns();
    if (now < deadline_ns) return deadline_ns; // an edge read came first
    if (now - accounted_.wall_ns >= kAccountingNs) keep_to_budget();
    const std::int64_t period_ns = counters_.period_ns.load(std::memory_order_relaxed);
    // Missed deadlines are counted and skipped, never caught up in a burst.
    const std::int64_t missed = (now - deadline_ns) / period_ns;
    if (missed > 0) {
        counters_.late.fetch_add(static_cast<std::uint64_t>(missed), std::memory_order_relaxed);
    }
    return deadline_ns + (missed + 1) * period_ns;
}

void Sampler::keep_to_budget() noexcept {
    const std::int64_t wall_ns = now_ns();
    const std::int64_t cpu_ns = thread_cpu_ns();
    const double share = static_cast<double>(cpu_ns - accounted_.cpu_ns) /
                         static_cast<double>(wall_ns - accounted_.wall_ns);
    accounted_.wall_ns = wall_ns;
    accounted_.cpu_ns = cpu_ns;
    counters_.cpu_ns.store(cpu_ns, std::memory_order_relaxed);
    if (pace_.budget <= 0.0) return;
    // Cost is proportional to the rate: the period that would just meet the budget follows.
    const auto period_ns = static_cast<double>(counters_.period_ns.load(std::memory_order_relaxed));
    const double fitting_ns =
        std::min(period_ns * share / pace_.budget, static_cast<double>(kLongestPeriodNs));
    counters_.period_ns.store(std::max(pace_.period_ns, static_cast<std::int64_t>(fitting_ns)),
                              std::memory_order_relaxed);
}

std::int64_t Sampler::cpu_ns() const noexcept {
    const clockid_t clock = cpu_clock_.load(std::memory_order_acquire); // see the end of run()
    const std::int64_t live_ns = clock == kNoClock ? 0 : clock_ns(clock);
    return std::max(live_ns, counters_.cpu_ns.load(std::memory_order_relaxed));
}

SamplerStats Sampler::stats() const noexcept {
    return {counters_.reads.load(std::memory_order_relaxed),
            counters_.edge_reads.load(std::memory_order_relaxed),
            counters_.late.load(std::memory_order_relaxed), cpu_ns(),
            counters_.period_ns.load(std::memory_order_relaxed)};
}

ChannelStats Sampler::channel_stats(std::size_t channel) const noexcept {
    const Lane& lane = *lanes_[channel];
    return {lane.errors.load(std::memory_order_relaxed),
            lane.dropped.load(std::memory_order_relaxed),
            lane.resets.load(std::memory_order_relaxed),
            lane.last_read_ns.load(std::memory_order_acquire),
            lane.gone.load(std::memory_order_relaxed)};
}

} // namespace carbontracker
