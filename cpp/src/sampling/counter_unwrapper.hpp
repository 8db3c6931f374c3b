// Turns raw readings of a counter into cumulative energy: undoes wraps and detects resets.
#pragma once

#include <cstdint>

#include "sample.hpp"
#include "sources/source.hpp"

namespace carbontracker {

/// The result of a reading.
enum class Outcome : std::uint8_t {
    sample,    ///< the energy changed (or the channel started): publish the sample
    unchanged, ///< a good reading without a change
    unusable,  ///< failed, implausible or out of order: book nothing
    repeated,  ///< the reading before it again: the driver kept it and has no newer one
};

/// Pure arithmetic without a clock or a sensor; one per counter.
///
/// A counter that falls has wrapped or was reset. It wrapped if the implied energy could have been
/// drawn since its last change. Otherwise the reading is held back until three in a row agree; then
/// the unwrapper restarts from the first of them and books nothing for the step: the gap reaches
/// from the last good reading to that one. So a single bad reading costs nothing. If the counter
/// later continues from its old value, the readings were wrong and the reset is undone. If it
/// counts on beyond its modulus, the modulus is wrong and is ignored from then on.
class CounterUnwrapper {
public:
    explicit CounterUnwrapper(const Channel& channel) noexcept;

    /// Continues E(t) of another reader, whose newest reading at `read_ns` showed `from`. With
    /// `counts_on`, the counter has gone on from there; otherwise it begins anew, after a gap.
    void continue_from(const Sample& from, std::int64_t read_ns, bool counts_on) noexcept;

    /// Takes a good reading; fills `sample` if the outcome is Outcome::sample.
    Outcome take(const Reading& reading, Sample& sample) noexcept;

    /// The machine was suspended: what the counter did in that time is unknown.
    void resume() noexcept { resumed_ = true; }

    [[nodiscard]] std::uint64_t resets() const noexcept { return resets_; }

    /// Between readings further apart than this the counter could wrap unseen.
    [[nodiscard]] std::int64_t max_apart_ns() const noexcept;

private:
    Outcome start(const Reading& reading, Sample& sample) noexcept;
    Outcome count(const Reading& reading, Sample& sample) noexcept;
    Outcome suspect(const Reading& reading, Sample& sample) noexcept;
    Outcome beyond(const Reading& reading, Sample& sample) noexcept;
    [[nodiscard]] bool resumes(const Reading& reading) const noexcept;
    Outcome undo_reset(const Reading& reading, Sample& sample) noexcept;
    void accept(const Reading& reading, std::uint64_t counts, std::uint32_t flags,
                Sample& sample) noexcept;
    [[nodiscard]] bool forward_plausible(const Reading& reading, std::uint64_t counts,
                                         double max_watts) const noexcept;

    const double units_per_raw_;
    std::uint64_t modulus_;
    const double max_watts_;
    const std::int64_t tick_ns_;

    bool started_ = false;
    bool resumed_ = false;
    Reading last_;                // the newest good reading
    std::int64_t changed_ns_ = 0; // when a good reading last changed
    std::uint64_t counts_ = 0;    // since the start

    struct {
        Reading first;
        Reading last;
        int agreeing = 0;
    } suspicion_;
    struct {
        Reading from;             // the last good reading before it
        std::uint64_t counts = 0; // booked until then
        bool fresh = false;       // recent enough to turn out a misreading
    } reset_;
    std::uint64_t resets_ = 0;
};

} // namespace carbontracker
