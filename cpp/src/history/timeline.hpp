// E(t) of one channel: joules since it started, at nanoseconds of CLOCK_MONOTONIC.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "sample.hpp"
#include "sources/source.hpp"

namespace carbontracker {

/// E(t) at one moment.
struct Level {
    double joules = 0.0;
    double error_joules = 0.0;   ///< 95 % half-width of timing, shape and quantisation
    double hidden_joules2 = 0.0; ///< variance since the start: power between readings, takeovers
    bool final = false;          ///< no later sample will move the value
};

/// The part of a stretch of time of which the energy is not known.
struct Unknown {
    std::int64_t ns = 0;
    double joules = 0.0; ///< what it held at the power around it; 0 where none is known
};

class Timeline;

/// Power channels of the same thing, which know what happened between two changes of a counter.
struct Beside {
    const Timeline* shape = nullptr; ///< says how the energy was spread; scaled to agree
    const Timeline* range = nullptr; ///< says how far the power swung
};

/// The samples of one channel and the function through them. No clock, no sensor.
///
/// Samples are cumulative, so one that is missing, late or thinned away costs time resolution and
/// never energy. E(t) never falls.
class Timeline {
public:
    /// `joined_ns`: the sensor was found then, long after the start; no energy is known before.
    explicit Timeline(const Channel& channel, std::int64_t joined_ns = 0);

    /// Makes sure that so many more samples can be appended. Where it throws nothing has changed.
    void make_room(std::size_t samples);

    /// Appends samples in time order; does not throw where there is room for them. `seen_ns` is the
    /// newest good reading, which may have found nothing moved.
    void extend(std::span<const Sample> samples, std::int64_t seen_ns);

    [[nodiscard]] Level at(std::int64_t t_ns, const Beside& beside = {}) const;

    /// Share of [t0, t1] in which the energy is known, 0..1.
    [[nodiscard]] double coverage(std::int64_t t0_ns, std::int64_t t1_ns) const;

    /// The rest of [t0, t1].
    [[nodiscard]] Unknown unknown(std::int64_t t0_ns, std::int64_t t1_ns) const;

    /// Whether the sensor still answers. While it does, E(t) goes on for a moment after the newest
    /// reading, because the next one is on its way. Where it does not for long, it has told all
    /// that it will: E(t) stands still, and is final.
    void set_answering(bool answers, std::int64_t now_ns) noexcept;

    /// A session has told that E(t) is final: where the sensor did not answer then, it stays as it
    /// is even if a counter turns out to have counted on.
    void hold(std::int64_t t_ns) noexcept;

    /// The energy is known up to here; 0 if nothing is known.
    [[nodiscard]] std::int64_t known_to_ns() const noexcept;

    /// When it was known again after `t_ns`: the first change or reading since.
    [[nodiscard]] std::int64_t known_again_ns(std::int64_t t_ns) const noexcept;

    /// Mean watts between changes within [t0, t1], each with the end of its interval.
    [[nodiscard]] std::pair<std::vector<std::int64_t>, std::vector<double>>
    power(std::int64_t t0_ns, std::int64_t t1_ns) const;

    /// Keeps one sample in each `spacing_ns` of the time before `before_ns`, and, of the older of
    /// those, fewer where they become many: evenly, so that no part of the past is forgotten.
    /// Totals between samples that stay do not change.
    void thin(std::int64_t before_ns, std::int64_t spacing_ns);

    [[nodiscard]] std::size_t size() const noexcept { return points_.size(); }
    [[nodiscard]] bool is_counter() const noexcept { return counter_; }
    [[nodiscard]] std::int64_t seen_ns() const noexcept { return seen_ns_; }
    [[nodiscard]] std::int64_t first_ns() const noexcept;
    [[nodiscard]] std::int64_t last_ns() const noexcept;
    /// The sensor's refresh period as far as known.
    [[nodiscard]] std::int64_t tick_ns() const noexcept;
    [[nodiscard]] bool is_thinned() const noexcept { return thinned_ > 0; }
    /// Power: each reading is the mean of all of its refresh period, as far as the period confirms
    /// it.
    [[nodiscard]] bool is_whole() const noexcept;

    /// Whether a counter of what always draws has stood still, while it was read, for longer than
    /// its ticks explain.
    [[nodiscard]] bool is_stuck() const noexcept;
    /// Power: what was drawn at least, if it was never less than the least that was read.
    [[nodiscard]] double least_joules(std::int64_t from_ns, std::int64_t to_ns) const noexcept;

    /// Whether the power of a counter, from update to update, was not the same between these
    /// moments.
    [[nodiscard]] bool is_restless(std::int64_t from_ns, std::int64_t to_ns) const noexcept;

    /// Whether updates between these moments went by unread.
    [[nodiscard]] bool skips(std::int64_t from_ns, std::int64_t to_ns) const noexcept;
    /// Time of the `back`-th newest sample, or of the first.
    [[nodiscard]] std::int64_t newest_ns(std::size_t back) const noexcept;
    [[nodiscard]] double quantum_joules() const noexcept { return quantum_uj_ * 1e-6; }
    /// When the counter last began again; 0 if it never did.
    [[nodiscard]] std::int64_t restart_ns() const noexcept { return restart_ns_; }
    /// The newest sample before that, or what was told for good since.
    [[nodiscard]] std::int64_t before_restart_ns() const noexcept { return before_restart_ns_; }

private:
    struct Point {
        std::int64_t t_ns;
        std::int64_t energy_uj;
        std::int64_t before_ns; // the last reading that found the energy before
        double hidden_joules2;
        std::int64_t unsure_ns;
        std::uint32_t tick_ns;
        std::uint32_t flags;
        float watts;
    };
    struct Swing {
        double least; // watts
        double most;
    };
    /// Of points only: what was told for good. With kGap E(t) stands still up to it.
    static constexpr std::uint32_t kHeld = 1U << 31;
    /// Of two that were joined the energy of some time in between is known.
    struct Gap {
        std::int64_t start_ns;
        std::int64_t end_ns;
        std::int64_t unknown_ns;

        [[nodiscard]] std::int64_t unknown_within(std::int64_t from_ns,
                                                  std::int64_t to_ns) const noexcept;
    };
    struct Rise {
        std::int64_t start_ns;
        std::int64_t end_ns;
        bool straight; // else all at once
    };

    /// Whether the time of a tick is known well enough to stay.
    [[nodiscard]] static bool is_settled(const Point& point) noexcept {
        return point.unsure_ns <= point.tick_ns / 8;
    }

    void append(const Sample& sample);
    void begin_gap(const Point& end);
    double forgo(Point& point);
    void refine_last(const Sample& next);
    void add_gap(std::int64_t start_ns, std::int64_t end_ns);
    [[nodiscard]] double hidden_after(const Point& point) const;
    [[nodiscard]] std::size_t index_at(std::int64_t t_ns) const noexcept;
    [[nodiscard]] Rise rise(std::size_t k) const noexcept;
    [[nodiscard]] double watts_between(std::size_t k) const noexcept;
    [[nodiscard]] double stepped(std::size_t k, double passed) const noexcept;
    [[nodiscard]] Swing swing(std::int64_t from_ns, std::int64_t to_ns) const noexcept;
    [[nodiscard]] double swing_joules(std::int64_t from_ns, std::int64_t to_ns) const noexcept;
    [[nodiscard]] static double doubt_watts(double share, double mean, const Swing& swing) noexcept;
    [[nodiscard]] double shape_joules(std::size_t k, double share, const Timeline* range) const;
    [[nodiscard]] Level held(std::size_t k) const noexcept;
    [[nodiscard]] Level between(std::size_t k, std::int64_t t_ns, const Beside& beside) const;
    [[nodiscard]] Level after_last(std::int64_t t_ns, const Timeline* range) const;
    [[nodiscard]] std::int64_t ahead_ns(std::int64_t t_ns, std::int64_t length_ns) const noexcept;
    [[nodiscard]] Level integrated(std::size_t k, std::int64_t t_ns) const;
    [[nodiscard]] double spread(const Rise& rise, std::int64_t t_ns, double share) const;
    [[nodiscard]] double step_uj(std::size_t k, std::int64_t t_ns) const noexcept;
    /// Whether the sensor has not answered for long.
    [[nodiscard]] bool is_over() const noexcept { return over_to_ns_ > seen_ns_; }
    [[nodiscard]] bool is_told(std::int64_t t_ns) const noexcept {
        return is_over() && t_ns <= over_to_ns_;
    }
    [[nodiscard]] std::int64_t known_from_ns() const noexcept;
    [[nodiscard]] bool has_gap(std::int64_t from_ns, std::int64_t to_ns) const noexcept;
    [[nodiscard]] bool in_first_tick() const noexcept;
    [[nodiscard]] std::int64_t horizon_ns() const noexcept;
    [[nodiscard]] std::vector<Gap>::const_iterator
    first_gap_after(std::int64_t t_ns) const noexcept;
    [[nodiscard]] double watts_around(std::int64_t from_ns, std::int64_t to_ns) const;

    const bool counter_;
    const bool whole_;        // power: a reading is the mean of all of its refresh period
    const bool low_pass_;     // power: not a mean
    const bool always_draws_; // standing still means that nothing is known
    const std::int64_t usual_tick_ns_;
    const double most_watts_;
    const double quantum_uj_;
    std::vector<Point> points_;
    std::vector<Gap> gaps_;
    std::int64_t from_ns_; // before, nothing is known, whatever comes
    bool answers_ = true;
    std::int64_t over_to_ns_ = 0; // up to here it was found to have told all
    std::int64_t forgone_uj_ = 0; // what the samples have more than what was told before them
    std::int64_t seen_ns_ = 0;
    std::int64_t restart_ns_ = 0;
    std::int64_t before_restart_ns_ = 0;
    std::int64_t coarse_ns_ = 0; // spacing of what is older than the newest of the thinned
    std::size_t thinned_ = 0;    // leading points that are no longer every change there was
};

} // namespace carbontracker
