// Waiting for what another thread does. No test asserts how long anything took: it waits for a
// condition, and only a hang exceeds the patience.
#pragma once

#include <chrono>
#include <functional>
#include <thread>

#include "platform/clock.hpp"

inline constexpr std::int64_t kPatienceNs = 30 * carbontracker::kNanosPerSecond;

inline bool eventually(const std::function<bool()>& condition) {
    const std::int64_t deadline_ns = carbontracker::now_ns() + kPatienceNs;
    while (!condition()) {
        if (carbontracker::now_ns() > deadline_ns) return false;
        std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    return true;
}

inline void sleep_ns(std::int64_t nanoseconds) {
    std::this_thread::sleep_for(std::chrono::nanoseconds(nanoseconds));
}
