#include "platform/device_file.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace carbontracker {
namespace {

/// The three calls; each returns -1 and sets errno on failure.
struct Calls {
    int (*open)(const char* path, int flags) = nullptr;
    int (*control)(int descriptor, unsigned long number, void* argument) = nullptr;
    int (*wait)(int descriptor, int milliseconds) = nullptr;
};

int kernel_open(const char* path, int flags) {
    const int descriptor = ::open(path, flags);
    if (descriptor < 0) return -1;
    struct stat state{};
    if (::fstat(descriptor, &state) == 0 && S_ISCHR(state.st_mode)) return descriptor;
    ::close(descriptor);
    errno = ENODEV;
    return -1;
}

int kernel_control(int descriptor, unsigned long number, void* argument) {
    return ::ioctl(descriptor, number, argument);
}

int kernel_wait(int descriptor, int milliseconds) {
    pollfd waiting{descriptor, POLLIN, 0};
    return ::poll(&waiting, 1, milliseconds);
}

template <typename Function> bool bind(void* handle, const char* symbol, Function& function) {
    function = reinterpret_cast<Function>(dlsym(handle, symbol));
    return function != nullptr;
}

Calls calls_of(const std::string& library) {
    const Calls kernel{kernel_open, kernel_control, kernel_wait};
    if (library.empty()) return kernel;
    void* handle = open_library(library); // never closed: may be in use
    Calls calls;
    const bool has_all = handle != nullptr &&
                         bind(handle, "carbontracker_device_open", calls.open) &&
                         bind(handle, "carbontracker_device_control", calls.control) &&
                         bind(handle, "carbontracker_device_wait", calls.wait);
    return has_all ? calls : kernel;
}

} // namespace

DeviceFile::DeviceFile(const Host& host, const std::filesystem::path& path, Access access) {
    const Calls calls = calls_of(host.perf_library);
    const int mode = access == Access::read ? O_RDONLY : O_RDWR;
    const int descriptor = calls.open(path.c_str(), mode | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (descriptor < 0) {
        error_ = errno;
        return;
    }
    file_ = File::adopt(descriptor);
    control_ = calls.control;
    wait_ = calls.wait;
}

int DeviceFile::request(unsigned long number, void* argument) const noexcept {
    if (control_ == nullptr) return EBADF;
    int status = 0;
    do {
        status = control_(file_.descriptor(), number, argument);
    } while (status < 0 && errno == EINTR);
    return status < 0 ? errno : 0;
}

bool DeviceFile::wait(std::chrono::milliseconds patience) const noexcept {
    return wait_ != nullptr && wait_(file_.descriptor(), static_cast<int>(patience.count())) > 0;
}

} // namespace carbontracker
