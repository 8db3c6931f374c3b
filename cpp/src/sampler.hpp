// One source, one thread, one ring per channel.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "clock.hpp"
#include "meter.hpp"
#include "ring.hpp"
#include "sample.hpp"
#include "source.hpp"

namespace carbontracker {

struct Pace {
    std::int64_t period_ns; ///< between readings
    double budget;          ///< most of one core the thread may use; the period stretches to it
};

/// What a sampling thread says about itself.
struct SamplerStats {
    std::uint64_t reads;      ///< rounds of readings, edge reads included
    std::uint64_t edge_reads; ///< rounds that a mark asked for
    std::uint64_t late;       ///< deadlines missed by a whole period or more
    std::int64_t cpu_ns;      ///< CPU time of the thread
    std::int64_t period_ns;   ///< the period in force, longer than asked if over budget
};

struct ChannelStats {
    std::uint64_t errors;      ///< readings that failed or could not be believed
    std::uint64_t dropped;     ///< samples refused by a full ring
    std::uint64_t resets;      ///< times the counter started again
    std::int64_t last_read_ns; ///< newest good reading; all samples up to it are in the ring
    bool gone;
};

/// Owns a source and the thread that reads it on absolute deadlines. Nothing on the reading path
/// allocates, opens, locks, logs or throws.
class Sampler {
public:
    Sampler(std::string name, std::unique_ptr<Source> source, Pace pace);
    Sampler(const Sampler&) = delete;
    Sampler& operator=(const Sampler&) = delete;
    ~Sampler();

    void start();

    /// Takes one last reading and joins the thread. Callable more than once.
    ///
    /// False if the thread is stuck in its sensor: it is left behind, and so must this object be.
    bool stop();

    /// Asks for one reading now; returns at once.
    void poke() noexcept { bell_.ring(); }

    /// Consumer side, one thread at a time.
    void drain(std::size_t channel, std::vector<Sample>& out) { lanes_[channel]->ring.drain(out); }

    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] const Source& source() const noexcept { return *source_; }
    [[nodiscard]] SamplerStats stats() const noexcept;
    [[nodiscard]] ChannelStats channel_stats(std::size_t channel) const noexcept;

private:
    struct Lane {
        Lane(const Channel& channel, std::size_t capacity) : meter(channel), ring(capacity) {}
        Meter meter;
        Ring<Sample> ring;
        Sample newest;
        bool published = true; // false while a full ring has refused the newest
        std::atomic<std::uint64_t> errors{0};
        std::atomic<std::uint64_t> dropped{0};
        std::atomic<std::uint64_t> resets{0};
        std::atomic<std::int64_t> last_read_ns{0};
        std::atomic<bool> gone{false};
    };

    // Written by the thread, read by anybody: single values, so relaxed is enough for all of them.
    struct Counters {
        std::atomic<std::uint64_t> reads{0};
        std::atomic<std::uint64_t> edge_reads{0};
        std::atomic<std::uint64_t> late{0};
        std::atomic<std::int64_t> cpu_ns{0};
        std::atomic<std::int64_t> period_ns{0};
    };

    static constexpr clockid_t kNoClock = -1;

    void run() noexcept;
    [[nodiscard]] std::int64_t cpu_ns() const noexcept;
    void read_all() noexcept;
    static void store(Lane& lane, const Reading& reading) noexcept;
    static void publish(Lane& lane, Sample sample) noexcept;
    [[nodiscard]] std::int64_t next_deadline(std::int64_t deadline_ns) noexcept;
    void keep_to_budget() noexcept;

    const std::string name_;
    const std::unique_ptr<Source> source_;
    const Pace pace_;
    std::vector<std::unique_ptr<Lane>> lanes_;
    std::vector<Reading> readings_;
    std::size_t groups_ = 0;
    Counters counters_;
    std::int64_t read_ns_ = 0; // when the newest round began
    struct {
        std::int64_t wall_ns = 0;
        std::int64_t cpu_ns = 0;
    } accounted_; // the thread's own: when it last looked at its cost
    Bell bell_;
    std::atomic<bool> stopping_{false};
    std::atomic<clockid_t> cpu_clock_{kNoClock}; // of the thread while it lives
    Bell finished_;
    bool abandoned_ = false;
    std::thread thread_;
};

} // namespace carbontracker
