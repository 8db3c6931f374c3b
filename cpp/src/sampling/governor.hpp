// Keeps what sampling costs within a share of one core, by reading less: the least useful first.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace carbontracker {

/// What a source may use of one core: what the others leave, of which none holds on to more than an
/// equal part. So the dearest source becomes thrifty, and not the cheap one beside it.
[[nodiscard]] inline std::vector<double> allot(double budget, const std::vector<double>& shares) {
    const double equal = budget / static_cast<double>(std::max<std::size_t>(shares.size(), 1));
    double held = 0.0;
    for (const double share : shares) held += std::min(share, equal);
    std::vector<double> result;
    for (const double share : shares) result.push_back(budget - held + std::min(share, equal));
    return result;
}

/// How much less is read than would be good, to spare cost.
struct Thrift {
    double total = 1.0;  ///< what makes the total is read so many times as far apart
    double others = 1.0; ///< and so is the rest
    std::int64_t mark_spacing_ns = 2'000'000; ///< marks closer than this share one reading
    double share = std::numeric_limits<double>::infinity(); ///< of one core, to be kept to
};

/// A ladder of thrift, one for each source. Every rung doubles one distance: first between the
/// readings of channels that only refine or watch over others, then between those of the channels
/// that make the total, last between the marks that are given readings of their own.
class Governor {
public:
    /// What was used of one core since the last call; NaN while that says nothing.
    [[nodiscard]] double share(std::int64_t cpu_ns, std::int64_t wall_ns) noexcept {
        const auto used = static_cast<double>(cpu_ns - cpu_ns_);
        const auto passed = static_cast<double>(wall_ns - wall_ns_);
        cpu_ns_ = cpu_ns;
        wall_ns_ = wall_ns;
        if (passed <= 0.0 || wall_ns < kLearningNs) return std::numeric_limits<double>::quiet_NaN();
        return used / passed;
    }

    /// Climbs or descends after a second in which `share` was used; neither, where that is NaN.
    /// `held_back`: more would have been used, had there been more to use.
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
        return static_cast<std::int64_t>(static_cast<double>(Thrift{}.mark_spacing_ns) *
                                         doubled(kOthers + kUseful, kMarks));
    }

    /// What a source that may use `share` of one core does about it.
    [[nodiscard]] Thrift thrift(double share) const noexcept {
        return {useful(), others(), mark_spacing_ns(), share};
    }

private:
    // The first seconds are spent on learning rhythms, and say little of the rest.
    static constexpr std::int64_t kLearningNs = 4'000'000'000;
    static constexpr double kRelax = 0.4; // a rung lower may cost twice as much
    static constexpr int kOthers = 4;
    static constexpr int kUseful = 5;
    static constexpr int kMarks = 4; // what windows are sharp by is given up last, and not wholly
    static constexpr int kTop = kOthers + kUseful + kMarks;

    [[nodiscard]] double doubled(int below, int most) const noexcept {
        return static_cast<double>(1 << std::clamp(rung_ - below, 0, most));
    }

    std::int64_t cpu_ns_ = 0;
    std::int64_t wall_ns_ = 0;
    int rung_ = 0;
};

} // namespace carbontracker
