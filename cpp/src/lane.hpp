// One channel on its way from readings to samples: its rhythm, and its meter or integrator.
#pragma once

#include <cstdint>
#include <optional>

#include "integrator.hpp"
#include "meter.hpp"
#include "rhythm.hpp"
#include "sample.hpp"
#include "source.hpp"

namespace carbontracker {

/// Pure arithmetic, without a clock, a thread or a ring: what a sampling thread does with one
/// channel, so that tests can do it on a virtual clock.
class Lane {
public:
    explicit Lane(const Channel& channel) noexcept;

    /// Takes a reading whose status is ok; fills `sample` when the outcome says so.
    Outcome take(const Reading& reading, Sample& sample) noexcept;

    /// The machine was suspended: the next reading books nothing and is a gap.
    void resume() noexcept;

    [[nodiscard]] Rhythm& rhythm() noexcept { return rhythm_; }
    [[nodiscard]] const Rhythm& rhythm() const noexcept { return rhythm_; }
    [[nodiscard]] std::uint64_t resets() const noexcept { return meter_ ? meter_->resets() : 0; }

private:
    Outcome count(const Reading& reading, Sample& sample) noexcept;
    Outcome integrate(const Reading& reading, Sample& sample) noexcept;
    Edge edge_of(const Reading& reading, bool changed) noexcept;

    std::optional<Meter> meter_;
    std::optional<Integrator> integrator_;
    Rhythm rhythm_;
    bool started_ = false;
    std::int64_t last_read_ns_ = 0;
    std::int64_t newest_ns_ = 0; // time of the newest sample: they never go back
};

} // namespace carbontracker
