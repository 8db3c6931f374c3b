// One channel on its way from readings to samples: its rhythm, and its meter or integrator.
#pragma once

#include <cstdint>
#include <optional>

#include "sample.hpp"
#include "sampling/integrator.hpp"
#include "sampling/meter.hpp"
#include "sampling/rhythm.hpp"
#include "sources/source.hpp"

namespace carbontracker {

/// Pure arithmetic, without a clock, a thread or a ring: what a sampling thread does with one
/// channel, so that tests can do it on a virtual clock.
class Lane {
public:
    explicit Lane(const Channel& channel) noexcept;

    /// Takes a reading; fills `sample` when the outcome says so. One that failed is unusable; one
    /// of the same time as the one before it is that one again.
    Outcome take(const Reading& reading, Sample& sample) noexcept;

    /// The machine was suspended: the next reading books nothing and is a gap.
    void resume() noexcept;

    [[nodiscard]] Rhythm& rhythm() noexcept { return rhythm_; }
    [[nodiscard]] const Rhythm& rhythm() const noexcept { return rhythm_; }
    [[nodiscard]] std::uint64_t resets() const noexcept { return meter_ ? meter_->resets() : 0; }
    [[nodiscard]] bool is_power() const noexcept { return integrator_.has_value(); }

    /// How many of the newest readings, in a row, could not be used.
    [[nodiscard]] std::uint64_t failures() const noexcept { return failures_; }

    /// The driver keeps its readings, each with its own time: none is lost while nobody looks.
    [[nodiscard]] bool kept() const noexcept { return kept_; }

    /// Whether a mark gains something from a reading of its own.
    [[nodiscard]] bool wants_marks() const noexcept { return !kept_ && rhythm_.wants_marks(); }

    /// When it must have been read again, lest it goes round unseen.
    [[nodiscard]] std::int64_t latest_ns() const noexcept;

private:
    [[nodiscard]] bool was_unread_until(std::int64_t t_ns) const noexcept;
    Outcome digest(const Reading& reading, Sample& sample) noexcept;
    Outcome count(const Reading& reading, Sample& sample) noexcept;
    Outcome integrate(const Reading& reading, Sample& sample) noexcept;
    Edge edge_of(const Reading& reading, bool changed) noexcept;

    std::optional<Meter> meter_;
    std::optional<Integrator> integrator_;
    Rhythm rhythm_;
    bool started_ = false;
    bool kept_ = false;
    std::uint64_t failures_ = 0;
    std::int64_t failing_since_ns_ = 0; // the first of those failures
    bool was_unread_ = false;           // since the newest sample, for long
    std::int64_t last_read_ns_ = 0;
    std::int64_t newest_ns_ = 0; // time of the newest sample: they never go back
};

} // namespace carbontracker
