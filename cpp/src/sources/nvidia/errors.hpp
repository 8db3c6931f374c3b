// The meaning of NVML's status codes.
#pragma once

#include <string>

namespace carbontracker::nvml {

/// What to do after a call with a status.
enum class Action {
    use,     ///< the reading is good
    retry,   ///< the next reading may be good
    refuse,  ///< the sensor is not available, if the status repeats
    reopen,  ///< the handle, or the library, must be opened again first
    abandon, ///< nothing will work until the process is restarted
};

[[nodiscard]] Action action(int status) noexcept;

/// The usual cause of a status, to append to NVML's own text; empty if that suffices.
[[nodiscard]] std::string hint(int status);

/// The command that fixes it; empty if no command does.
[[nodiscard]] std::string remedy(int status);

} // namespace carbontracker::nvml
