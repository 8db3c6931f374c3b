// Moments that somebody holds: their levels are kept when the samples around them are thinned.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "timeline.hpp"

namespace carbontracker {

/// A point in time, and E(t) there once it has been settled.
struct Moment {
    std::int64_t t_ns = 0;
    std::vector<Level> levels; // empty until settled
    std::size_t takeovers = 0; // that were known then
    Moment* before = nullptr;
    Moment* after = nullptr;
    bool listed = false;
};

/// The unsettled ones, in the order in which they were made. Costs a few nanoseconds a moment.
class Moments {
public:
    void add(Moment& moment) noexcept {
        const std::lock_guard lock(mutex_);
        moment.before = newest_;
        (newest_ != nullptr ? newest_->after : oldest_) = &moment;
        newest_ = &moment;
        moment.listed = true;
    }

    void remove(Moment& moment) noexcept {
        const std::lock_guard lock(mutex_);
        unlink(moment);
    }

    /// Calls `settle` for each that is not later than `t_ns`, and lets go of it.
    template <typename Settle> void settle_until(std::int64_t t_ns, Settle settle) {
        while (true) {
            const std::lock_guard lock(mutex_); // for one at a time: marks must not wait for all
            if (oldest_ == nullptr || oldest_->t_ns > t_ns) return;
            Moment& moment = *oldest_;
            settle(moment);
            unlink(moment);
        }
    }

private:
    void unlink(Moment& moment) noexcept {
        if (!moment.listed) return;
        (moment.before != nullptr ? moment.before->after : oldest_) = moment.after;
        (moment.after != nullptr ? moment.after->before : newest_) = moment.before;
        moment.before = moment.after = nullptr;
        moment.listed = false;
    }

    std::mutex mutex_;
    Moment* oldest_ = nullptr;
    Moment* newest_ = nullptr;
};

} // namespace carbontracker
