// A source of pretended boards and the thread that reads them, on a virtual clock: what is due
// when, and what it costs, are those of the core; the clock and the costs are made up.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "device.hpp"
#include "sampling/lane.hpp"
#include "sampling/scheduler.hpp"

/// What a board is like.
struct BoardKind {
    Load::Kind load = Load::Kind::constant;
    std::int64_t period_ns = 100'000'000; ///< of the counter's and of the power's refreshes
    bool ring = false;                    ///< the driver keeps a power reading every 20 ms
    bool stamps = false;                  ///< the driver says when it renewed the counter
};

/// One board: a counter and, beside it, power of the moment and a mean over a second.
class VirtualBoard {
public:
    VirtualBoard(BoardKind kind, std::uint64_t seed) : kind_(kind), load_(kind.load, seed) {
        phase_ns_ = static_cast<std::int64_t>(seed * 11'000'000) % kind.period_ns;
        lanes.emplace_back(counter());
        lanes.emplace_back(power(25'000'000));
        lanes.emplace_back(power(1'000'000'000));
    }

    /// Reads everything at `t_ns`; returns how many calls of the driver that took.
    int read(std::int64_t t_ns) {
        const std::int64_t at_ns = refreshed_ns(t_ns);
        const std::int64_t stamp_ns = kind_.stamps ? at_ns : 0;
        take(0, {t_ns, milli(load_.joules(at_ns)), carbontracker::Status::ok, stamp_ns});
        take(2, {t_ns, milli(watts(at_ns, 1'000'000'000)), carbontracker::Status::ok, stamp_ns});
        if (!kind_.ring) {
            take(1, {t_ns, milli(watts(at_ns, 25'000'000)), carbontracker::Status::ok, stamp_ns});
            return 1;
        }
        const bool is_due = t_ns - fetched_ns_ >= kRingNs * 3 / 4;
        if (is_due) fetch(t_ns);
        take(1, newest_);
        return is_due ? 2 : 1;
    }

    std::vector<carbontracker::Lane> lanes;

    static constexpr std::int64_t kRingNs = 1'000'000'000;

private:
    static carbontracker::Channel channel(carbontracker::Quantity quantity) {
        carbontracker::Channel result;
        result.quantity = quantity;
        result.units_per_raw = 1e-3;
        result.tick_ns = 100'000'000;
        return result;
    }
    static carbontracker::Channel counter() {
        return channel(carbontracker::Quantity::energy_counter);
    }
    static carbontracker::Channel power(std::int64_t window_ns) {
        carbontracker::Channel result = channel(carbontracker::Quantity::power);
        result.window_ns = window_ns;
        return result;
    }
    static std::uint64_t milli(double value) {
        return static_cast<std::uint64_t>(std::max(0.0, value * 1e3));
    }

    void take(std::size_t lane, const carbontracker::Reading& reading) {
        carbontracker::Sample sample;
        lanes[lane].take(reading, sample);
    }
    [[nodiscard]] std::int64_t refreshed_ns(std::int64_t t_ns) const {
        return t_ns - (t_ns - phase_ns_) % kind_.period_ns;
    }
    double watts(std::int64_t t_ns, std::int64_t window_ns) {
        const double joules = load_.joules(t_ns) - load_.joules(t_ns - window_ns);
        return joules * 1e9 / static_cast<double>(window_ns);
    }
    void fetch(std::int64_t t_ns) {
        constexpr std::int64_t kApartNs = 20'000'000;
        for (std::int64_t k = newest_.t_ns / kApartNs + 1; k * kApartNs <= t_ns; ++k) {
            if (newest_.t_ns > 0 && newest_.t_ns > fetched_ns_) take(1, newest_);
            const std::int64_t at_ns = k * kApartNs;
            if (at_ns < t_ns - kRingNs) continue;
            newest_ = {at_ns, milli(watts(at_ns, 25'000'000)), carbontracker::Status::ok, at_ns};
        }
        fetched_ns_ = t_ns;
    }

    BoardKind kind_;
    Load load_;
    std::int64_t phase_ns_ = 0;
    std::int64_t fetched_ns_ = 0;
    carbontracker::Reading newest_;
};

/// The thread of one source, with the scheduler of the core.
class VirtualSampler {
public:
    /// `call_ns` of CPU time and `asleep_ns` in the kernel for each call of the driver. `boards`
    /// have been found at a cost of `probing_ns`, also asleep.
    VirtualSampler(BoardKind kind, int boards, std::int64_t call_ns, std::int64_t asleep_ns = 0,
                   std::int64_t probing_ns = 0)
        : call_ns_(call_ns), asleep_ns_(asleep_ns) {
        std::vector<carbontracker::Lane*> lanes;
        std::vector<std::size_t> groups;
        std::vector<carbontracker::Priority> priorities;
        boards_.reserve(static_cast<std::size_t>(boards));
        for (int i = 0; i < boards; ++i) {
            boards_.emplace_back(kind, static_cast<std::uint64_t>(i));
            for (carbontracker::Lane& lane : boards_.back().lanes) {
                priorities.push_back(&lane == &boards_.back().lanes.front()
                                         ? carbontracker::Priority::total
                                         : carbontracker::Priority::secondary);
                lanes.push_back(&lane);
                groups.push_back(static_cast<std::size_t>(i));
            }
        }
        const std::int64_t usual_ns = kind.ring ? VirtualBoard::kRingNs : 20'000'000;
        scheduler_ = std::make_unique<carbontracker::Scheduler>(
            lanes, groups, carbontracker::Scheduler::Pace{.usual_ns = usual_ns}, priorities);
        scheduler_->set_share(kStartNs, kBudget, 1.0);
        scheduler_->begin(kStartNs, kStartNs, {0, probing_ns});
        now_ns_ = kStartNs;
        for (std::size_t i = 0; i < boards_.size(); ++i) read(i);
        end_round();
    }

    /// What happened in one second.
    struct Second {
        std::int64_t cpu_ns = 0;
        std::int64_t held_ns = 0;
        int calls = 0;
        int wakes = 0;
        int marks = 0; ///< that woke the thread
    };

    /// The next second, with a mark every `mark_every_ns`; 0: none.
    Second second(std::int64_t mark_every_ns = 0) {
        const std::int64_t end_ns = kStartNs + ++seconds_ * 1'000'000'000;
        constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
        while (true) {
            const std::int64_t mark_ns = mark_every_ns > 0 ? marked_ns_ + mark_every_ns : kNever;
            const std::int64_t due_ns = std::max(scheduler_->due_ns(), now_ns_);
            if (std::min(due_ns, mark_ns) >= end_ns) break;
            if (mark_ns <= due_ns) {
                marked_ns_ = mark_ns;
                if (mark_ns < scheduler_->mark_ready_ns(mark_ns)) continue;
                ++so_far_.marks;
                now_ns_ = std::max(now_ns_, mark_ns + kLateNs);
                scheduler_->mark(now_ns_, mark_ns);
            } else {
                now_ns_ = due_ns + kLateNs;
            }
            while (const auto group = scheduler_->next(now_ns_)) read(*group);
            end_round();
        }
        return std::exchange(so_far_, Second{});
    }

    [[nodiscard]] const std::vector<VirtualBoard>& boards() const { return boards_; }
    [[nodiscard]] carbontracker::Scheduler& scheduler() { return *scheduler_; }

    static constexpr double kBudget = 0.005;

private:
    static constexpr std::int64_t kStartNs = 10'000'000'000;
    static constexpr std::int64_t kLateNs = 60'000;
    static constexpr std::int64_t kWakeNs = 30'000; ///< CPU time
    static constexpr std::int64_t kReadNs = 3'000;  ///< besides the call

    void read(std::size_t group) {
        const std::int64_t began_ns = now_ns_;
        const int calls = boards_[group].read(now_ns_ + (call_ns_ + asleep_ns_) / 2);
        const std::int64_t held_ns = calls * (call_ns_ + asleep_ns_);
        now_ns_ += kReadNs + held_ns;
        cpu_ns_ += kReadNs + calls * call_ns_;
        so_far_.calls += calls;
        so_far_.held_ns += held_ns;
        scheduler_->took(group, {began_ns, now_ns_, held_ns, true, false});
    }

    void end_round() {
        ++so_far_.wakes;
        cpu_ns_ += kWakeNs;
        so_far_.cpu_ns += cpu_ns_;
        scheduler_->end_round(now_ns_, std::exchange(cpu_ns_, 0));
    }

    const std::int64_t call_ns_;
    const std::int64_t asleep_ns_;
    std::vector<VirtualBoard> boards_;
    std::unique_ptr<carbontracker::Scheduler> scheduler_;
    std::int64_t now_ns_ = kStartNs;
    std::int64_t marked_ns_ = kStartNs;
    std::int64_t seconds_ = 0;
    std::int64_t cpu_ns_ = 0; // of this round
    Second so_far_;
};
