// One clock for every stamp, and the only way the samplers sleep.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
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
    // A thread that loses its core between the two clocks would mistake the pause for a difference.
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

/// How long this machine has been suspended since it was started: CLOCK_MONOTONIC stands still
/// then.
inline std::int64_t suspended_ns() noexcept {
    return ahead_ns(CLOCK_BOOTTIME);
}

/// CPU time spent so far by the calling thread.
inline std::int64_t thread_cpu_ns() noexcept {
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

/// A sleeper that another thread can wake: an absolute deadline on CLOCK_MONOTONIC and a bell.
///
/// A futex rather than clock_nanosleep, because both an edge read and stop() must not wait for the
/// rest of a period; rather than a condition variable, because nothing here may take a lock.
class Bell {
public:
    /// The count to hand to wait(): read it before the work that a later ring() should repeat.
    [[nodiscard]] std::uint32_t count() const noexcept {
        // acquire: what the ringer wrote before ring() is visible once its count is seen.
        return rings_.load(std::memory_order_acquire);
    }

    void ring() noexcept {
        // release pairs with the acquire in count().
        rings_.fetch_add(1, std::memory_order_release);
        syscall(SYS_futex, address(), FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, nullptr, nullptr, 0);
    }

    /// Sleep until `deadline_ns`, or until the bell has rung since `seen` was taken.
    void wait(std::uint32_t seen, std::int64_t deadline_ns) const noexcept {
        const timespec deadline{deadline_ns / kNanosPerSecond, deadline_ns % kNanosPerSecond};
        while (count() == seen && now_ns() < deadline_ns) {
            // An absolute deadline survives EINTR and early wake-ups without drift.
            syscall(SYS_futex, address(), FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, seen, &deadline,
                    nullptr, FUTEX_BITSET_MATCH_ANY);
        }
    }

private:
    [[nodiscard]] const std::uint32_t* address() const noexcept {
        return reinterpret_cast<const std::uint32_t*>(&rings_);
    }

    std::atomic<std::uint32_t> rings_{0};
    static_assert(std::atomic<std::uint32_t>::is_always_lock_free);
    static_assert(sizeof(std::atomic<std::uint32_t>) == sizeof(std::uint32_t));
};

} // namespace carbontracker
