// The points of E(t) of one channel: the newest as they are, older ones packed, the oldest thinned.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace carbontracker {

/// A point of E(t).
struct Point {
    std::int64_t t_ns;
    std::int64_t energy_uj;
    std::int64_t before_ns; ///< the last reading that showed the energy before
    double unresolved_variance;
    std::int64_t time_ci95_ns;
    std::uint32_t tick_ns;
    std::uint32_t flags;
    float watts;
};

/// As many points as one block has, without loss: of each field the least value, and of each point
/// what it is above that, in as few bytes as the largest needs.
class PackedPoints {
public:
    static constexpr std::size_t kSize = 128;

    explicit PackedPoints(std::span<const Point, kSize> points);

    [[nodiscard]] Point operator[](std::size_t i) const noexcept;
    [[nodiscard]] std::int64_t t_ns(std::size_t i) const noexcept;
    [[nodiscard]] std::size_t bytes() const noexcept;

private:
    static constexpr std::size_t kFields = 8;

    [[nodiscard]] std::uint64_t field(std::size_t field, std::size_t i) const noexcept;

    std::array<std::uint64_t, kFields> least_{};
    std::array<std::uint16_t, kFields> begin_{}; // of each field in data_
    std::array<std::uint8_t, kFields> width_{};  // in bytes
    std::unique_ptr<std::byte[]> data_;
};

/// Points in time order. Adding and thinning are O(1) for each point, however many there are.
class Points {
public:
    Points();

    /// Reserves memory for this many more points. On std::bad_alloc nothing has changed.
    void make_room(std::size_t more);
    [[nodiscard]] bool has_room(std::size_t more) const noexcept {
        return open_.capacity() - open_.size() >= more;
    }

    /// Does not throw where there is room.
    void push_back(const Point& point) { open_.push_back(point); }

    [[nodiscard]] bool empty() const noexcept { return open_.empty(); }
    [[nodiscard]] std::size_t size() const noexcept {
        return thinned_.size() + packed() + open_.size();
    }
    [[nodiscard]] Point operator[](std::size_t k) const noexcept;
    [[nodiscard]] std::int64_t t_ns(std::size_t k) const noexcept;
    [[nodiscard]] Point& back() noexcept { return open_.back(); }
    [[nodiscard]] const Point& back() const noexcept { return open_.back(); }

    /// Index of the first point later than this; size() if there is none.
    [[nodiscard]] std::size_t later_than(std::int64_t t_ns) const noexcept;

    /// Keeps of the blocks before `before_ns` one point in each `spacing_ns`. Where the old points
    /// become too many, keeps fewer of them, evenly. Returns how many points it looked at.
    std::size_t thin(std::int64_t before_ns, std::int64_t spacing_ns);

    /// How many of the points, the first, were thinned.
    [[nodiscard]] std::size_t thinned() const noexcept { return thinned_.size(); }

    /// Memory in use.
    [[nodiscard]] std::size_t bytes() const noexcept;

private:
    [[nodiscard]] std::size_t packed() const noexcept {
        return (blocks_.size() - gone_) * PackedPoints::kSize;
    }
    [[nodiscard]] const PackedPoints& block(std::size_t k) const noexcept {
        return blocks_[gone_ + k / PackedPoints::kSize];
    }
    void pack();
    void thin_block(const PackedPoints& block, std::int64_t next_ns, std::int64_t spacing_ns);
    std::size_t thin_again(std::int64_t spacing_ns);

    std::vector<Point> thinned_;
    std::vector<PackedPoints> blocks_;
    std::size_t gone_ = 0; // leading blocks that were thinned
    std::vector<Point> open_;
    std::int64_t coarse_ns_ = 0;    // spacing of the older half of the thinned points
    std::int64_t dropped_t_ns_ = 0; // of the newest point that was thinned or kept by thinning
    bool has_dropped_ = false;      // and it was not kept
};

} // namespace carbontracker
