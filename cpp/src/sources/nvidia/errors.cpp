#include "sources/nvidia/errors.hpp"

#include "sources/nvidia/abi.hpp"

namespace carbontracker::nvml {

Action action(int status) noexcept {
    switch (status) {
    case kSuccess: return Action::use;
    case kNotSupported:
    case kNoPermission:
    case kFunctionNotFound:
    case kArgumentVersionMismatch:
    case kDeprecated: return Action::refuse;
    // A reloaded driver does not know old handles, and reports that in different ways.
    case kUninitialized:
    case kInvalidArgument:
    case kDriverNotLoaded:
    case kGpuNotFound:
    case kGpuIsLost:
    case kResetRequired:
    case kInsufficientPower:
    case kIrqIssue:
    case kLibraryNotFound:
    case kOperatingSystem: return Action::reopen;
    case kVersionMismatch: return Action::abandon;
    default: return Action::retry; // timeout, in use, no data, and statuses of future drivers
    }
}

std::string hint(int status) {
    switch (status) {
    case kVersionMismatch: return " (the driver was upgraded under the running system)";
    case kOperatingSystem: return " (this container's device rules keep the GPU away)";
    case kInsufficientPower: return " (is its power cable plugged in?)";
    case kUnknown: return " (a container loses its GPUs when systemd reloads its units)";
    default: return "";
    }
}

std::string remedy(int status) {
    switch (status) {
    case kNoPermission: return "sudo chmod a+rw /dev/nvidiactl /dev/nvidia[0-9]*";
    case kDriverNotLoaded: return "sudo modprobe nvidia";
    case kVersionMismatch: return "sudo reboot";
    case kGpuIsLost: return "sudo reboot";
    case kResetRequired: return "sudo nvidia-smi --gpu-reset";
    case kOperatingSystem: return "docker run --gpus all IMAGE";
    case kUnknown: return "docker restart CONTAINER";
    default: return "";
    }
}

} // namespace carbontracker::nvml
