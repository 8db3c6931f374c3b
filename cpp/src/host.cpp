#include "host.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <utility>

namespace carbontracker {

std::optional<std::string> Host::variable(const std::string& name) const {
    const auto found = environment.find(name);
    if (found == environment.end()) return std::nullopt;
    return found->second;
}

File::File(const std::filesystem::path& path) noexcept
    : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)), error_(fd_ < 0 ? errno : 0) {}

File File::adopt(int descriptor) noexcept {
    File file;
    file.fd_ = descriptor;
    return file;
}

File::File(File&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), error_(std::exchange(other.error_, 0)) {}

File& File::operator=(File&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(error_, other.error_);
    return *this;
}

File::~File() {
    if (fd_ >= 0) ::close(fd_);
}

bool File::is_removed() const noexcept {
    struct stat state{};
    return ::fstat(fd_, &state) == 0 && state.st_nlink == 0;
}

long File::read_start(char* buffer, std::size_t size) const noexcept {
    const ssize_t got = ::pread(fd_, buffer, size, 0);
    return got < 0 ? -errno : got;
}

std::optional<std::uint64_t> File::number(int& failure) const noexcept {
    char text[32];
    const long got = read_start(text, sizeof text);
    if (got < 0) {
        failure = static_cast<int>(-got);
        return std::nullopt;
    }
    const auto value = parse_number({text, static_cast<std::size_t>(got)});
    failure = value ? 0 : EBADMSG;
    return value;
}

std::optional<std::uint64_t> File::word(std::uint64_t offset, int& failure) const noexcept {
    static_assert(sizeof(off_t) == sizeof(std::uint64_t)); // register numbers exceed 2^31
    std::uint64_t value = 0;
    const ssize_t got = ::pread(fd_, &value, sizeof value, static_cast<off_t>(offset));
    failure = got < 0 ? errno : 0;
    if (got == sizeof value) return value;
    if (got >= 0) failure = ENXIO;
    return std::nullopt;
}

std::optional<std::string> read_text(const std::filesystem::path& path) {
    std::ifstream file(path);
    if (!file) return std::nullopt;
    std::string result;
    char part[256];
    // Not `<< rdbuf()`, which takes a failed read for an empty file.
    while (file.read(part, sizeof part) || file.gcount() > 0) {
        result.append(part, static_cast<std::size_t>(file.gcount()));
    }
    if (file.bad()) return std::nullopt;
    while (!result.empty() && result.back() == '\n') result.pop_back();
    return result;
}

std::optional<std::uint64_t> read_number(const std::filesystem::path& path) {
    const auto text = read_text(path);
    if (!text) return std::nullopt;
    return parse_number(*text);
}

std::optional<std::uint64_t> parse_number(std::string_view text) noexcept {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{}) return std::nullopt;
    return value;
}

std::string describe_errno(int error) {
    switch (error) {
    case EACCES: return "permission denied (EACCES)";
    case EPERM: return "operation not permitted (EPERM)";
    case ENOENT: return "no such file (ENOENT)";
    case EINVAL: return "not supported (EINVAL)";
    case EMFILE: return "too many open files (EMFILE)";
    case ENXIO: return "no such device (ENXIO)";
    case EIO: return "the hardware did not answer (EIO)";
    case ENODATA: return "the sensor has no value (ENODATA)";
    case ENODEV: return "the device is gone (ENODEV)";
    case EISDIR: return "a directory where a file should be (EISDIR)";
    case EBADMSG: return "no number in the file";
    default: return "error " + std::to_string(error);
    }
}

} // namespace carbontracker
