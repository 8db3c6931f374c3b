// One clock for every stamp.
#pragma once

#include <time.h>

#include <cstdint>
#include <limits>

namespace carbontracker {

inline constexpr std::int64_t kNanosPerSecond = 1'000'000'000;

inline std::int64_t clock_ns(clockid_t clock) noexcept {
    timespec now{};
    clock_gettime(clock, &now);
    return static_cast<std::int64_t>(now.tv_sec) * kNanosPerSecond + now.tv_nsec;
}

/// CLOCK_MONOTONIC: the same clock as Python's time.monotonic_ns(); stands still in suspend.
inline std::int64_t now_ns() noexcept {
    return clock_ns(CLOCK_MONOTONIC);
}

/// How far `clock` is ahead of CLOCK_MONOTONIC at this moment.
inline std::int64_t ahead_ns(clockid_t clock) noexcept {
    // A thread that loses its core between the two clock reads would take the pause for a
    // difference.
    constexpr int kTries = 3;
    constexpr std::int64_t kUndisturbedNs = 20'000;
    std::int64_t least_ns = std::numeric_limits<std::int64_t>::max();
    std::int64_t result_ns = 0;
    for (int i = 0; i < kTries && least_ns > kUndisturbedNs; ++i) {
        const std::int64_t before_ns = now_ns();
        const std::int64_t other_ns = clock_ns(clock);
        const std::int64_t took_ns = now_ns() - before_ns;
        if (took_ns >= least_ns) continue;
        least_ns = took_ns;
        result_ns = other_ns - (before_ns + took_ns / 2);
    }
    return result_ns;
}

/// Total time for which this machine was suspended since boot: CLOCK_MONOTONIC stands still then.
inline std::int64_t suspended_ns() noexcept {
    return ahead_ns(CLOCK_BOOTTIME);
}

/// CPU time spent so far by the calling thread.
inline std::int64_t thread_cpu_ns() noexcept {
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

} // namespace carbontracker
