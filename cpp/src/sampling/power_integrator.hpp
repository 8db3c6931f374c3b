// Turns power readings into cumulative energy, corrected for the known properties of the sensor.
#pragma once

#include <cstdint>

#include "sample.hpp"
#include "sampling/counter_unwrapper.hpp"
#include "sampling/rhythm.hpp"
#include "sources/source.hpp"

namespace carbontracker {

/// Pure arithmetic; one per power channel.
///
/// A sensor that shows the mean over its whole refresh period gives the exact energy of that
/// period. One that measures only part of the period is interpolated linearly. In both cases the
/// energy is booked at the time it was drawn: earlier than the reading by half of the averaging
/// window beyond the period. A low-pass filter is inverted: its last two readings give the power
/// between them.
///
/// Energy drawn while the sensor could not be read is unknown and not booked: a gap.
class PowerIntegrator {
public:
    explicit PowerIntegrator(const Channel& channel) noexcept;

    /// Continues E(t) of another reader, whose newest reading at `read_ns` showed `from`, after a
    /// gap.
    void continue_from(const Sample& from, std::int64_t read_ns) noexcept;

    /// Takes a good reading. `edge`: when a changed value appeared; `refresh_ns`: the sensor's
    /// period. Fills `sample` if the outcome is Outcome::sample.
    Outcome take(const Reading& reading, const Edge& edge, std::int64_t refresh_ns,
                 Sample& sample) noexcept;

    /// The power before does not apply to the time since: the machine was suspended, or the sensor
    /// failed. The next reading books nothing for that time.
    void resume() noexcept { resumed_ = true; }

    /// Whether `reading` differs from the one before it.
    [[nodiscard]] bool differs(const Reading& reading) const noexcept;

    /// The power in a reading that is more than the device can draw; 0 otherwise.
    [[nodiscard]] double refused_watts(const Reading& reading) const noexcept;

    /// False for sentinels, known firmware bugs and readings out of order.
    [[nodiscard]] bool usable(const Reading& reading) const noexcept;

private:
    Outcome after_gap(const Reading& reading, std::int64_t refresh_ns, Sample& sample) noexcept;
    Outcome renewed(const Reading& reading, const Edge& edge, std::int64_t refresh_ns,
                    Sample& sample) noexcept;
    Outcome still(const Reading& reading, std::int64_t refresh_ns, Sample& sample) noexcept;
    void publish(std::int64_t refresh_ns, Sample& sample) noexcept;
    [[nodiscard]] double watts(std::uint64_t raw) const noexcept;
    [[nodiscard]] std::int64_t window_ns(std::int64_t refresh_ns) const noexcept;
    /// Averaging window beyond a refresh period, halved: the delay of a reading.
    [[nodiscard]] std::int64_t behind_ns(std::int64_t refresh_ns) const noexcept;
    [[nodiscard]] bool undoes(std::int64_t refresh_ns) const noexcept {
        return low_pass_ && window_ns(refresh_ns) > 0;
    }
    [[nodiscard]] double mean_watts(double before, double now, std::int64_t span_ns,
                                    std::int64_t refresh_ns) const noexcept;

    const double units_per_raw_;
    const double max_watts_;
    const std::int64_t window_ns_;
    const std::int64_t usual_ns_; // the refresh period for which window_ns_ holds
    const bool low_pass_;

    bool started_ = false;
    bool resumed_ = false;
    Reading last_;
    std::int64_t known_to_ns_ = 0; // joules_ is the energy up to here, on the sensor's own time
    double joules_ = 0.0;
    double booked_joules_ = 0.0; // never falls
    double watts_ = 0.0;         // the recent power
};

} // namespace carbontracker
