#include "sampling/power_integrator.hpp"

#include <algorithm>
#include <cmath>

#include "platform/clock.hpp"

namespace carbontracker {
namespace {

constexpr double kMicro = 1e6;

} // namespace

PowerIntegrator::PowerIntegrator(const Channel& channel) noexcept
    : units_per_raw_(channel.units_per_raw), max_watts_(channel.max_watts),
      window_ns_(channel.window_ns), usual_ns_(channel.tick_ns), low_pass_(channel.low_pass) {}

void PowerIntegrator::continue_from(const Sample& from, std::int64_t read_ns) noexcept {
    started_ = resumed_ = true;
    last_ = {read_ns, from.raw, Status::ok};
    joules_ = booked_joules_ = static_cast<double>(from.energy_uj) / kMicro;
    known_to_ns_ = from.t_ns;
    watts_ = static_cast<double>(from.watts);
}

// A sensor with another period than in the table is not the sensor of the table, and its averaging
// window is unknown: treat its readings as instantaneous. A low-pass filter does not depend on the
// period.
std::int64_t PowerIntegrator::window_ns(std::int64_t refresh_ns) const noexcept {
    return low_pass_ || is_usual_refresh(refresh_ns, usual_ns_) ? window_ns_ : 0;
}

double PowerIntegrator::watts(std::uint64_t raw) const noexcept {
    return static_cast<double>(raw) * units_per_raw_;
}

bool PowerIntegrator::usable(const Reading& reading) const noexcept {
    return refused_watts(reading) == 0.0 && (!started_ || reading.t_ns > last_.t_ns);
}

double PowerIntegrator::refused_watts(const Reading& reading) const noexcept {
    const double its_watts = watts(reading.raw);
    return max_watts_ > 0.0 && its_watts > max_watts_ ? its_watts : 0.0;
}

bool PowerIntegrator::differs(const Reading& reading) const noexcept {
    return started_ && reading.raw != last_.raw;
}

Outcome PowerIntegrator::take(const Reading& reading, const Edge& edge, std::int64_t refresh_ns,
                              Sample& sample) noexcept {
    if (!usable(reading)) return Outcome::unusable;
    if (!started_) {
        started_ = true;
        last_ = reading;
        watts_ = watts(reading.raw);
        known_to_ns_ = reading.t_ns;
        publish(refresh_ns, sample);
        sample.flags = kFirst;
        return Outcome::sample;
    }
    if (resumed_ || reading.t_ns - last_.t_ns > kMaxSilenceNs) {
        return after_gap(reading, refresh_ns, sample);
    }
    return differs(reading) ? renewed(reading, edge, refresh_ns, sample)
                            : still(reading, refresh_ns, sample);
}

// From reading to reading, on the clock and not on the sensor's own time.
Outcome PowerIntegrator::after_gap(const Reading& reading, std::int64_t refresh_ns,
                                   Sample& sample) noexcept {
    const std::int64_t behind_ns = this->behind_ns(refresh_ns);
    const std::int64_t silent_ns = reading.t_ns - last_.t_ns;
    joules_ += watts_ * seconds(std::max<std::int64_t>(0, last_.t_ns + behind_ns - known_to_ns_));
    known_to_ns_ = reading.t_ns + behind_ns;
    resumed_ = false;
    last_ = reading;
    watts_ = watts(reading.raw);
    publish(refresh_ns, sample);
    sample.since_last_read_ns = silent_ns;
    sample.flags = kGap;
    return Outcome::sample;
}

Outcome PowerIntegrator::renewed(const Reading& reading, const Edge& edge, std::int64_t refresh_ns,
                                 Sample& sample) noexcept {
    const std::int64_t silent_ns = reading.t_ns - last_.t_ns;
    const std::int64_t dt_ns = std::max<std::int64_t>(0, edge.t_ns - known_to_ns_);
    // The new value holds for one period before it appeared. If updates were missed, only the two
    // ends of the time since the last reading are known.
    const bool every = silent_ns <= 2 * refresh_ns;
    const std::int64_t new_ns = std::clamp<std::int64_t>(every ? refresh_ns : silent_ns, 0, dt_ns);
    const double before = watts(last_.raw);
    const double mean =
        mean_watts(before, watts(reading.raw), every ? refresh_ns : silent_ns, refresh_ns);
    joules_ += before * seconds(dt_ns - new_ns) + mean * seconds(new_ns);
    known_to_ns_ += dt_ns;
    watts_ = undoes(refresh_ns) ? std::max(0.0, mean) : watts(reading.raw);
    last_ = reading;
    publish(refresh_ns, sample);
    sample.since_last_read_ns = silent_ns;
    sample.time_ci95_ns = short_ns(edge.time_ci95_ns);
    return Outcome::sample;
}

// The mean power between two readings that are `span_ns` apart.
double PowerIntegrator::mean_watts(double before, double now, std::int64_t span_ns,
                                   std::int64_t refresh_ns) const noexcept {
    const std::int64_t mean_ns = window_ns(refresh_ns);
    if (undoes(refresh_ns)) {
        // For constant power p: now = p + (before - p) e^-x. Errors cancel in the sum, so a single
        // value may be negative.
        const double rest = std::exp(-2.0 * seconds(span_ns) / seconds(mean_ns));
        return (now - before * rest) / (1.0 - rest);
    }
    const bool whole = span_ns <= 2 * refresh_ns && covers_refresh(mean_ns, refresh_ns);
    return whole ? now : 0.5 * (before + now);
}

Outcome PowerIntegrator::still(const Reading& reading, std::int64_t refresh_ns,
                               Sample& sample) noexcept {
    // The next value will hold for one period before its change: the power is certain up to there.
    const std::int64_t certain_ns = reading.t_ns - refresh_ns;
    const std::int64_t enough_ns = std::max(refresh_ns, kStillNs);
    const std::int64_t span_ns = reading.t_ns - last_.t_ns;
    last_.t_ns = reading.t_ns;
    watts_ = watts(last_.raw);
    if (certain_ns - known_to_ns_ < enough_ns) return Outcome::unchanged;
    joules_ += watts(last_.raw) * seconds(certain_ns - known_to_ns_);
    known_to_ns_ = certain_ns;
    publish(refresh_ns, sample);
    sample.since_last_read_ns = span_ns;
    return Outcome::sample;
}

std::int64_t PowerIntegrator::behind_ns(std::int64_t refresh_ns) const noexcept {
    if (undoes(refresh_ns)) return 0;
    const std::int64_t mean_ns = window_ns(refresh_ns);
    const std::int64_t beyond_ns =
        covers_refresh(mean_ns, refresh_ns) ? mean_ns - refresh_ns : mean_ns;
    return std::max<std::int64_t>(0, beyond_ns) / 2;
}

void PowerIntegrator::publish(std::int64_t refresh_ns, Sample& sample) noexcept {
    booked_joules_ = std::max(booked_joules_, joules_);
    sample = {};
    sample.t_ns = known_to_ns_ - behind_ns(refresh_ns);
    sample.energy_uj = static_cast<std::int64_t>(booked_joules_ * kMicro);
    sample.watts = static_cast<float>(watts_);
    sample.raw = last_.raw;
}

} // namespace carbontracker
