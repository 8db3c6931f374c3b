// A list of events with bounded length.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace carbontracker {

/// Keeps the newest elements and counts all.
template <typename T> class RecentLog {
public:
    static constexpr std::size_t kMax = 512;

    /// Reserves memory for this many more elements.
    void make_room(std::size_t more) { kept_.reserve(std::min(kept_.size() + more, kMax)); }

    void push_back(T value) {
        if (kept_.size() == kMax) kept_.erase(kept_.begin());
        kept_.push_back(std::move(value));
        ++count_;
    }

    /// Oldest first.
    [[nodiscard]] const std::vector<T>& kept() const noexcept { return kept_; }

    /// Number of all elements ever added.
    [[nodiscard]] std::size_t count() const noexcept { return count_; }

    /// How many of the oldest were dropped.
    [[nodiscard]] std::size_t dropped() const noexcept { return count_ - kept_.size(); }

    /// The kept elements after the first `known` of all.
    [[nodiscard]] std::span<const T> after(std::size_t known) const noexcept {
        const std::size_t skipped = std::min(std::max(known, dropped()) - dropped(), kept_.size());
        return std::span(kept_).subspan(skipped);
    }

private:
    std::vector<T> kept_;
    std::size_t count_ = 0;
};

} // namespace carbontracker
