// A bounded queue from one producer thread to one consumer thread, wait-free on both sides.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <span>
#include <type_traits>
#include <vector>

// The order that publishes an element. Only the test that shows ThreadSanitizer catching a broken
// ring (tests/cpp/CMakeLists.txt) ever sets another one.
#ifndef CARBONTRACKER_RING_PUBLISH
#define CARBONTRACKER_RING_PUBLISH std::memory_order_release
#endif

namespace carbontracker {

/// Single producer, single consumer. When full the newest element is refused, never an old one
/// overwritten: samples are cumulative, so a refusal costs resolution and no energy.
template <typename T> class Ring {
    static_assert(std::is_trivially_copyable_v<T>);

public:
    /// Room for at least `capacity` elements, rounded up to a power of two.
    explicit Ring(std::size_t capacity)
        : slots_(std::bit_ceil(capacity < 2 ? std::size_t{2} : capacity)),
          mask_(slots_.size() - 1) {}

    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;

    [[nodiscard]] std::size_t capacity() const noexcept { return slots_.size(); }

    /// Producer only. False when the ring is full.
    [[nodiscard]] bool push(const T& value) noexcept {
        const std::size_t head = head_.load(std::memory_order_relaxed); // only we write it
        if (head - cached_tail_ == slots_.size()) {
            // acquire: the consumer has finished with the slots it gave back.
            cached_tail_ = tail_.load(std::memory_order_acquire);
            if (head - cached_tail_ == slots_.size()) return false;
        }
        slots_[head & mask_] = value;
        // release: the element is written before the consumer can see the new head.
        head_.store(head + 1, CARBONTRACKER_RING_PUBLISH);
        return true;
    }

    /// Consumer only. Appends everything there is to `out` and returns how many that were.
    std::size_t drain(std::vector<T>& out) {
        const std::size_t tail = tail_.load(std::memory_order_relaxed); // only we write it
        // acquire pairs with the release in push().
        const std::size_t head = head_.load(std::memory_order_acquire);
        for (std::size_t i = tail; i != head; ++i) out.push_back(slots_[i & mask_]);
        // release: our reads of the slots are over before the producer may reuse them.
        tail_.store(head, std::memory_order_release);
        return head - tail;
    }

    /// Consumer only. Takes what there is and has room in `out`; how many that were.
    std::size_t drain(std::span<T> out) noexcept {
        const std::size_t tail = tail_.load(std::memory_order_relaxed);
        const std::size_t head = head_.load(std::memory_order_acquire); // as above
        const std::size_t count = std::min(head - tail, out.size());
        for (std::size_t i = 0; i < count; ++i) out[i] = slots_[(tail + i) & mask_];
        tail_.store(tail + count, std::memory_order_release);
        return count;
    }

private:
    // Producer and consumer own a cache line each; indices only grow and never need resetting.
    std::vector<T> slots_;
    std::size_t mask_;
    alignas(64) std::atomic<std::size_t> head_{0};
    std::size_t cached_tail_ = 0; // the producer's last view of tail_
    alignas(64) std::atomic<std::size_t> tail_{0};
};

} // namespace carbontracker
