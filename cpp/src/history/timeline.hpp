// E(t) of one channel: joules since it started, at nanoseconds of CLOCK_MONOTONIC.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "history/points.hpp"
#include "sample.hpp"
#include "sources/source.hpp"

namespace carbontracker {

/// E(t) at one time.
struct EnergyEstimate {
    double joules = 0.0;
    double error_joules = 0.0;        ///< 95 % half-width of timing, shape and quantisation
    double unresolved_variance = 0.0; ///< since the start: power between readings, failovers
    bool final = false;               ///< no later sample will change the value
};

/// The part of a window for which the energy is unknown.
struct Unknown {
    std::int64_t ns = 0;
    double joules = 0.0; ///< expected energy at the power around it; 0 where that is unknown
};

/// Mean watts between changes, each with the end of its interval.
struct PowerSeries {
    std::vector<std::int64_t> t_ns;
    std::vector<double> watts;
    /// Up to here the samples were thinned; 0 if all were kept.
    std::int64_t thinned_to_ns = 0;
};

class Timeline;

/// Power channels of the same device, which show what happened between two changes of a counter.
struct SideChannels {
    const Timeline* shape = nullptr; ///< how the energy was spread; scaled to the counter
    const Timeline* range = nullptr; ///< how far the power fluctuated
};

/// The samples of one channel and the function through them. Without a clock or a sensor.
///
/// Samples are cumulative: one that is missing, late or thinned out costs time resolution and
/// never energy. E(t) never falls.
class Timeline {
public:
    /// `joined_ns`: the sensor joined then, long after the start; the energy before is unknown.
    explicit Timeline(const Channel& channel, std::int64_t joined_ns = 0);

    /// Reserves memory for this many more samples. On std::bad_alloc nothing has changed.
    void make_room(std::size_t samples);

    /// Appends samples in time order; does not throw after make_room(). `seen_ns` is the time of
    /// the newest good reading, which may have shown no change.
    void extend(std::span<const Sample> samples, std::int64_t seen_ns);

    [[nodiscard]] EnergyEstimate at(std::int64_t t_ns, const SideChannels& side = {}) const;

    /// Share of [t0, t1] for which the energy is known, 0..1.
    [[nodiscard]] double coverage(std::int64_t t0_ns, std::int64_t t1_ns) const;

    /// The part of [t0, t1] for which the energy is unknown.
    [[nodiscard]] Unknown unknown(std::int64_t t0_ns, std::int64_t t1_ns) const;

    /// Whether the sensor still answers. If it does, E(t) continues for a moment after the newest
    /// reading, because the next reading is expected. After a long silence E(t) is constant and
    /// final.
    void set_answering(bool answers, std::int64_t now_ns) noexcept;

    /// A session has reported E(t) as final. Where the sensor did not answer then, E(t) keeps that
    /// value even if the counter turns out to have counted on.
    void hold(std::int64_t t_ns) noexcept;

    /// The energy is known up to this time; 0 if nothing is known.
    [[nodiscard]] std::int64_t known_to_ns() const noexcept;

    /// When the energy was known again after `t_ns`: the first change or reading since.
    [[nodiscard]] std::int64_t known_again_ns(std::int64_t t_ns) const noexcept;

    [[nodiscard]] PowerSeries power(std::int64_t t0_ns, std::int64_t t1_ns) const;

    /// Keeps one sample in each `spacing_ns` of whole blocks before `before_ns`. Where the older
    /// ones become too many, keeps fewer of them, evenly. Totals between samples that are kept do
    /// not change. Returns how many samples it looked at.
    std::size_t thin(std::int64_t before_ns, std::int64_t spacing_ns) {
        return points_.thin(before_ns, spacing_ns);
    }

    /// Memory that its samples use.
    [[nodiscard]] std::size_t bytes() const noexcept { return points_.bytes(); }

    [[nodiscard]] std::size_t size() const noexcept { return points_.size(); }
    [[nodiscard]] bool is_counter() const noexcept { return counter_; }
    [[nodiscard]] std::int64_t seen_ns() const noexcept { return seen_ns_; }
    [[nodiscard]] std::int64_t first_ns() const noexcept;
    [[nodiscard]] std::int64_t last_ns() const noexcept;
    /// The sensor's refresh period: learned, else the usual one.
    [[nodiscard]] std::int64_t tick_ns() const noexcept;
    [[nodiscard]] bool is_thinned() const noexcept { return points_.thinned() > 0; }
    /// Power: whether each reading is the mean of its whole refresh period, which the learned
    /// period must confirm.
    [[nodiscard]] bool is_whole() const noexcept;

    /// Whether a counter of a device that always draws power has stood still, while it was read,
    /// for longer than its ticks explain.
    [[nodiscard]] bool is_stuck() const noexcept;
    /// Power: a lower bound of the energy, from the smallest power that was read.
    [[nodiscard]] double min_joules(std::int64_t from_ns, std::int64_t to_ns) const noexcept;

    /// Whether the power of a counter fluctuated between these times, from update to update.
    [[nodiscard]] bool is_restless(std::int64_t from_ns, std::int64_t to_ns) const noexcept;

    /// Whether updates between these times were not read.
    [[nodiscard]] bool skips(std::int64_t from_ns, std::int64_t to_ns) const noexcept;
    /// Time of the `back`-th newest sample, or of the first.
    [[nodiscard]] std::int64_t newest_ns(std::size_t back) const noexcept;
    [[nodiscard]] double quantum_joules() const noexcept { return quantum_uj_ * 1e-6; }
    /// When the counter was last reset; 0 if never.
    [[nodiscard]] std::int64_t restart_ns() const noexcept { return restart_ns_; }
    /// The newest sample before that, or a later time that was reported as final.
    [[nodiscard]] std::int64_t before_restart_ns() const noexcept { return before_restart_ns_; }

private:
    struct Swing {
        double least; // watts
        double most;
    };
    /// A merged gap may contain time for which the energy is known.
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

    /// Whether the time of a tick is known well enough to be final.
    [[nodiscard]] static bool is_settled(const Point& point) noexcept {
        return point.time_ci95_ns <= point.tick_ns / 8;
    }

    void append(const Sample& sample);
    void begin_gap(const Point& end);
    double forgo(Point& point);
    void refine_last(const Sample& next);
    void add_gap(std::int64_t start_ns, std::int64_t end_ns);
    [[nodiscard]] double unresolved_variance_after(const Point& point) const;
    [[nodiscard]] std::size_t index_at(std::int64_t t_ns) const noexcept;
    [[nodiscard]] Rise rise(std::size_t k) const noexcept;
    [[nodiscard]] double watts_between(std::size_t k) const noexcept;
    [[nodiscard]] double stepped(std::size_t k, double passed) const noexcept;
    [[nodiscard]] Swing swing(std::int64_t from_ns, std::int64_t to_ns) const noexcept;
    [[nodiscard]] double swing_joules(std::int64_t from_ns, std::int64_t to_ns) const noexcept;
    [[nodiscard]] static double doubt_watts(double share, double mean, const Swing& swing) noexcept;
    [[nodiscard]] double shape_joules(std::size_t k, double share, const Timeline* range) const;
    [[nodiscard]] EnergyEstimate held(std::size_t k) const noexcept;
    [[nodiscard]] EnergyEstimate between(std::size_t k, std::int64_t t_ns,
                                         const SideChannels& side) const;
    [[nodiscard]] EnergyEstimate after_last(std::int64_t t_ns, const Timeline* range) const;
    [[nodiscard]] std::int64_t ahead_ns(std::int64_t t_ns, std::int64_t length_ns) const noexcept;
    [[nodiscard]] EnergyEstimate integrated(std::size_t k, std::int64_t t_ns) const;
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
    const bool whole_;        // power: a reading is the mean of its whole refresh period
    const bool low_pass_;     // power: an exponential filter, not a mean
    const bool always_draws_; // an unchanged counter means that the energy is unknown
    const std::int64_t usual_tick_ns_;
    const double ceiling_watts_;
    const double quantum_uj_;
    Points points_;
    std::vector<Gap> gaps_;
    std::int64_t from_ns_; // nothing is known before, whatever arrives later
    bool answers_ = true;
    std::int64_t over_to_ns_ = 0; // E(t) is final up to here, because the sensor is silent
    std::int64_t forgone_uj_ = 0; // energy in the samples beyond what was reported as final
    std::int64_t seen_ns_ = 0;
    std::int64_t restart_ns_ = 0;
    std::int64_t before_restart_ns_ = 0;
};

} // namespace carbontracker
