// What the ring is compared with: a queue behind a mutex, and one with cached indices that hands
// over element by element, the design that throughput tables are led by.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <mutex>
#include <vector>

namespace bench {

/// A bounded queue as it is written first: one lock around everything.
template <typename T> class MutexQueue {
public:
    explicit MutexQueue(std::size_t capacity) : slots_(capacity) {}

    bool push(const T& value) {
        const std::lock_guard<std::mutex> held(mutex_);
        if (count_ == slots_.size()) return false;
        slots_[(first_ + count_++) % slots_.size()] = value;
        return true;
    }

    bool pop(T& value) {
        const std::lock_guard<std::mutex> held(mutex_);
        if (count_ == 0) return false;
        value = slots_[first_];
        first_ = (first_ + 1) % slots_.size();
        --count_;
        return true;
    }

private:
    std::mutex mutex_;
    std::vector<T> slots_;
    std::size_t first_ = 0;
    std::size_t count_ = 0;
};

/// One producer, one consumer. Each side keeps its index and its last view of the other's on a
/// cache line of its own, so that lines move between cores only when a view has run out.
template <typename T> class CachedIndexQueue {
public:
    explicit CachedIndexQueue(std::size_t capacity)
        : slots_(std::bit_ceil(capacity)), mask_(slots_.size() - 1) {}

    bool push(const T& value) {
        const std::size_t at = produced_.load(std::memory_order_relaxed);
        if (at - seen_consumed_ > mask_) {
            seen_consumed_ = consumed_.load(std::memory_order_acquire);
            if (at - seen_consumed_ > mask_) return false;
        }
        slots_[at & mask_] = value;
        produced_.store(at + 1, std::memory_order_release);
        return true;
    }

    bool pop(T& value) {
        const std::size_t at = consumed_.load(std::memory_order_relaxed);
        if (at == seen_produced_) {
            seen_produced_ = produced_.load(std::memory_order_acquire);
            if (at == seen_produced_) return false;
        }
        value = slots_[at & mask_];
        consumed_.store(at + 1, std::memory_order_release);
        return true;
    }

private:
    std::vector<T> slots_;
    std::size_t mask_;
    alignas(64) std::atomic<std::size_t> produced_{0};
    std::size_t seen_consumed_ = 0;
    alignas(64) std::atomic<std::size_t> consumed_{0};
    std::size_t seen_produced_ = 0;
};

} // namespace bench
