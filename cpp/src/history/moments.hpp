// Moments that somebody holds: their levels are kept when the samples around them are thinned.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "history/timeline.hpp"

namespace carbontracker {

class Moments;

/// A point in time, and E(t) there once it has been settled.
struct Moment {
    std::int64_t t_ns = 0;
    std::vector<Level> levels;      // empty until settled; of the owner's devices
    std::size_t takeovers = 0;      // that were known then
    const Moments* owner = nullptr; // null: a time without levels of its own
    Moment* before = nullptr;
    Moment* after = nullptr;
    bool listed = false;
};

/// The unsettled ones, in the order in which they were made. Costs a few nanoseconds a moment.
///
/// The lock is held to link, to unlink and to hand over what was worked out elsewhere, for no more
/// than kBatch moments at a time, and nothing is allocated under it: a mark never waits for more.
class Moments {
public:
    static constexpr std::size_t kBatch = 64;

    /// What a moment is settled to.
    struct Settled {
        std::vector<Level> levels;
        std::size_t takeovers = 0;
    };

    /// A moment that is listed must have been removed before it is added again.
    void add(Moment& moment) noexcept {
        moment.levels.clear();
        moment.owner = this;
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

    /// Whether the levels of `moment` were, or will be, settled here.
    [[nodiscard]] bool owns(const Moment& moment) const noexcept { return moment.owner == this; }

    /// The time of the oldest one, or `else_ns`.
    [[nodiscard]] std::int64_t oldest_ns(std::int64_t else_ns) noexcept {
        const std::lock_guard lock(mutex_);
        return oldest_ != nullptr ? oldest_->t_ns : else_ns;
    }

    /// Settles some of the oldest ones that are not later than `t_ns`, and lets go of them. How
    /// many it took up: fewer than kBatch, and there are no more of them. To be called by one
    /// thread at a time. Where `settle(t_ns)` throws, nothing has changed.
    template <typename Settle> std::size_t settle_some(std::int64_t t_ns, Settle settle) {
        std::array<Pending, kBatch> batch;
        const std::size_t count = take(t_ns, batch);
        const std::span taken(batch.data(), count);
        for (Pending& one : taken) one.result = settle(one.t_ns);
        give(taken);
        return count;
    }

private:
    struct Pending {
        Moment* moment;
        std::int64_t t_ns;
        Settled result;
    };

    std::size_t take(std::int64_t t_ns, std::span<Pending> batch) noexcept {
        const std::lock_guard lock(mutex_);
        std::size_t count = 0;
        for (Moment* moment = oldest_; moment != nullptr && count < batch.size();
             moment = moment->after) {
            if (moment->t_ns > t_ns) break;
            batch[count].moment = moment;
            batch[count++].t_ns = moment->t_ns;
        }
        return count;
    }

    // Some may have been removed since, and even be other moments at the same address by now: those
    // stand behind all that were taken, and are later. The rest stands in front, in its order.
    void give(std::span<Pending> batch) noexcept {
        const std::lock_guard lock(mutex_);
        for (Pending& one : batch) {
            Moment* moment = oldest_;
            if (moment != one.moment || moment->t_ns != one.t_ns) continue;
            moment->levels = std::move(one.result.levels);
            moment->takeovers = one.result.takeovers;
            unlink(*moment);
        }
    }

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
