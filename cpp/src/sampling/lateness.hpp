// A histogram of how long after its deadline a reading began, by powers of two, with fixed size.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace carbontracker {

/// Adds to a counter with one writer thread: no locked instruction is needed.
template <typename Count> void add(std::atomic<Count>& counter, Count more) noexcept {
    counter.store(counter.load(std::memory_order_relaxed) + more, std::memory_order_relaxed);
}

class Lateness {
public:
    void note(std::int64_t late_ns, std::uint64_t times = 1) noexcept {
        const auto late = static_cast<std::uint64_t>(std::max<std::int64_t>(late_ns, 0));
        const auto width = static_cast<std::size_t>(std::bit_width(late));
        add(counts_[std::min(width, counts_.size() - 1)], times);
    }

    /// The quantile `share` of the lateness, ns; interpolated linearly within a power of two.
    [[nodiscard]] std::int64_t quantile_ns(double share) const noexcept {
        std::uint64_t total = 0;
        for (const auto& count : counts_) total += count.load(std::memory_order_relaxed);
        const double wanted = share * static_cast<double>(total);
        double below = 0.0;
        for (std::size_t width = 0; width < counts_.size(); ++width) {
            const auto here = static_cast<double>(counts_[width].load(std::memory_order_relaxed));
            if (here > 0.0 && below + here > wanted) {
                const double low =
                    width == 0 ? 0.0 : static_cast<double>(std::uint64_t{1} << (width - 1));
                return static_cast<std::int64_t>(low * (1.0 + (wanted - below) / here));
            }
            below += here;
        }
        return 0;
    }

private:
    std::array<std::atomic<std::uint64_t>, 40> counts_{}; // of n bits: up to nine minutes
};

} // namespace carbontracker
