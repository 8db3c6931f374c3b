// The straight line through moments that lie whole periods apart.
#pragma once

#include <cstdint>
#include <span>

namespace carbontracker {

struct Grid {
    double period_ns = 0.0;    ///< 0: there is none
    double newest_ns = 0.0;    ///< the point of the grid nearest to the newest moment
    double share = 0.0;        ///< of the moments that lie on it
    double deviation_ns = 0.0; ///< mean distance of the moments from it
};

/// Least squares over (number of periods, time). `about_ns` is the period to count with; a moment
/// is on the grid within `tolerance` of a period plus `reading_ns`.
[[nodiscard]] Grid fit_grid(std::span<const std::int64_t> moments_ns, std::int64_t about_ns,
                            double tolerance, double reading_ns) noexcept;

} // namespace carbontracker
