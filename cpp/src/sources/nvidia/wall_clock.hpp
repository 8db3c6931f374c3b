// NVML stamps what it reads with the wall clock, which people and NTP set; here all times are of
// CLOCK_MONOTONIC.
#pragma once

#include <cstdint>
#include <limits>

#include "platform/clock.hpp"

namespace carbontracker::nvml {

/// How far the wall clock is ahead of CLOCK_MONOTONIC at this moment.
inline std::int64_t wall_offset_ns() noexcept {
    return ahead_ns(CLOCK_REALTIME);
}

/// A moment between two others, on CLOCK_MONOTONIC.
struct Call {
    std::int64_t before_ns = 0;
    std::int64_t after_ns = 0;

    [[nodiscard]] std::int64_t middle_ns() const noexcept {
        return before_ns + (after_ns - before_ns) / 2;
    }
    [[nodiscard]] std::int64_t took_ns() const noexcept { return after_ns - before_ns; }
};

/// The stamps of one field, as far as they can be believed.
class FieldClock {
public:
    /// When the sensor renewed the value that was read in `call`; 0 if the stamp does not tell:
    /// it lies in the future, or before one that was seen earlier, as after a step of the wall
    /// clock; or the driver has so far stamped nothing but our own calls.
    std::int64_t take(long long timestamp_us, std::int64_t offset_ns, const Call& call) noexcept {
        if (timestamp_us <= 0 || timestamp_us > kMostUs) return 0;
        const std::int64_t at_ns = timestamp_us * 1000 - offset_ns;
        if (at_ns > call.after_ns || at_ns < newest_ns_ - kJitterNs) return 0;
        if (at_ns < call.before_ns - kJitterNs) tells_ = true;
        // One refresh has one time, however the offset was rounded when it was read again.
        if (at_ns > newest_ns_ + kJitterNs) newest_ns_ = at_ns;
        return tells_ ? newest_ns_ : 0;
    }

private:
    static constexpr std::int64_t kJitterNs = 200'000;
    static constexpr long long kMostUs = std::numeric_limits<std::int64_t>::max() / 1000;

    std::int64_t newest_ns_ = 0;
    bool tells_ = false;
};

} // namespace carbontracker::nvml
