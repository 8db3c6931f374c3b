// The marks that are in use: their estimates are frozen before the samples around them are thinned.
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

/// A time, and the frozen E(t) at that time.
struct Mark {
    std::int64_t t_ns = 0;
    std::vector<EnergyEstimate> estimates; // of the owner's devices; empty until frozen
    std::size_t failovers = 0;             // number known when frozen
    const Moments* owner = nullptr;        // null: a time only
    Mark* before = nullptr;
    Mark* after = nullptr;
    bool listed = false;
};

/// The marks that are not frozen, oldest first. Costs a few nanoseconds for each mark.
///
/// The lock is held to link, to unlink and to store results that were computed without it, for at
/// most kBatch marks at a time. Nothing is allocated under it, so a mark never waits longer.
class Moments {
public:
    static constexpr std::size_t kBatch = 64;

    /// The frozen values of a mark.
    struct Frozen {
        std::vector<EnergyEstimate> estimates;
        std::size_t failovers = 0;
    };

    /// A listed mark must be removed before it is added again.
    void add(Mark& mark) noexcept {
        mark.estimates.clear();
        mark.owner = this;
        const std::lock_guard lock(mutex_);
        link(mark);
    }

    /// The same for a mark of this moment, on this clock: its time is taken last.
    void add_now(Mark& mark, std::int64_t (*clock_ns)() noexcept) noexcept {
        mark.estimates.clear();
        mark.owner = this;
        const std::lock_guard lock(mutex_);
        link(mark);
        mark.t_ns = clock_ns();
    }

    void remove(Mark& mark) noexcept {
        const std::lock_guard lock(mutex_);
        unlink(mark);
    }

    /// Whether the estimates of `mark` belong to this session.
    [[nodiscard]] bool owns(const Mark& mark) const noexcept { return mark.owner == this; }

    /// The time of the oldest mark, or `else_ns`.
    [[nodiscard]] std::int64_t oldest_ns(std::int64_t else_ns) noexcept {
        const std::lock_guard lock(mutex_);
        return oldest_ != nullptr ? oldest_->t_ns : else_ns;
    }

    /// Freezes up to kBatch of the oldest marks not later than `t_ns` and removes them from the
    /// list. Returns how many; fewer than kBatch: no more are left. One thread at a time. If
    /// `freeze(t_ns)` throws, nothing has changed.
    template <typename Freeze> std::size_t freeze_some(std::int64_t t_ns, Freeze freeze) {
        std::array<Pending, kBatch> batch;
        const std::size_t count = take(t_ns, batch);
        const std::span taken(batch.data(), count);
        for (Pending& one : taken) one.result = freeze(one.t_ns);
        give(taken);
        return count;
    }

private:
    struct Pending {
        Mark* mark;
        std::int64_t t_ns;
        Frozen result;
    };

    std::size_t take(std::int64_t t_ns, std::span<Pending> batch) noexcept {
        const std::lock_guard lock(mutex_);
        std::size_t count = 0;
        for (Mark* mark = oldest_; mark != nullptr && count < batch.size(); mark = mark->after) {
            if (mark->t_ns > t_ns) break;
            batch[count].mark = mark;
            batch[count++].t_ns = mark->t_ns;
        }
        return count;
    }

    // Some marks may have been removed since, and new marks may be at the same address: those are
    // later in the list, behind all that were taken. The others are in front, in their order.
    void give(std::span<Pending> batch) noexcept {
        const std::lock_guard lock(mutex_);
        for (Pending& one : batch) {
            Mark* mark = oldest_;
            if (mark != one.mark || mark->t_ns != one.t_ns) continue;
            mark->estimates = std::move(one.result.estimates);
            mark->failovers = one.result.failovers;
            unlink(*mark);
        }
    }

    void link(Mark& mark) noexcept {
        mark.before = newest_;
        (newest_ != nullptr ? newest_->after : oldest_) = &mark;
        newest_ = &mark;
        mark.listed = true;
    }

    void unlink(Mark& mark) noexcept {
        if (!mark.listed) return;
        (mark.before != nullptr ? mark.before->after : oldest_) = mark.after;
        (mark.after != nullptr ? mark.after->before : newest_) = mark.before;
        mark.before = mark.after = nullptr;
        mark.listed = false;
    }

    std::mutex mutex_;
    Mark* oldest_ = nullptr;
    Mark* newest_ = nullptr;
};

} // namespace carbontracker
