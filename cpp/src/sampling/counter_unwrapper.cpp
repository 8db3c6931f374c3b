#include "sampling/counter_unwrapper.hpp"

#include <cmath>
#include <limits>

#include "platform/clock.hpp"

namespace carbontracker {
namespace {

constexpr double kMicro = 1e6;
constexpr int kAgreeingReadings = 3;

// For this long after a reset a counter is on probation: no leniency, and the reset may turn out to
// be a misreading.
constexpr std::int64_t kProbationNs = 60 * kNanosPerSecond;

// A forward step is refused only if it is absurd: readings may be late, and refusing a true step
// would lose energy. A fall is judged strictly.
constexpr double kForwardLeniency = 10.0;

double seconds_between(std::int64_t from_ns, std::int64_t to_ns) noexcept {
    return static_cast<double>(to_ns - from_ns) / static_cast<double>(kNanosPerSecond);
}

} // namespace

CounterUnwrapper::CounterUnwrapper(const Channel& channel) noexcept
    : units_per_raw_(channel.units_per_raw), modulus_(channel.modulus),
      max_watts_(channel.max_watts > 0.0 ? channel.max_watts : std::numeric_limits<double>::max()),
      tick_ns_(channel.tick_ns) {}

void CounterUnwrapper::continue_from(const Sample& from, std::int64_t read_ns,
                                     bool counts_on) noexcept {
    counts_ = static_cast<std::uint64_t>(
        std::ceil(static_cast<double>(from.energy_uj) / (units_per_raw_ * kMicro)));
    changed_ns_ = from.t_ns;
    last_ = {read_ns, from.raw, Status::ok};
    started_ = true;
    resumed_ = !counts_on;
}

Outcome CounterUnwrapper::take(const Reading& reading, Sample& sample) noexcept {
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

std::int64_t CounterUnwrapper::max_apart_ns() const noexcept {
    constexpr double kOfRange = 0.5;
    constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
    const double range_joules = static_cast<double>(modulus_) * units_per_raw_;
    const double most_ns = kOfRange * range_joules / max_watts_ * 1e9;
    return modulus_ != 0 && most_ns >= 1.0 && most_ns < static_cast<double>(kNever)
               ? static_cast<std::int64_t>(most_ns)
               : kNever;
}

Outcome CounterUnwrapper::start(const Reading& reading, Sample& sample) noexcept {
    started_ = true;
    last_ = reading;
    changed_ns_ = reading.t_ns;
    sample = {reading.t_ns, 0, 0, 0, 0, kFirst, 0.0F, reading.raw};
    return Outcome::sample;
}

Outcome CounterUnwrapper::count(const Reading& reading, Sample& sample) noexcept {
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
    if (last_.raw >= modulus_) return suspect(reading, sample); // it never wraps: modulus 0 as well
    const std::uint64_t counts = reading.raw + (modulus_ - last_.raw);
    if (!forward_plausible(reading, counts, max_watts_)) return suspect(reading, sample);
    accept(reading, counts, 0, sample);
    return Outcome::sample;
}

bool CounterUnwrapper::forward_plausible(const Reading& reading, std::uint64_t counts,
                                         double max_watts) const noexcept {
    // Use the time since the last change, not the last reading, plus one refresh period: a slow
    // counter publishes the energy of a whole period at once.
    const double seconds = seconds_between(changed_ns_ - tick_ns_, reading.t_ns);
    return static_cast<double>(counts) * units_per_raw_ <= max_watts * seconds;
}

Outcome CounterUnwrapper::suspect(const Reading& reading, Sample& sample) noexcept {
    const bool agrees = suspicion_.agreeing > 0 && reading.raw >= suspicion_.last.raw &&
                        forward_plausible(reading, reading.raw - suspicion_.last.raw, max_watts_);
    if (!agrees) suspicion_ = {reading, reading, 0};
    suspicion_.last = reading;
    if (++suspicion_.agreeing < kAgreeingReadings) return Outcome::unusable;
    ++resets_;
    reset_ = {last_, counts_, true};
    // The energy counted since then is booked with the next change.
    accept(suspicion_.first, 0, kGap | kRestart, sample);
    return Outcome::sample;
}

// A value that the register cannot hold is a misreading, not a reset, unless the counter continues
// from there.
Outcome CounterUnwrapper::beyond(const Reading& reading, Sample& sample) noexcept {
    if (!started_) return Outcome::unusable;
    if (reading.raw == suspicion_.last.raw) suspicion_.agreeing = 0;
    const Outcome outcome = suspect(reading, sample);
    if (outcome == Outcome::sample) modulus_ = 0;
    return outcome;
}

bool CounterUnwrapper::resumes(const Reading& reading) const noexcept {
    if (!reset_.fresh || reading.raw < reset_.from.raw) return false;
    const auto counts = static_cast<double>(reading.raw - reset_.from.raw);
    const double seconds = seconds_between(reset_.from.t_ns - tick_ns_, reading.t_ns);
    return counts * units_per_raw_ <= max_watts_ * seconds;
}

Outcome CounterUnwrapper::undo_reset(const Reading& reading, Sample& sample) noexcept {
    const std::uint64_t truth = reset_.counts + (reading.raw - reset_.from.raw);
    const std::uint64_t more = truth > counts_ ? truth - counts_ : 0; // energy never falls
    last_.t_ns = reset_.from.t_ns; // the gap reaches back to where the misreading began
    changed_ns_ = reset_.from.t_ns;
    reset_.fresh = false;
    --resets_;
    accept(reading, more, kGap, sample);
    return Outcome::sample;
}

void CounterUnwrapper::accept(const Reading& reading, std::uint64_t counts, std::uint32_t flags,
                              Sample& sample) noexcept {
    counts_ += counts;
    if (last_.t_ns > changed_ns_) flags |= kStoodStill;
    // After so long without a reading the counter may have wrapped more than once.
    const double max_joules = max_watts_ * seconds_between(last_.t_ns, reading.t_ns);
    if (modulus_ != 0 && max_joules > static_cast<double>(modulus_) * units_per_raw_) {
        flags |= kGap;
    }
    sample = {};
    sample.t_ns = reading.t_ns;
    sample.energy_uj =
        static_cast<std::int64_t>(static_cast<double>(counts_) * (units_per_raw_ * kMicro));
    sample.since_last_read_ns = reading.t_ns - last_.t_ns;
    sample.flags = flags;
    sample.raw = reading.raw;
    last_ = reading;
    changed_ns_ = reading.t_ns;
    suspicion_.agreeing = 0;
}

} // namespace carbontracker
