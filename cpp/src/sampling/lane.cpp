#include "sampling/lane.hpp"

#include <algorithm>
#include <limits>

namespace carbontracker {

Lane::Lane(const Channel& channel) noexcept
    : rhythm_(channel.tick_ns, channel.quantity == Quantity::energy_counter) {
    begin_anew(channel);
}

void Lane::begin_anew(const Channel& channel) noexcept {
    started_ = kept_ = was_unread_ = false;
    failures_ = 0;
    failing_since_ns_ = continued_tick_ns_ = last_read_ns_ = newest_ns_ = 0;
    if (channel.quantity == Quantity::power) {
        integrator_.emplace(channel);
    } else {
        unwrapper_.emplace(channel);
    }
}

void Lane::continue_from(const Sample& from, std::int64_t read_ns, bool counts_on) noexcept {
    if (unwrapper_) unwrapper_->continue_from(from, read_ns, counts_on);
    if (integrator_) integrator_->continue_from(from, read_ns);
    newest_ns_ = from.t_ns;
    continued_tick_ns_ = from.tick_ns > 0 ? from.tick_ns : rhythm_.refresh_ns();
    was_unread_ = true; // when the energy since was drawn is not known
}

Outcome Lane::take(const Reading& reading, Sample& sample) noexcept {
    const Outcome outcome =
        reading.status == Status::ok ? digest(reading, sample) : Outcome::unusable;
    if (outcome != Outcome::unusable) {
        failures_ = 0;
    } else if (failures_++ == 0) {
        failing_since_ns_ = std::max(reading.t_ns, last_read_ns_);
    }
    return outcome;
}

// Whether it could not be read for longer than its rhythm explains.
bool Lane::was_unread_until(std::int64_t t_ns) const noexcept {
    if (t_ns - last_read_ns_ > kMaxSilenceNs) return true;
    return failures_ > 0 && t_ns - failing_since_ns_ > 2 * std::max(rhythm_.refresh_ns(), kStillNs);
}

std::int64_t Lane::latest_ns() const noexcept {
    constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
    const std::int64_t max_apart_ns = unwrapper_ ? unwrapper_->max_apart_ns() : kNever;
    return max_apart_ns < kNever - last_read_ns_ ? last_read_ns_ + max_apart_ns : kNever;
}

Outcome Lane::digest(const Reading& reading, Sample& sample) noexcept {
    const bool again = started_ && reading.t_ns == last_read_ns_;
    kept_ = again || reading.t_ns == reading.sensor_ns;
    if (again) return Outcome::repeated;
    if (started_ && was_unread_until(reading.t_ns)) was_unread_ = true;
    const Outcome outcome = unwrapper_ ? count(reading, sample) : integrate(reading, sample);
    if (outcome == Outcome::unusable) return outcome;
    started_ = true;
    last_read_ns_ = reading.t_ns;
    if (outcome != Outcome::sample) return outcome;
    sample.tick_ns = short_ns(rhythm_.tick_ns());
    if ((sample.flags & kFirst) == 0) sample.t_ns = std::max(sample.t_ns, newest_ns_);
    newest_ns_ = sample.t_ns;
    if (was_unread_ && unwrapper_) sample.flags |= kUnread;
    was_unread_ = false;
    return outcome;
}

void Lane::resume() noexcept {
    if (unwrapper_) unwrapper_->resume();
    if (integrator_) integrator_->resume();
}

Edge Lane::edge_of(const Reading& reading, bool changed) noexcept {
    if (changed) return rhythm_.changed(last_read_ns_, reading.t_ns, reading.sensor_ns);
    rhythm_.unchanged(reading.t_ns, reading.sensor_ns);
    return {};
}

Outcome Lane::count(const Reading& reading, Sample& sample) noexcept {
    const Outcome outcome = unwrapper_->take(reading, sample);
    if (outcome == Outcome::unusable) return outcome;
    if (!started_) {
        // After another reader: the counter showed this since some time within its last tick.
        sample.t_ns -= continued_tick_ns_ / 2;
        sample.time_ci95_ns = short_ns(continued_tick_ns_ / 2);
        return outcome;
    }
    Edge edge = edge_of(reading, outcome == Outcome::sample);
    // Updates were not read for long: assume that the newest one came within the last period.
    if (was_unread_ && edge.time_ci95_ns > rhythm_.refresh_ns()) {
        edge = {reading.t_ns, rhythm_.refresh_ns()};
    }
    if (outcome == Outcome::sample && (sample.flags & kGap) == 0) {
        sample.since_last_read_ns -= sample.t_ns - edge.t_ns; // relative to the edge
        sample.t_ns = edge.t_ns;
        sample.time_ci95_ns = short_ns(edge.time_ci95_ns);
    }
    return outcome;
}

Outcome Lane::integrate(const Reading& reading, Sample& sample) noexcept {
    if (!integrator_->usable(reading)) return Outcome::unusable;
    if (was_unread_) integrator_->resume();
    Edge edge;
    if (started_) edge = edge_of(reading, integrator_->differs(reading));
    return integrator_->take(reading, edge, rhythm_.refresh_ns(), sample);
}

} // namespace carbontracker
