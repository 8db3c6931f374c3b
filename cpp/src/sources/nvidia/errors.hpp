// What follows from a status of NVML.
#pragma once

#include <string>

namespace carbontracker::nvml {

/// What to do about a reading that came with a status.
enum class Action {
    use,     ///< the reading is good
    retry,   ///< the next one may be
    refuse,  ///< this door is shut, if it says so again
    reopen,  ///< nothing answers before the handle, or the library, has been opened again
    abandon, ///< nothing will answer before the process is started again
};

[[nodiscard]] Action action(int status) noexcept;

/// What a status usually means, to put behind NVML's own words; empty where they say it all.
[[nodiscard]] std::string hint(int status);

/// The command that mends it; empty where there is none.
[[nodiscard]] std::string remedy(int status);

} // namespace carbontracker::nvml
