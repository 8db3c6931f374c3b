// One source, one thread, one ring per channel.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "platform/clock.hpp"
#include "platform/event.hpp"
#include "sample.hpp"
#include "sampling/governor.hpp"
#include "sampling/lane.hpp"
#include "sampling/lateness.hpp"
#include "sampling/ring.hpp"
#include "sampling/schedule.hpp"
#include "sources/source.hpp"

namespace carbontracker {

struct Pace {
    std::int64_t period_ns =
        0; ///< between readings, the same for all sensors; 0: follow each sensor
    /// Total time for which the machine was suspended; replaced by tests.
    std::int64_t (*suspended_ns)() noexcept = carbontracker::suspended_ns;
};

/// Statistics of a sampling thread.
struct SamplerStats {
    std::uint64_t reads;          ///< rounds of readings, including those for marks
    std::uint64_t edge_reads;     ///< rounds of readings for marks
    std::uint64_t late;           ///< missed deadlines of a steady rate
    std::int64_t cpu_ns;          ///< CPU time of the thread
    std::int64_t held_ns;         ///< time within calls of the driver, which may hold its lock
    std::int64_t wall_ns;         ///< time since sampling began
    std::int64_t lateness_p50_ns; ///< median time between a deadline and its reading
    std::int64_t lateness_p99_ns;
};

struct ChannelStats {
    std::uint64_t errors;      ///< readings that failed or were implausible
    std::uint64_t dropped;     ///< samples refused by a full ring
    std::uint64_t resets;      ///< resets of the counter
    std::uint64_t readings;    ///< good readings
    std::int64_t last_read_ns; ///< newest good reading; all samples up to it are in the ring
    std::int64_t tick_ns;      ///< learned refresh period; 0: unknown
    bool gone;
    bool lost;            ///< does not answer now, but may later
    double refused_watts; ///< the largest power that was more than the device can draw; 0: none
};

/// Owns a source and the thread that reads it. The reading path does not allocate, open files,
/// lock, log or throw.
class Sampler {
public:
    /// `priorities` has one element for every channel of the source.
    Sampler(std::string name, std::unique_ptr<Source> source, Pace pace,
            const std::vector<Priority>& priorities);
    Sampler(const Sampler&) = delete;
    Sampler& operator=(const Sampler&) = delete;
    ~Sampler();

    /// Continues E(t) of channel `index` from another reader: see Lane. Before start().
    void continue_from(std::size_t index, const Sample& from, std::int64_t read_ns) noexcept {
        tracks_[index]->lane.continue_from(from, read_ns, source_->counts_for_all());
    }

    /// Starts the thread and waits at most `wait_ns` for its first reading, so that it comes before
    /// any mark. Throws std::system_error if the thread cannot be created.
    void start(std::int64_t wait_ns = 2 * kNanosPerSecond);

    /// Whether its thread was ever started.
    [[nodiscard]] bool has_started() const noexcept {
        return has_started_.load(std::memory_order_relaxed);
    }

    /// The kernel's number of its thread; 0 while there is none.
    [[nodiscard]] pid_t thread_id() const noexcept {
        return thread_id_.load(std::memory_order_relaxed);
    }

    /// Waits for the first reading, at most until `deadline_ns`.
    void await_first_reading(std::int64_t deadline_ns) const noexcept;

    /// Asks the thread to take a last reading and end. Returns at once, so that several samplers
    /// can be asked first and then stopped within one common waiting time.
    void ask_to_stop() noexcept;

    /// Does the same, and joins the thread. May be called more than once.
    ///
    /// Returns false if the thread is stuck in its sensor: then leak this object.
    bool stop();

    /// After stop() returned true: start() begins anew then, with new E(t). Samples stay in the
    /// rings.
    void make_ready() noexcept;

    /// Sharpens E(t) around a mark at this time, unless the previous mark is too close. Returns
    /// at once.
    void mark(std::int64_t t_ns) noexcept;

    /// Whether marks gain from reads here; if not, the thread need not be woken.
    [[nodiscard]] bool benefits_from_edge_read() const noexcept {
        return benefits_from_edge_read_.load(std::memory_order_relaxed);
    }

    /// Sets how far the readings are throttled.
    void set_limits(const SamplingLimits& limits) noexcept;

    /// Credits this much CPU time. Only before the thread is started.
    void lend(std::int64_t cpu_ns) noexcept;

    /// CPU time of the thread.
    [[nodiscard]] std::int64_t cpu_ns() const noexcept;

    /// Sets why channel `index` is read, from its next reading on.
    void set_priority(std::size_t index, Priority priority) noexcept;

    /// Whether reads are waiting for CPU time.
    [[nodiscard]] bool is_held_back() const noexcept {
        return free_ns_.load(std::memory_order_relaxed) > now_ns();
    }

    /// Number of calls that read all channels once.
    [[nodiscard]] std::size_t groups() const noexcept { return groups_.size(); }

    /// For one consumer thread at a time.
    std::size_t drain(std::size_t channel, std::span<Sample> out) noexcept {
        return tracks_[channel]->ring.drain(out);
    }

    /// The same as in channel_stats().
    [[nodiscard]] std::int64_t last_read_ns(std::size_t channel) const noexcept {
        return tracks_[channel]->last_read_ns.load(std::memory_order_acquire);
    }

    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] const Source& source() const noexcept { return *source_; }
    [[nodiscard]] SamplerStats stats() const noexcept;
    [[nodiscard]] ChannelStats channel_stats(std::size_t channel) const noexcept;

private:
    struct Track {
        Track(const Channel& channel, std::size_t capacity, Priority initial_priority)
            : lane(channel), ring(capacity), priority(initial_priority) {}
        Lane lane;
        Ring<Sample> ring;
        Sample newest;
        bool published = true; // false: a full ring has refused `newest`
        std::atomic<Priority> priority;
        std::atomic<std::uint64_t> errors{0};
        std::atomic<std::uint64_t> dropped{0};
        std::atomic<std::uint64_t> resets{0};
        std::atomic<std::uint64_t> readings{0};
        std::atomic<std::int64_t> last_read_ns{0};
        std::atomic<std::int64_t> tick_ns{0};
        std::atomic<bool> gone{false};
        std::atomic<bool> lost{false};
        std::atomic<double> refused_watts{0.0};
    };

    // Channels that are read by one call, with their back-off after failures and slow calls.
    struct Group {
        std::vector<std::size_t> members; // indices into tracks_
        std::int64_t due_ns = 0;
        std::int64_t early_ns = 0;         // may be read this much earlier
        std::int64_t failing_since_ns = 0; // 0: it does not fail
        std::int64_t backoff_until_ns = 0;
        bool lost = false;
    };

    // Written by the thread, read by others: independent values, so relaxed order is enough.
    struct Counters {
        std::atomic<std::uint64_t> reads{0};
        std::atomic<std::uint64_t> edge_reads{0};
        std::atomic<std::uint64_t> late{0};
        std::atomic<std::int64_t> cpu_ns{0};
        std::atomic<std::int64_t> held_ns{0};
        std::atomic<std::int64_t> began_ns{0};
        std::atomic<std::int64_t> ended_ns{0};
        Lateness lateness;
    };

    static constexpr clockid_t kNoClock = -1;

    void run() noexcept;
    [[nodiscard]] std::int64_t earliest_due_ns() const noexcept;
    [[nodiscard]] bool serve_mark() noexcept;
    [[nodiscard]] bool benefits_from_edge_read(const Track& track) const noexcept;
    void mark_group(std::size_t index, std::int64_t mark_ns) noexcept;
    void look_for_suspend(std::int64_t now_ns) noexcept;
    bool read_due(std::int64_t now_ns) noexcept;
    void read_all() noexcept;
    std::int64_t read_group(std::size_t group, std::int64_t began_ns) noexcept;
    void take_history(std::size_t channel) noexcept;
    void update_backoff(Group& group, std::int64_t began_ns, std::int64_t ended_ns) noexcept;
    void charge(std::int64_t now_ns) noexcept;
    void choose_searches(std::int64_t now_ns) noexcept;
    void plan_group(std::size_t index, std::int64_t now_ns) noexcept;
    [[nodiscard]] DueConstraints due_constraints(std::size_t group, std::int64_t now_ns) noexcept;
    [[nodiscard]] std::int64_t next_steady_ns(std::int64_t now_ns) noexcept;
    static void store(Track& track, const Reading& reading) noexcept;
    static void publish(Track& track, Sample sample) noexcept;

    const std::string name_;
    const std::unique_ptr<Source> source_;
    const Pace pace_;
    const std::int64_t usual_ns_; // default time between readings
    std::vector<std::unique_ptr<Track>> tracks_;
    std::vector<Group> groups_;
    std::vector<Reading> readings_;
    std::vector<Reading> history_;
    Counters counters_;
    std::atomic<double> spacing_total_{1.0};
    std::atomic<double> spacing_others_{1.0};
    std::atomic<double> cpu_share_{SamplingLimits{}.cpu_share};
    std::atomic<std::int64_t> mark_spacing_ns_{SamplingLimits{}.mark_spacing_ns};
    std::atomic<std::int64_t> marked_ns_{std::numeric_limits<std::int64_t>::min() / 2}; // never
    std::atomic<bool> benefits_from_edge_read_{true};
    std::atomic<std::int64_t> mark_ns_{0};
    struct {
        std::int64_t suspended_ns = 0;
        std::int64_t looked_ns = 0;
    } wake_;                     // last check for a suspend
    std::int64_t steady_ns_ = 0; // next deadline of a rate that the user asked for
    Allowance allowance_;
    std::atomic<std::int64_t> free_ns_{0}; // copy of allowance_.free_ns() for other threads
    Searches searches_;
    std::int64_t charged_ns_ = 0; // CPU time that was charged to the allowance
    Event wake_event_;
    std::atomic<bool> stopping_{false};
    std::int64_t asked_to_stop_ns_ = 0;          // for the stopping thread
    std::uint32_t finished_before_ = 0;          // count of `finished_` when the thread started
    std::atomic<std::int64_t> cpu_before_ns_{0}; // CPU time of earlier threads
    std::atomic<clockid_t> cpu_clock_{kNoClock}; // of the thread, while it runs
    std::atomic<pid_t> thread_id_{0};            // an independent value
    Event begun_;                                // after the first reading
    Event finished_;
    std::atomic<bool> has_started_{false}; // an independent value
    bool abandoned_ = false;
    std::thread thread_;
};

} // namespace carbontracker
