// A list of what has happened that does not grow for ever.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace carbontracker {

/// Keeps the newest of what is added, and counts all of it.
template <typename T> class Newest {
public:
    static constexpr std::size_t kMost = 512;

    /// Makes sure that so many more can be added without an allocation.
    void make_room(std::size_t more) { kept_.reserve(std::min(kept_.size() + more, kMost)); }

    void push_back(T value) {
        if (kept_.size() == kMost) kept_.erase(kept_.begin());
        kept_.push_back(std::move(value));
        ++count_;
    }

    /// Oldest first.
    [[nodiscard]] const std::vector<T>& kept() const noexcept { return kept_; }

    /// Of all that were ever added.
    [[nodiscard]] std::size_t count() const noexcept { return count_; }

    /// How many of the oldest are not there any more.
    [[nodiscard]] std::size_t dropped() const noexcept { return count_ - kept_.size(); }

    /// What is kept of those after the first `known` of all.
    [[nodiscard]] std::span<const T> after(std::size_t known) const noexcept {
        const std::size_t skipped = std::min(std::max(known, dropped()) - dropped(), kept_.size());
        return std::span(kept_).subspan(skipped);
    }

private:
    std::vector<T> kept_;
    std::size_t count_ = 0;
};

} // namespace carbontracker
