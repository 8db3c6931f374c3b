// Readings of power become cumulative energy, corrected for what is known of the sensor.
#pragma once

#include <cstdint>

#include "sample.hpp"
#include "sampling/meter.hpp"
#include "sampling/rhythm.hpp"
#include "sources/source.hpp"

namespace carbontracker {

/// Pure arithmetic; one per power channel.
///
/// A sensor that shows the mean over its whole refresh period tells exactly what was drawn in it.
/// One that looks at a part of the period only is joined to the reading before by a straight line.
/// Either way the energy is booked at the time it was drawn: earlier than the reading by half of
/// what the sensor averages beyond its period. One that follows the power as through a low pass is
/// undone: its last two readings tell the power between them.
///
/// What was drawn while the sensor could not be read is not known, and not booked: a gap.
class Integrator {
public:
    explicit Integrator(const Channel& channel) noexcept;

    /// Takes a reading whose status is ok. `edge` is when a changed value appeared, `before_ns` the
    /// reading before, `refresh_ns` the sensor's period; fills `sample` when the outcome says so.
    Outcome take(const Reading& reading, const Edge& edge, std::int64_t refresh_ns,
                 Sample& sample) noexcept;

    /// The power before says nothing of the time since: the machine was suspended, or the sensor
    /// failed. With the next reading nothing is booked for that time.
    void resume() noexcept { resumed_ = true; }

    /// Whether `reading` shows another power than the one before it.
    [[nodiscard]] bool differs(const Reading& reading) const noexcept;

    /// Sentinels and known firmware bugs, or a reading out of order.
    [[nodiscard]] bool usable(const Reading& reading) const noexcept;

private:
    Outcome after_gap(const Reading& reading, std::int64_t refresh_ns, Sample& sample) noexcept;
    Outcome renewed(const Reading& reading, const Edge& edge, std::int64_t refresh_ns,
                    Sample& sample) noexcept;
    Outcome still(const Reading& reading, std::int64_t refresh_ns, Sample& sample) noexcept;
    void publish(std::int64_t refresh_ns, Sample& sample) noexcept;
    [[nodiscard]] double watts(std::uint64_t raw) const noexcept;
    [[nodiscard]] std::int64_t window_ns(std::int64_t refresh_ns) const noexcept;
    /// What is averaged beyond a refresh period: a reading is half of that behind the power.
    [[nodiscard]] std::int64_t behind_ns(std::int64_t refresh_ns) const noexcept;
    [[nodiscard]] bool undoes(std::int64_t refresh_ns) const noexcept {
        return low_pass_ && window_ns(refresh_ns) > 0;
    }
    [[nodiscard]] double mean_watts(double before, double now, std::int64_t span_ns,
                                    std::int64_t refresh_ns) const noexcept;

    const double units_per_raw_;
    const double max_watts_;
    const std::int64_t window_ns_;
    const std::int64_t usual_ns_; // the refresh period that belongs to that window
    const bool low_pass_;

    bool started_ = false;
    bool resumed_ = false;
    Reading last_;
    std::int64_t known_to_ns_ = 0; // joules_ is the energy up to here, on the sensor's own time
    double joules_ = 0.0;
    double booked_joules_ = 0.0; // never falls
    double watts_ = 0.0;         // the power of late
};

} // namespace carbontracker
