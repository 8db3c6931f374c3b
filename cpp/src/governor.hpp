// Keeps what sampling costs within a share of one core, by reading less: the least useful first.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>

namespace carbontracker {

/// A ladder of thrift. Every rung doubles one distance: first between the readings of channels that
/// only refine or watch over others, then between those of the channels that make the total, last
/// between the marks that are given readings of their own.
class Governor {
public:
    explicit Governor(double budget) noexcept : budget_(budget) {}

    /// What was used of one core since the last call, after `wall_ns` of sampling.
    void account(std::int64_t cpu_ns, std::int64_t wall_ns) noexcept {
        const auto used = static_cast<double>(cpu_ns - cpu_ns_);
        const auto passed = static_cast<double>(wall_ns - wall_ns_);
        cpu_ns_ = cpu_ns;
        wall_ns_ = wall_ns;
        if (budget_ <= 0.0 || passed <= 0.0 || wall_ns < kLearningNs) return;
        const double share = used / passed;
        int rung = rung_.load(std::memory_order_relaxed);
        if (share > budget_) {
            const double doublings = std::ceil(std::log2(share / budget_));
            rung = std::min(rung + static_cast<int>(std::min(doublings, double{kTop})), kTop);
        }
        if (share < kRelax * budget_) rung = std::max(rung - 1, 0);
        rung_.store(rung, std::memory_order_relaxed);
    }

    [[nodiscard]] double others() const noexcept { return doubled(0, kOthers); }
    [[nodiscard]] double useful() const noexcept { return doubled(kOthers, kUseful); }
    [[nodiscard]] std::int64_t mark_spacing_ns() const noexcept {
        return static_cast<std::int64_t>(kMarkNs * doubled(kOthers + kUseful, kMarks));
    }

private:
    // The first seconds are spent on learning rhythms, and say little of the rest.
    static constexpr std::int64_t kLearningNs = 4'000'000'000;
    static constexpr double kRelax = 0.4; // a rung lower may cost twice as much
    static constexpr int kOthers = 4;
    static constexpr int kUseful = 5;
    static constexpr int kMarks = 4; // what windows are sharp by is given up last, and not wholly
    static constexpr int kTop = kOthers + kUseful + kMarks;
    static constexpr double kMarkNs = 2e6; // marks closer than this share one reading

    [[nodiscard]] double doubled(int below, int most) const noexcept {
        const int steps = std::clamp(rung_.load(std::memory_order_relaxed) - below, 0, most);
        return static_cast<double>(1 << steps);
    }

    const double budget_;
    std::int64_t cpu_ns_ = 0;
    std::int64_t wall_ns_ = 0;
    std::atomic<int> rung_{0};
};

} // namespace carbontracker
