// The power of a part of the machine without a counter: linear in the utilisation.
#pragma once

#include <string>

namespace carbontracker::model {

struct Estimate {
    std::string name; ///< name of the part, for display
    double idle_watts;
    double full_watts;
    std::string assumption; ///< where the figures come from, for display
    /// In 95 of 100 machines the true power lies between `lower` and `upper` times the line.
    double lower;
    double upper;

    [[nodiscard]] double watts(double utilisation) const noexcept {
        return idle_watts + (full_watts - idle_watts) * utilisation;
    }
};

} // namespace carbontracker::model
