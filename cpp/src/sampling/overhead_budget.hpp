// What sampling may cost: token buckets of CPU time and of time inside the driver, without a clock.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "platform/clock.hpp"
#include "sample.hpp"

namespace carbontracker {

/// What reading costs.
struct Cost {
    std::int64_t cpu_ns = 0;  ///< CPU time of the thread
    std::int64_t held_ns = 0; ///< time inside the driver, awake or asleep, in which others wait

    constexpr Cost& operator+=(const Cost& more) noexcept {
        cpu_ns += more.cpu_ns;
        held_ns += more.held_ns;
        return *this;
    }
    friend constexpr Cost operator+(Cost one, const Cost& other) noexcept { return one += other; }
    friend constexpr Cost operator*(const Cost& one, std::int64_t times) noexcept {
        return {one.cpu_ns * times, one.held_ns * times};
    }
};

/// A balance that grows at `rate` up to `capacity`: within any time t no more than
/// capacity + rate * t is spent by those that ask first.
class TokenBucket {
public:
    struct Limits {
        double rate;        ///< ns a ns
        double capacity_ns; ///< largest balance
        double debt_ns;     ///< largest debt, as a time of growing
    };

    void refill(std::int64_t now_ns, const Limits& limits) noexcept {
        const auto passed_ns = static_cast<double>(std::max<std::int64_t>(now_ns - as_of_ns_, 0));
        balance_ns_ = std::min(balance_ns_ + limits.rate * passed_ns, limits.capacity_ns);
        as_of_ns_ = std::max(as_of_ns_, now_ns);
    }

    void fill(std::int64_t now_ns, double balance_ns) noexcept {
        balance_ns_ = balance_ns;
        as_of_ns_ = now_ns;
    }

    /// A call that took longer than expected leaves a debt.
    void spend(double cost_ns, const Limits& limits) noexcept {
        balance_ns_ = std::max(balance_ns_ - cost_ns, -limits.rate * limits.debt_ns);
    }

    /// How long until `cost_ns` can be spent. More than the capacity is never asked for.
    [[nodiscard]] double wait_ns(double cost_ns, const Limits& limits) const noexcept {
        const double lack_ns = std::min(cost_ns, limits.capacity_ns) - balance_ns_;
        return lack_ns <= 0.0 ? 0.0 : lack_ns / limits.rate;
    }

    [[nodiscard]] double balance_ns() const noexcept { return balance_ns_; }

private:
    double balance_ns_ = 0.0;
    std::int64_t as_of_ns_ = 0;
};

/// The budget of one source. All limits are multiples of `overhead_budget`, the share of one core
/// that sampling may use for long. With the default of 0.5 % they are, for all sources together:
/// 2 % of a core in any second, 1 % over the first ten seconds, 0.5 % in every ten after. The
/// driver of a source is held for at most 5 % of the first second and 2 % of every second after.
class OverheadBudget {
public:
    /// Why a reading is taken. What is later leaves a larger balance to those before it.
    enum class Use : std::uint8_t {
        needed,    ///< for a mark, the rest of a visit, a repetition, after a long silence
        search,    ///< the next step of a search
        planned,   ///< of a channel in the total
        secondary, ///< of any other channel
    };

    /// From now on `cpu_share` of the whole `budget` is for this source, 0 to 1. Without a call,
    /// and where `budget` is not a positive number, nothing is limited.
    void set_share(std::int64_t now_ns, double budget, double cpu_share) noexcept {
        if (is_limited()) refill(now_ns);
        budget_ = budget;
        cpu_share_ = cpu_share;
    }

    /// The source is read from now on, after `spent` on finding its sensors. The first ten seconds
    /// of CPU time are those from `cpu_began_ns` on: all sources of a node have the same.
    void begin(std::int64_t now_ns, std::int64_t cpu_began_ns, const Cost& spent) noexcept {
        cpu_began_ns_ = cpu_began_ns;
        held_began_ns_ = now_ns;
        if (!is_limited()) return;
        cpu_.fill(now_ns, cpu_limits(now_ns).capacity_ns);
        held_.fill(now_ns, held_limits(now_ns).capacity_ns);
        charge(now_ns, spent);
    }

    void charge(std::int64_t now_ns, const Cost& cost) noexcept {
        if (!is_limited()) return;
        refill(now_ns);
        cpu_.spend(static_cast<double>(cost.cpu_ns), cpu_limits(now_ns));
        held_.spend(static_cast<double>(cost.held_ns), held_limits(now_ns));
    }

    /// When `cost` can be spent, if nothing else is until then; `set_aside` is left to others.
    [[nodiscard]] std::int64_t ready_ns(std::int64_t now_ns, const Cost& cost, Use use,
                                        const Cost& set_aside = {}) noexcept {
        if (!is_limited()) return now_ns;
        refill(now_ns);
        const auto wait_ns = [&](const TokenBucket& bucket, const TokenBucket::Limits& limits,
                                 std::int64_t cost_ns, std::int64_t aside_ns) {
            const double left_ns =
                std::max(left(use) * limits.capacity_ns, static_cast<double>(aside_ns));
            return bucket.wait_ns(static_cast<double>(cost_ns) + left_ns, limits);
        };
        const double longest_ns =
            std::max(wait_ns(cpu_, cpu_limits(now_ns), cost.cpu_ns, set_aside.cpu_ns),
                     wait_ns(held_, held_limits(now_ns), cost.held_ns, set_aside.held_ns));
        return now_ns + static_cast<std::int64_t>(std::ceil(std::min(longest_ns, kMaxWaitNs)));
    }

    /// Whether a search can spend `cost` evenly over the next `length_ns`.
    [[nodiscard]] bool covers(std::int64_t now_ns, const Cost& cost,
                              std::int64_t length_ns) noexcept {
        if (!is_limited()) return true;
        refill(now_ns);
        return is_covered(cpu_.balance_ns(), cpu_limits(now_ns), cost.cpu_ns, length_ns) &&
               is_covered(held_.balance_ns(), held_limits(now_ns), cost.held_ns, length_ns);
    }

    /// Whether covers() can become true by waiting.
    [[nodiscard]] bool can_cover(std::int64_t now_ns, const Cost& cost,
                                 std::int64_t length_ns) const noexcept {
        if (!is_limited()) return true;
        const TokenBucket::Limits cpu = cpu_limits(now_ns);
        const TokenBucket::Limits held = held_limits(now_ns);
        return is_covered(cpu.capacity_ns, cpu, cost.cpu_ns, length_ns) &&
               is_covered(held.capacity_ns, held, cost.held_ns, length_ns);
    }

    /// How long CPU time for one more reading is waited for.
    [[nodiscard]] std::int64_t cpu_wait_ns(std::int64_t now_ns, const Cost& cost,
                                           Use use) noexcept {
        return ready_ns(now_ns, {cost.cpu_ns, 0}, use) - now_ns;
    }

    [[nodiscard]] bool is_limited() const noexcept { return budget_ > 0.0; }

private:
    static constexpr auto kSecondNs = static_cast<double>(kNanosPerSecond);
    static constexpr std::int64_t kFirstCpuNs = 10 * kNanosPerSecond;
    static constexpr std::int64_t kFirstHeldNs = kNanosPerSecond;
    static constexpr double kMaxWaitNs = 3600.0 * kSecondNs;

    // Multiples of the budget: rate, and capacity in seconds. Rate and capacity of any second, or
    // ten times the rate and the capacity, stay below the limits above by a little more than one
    // call may exceed what it was expected to cost.
    struct Multiples {
        double rate;
        double capacity;
    };
    static constexpr Multiples kFirstCpu = {1.7, 2.1};  // 3.8 in a second, 19.1 in ten
    static constexpr Multiples kCpu = {0.81, 1.6};      // 9.7 in ten
    static constexpr Multiples kFirstHeld = {1.5, 8.0}; // 9.5 in a second
    static constexpr Multiples kHeld = {2.5, 1.0};      // 3.5 in a second

    // A thread that lost its core inside a call seems to have held the driver: forget that soon.
    static constexpr double kCpuDebtNs = 10.0 * kSecondNs;
    static constexpr double kHeldDebtNs = static_cast<double>(kMaxPeriodNs);

    static constexpr double kSearchLeaves = 0.15;

    // The part of the capacity that a use leaves.
    static constexpr double left(Use use) noexcept {
        constexpr double parts[] = {0.0, kSearchLeaves, 0.4, 0.7};
        return parts[static_cast<std::size_t>(use)];
    }

    static bool is_covered(double balance_ns, const TokenBucket::Limits& limits,
                           std::int64_t cost_ns, std::int64_t length_ns) noexcept {
        const double earned_ns = limits.rate * static_cast<double>(length_ns);
        return balance_ns - kSearchLeaves * limits.capacity_ns + earned_ns >=
               static_cast<double>(cost_ns);
    }

    [[nodiscard]] TokenBucket::Limits cpu_limits(std::int64_t now_ns) const noexcept {
        const Multiples& many = now_ns - cpu_began_ns_ < kFirstCpuNs ? kFirstCpu : kCpu;
        const double share = budget_ * cpu_share_;
        return {many.rate * share, many.capacity * share * kSecondNs, kCpuDebtNs};
    }
    [[nodiscard]] TokenBucket::Limits held_limits(std::int64_t now_ns) const noexcept {
        const Multiples& many = now_ns - held_began_ns_ < kFirstHeldNs ? kFirstHeld : kHeld;
        return {many.rate * budget_, many.capacity * budget_ * kSecondNs, kHeldDebtNs};
    }

    void refill(std::int64_t now_ns) noexcept {
        // What the first seconds earned ends with them.
        for (const std::int64_t end_ns :
             {held_began_ns_ + kFirstHeldNs, cpu_began_ns_ + kFirstCpuNs}) {
            if (now_ns >= end_ns) refill_until(end_ns - 1);
        }
        refill_until(now_ns);
    }
    void refill_until(std::int64_t until_ns) noexcept {
        cpu_.refill(until_ns, cpu_limits(until_ns));
        held_.refill(until_ns, held_limits(until_ns));
    }

    double budget_ = 0.0;
    double cpu_share_ = 1.0;
    std::int64_t cpu_began_ns_ = 0;
    std::int64_t held_began_ns_ = 0;
    TokenBucket cpu_;
    TokenBucket held_;
};

/// What a source needs of a common budget.
struct Need {
    double used = 0.0;        ///< share of the budget that it used in the last second
    bool is_held_back = true; ///< readings waited for CPU time, or it is new
    double share = 0.0;       ///< what it gets
};

/// Max-min fair shares; they add up to 1. A source that was not held back gets what it used and
/// some room. The others share the rest equally.
inline void share_fairly(std::span<Need> needs) noexcept {
    constexpr double kRoom = 1.5;
    constexpr double kLeast = 0.05;
    constexpr double kUndecided = -1.0;
    const auto wish = [](const Need& need) {
        return need.is_held_back ? 1.0 : std::min(1.0, kRoom * need.used + kLeast);
    };
    for (Need& need : needs) need.share = kUndecided;
    double rest = 1.0;
    for (std::size_t left = needs.size(); left > 0; --left) { // the smallest wish first
        Need* next = nullptr;
        for (Need& need : needs) {
            if (need.share != kUndecided) continue;
            if (next == nullptr || wish(need) < wish(*next)) next = &need;
        }
        next->share = std::min(wish(*next), rest / static_cast<double>(left));
        rest -= next->share;
    }
    for (Need& need : needs) need.share += rest / static_cast<double>(needs.size());
}

} // namespace carbontracker
