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
#include "sample.hpp"
#include "sampling/governor.hpp"
#include "sampling/lane.hpp"
#include "sampling/lateness.hpp"
#include "sampling/ring.hpp"
#include "sampling/schedule.hpp"
#include "sources/source.hpp"

namespace carbontracker {

struct Pace {
    std::int64_t period_ns = 0; ///< between readings, whatever the sensors do; 0: follow them
    /// How long the machine has been suspended so far; replaced by tests.
    std::int64_t (*suspended_ns)() noexcept = carbontracker::suspended_ns;
};

/// What a sampling thread says about itself.
struct SamplerStats {
    std::uint64_t reads;          ///< rounds of readings, those for marks included
    std::uint64_t edge_reads;     ///< rounds of readings in which a mark was heard
    std::uint64_t late;           ///< deadlines of a steady rate missed by a whole period or more
    std::int64_t cpu_ns;          ///< CPU time of the thread
    std::int64_t wall_ns;         ///< how long it has been sampling
    std::int64_t lateness_p50_ns; ///< median time between a deadline and its reading
    std::int64_t lateness_p99_ns;
};

struct ChannelStats {
    std::uint64_t errors;      ///< readings that failed or could not be believed
    std::uint64_t dropped;     ///< samples refused by a full ring
    std::uint64_t resets;      ///< times the counter started again
    std::uint64_t readings;    ///< good ones
    std::int64_t last_read_ns; ///< newest good reading; all samples up to it are in the ring
    std::int64_t tick_ns;      ///< the learned refresh period; 0: none
    bool gone;
    bool lost; ///< does not answer now and may yet
};

/// Owns a source and the thread that reads it. Nothing on the reading path allocates, opens, locks,
/// logs or throws.
class Sampler {
public:
    /// `uses` has one for every channel of the source.
    Sampler(std::string name, std::unique_ptr<Source> source, Pace pace,
            const std::vector<Use>& uses);
    Sampler(const Sampler&) = delete;
    Sampler& operator=(const Sampler&) = delete;
    ~Sampler();

    /// Starts the thread, and waits for its first reading for at most `wait_ns`, so that no mark
    /// comes before it. Throws std::system_error where no thread can be started.
    void start(std::int64_t wait_ns = 2 * kNanosPerSecond);

    /// Whether it has had a thread.
    [[nodiscard]] bool has_started() const noexcept {
        return has_started_.load(std::memory_order_relaxed);
    }

    /// Waits for the first reading, at most until `deadline_ns`.
    void await_first_reading(std::int64_t deadline_ns) const noexcept;

    /// Asks the thread to take one last reading and to end. Returns at once. Several samplers that
    /// are asked before the first is stopped share the time that they may take.
    void ask_to_stop() noexcept;

    /// The same, and joins the thread. Callable more than once.
    ///
    /// False if the thread is stuck in its sensor: it is left behind, and so must this object be.
    bool stop();

    /// Somebody marked this moment: sharpen E(t) around it, unless the newest mark that was served
    /// is too close. Returns at once.
    void mark(std::int64_t t_ns) noexcept;

    /// Whether marks gain anything here; else they need not wake the thread.
    [[nodiscard]] bool wants_marks() const noexcept {
        return wants_marks_.load(std::memory_order_relaxed);
    }

    void spare(const Thrift& thrift) noexcept;

    /// So much CPU time does not count towards the share. Only before the thread is started.
    void lend(std::int64_t cpu_ns) noexcept;

    /// CPU time of the thread.
    [[nodiscard]] std::int64_t cpu_ns() const noexcept;

    /// What channel `index` is read for from now on.
    void set_use(std::size_t index, Use use) noexcept;

    /// Whether readings that would come now wait until they can be afforded.
    [[nodiscard]] bool is_held_back() const noexcept {
        return free_ns_.load(std::memory_order_relaxed) > now_ns();
    }

    /// How many calls it takes to read everything once.
    [[nodiscard]] std::size_t groups() const noexcept { return groups_.size(); }

    /// Consumer side, one thread at a time.
    std::size_t drain(std::size_t channel, std::span<Sample> out) noexcept {
        return tracks_[channel]->ring.drain(out);
    }

    /// As in channel_stats(), by itself.
    [[nodiscard]] std::int64_t last_read_ns(std::size_t channel) const noexcept {
        return tracks_[channel]->last_read_ns.load(std::memory_order_acquire);
    }

    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] const Source& source() const noexcept { return *source_; }
    [[nodiscard]] SamplerStats stats() const noexcept;
    [[nodiscard]] ChannelStats channel_stats(std::size_t channel) const noexcept;

private:
    struct Track {
        Track(const Channel& channel, std::size_t capacity, Use for_what)
            : lane(channel), ring(capacity), use(for_what) {}
        Lane lane;
        Ring<Sample> ring;
        Sample newest;
        bool published = true; // false while a full ring has refused the newest
        std::atomic<Use> use;
        std::atomic<std::uint64_t> errors{0};
        std::atomic<std::uint64_t> dropped{0};
        std::atomic<std::uint64_t> resets{0};
        std::atomic<std::uint64_t> readings{0};
        std::atomic<std::int64_t> last_read_ns{0};
        std::atomic<std::int64_t> tick_ns{0};
        std::atomic<bool> gone{false};
        std::atomic<bool> lost{false};
    };

    // Channels that are read by one call, and what they are spared when it fails or takes long.
    struct Group {
        std::vector<std::size_t> members; // tracks
        std::int64_t due_ns = 0;
        std::int64_t early_ns = 0;         // so long before that it may as well be read
        std::int64_t failing_since_ns = 0; // 0: all is well
        std::int64_t spared_until_ns = 0;
        bool lost = false;
    };

    // Written by the thread, read by anybody: single values, so relaxed is enough for all of them.
    struct Counters {
        std::atomic<std::uint64_t> reads{0};
        std::atomic<std::uint64_t> edge_reads{0};
        std::atomic<std::uint64_t> late{0};
        std::atomic<std::int64_t> cpu_ns{0};
        std::atomic<std::int64_t> began_ns{0};
        std::atomic<std::int64_t> ended_ns{0};
        Lateness lateness;
    };

    static constexpr clockid_t kNoClock = -1;

    void run() noexcept;
    [[nodiscard]] std::int64_t earliest_due_ns() const noexcept;
    [[nodiscard]] bool serve_mark() noexcept;
    [[nodiscard]] bool wants_marks(const Track& track) const noexcept;
    void mark_group(std::size_t index, std::int64_t mark_ns) noexcept;
    void look_for_suspend(std::int64_t now_ns) noexcept;
    bool read_due(std::int64_t now_ns) noexcept;
    void read_all() noexcept;
    std::int64_t read_group(std::size_t group, std::int64_t began_ns) noexcept;
    void take_history(std::size_t channel) noexcept;
    void settle(Group& group, std::int64_t began_ns, std::int64_t ended_ns) noexcept;
    void charge(std::int64_t now_ns) noexcept;
    void choose_searches(std::int64_t now_ns) noexcept;
    void plan_group(std::size_t index, std::int64_t now_ns) noexcept;
    [[nodiscard]] Limits limits(std::size_t group, std::int64_t now_ns) noexcept;
    [[nodiscard]] std::int64_t next_steady_ns(std::int64_t now_ns) noexcept;
    static void store(Track& track, const Reading& reading) noexcept;
    static void publish(Track& track, Sample sample) noexcept;

    const std::string name_;
    const std::unique_ptr<Source> source_;
    const Pace pace_;
    const std::int64_t usual_ns_; // between readings, where nobody asked for a rate
    std::vector<std::unique_ptr<Track>> tracks_;
    std::vector<Group> groups_;
    std::vector<Reading> readings_;
    std::vector<Reading> history_;
    Counters counters_;
    std::atomic<double> stretch_total_{1.0};
    std::atomic<double> stretch_others_{1.0};
    std::atomic<double> share_{Thrift{}.share};
    std::atomic<std::int64_t> mark_spacing_ns_{Thrift{}.mark_spacing_ns};
    std::atomic<std::int64_t> marked_ns_{std::numeric_limits<std::int64_t>::min() / 2}; // never
    std::atomic<bool> wants_marks_{true};
    std::atomic<std::int64_t> mark_ns_{0};
    struct {
        std::int64_t suspended_ns = 0;
        std::int64_t looked_ns = 0;
    } wake_;                     // when the thread last looked for a suspend
    std::int64_t steady_ns_ = 0; // the next deadline of a rate that was asked for
    Allowance allowance_;
    std::atomic<std::int64_t> free_ns_{0}; // of the allowance, for anybody to read
    Searches searches_;
    std::int64_t charged_ns_ = 0; // CPU time of the thread that the allowance has been charged with
    Bell bell_;
    std::atomic<bool> stopping_{false};
    std::int64_t asked_to_stop_ns_ = 0;          // of the thread that stops
    std::atomic<clockid_t> cpu_clock_{kNoClock}; // of the thread while it lives
    Bell begun_;                                 // rung after the first reading
    Bell finished_;
    std::atomic<bool> has_started_{false}; // a value by itself
    bool abandoned_ = false;
    std::thread thread_;
};

} // namespace carbontracker
