// A list that grows while other threads read it.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <span>
#include <stdexcept>
#include <utility>

namespace carbontracker {

/// Append-only, with room for a fixed number of elements: they never move, so that readers need no
/// lock. One thread at a time appends.
template <typename T> class GrowingList {
public:
    explicit GrowingList(std::size_t capacity)
        : slots_(std::make_unique<T[]>(capacity)), capacity_(capacity) {}

    /// Throws std::length_error where there is no room left.
    void push_back(T value) {
        const std::size_t size = size_.load(std::memory_order_relaxed); // only we write it
        if (size == capacity_) throw std::length_error("GrowingList is full");
        slots_[size] = std::move(value);
        // release: the element is written before a reader can see the new size.
        size_.store(size + 1, std::memory_order_release);
    }

    /// What there is now.
    [[nodiscard]] std::span<const T> view() const noexcept {
        // acquire pairs with the release in push_back().
        return {slots_.get(), size_.load(std::memory_order_acquire)};
    }

private:
    const std::unique_ptr<T[]> slots_;
    const std::size_t capacity_;
    std::atomic<std::size_t> size_{0};
};

} // namespace carbontracker
