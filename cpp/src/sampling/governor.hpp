// Keeps the cost of sampling within a share of one core by reading less, the least useful first.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace carbontracker {

/// Max-min fair share of the CPU budget: the part of each source. The most expensive source is
/// throttled, not the cheap one beside it.
[[nodiscard]] inline std::vector<double> fair_shares(double budget,
                                                     const std::vector<double>& shares) {
    const double equal = budget / static_cast<double>(std::max<std::size_t>(shares.size(), 1));
    double held = 0.0;
    for (const double share : shares) held += std::min(share, equal);
    std::vector<double> result;
    for (const double share : shares) result.push_back(budget - held + std::min(share, equal));
    return result;
}

/// How far the readings of a source are throttled.
struct SamplingLimits {
    double spacing_total = 1.0;               ///< factor on the spacing of channels in the total
    double spacing_others = 1.0;              ///< factor on the spacing of other channels
    std::int64_t mark_spacing_ns = 2'000'000; ///< marks closer than this share one reading
    double cpu_share =
        std::numeric_limits<double>::infinity(); ///< of one core, must not be exceeded
};

/// A ladder of throttling steps, one for each source. Each step doubles one spacing: first of the
/// readings of secondary and standby channels, then of channels in the total, last of the marks
/// that get a reading of their own.
class Governor {
public:
    /// The share of one core used since the last call; NaN while it is not representative.
    [[nodiscard]] double share(std::int64_t cpu_ns, std::int64_t wall_ns) noexcept {
        const auto used = static_cast<double>(cpu_ns - cpu_ns_);
        const auto passed = static_cast<double>(wall_ns - wall_ns_);
        cpu_ns_ = cpu_ns;
        wall_ns_ = wall_ns;
        if (passed <= 0.0 || wall_ns < kLearningNs) return std::numeric_limits<double>::quiet_NaN();
        return used / passed;
    }

    /// Moves one or more steps after a second in which `share` was used; none if that is NaN.
    /// `held_back`: reads were waiting for CPU time.
    void keep(double share, double budget, bool held_back = false) noexcept {
        if (std::isnan(share)) return;
        if (share > budget) {
            const double doublings = budget > 0.0 ? std::ceil(std::log2(share / budget)) : kTop;
            rung_ = std::min(rung_ + static_cast<int>(std::min(doublings, double{kTop})), kTop);
        } else if (held_back) {
            rung_ = std::min(rung_ + 1, kTop);
        } else if (share < kRelax * budget) {
            rung_ = std::max(rung_ - 1, 0);
        }
    }

    [[nodiscard]] double others() const noexcept { return doubled(0, kOthers); }
    [[nodiscard]] double useful() const noexcept { return doubled(kOthers, kUseful); }
    [[nodiscard]] std::int64_t mark_spacing_ns() const noexcept {
        return static_cast<std::int64_t>(static_cast<double>(SamplingLimits{}.mark_spacing_ns) *
                                         doubled(kOthers + kUseful, kMarks));
    }

    /// The limits of a source that may use `cpu_share` of one core.
    [[nodiscard]] SamplingLimits limits(double cpu_share) const noexcept {
        return {useful(), others(), mark_spacing_ns(), cpu_share};
    }

private:
    // The first seconds are spent on searches and are not representative.
    static constexpr std::int64_t kLearningNs = 4'000'000'000;
    static constexpr double kRelax = 0.4; // one step less throttling may cost twice as much
    static constexpr int kOthers = 4;
    static constexpr int kUseful = 5;
    static constexpr int kMarks = 4; // the precision of windows is throttled last, and only in part
    static constexpr int kTop = kOthers + kUseful + kMarks;

    [[nodiscard]] double doubled(int below, int most) const noexcept {
        return static_cast<double>(1 << std::clamp(rung_ - below, 0, most));
    }

    std::int64_t cpu_ns_ = 0;
    std::int64_t wall_ns_ = 0;
    int rung_ = 0;
};

} // namespace carbontracker
