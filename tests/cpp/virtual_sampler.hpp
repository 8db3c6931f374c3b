// A source of pretended boards and the thread that reads them, on a virtual clock: what is due
// when, and what it costs, are those of the core; the clock and the costs are made up.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "device.hpp"
#include "sampling/governor.hpp"
#include "sampling/lane.hpp"
#include "sampling/schedule.hpp"

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

/// The thread, and once a second the supervisor.
class VirtualSampler {
public:
    VirtualSampler(BoardKind kind, int boards, std::int64_t call_ns, double budget = 0.005)
        : call_ns_(call_ns), budget_(budget) {
        for (int i = 0; i < boards; ++i) {
            boards_.emplace_back(kind, static_cast<std::uint64_t>(i));
        }
        due_ns_.resize(boards_.size(), 0);
        searches_ = carbontracker::Searches(boards_.size());
        usual_ns_ = kind.ring ? VirtualBoard::kRingNs
                              : std::max<std::int64_t>(20'000'000, 50 * boards * call_ns);
        limits_ = governor_.limits(budget);
    }

    /// What happened in one second.
    struct Second {
        std::int64_t cpu_ns = 0;
        int calls = 0;
        int wakes = 0;
    };

    Second second() {
        Second result;
        const std::int64_t end_ns = now_ns_ + 1'000'000'000;
        while (true) {
            const std::int64_t due_ns = *std::min_element(due_ns_.begin(), due_ns_.end());
            if (due_ns >= end_ns) break;
            now_ns_ = std::max(now_ns_, due_ns + 60'000);
            wake(result);
        }
        now_ns_ = std::max(now_ns_, end_ns);
        cpu_ns_ += result.cpu_ns;
        const double share = governor_.share(cpu_ns_, now_ns_ - kStartNs);
        governor_.keep(share, budget_, allowance_.free_ns() > now_ns_);
        limits_ = governor_.limits(budget_);
        return result;
    }

    [[nodiscard]] const std::vector<VirtualBoard>& boards() const { return boards_; }

private:
    static constexpr std::int64_t kStartNs = 10'000'000'000;
    static constexpr std::int64_t kWakeNs = 30'000; ///< CPU time
    static constexpr std::int64_t kReadNs = 3'000;  ///< besides the call

    void wake(Second& second) {
        const std::int64_t began_ns = now_ns_;
        std::int64_t cpu_ns = kWakeNs;
        if (searches_.is_saving()) choose();
        std::vector<std::size_t> read;
        for (std::size_t i = 0; i < boards_.size(); ++i) {
            if (due_ns_[i] > began_ns + 60'000) continue;
            const int calls = boards_[i].read(now_ns_ + call_ns_ / 2);
            second.calls += calls;
            const std::int64_t took_ns = kReadNs + calls * call_ns_;
            now_ns_ += took_ns;
            cpu_ns += took_ns;
            read.push_back(i);
        }
        ++second.wakes;
        second.cpu_ns += cpu_ns;
        allowance_.spend(now_ns_, cpu_ns, limits_.cpu_share);
        choose();
        carbontracker::DueConstraints limits{usual_ns_,
                                             0,
                                             limits_.spacing_total,
                                             limits_.spacing_others,
                                             allowance_.free_ns(),
                                             allowance_.urgent_ns(),
                                             true,
                                             searches_.is_saving()};
        for (const std::size_t i : read) {
            limits.searches = searches_.may(i);
            plan(i, limits);
        }
    }

    void choose() {
        for (std::size_t i = 0; i < boards_.size(); ++i) {
            for (std::size_t lane = 0; lane < boards_[i].lanes.size(); ++lane) {
                searches_.consider(i, boards_[i].lanes[lane], priority_of(lane));
            }
        }
        searches_.choose(now_ns_, allowance_);
    }

    static carbontracker::Priority priority_of(std::size_t lane) {
        return lane == 0 ? carbontracker::Priority::total : carbontracker::Priority::secondary;
    }

    void plan(std::size_t board, const carbontracker::DueConstraints& limits) {
        due_ns_[board] = std::numeric_limits<std::int64_t>::max();
        for (std::size_t lane = 0; lane < boards_[board].lanes.size(); ++lane) {
            const auto priority = priority_of(lane);
            const std::int64_t due_ns =
                carbontracker::next_due_ns(now_ns_, boards_[board].lanes[lane], priority, limits);
            due_ns_[board] = std::min(due_ns_[board], due_ns);
        }
    }

    const std::int64_t call_ns_;
    const double budget_;
    std::int64_t usual_ns_ = 0;
    std::vector<VirtualBoard> boards_;
    std::vector<std::int64_t> due_ns_;
    carbontracker::Allowance allowance_;
    carbontracker::Searches searches_;
    carbontracker::Governor governor_;
    carbontracker::SamplingLimits limits_;
    std::int64_t now_ns_ = kStartNs;
    std::int64_t cpu_ns_ = 0;
};
