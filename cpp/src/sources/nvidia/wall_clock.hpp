// Converts NVML's time stamps, which use the wall clock that users and NTP set, to
// CLOCK_MONOTONIC.
#pragma once

#include <cstdint>
#include <limits>

#include "platform/clock.hpp"

namespace carbontracker::nvml {

/// Difference between the wall clock and CLOCK_MONOTONIC now.
inline std::int64_t wall_offset_ns() noexcept {
    return ahead_ns(CLOCK_REALTIME);
}

/// The time between two others, on CLOCK_MONOTONIC.
struct Call {
    std::int64_t before_ns = 0;
    std::int64_t after_ns = 0;

    [[nodiscard]] std::int64_t middle_ns() const noexcept {
        return before_ns + (after_ns - before_ns) / 2;
    }
    [[nodiscard]] std::int64_t took_ns() const noexcept { return after_ns - before_ns; }
};

/// The time stamps of one field, with a plausibility check.
class FieldClock {
public:
    /// When the sensor updated the value that was read in `call`; 0 if the stamp is not usable: it
    /// is in the future, or before an earlier one, as after a step of the wall clock; or the
    /// driver has so far only stamped our own calls.
    std::int64_t take(long long timestamp_us, std::int64_t offset_ns, const Call& call) noexcept {
        if (timestamp_us <= 0 || timestamp_us > kMaxUs) return 0;
        const std::int64_t at_ns = timestamp_us * 1000 - offset_ns;
        if (at_ns > call.after_ns || at_ns < newest_ns_ - kJitterNs) return 0;
        if (at_ns < call.before_ns - kJitterNs) tells_ = true;
        // One update has one time, however its offset was rounded later.
        if (at_ns > newest_ns_ + kJitterNs) newest_ns_ = at_ns;
        return tells_ ? newest_ns_ : 0;
    }

private:
    static constexpr std::int64_t kJitterNs = 200'000;
    static constexpr long long kMaxUs = std::numeric_limits<std::int64_t>::max() / 1000;

    std::int64_t newest_ns_ = 0;
    bool tells_ = false;
};

} // namespace carbontracker::nvml
