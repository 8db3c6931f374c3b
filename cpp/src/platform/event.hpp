// How a thread sleeps until a deadline or until another thread wakes it.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

#include "platform/clock.hpp"

namespace carbontracker {

/// A counter of signals that a thread can wait on, with an absolute deadline on CLOCK_MONOTONIC.
///
/// A futex, not clock_nanosleep: a read at an edge and stop() must not wait for the rest of a
/// period. Not a condition variable: no code here may take a lock.
class Event {
public:
    /// The count to pass to wait(): read it before the work that a later signal() should repeat.
    [[nodiscard]] std::uint32_t count() const noexcept {
        // acquire: what the signalling thread wrote before signal() is visible with its count.
        return signals_.load(std::memory_order_acquire);
    }

    /// Costs a system call only if a thread waits.
    void signal() noexcept {
        // Sequentially consistent with wait(): either this sees the waiter, or the waiter sees the
        // new count. The release in it pairs with the acquire in count().
        signals_.fetch_add(1, std::memory_order_seq_cst);
        if (waiters_.load(std::memory_order_seq_cst) == 0) return;
        syscall(SYS_futex, address(), FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, nullptr, nullptr, 0);
    }

    /// Sleeps until `deadline_ns`, or until a signal has come since `seen` was taken.
    void wait(std::uint32_t seen, std::int64_t deadline_ns) const noexcept {
        const timespec deadline{deadline_ns / kNanosPerSecond, deadline_ns % kNanosPerSecond};
        waiters_.fetch_add(1, std::memory_order_seq_cst);
        while (signals_.load(std::memory_order_seq_cst) == seen && now_ns() < deadline_ns) {
            // An absolute deadline survives EINTR and early wake-ups without drift.
            syscall(SYS_futex, address(), FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, seen, &deadline,
                    nullptr, FUTEX_BITSET_MATCH_ANY);
        }
        waiters_.fetch_sub(1, std::memory_order_seq_cst);
    }

private:
    [[nodiscard]] const std::uint32_t* address() const noexcept {
        return reinterpret_cast<const std::uint32_t*>(&signals_);
    }

    std::atomic<std::uint32_t> signals_{0};
    mutable std::atomic<std::uint32_t> waiters_{0};
    static_assert(std::atomic<std::uint32_t>::is_always_lock_free);
    static_assert(sizeof(std::atomic<std::uint32_t>) == sizeof(std::uint32_t));
};

} // namespace carbontracker
