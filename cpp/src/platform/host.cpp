#include "platform/host.hpp"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <system_error>
#include <utility>

namespace carbontracker {

std::optional<std::string> Host::variable(const std::string& name) const {
    const auto found = environment.find(name);
    if (found == environment.end()) return std::nullopt;
    return found->second;
}

namespace {

// Major numbers of character devices: that of msr, and those that are given out at run time, of
// which msr_safe has one (Linux Documentation/admin-guide/devices.txt).
constexpr unsigned kMsrMajor = 202;
constexpr bool is_msr(unsigned major) noexcept {
    return major == kMsrMajor || (major >= 234 && major <= 254) || (major >= 384 && major <= 511);
}

// 0, or why an open file must not be read.
int check_node(int descriptor, Node node) noexcept {
    struct stat state{};
    if (::fstat(descriptor, &state) != 0) return errno;
    if (S_ISREG(state.st_mode)) return 0;
    if (S_ISDIR(state.st_mode)) return EISDIR;
    const bool is_register = S_ISCHR(state.st_mode) && is_msr(major(state.st_rdev));
    return node == Node::msr && is_register ? 0 : ESPIPE;
}

} // namespace

// O_NONBLOCK: opening a pipe must not wait for its other end.
File::File(const std::filesystem::path& path, Node node) noexcept
    : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)),
      error_(fd_ < 0 ? errno : check_node(fd_, node)) {
    if (fd_ >= 0 && error_ != 0) ::close(std::exchange(fd_, -1));
}

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

std::vector<std::string> names_in(const std::filesystem::path& directory) {
    struct Close {
        void operator()(DIR* open) const noexcept { ::closedir(open); }
    };
    std::vector<std::string> names;
    const std::unique_ptr<DIR, Close> open(::opendir(directory.c_str()));
    if (!open) return names;
    while (const dirent* entry = ::readdir(open.get())) {
        const std::string_view name = entry->d_name;
        if (name != "." && name != "..") names.emplace_back(name);
    }
    return names;
}

bool is_there(const std::filesystem::path& path) noexcept {
    std::error_code error;
    return std::filesystem::exists(path, error);
}

std::optional<std::string> read_text(const std::filesystem::path& path, std::size_t max_bytes) {
    const File file(path);
    if (file.error() != 0) return std::nullopt;
    std::string result;
    char part[4096];
    while (result.size() < max_bytes) {
        const std::size_t wanted = std::min(sizeof part, max_bytes - result.size());
        const ssize_t got = ::read(file.descriptor(), part, wanted);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return std::nullopt;
        if (got == 0) break;
        result.append(part, static_cast<std::size_t>(got));
    }
    while (!result.empty() && result.back() == '\n') result.pop_back();
    return result;
}

void* open_library(const std::string& name) {
    constexpr std::size_t kMaxLibraryBytes = std::size_t{64} << 20; // a driver's has two
    const bool is_path = name.find('/') != std::string::npos;
    if (is_path && !read_text(name, kMaxLibraryBytes)) return nullptr;
    return dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
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

std::optional<std::uint64_t> number_after(std::string_view name, std::string_view prefix) noexcept {
    if (!name.starts_with(prefix)) return std::nullopt;
    name.remove_prefix(prefix.size());
    const bool is_number = name.find_first_not_of("0123456789") == std::string_view::npos;
    return is_number ? parse_number(name) : std::nullopt;
}

std::vector<unsigned> parse_cpu_list(std::string_view text) {
    constexpr unsigned kMaxCpus = 1U << 16; // a garbled list must not fill the memory
    std::vector<unsigned> cpus;
    const char* at = text.data();
    const char* const end = at + text.size();
    while (at != end) {
        unsigned first = 0;
        auto [next, error] = std::from_chars(at, end, first);
        if (error != std::errc{}) break;
        unsigned last = first;
        if (next != end && *next == '-') {
            const auto range = std::from_chars(next + 1, end, last);
            if (range.ec != std::errc{}) break;
            next = range.ptr;
        }
        if (last >= kMaxCpus) break;
        for (unsigned cpu = first; cpu <= last; ++cpu) cpus.push_back(cpu);
        if (cpus.size() > kMaxCpus) break; // the list repeats itself
        at = next != end && *next == ',' ? next + 1 : end;
    }
    std::sort(cpus.begin(), cpus.end());
    cpus.erase(std::unique(cpus.begin(), cpus.end()), cpus.end());
    return cpus;
}

bool is_container(const std::filesystem::path& root) {
    constexpr std::array marks = {
        ".dockerenv",                    // Docker
        "run/.containerenv",             // Podman
        "var/run/secrets/kubernetes.io", // a pod
        "dev/.lxc",
    };
    // systemd names the container; it also counts the Windows subsystem.
    const auto systemd = read_text(root / "run/systemd/container");
    if (systemd && *systemd != "wsl") return true;
    return std::any_of(marks.begin(), marks.end(),
                       [&](const char* mark) { return is_there(root / mark); });
}

std::string describe_errno(int error) {
    switch (error) {
    case EACCES: return "permission denied (EACCES)";
    case EPERM: return "operation not permitted (EPERM)";
    case ENOENT: return "no such file (ENOENT)";
    case EINVAL: return "not supported (EINVAL)";
    case EFBIG: return "above the limit of file sizes, ulimit -f (EFBIG)";
    case EROFS: return "read-only file system (EROFS)";
    case EMFILE: return "too many open files (EMFILE)";
    case ENXIO: return "no such device (ENXIO)";
    case EIO: return "the hardware did not answer (EIO)";
    case ENODATA: return "the sensor has no value (ENODATA)";
    case ENODEV: return "the device is gone (ENODEV)";
    case ESPIPE: return "a pipe or a device where a file should be (ESPIPE)";
    case EISDIR: return "a directory where a file should be (EISDIR)";
    case EBADMSG: return "no number in the file";
    default: return "error " + std::to_string(error);
    }
}

} // namespace carbontracker
