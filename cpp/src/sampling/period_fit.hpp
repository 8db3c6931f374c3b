// A linear fit of times that are whole periods apart.
#pragma once

#include <cstdint>
#include <span>

namespace carbontracker {

struct PeriodFit {
    double period_ns = 0.0;    ///< 0: no fit
    double newest_ns = 0.0;    ///< the grid point nearest to the newest time
    double share = 0.0;        ///< of the times that lie on the grid
    double deviation_ns = 0.0; ///< mean distance of the times from the grid
};

/// Least squares over (number of periods, time). `about_ns` is the approximate period; a time is
/// on the grid within `tolerance` of a period plus `reading_ns`.
[[nodiscard]] PeriodFit fit_period(std::span<const std::int64_t> moments_ns, std::int64_t about_ns,
                                   double tolerance, double reading_ns) noexcept;

} // namespace carbontracker
