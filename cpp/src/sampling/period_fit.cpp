#include "sampling/period_fit.hpp"

#include <algorithm>
#include <cmath>

namespace carbontracker {
namespace {

// Calls `visit(number of periods, time)` for each time, both relative to the first.
template <typename Visit>
void for_each_moment(std::span<const std::int64_t> moments_ns, std::int64_t about_ns, Visit visit) {
    double periods = 0.0;
    for (std::size_t i = 0; i < moments_ns.size(); ++i) {
        if (i > 0) {
            const auto apart = static_cast<double>(moments_ns[i] - moments_ns[i - 1]);
            const auto about = static_cast<double>(std::max<std::int64_t>(about_ns, 1));
            periods += std::max(1.0, std::round(apart / about));
        }
        visit(periods, static_cast<double>(moments_ns[i] - moments_ns[0]));
    }
}

} // namespace

PeriodFit fit_period(std::span<const std::int64_t> moments_ns, std::int64_t about_ns,
                     double tolerance, double reading_ns) noexcept {
    if (moments_ns.size() < 3) return {};
    double n = 0.0, sum_k = 0.0, sum_t = 0.0, sum_kk = 0.0, sum_kt = 0.0, newest = 0.0;
    for_each_moment(moments_ns, about_ns, [&](double k, double t) {
        n += 1.0;
        sum_k += k;
        sum_t += t;
        sum_kk += k * k;
        sum_kt += k * t;
        newest = k;
    });
    PeriodFit grid;
    grid.period_ns = (n * sum_kt - sum_k * sum_t) / (n * sum_kk - sum_k * sum_k);
    const double start = (sum_t - grid.period_ns * sum_k) / n;
    grid.newest_ns = static_cast<double>(moments_ns[0]) + start + grid.period_ns * newest;
    for_each_moment(moments_ns, about_ns, [&](double k, double t) {
        const double off = std::abs(t - start - grid.period_ns * k);
        if (off <= tolerance * grid.period_ns + reading_ns) grid.share += 1.0 / n;
        grid.deviation_ns += off / n;
    });
    return grid;
}

} // namespace carbontracker
