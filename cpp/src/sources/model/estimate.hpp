// What a part of the machine draws where no counter tells: a straight line over utilisation.
#pragma once

#include <string>

namespace carbontracker::model {

struct Estimate {
    std::string name; ///< what the part is called, for people
    double idle_watts;
    double full_watts;
    std::string assumption; ///< where the two come from, for people
    /// The true power lies between `lower` and `upper` times the line, in 95 of 100 machines.
    double lower;
    double upper;

    [[nodiscard]] double watts(double utilisation) const noexcept {
        return idle_watts + (full_watts - idle_watts) * utilisation;
    }
};

} // namespace carbontracker::model
