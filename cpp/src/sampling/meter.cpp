#include "sampling/meter.hpp"

#include <limits>

#include "platform/clock.hpp"

namespace carbontracker {
namespace {

constexpr double kMicro = 1e6;
constexpr int kAgreeingReadings = 3;

// After a reset a counter is on probation for so long: no leniency, and it may turn out to have
// been misread.
constexpr std::int64_t kProbationNs = 60 * kNanosPerSecond;

// A forward move is only refused when it is absurd: readings may be late, and refusing a true one
// would lose energy, whereas a fall must be explained and is judged strictly.
constexpr double kForwardLeniency = 10.0;

double seconds_between(std::int64_t from_ns, std::int64_t to_ns) noexcept {
    return static_cast<double>(to_ns - from_ns) / static_cast<double>(kNanosPerSecond);
}

} // namespace

Meter::Meter(const Channel& channel) noexcept
    : units_per_raw_(channel.units_per_raw), modulus_(channel.modulus),
      max_watts_(channel.max_watts), tick_ns_(channel.tick_ns) {}

Outcome Meter::take(const Reading& reading, Sample& sample) noexcept {
    if (started_ && reading.t_ns <= last_.t_ns) return Outcome::unusable;
    if (modulus_ != 0 && reading.raw >= modulus_) return beyond(reading, sample);
    if (!started_) return start(reading, sample);
    if (resumed_) {
        resumed_ = false;
        ++resets_;
        accept(reading, 0, kGap | kRestart, sample);
        return Outcome::sample;
    }
    return count(reading, sample);
}

std::int64_t Meter::most_apart_ns() const noexcept {
    constexpr double kOfRange = 0.5;
    constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
    const double range_joules = static_cast<double>(modulus_) * units_per_raw_;
    const double most_ns = kOfRange * range_joules / max_watts_ * 1e9;
    return modulus_ != 0 && most_ns < static_cast<double>(kNever)
               ? static_cast<std::int64_t>(most_ns)
               : kNever;
}

Outcome Meter::start(const Reading& reading, Sample& sample) noexcept {
    started_ = true;
    last_ = reading;
    changed_ns_ = reading.t_ns;
    sample = {reading.t_ns, 0, 0, 0, 0, kFirst};
    return Outcome::sample;
}

Outcome Meter::count(const Reading& reading, Sample& sample) noexcept {
    reset_.fresh = reset_.fresh && reading.t_ns - reset_.from.t_ns <= kProbationNs;
    if (reading.raw == last_.raw) {
        last_.t_ns = reading.t_ns;
        suspicion_.agreeing = 0;
        return Outcome::unchanged;
    }
    if (reading.raw > last_.raw) {
        const std::uint64_t counts = reading.raw - last_.raw;
        const double leniency = reset_.fresh ? 1.0 : kForwardLeniency;
        if (!forward_plausible(reading, counts, leniency * max_watts_)) {
            return resumes(reading) ? undo_reset(reading, sample) : suspect(reading, sample);
        }
        accept(reading, counts, 0, sample);
        return Outcome::sample;
    }
    if (resumes(reading)) return undo_reset(reading, sample);
    if (last_.raw >= modulus_) return suspect(reading, sample); // it never wraps: modulus 0 too
    const std::uint64_t counts = reading.raw + (modulus_ - last_.raw);
    if (!forward_plausible(reading, counts, max_watts_)) return suspect(reading, sample);
    accept(reading, counts, 0, sample);
    return Outcome::sample;
}

bool Meter::forward_plausible(const Reading& reading, std::uint64_t counts,
                              double max_watts) const noexcept {
    // Measured from the last change, not the last reading, plus one refresh period: a slow counter
    // publishes a whole period's energy at once.
    const double seconds = seconds_between(changed_ns_ - tick_ns_, reading.t_ns);
    return static_cast<double>(counts) * units_per_raw_ <= max_watts * seconds;
}

Outcome Meter::suspect(const Reading& reading, Sample& sample) noexcept {
    const bool agrees = suspicion_.agreeing > 0 && reading.raw >= suspicion_.last.raw &&
                        forward_plausible(reading, reading.raw - suspicion_.last.raw, max_watts_);
    if (!agrees) suspicion_ = {reading, reading, 0};
    suspicion_.last = reading;
    if (++suspicion_.agreeing < kAgreeingReadings) return Outcome::unusable;
    ++resets_;
    reset_ = {last_, counts_, true};
    // What it has counted since is booked with its next change.
    accept(suspicion_.first, 0, kGap | kRestart, sample);
    return Outcome::sample;
}

// A value that the register cannot hold is a misreading, not a reset: unless it moves on from
// there.
Outcome Meter::beyond(const Reading& reading, Sample& sample) noexcept {
    if (!started_) return Outcome::unusable;
    if (reading.raw == suspicion_.last.raw) suspicion_.agreeing = 0;
    const Outcome outcome = suspect(reading, sample);
    if (outcome == Outcome::sample) modulus_ = 0;
    return outcome;
}

bool Meter::resumes(const Reading& reading) const noexcept {
    if (!reset_.fresh || reading.raw < reset_.from.raw) return false;
    const auto counts = static_cast<double>(reading.raw - reset_.from.raw);
    const double seconds = seconds_between(reset_.from.t_ns - tick_ns_, reading.t_ns);
    return counts * units_per_raw_ <= max_watts_ * seconds;
}

Outcome Meter::undo_reset(const Reading& reading, Sample& sample) noexcept {
    const std::uint64_t truth = reset_.counts + (reading.raw - reset_.from.raw);
    const std::uint64_t more = truth > counts_ ? truth - counts_ : 0; // energy never falls
    last_.t_ns = reset_.from.t_ns; // the gap reaches back to where the misreading began
    changed_ns_ = reset_.from.t_ns;
    reset_.fresh = false;
    --resets_;
    accept(reading, more, kGap, sample);
    return Outcome::sample;
}

void Meter::accept(const Reading& reading, std::uint64_t counts, std::uint32_t flags,
                   Sample& sample) noexcept {
    counts_ += counts;
    if (last_.t_ns > changed_ns_) flags |= kStoodStill;
    // So long without a reading that the counter may have gone round more than once.
    const double most_joules = max_watts_ * seconds_between(last_.t_ns, reading.t_ns);
    if (modulus_ != 0 && most_joules > static_cast<double>(modulus_) * units_per_raw_) {
        flags |= kGap;
    }
    sample = {};
    sample.t_ns = reading.t_ns;
    sample.energy_uj =
        static_cast<std::int64_t>(static_cast<double>(counts_) * (units_per_raw_ * kMicro));
    sample.span_ns = reading.t_ns - last_.t_ns;
    sample.flags = flags;
    last_ = reading;
    changed_ns_ = reading.t_ns;
    suspicion_.agreeing = 0;
}

} // namespace carbontracker
