// The path of one channel from readings to samples: rhythm, then unwrapper or integrator.
#pragma once

#include <cstdint>
#include <optional>

#include "sample.hpp"
#include "sampling/counter_unwrapper.hpp"
#include "sampling/power_integrator.hpp"
#include "sampling/rhythm.hpp"
#include "sources/source.hpp"

namespace carbontracker {

/// Pure arithmetic, without a clock, a thread or a ring, so that tests can run it on a virtual
/// clock.
class Lane {
public:
    explicit Lane(const Channel& channel) noexcept;

    /// Continues E(t) of another reader, whose newest reading at `read_ns` showed `from`. Before
    /// the first take(). `counts_on`: as for CounterUnwrapper.
    void continue_from(const Sample& from, std::int64_t read_ns, bool counts_on) noexcept;

    /// Forgets its readings and E(t), but not its rhythm: as before the first take().
    void begin_anew(const Channel& channel) noexcept;

    /// Takes a reading; fills `sample` if the outcome is Outcome::sample. A failed reading is
    /// unusable; one with the time of the reading before it is repeated.
    Outcome take(const Reading& reading, Sample& sample) noexcept;

    /// The machine was suspended: the next reading books nothing and ends a gap.
    void resume() noexcept;

    [[nodiscard]] Rhythm& rhythm() noexcept { return rhythm_; }
    [[nodiscard]] const Rhythm& rhythm() const noexcept { return rhythm_; }
    [[nodiscard]] std::uint64_t resets() const noexcept {
        return unwrapper_ ? unwrapper_->resets() : 0;
    }
    /// The power in a reading that is more than the device can draw; 0 otherwise.
    [[nodiscard]] double refused_watts(const Reading& reading) const noexcept {
        return integrator_ ? integrator_->refused_watts(reading) : 0.0;
    }
    [[nodiscard]] bool is_power() const noexcept { return integrator_.has_value(); }

    /// Number of consecutive unusable readings up to the newest.
    [[nodiscard]] std::uint64_t failures() const noexcept { return failures_; }

    /// Whether the driver keeps its readings, each with its own time: none is lost between reads.
    [[nodiscard]] bool kept() const noexcept { return kept_; }

    /// Whether a mark gains from a read of its own.
    [[nodiscard]] bool benefits_from_edge_read() const noexcept {
        return !kept_ && rhythm_.benefits_from_edge_read();
    }

    /// The latest time of the next read, before the counter could wrap unseen.
    [[nodiscard]] std::int64_t latest_ns() const noexcept;

private:
    [[nodiscard]] bool was_unread_until(std::int64_t t_ns) const noexcept;
    Outcome digest(const Reading& reading, Sample& sample) noexcept;
    Outcome count(const Reading& reading, Sample& sample) noexcept;
    Outcome integrate(const Reading& reading, Sample& sample) noexcept;
    Edge edge_of(const Reading& reading, bool changed) noexcept;

    std::optional<CounterUnwrapper> unwrapper_;
    std::optional<PowerIntegrator> integrator_;
    Rhythm rhythm_;
    bool started_ = false;
    bool kept_ = false;
    std::uint64_t failures_ = 0;
    std::int64_t failing_since_ns_ = 0;  // the first of these failures
    bool was_unread_ = false;            // for long, since the newest sample
    std::int64_t continued_tick_ns_ = 0; // of the counter, if another reader came before
    std::int64_t last_read_ns_ = 0;
    std::int64_t newest_ns_ = 0; // time of the newest sample; never decreases
};

} // namespace carbontracker
