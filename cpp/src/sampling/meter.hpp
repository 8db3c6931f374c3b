// Raw readings of a counter become cumulative energy: wraps are undone, resets told from them.
#pragma once

#include <cstdint>

#include "sample.hpp"
#include "sources/source.hpp"

namespace carbontracker {

/// What a reading has brought.
enum class Outcome : std::uint8_t {
    sample,    ///< energy moved (or the channel started): publish the sample
    unchanged, ///< the reading is good and nothing moved
    unusable,  ///< failed, implausible or out of order: book nothing
    repeated,  ///< the reading is the one before it: the driver kept it, and nothing since
};

/// Pure arithmetic with no clock and no sensor of its own; one per counter.
///
/// A counter that falls has wrapped or was reset. It wrapped if the energy this implies could have
/// been drawn in the time since it last moved; otherwise the reading is held back until three in a
/// row agree, and then the meter starts again from the first of them, at its time, booking nothing
/// for the jump: the gap reaches from the last good reading to that one. One bad reading therefore
/// costs nothing at all. Should the counter go on where it was before, it had only been misread for
/// a while: the reset is undone. Should it go on counting beyond its modulus, the modulus is wrong,
/// and is forgotten.
class Meter {
public:
    explicit Meter(const Channel& channel) noexcept;

    /// Takes a reading whose status is ok; fills `sample` when the outcome says so.
    Outcome take(const Reading& reading, Sample& sample) noexcept;

    /// The machine was suspended: what the counter did meanwhile is not known.
    void resume() noexcept { resumed_ = true; }

    [[nodiscard]] std::uint64_t resets() const noexcept { return resets_; }

    /// Readings further apart than this could miss that the counter went round.
    [[nodiscard]] std::int64_t most_apart_ns() const noexcept;

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
    std::int64_t changed_ns_ = 0; // when a good reading last moved
    std::uint64_t counts_ = 0;    // since the start

    struct {
        Reading first;
        Reading last;
        int agreeing = 0;
    } suspicion_;
    struct {
        Reading from;             // the last good reading before it
        std::uint64_t counts = 0; // booked until then
        bool fresh = false;       // recent enough that it may yet prove a misreading
    } reset_;
    std::uint64_t resets_ = 0;
};

} // namespace carbontracker
