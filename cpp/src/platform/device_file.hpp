// Character devices that answer requests (ioctl), such as those of a management controller.
#pragma once

#include <chrono>
#include <filesystem>

#include "platform/host.hpp"

namespace carbontracker {

/// Whether a device is opened for questions only, or also to send messages.
enum class Access : std::uint8_t { read, read_write };

/// A device that stays open. Host::perf_library may answer in place of the kernel.
class DeviceFile {
public:
    DeviceFile() = default;
    /// Opens without waiting; check error() before use: ENODEV where the path is not a device.
    DeviceFile(const Host& host, const std::filesystem::path& path, Access access);

    /// 0, or the errno of the failed open.
    [[nodiscard]] int error() const noexcept { return error_; }

    /// 0, or the errno of the request.
    int request(unsigned long number, void* argument) const noexcept;

    /// Whether there is something to receive before the time is over.
    [[nodiscard]] bool wait(std::chrono::milliseconds patience) const noexcept;

private:
    File file_; // closes it
    int error_ = 0;
    int (*control_)(int, unsigned long, void*) = nullptr;
    int (*wait_)(int, int) = nullptr;
};

} // namespace carbontracker
