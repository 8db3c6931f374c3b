// Quartiles, and rows of the markdown table that bench/core.py reads.
#pragma once

#include <algorithm>
#include <cstdio>
#include <vector>

namespace bench {

struct Spread {
    double low;
    double median;
    double high;
};

inline Spread spread(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const std::size_t n = values.size();
    return {values[n / 4], values[n / 2], values[n - 1 - n / 4]};
}

/// `| what | median | low | high | unit or against | pairs |`
inline void print_row(const char* what, const std::vector<double>& values, const char* unit) {
    const Spread s = spread(values);
    std::printf("| %s | %.4g | %.4g | %.4g | %s | %zu |\n", what, s.median, s.low, s.high, unit,
                values.size());
    std::fflush(stdout);
}

} // namespace bench
