// The world as the sources see it: one root folder, one library path, one environment. Tests fake
// these three and nothing else.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace carbontracker {

/// A device that exists only as a formula: `waveform` is described in sources/simulated.cpp.
struct SimulatedDevice {
    std::string kind;
    std::string name;
    std::string waveform;

    bool operator==(const SimulatedDevice&) const = default;
};

struct Host {
    std::filesystem::path root = "/";               ///< above sys/ and proc/
    std::string nvml_library = "libnvidia-ml.so.1"; ///< as handed to dlopen
    std::filesystem::path data_dir;                 ///< the package's tables
    std::map<std::string, std::string> environment; ///< CUDA_VISIBLE_DEVICES and the like
    std::vector<SimulatedDevice> simulated;
    /// Answers for perf_event_open(2), its reads, and the requests of DeviceFile, as handed to
    /// dlopen; empty: the kernel.
    std::string perf_library{};
    bool gpus_of_process = false; ///< only GPUs used by this process or its descendants

    [[nodiscard]] std::optional<std::string> variable(const std::string& name) const;

    bool operator==(const Host&) const = default;
};

/// What may be opened at a path.
enum class Node : std::uint8_t {
    file, ///< a regular file, as all of sysfs and procfs are
    msr,  ///< the same, or the character device of a CPU's registers
};

/// A file that stays open: one pread per reading costs a sixth of open, read and close. All files
/// of the machine are opened by this class, and opening never waits, whatever is at the path.
class File {
public:
    File() = default;
    /// Opens read-only; check error() before use: EISDIR for a folder, ESPIPE for a pipe, a socket
    /// or an unexpected device.
    explicit File(const std::filesystem::path& path, Node node = Node::file) noexcept;
    /// Takes over an open descriptor.
    static File adopt(int descriptor) noexcept;
    File(File&& other) noexcept;
    File& operator=(File&& other) noexcept;
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    ~File();

    /// 0, or the errno of the failed open.
    [[nodiscard]] int error() const noexcept { return error_; }

    [[nodiscard]] int descriptor() const noexcept { return fd_; }

    /// Whether the open file was deleted or replaced.
    [[nodiscard]] bool is_removed() const noexcept;

    /// Bytes read from the start into `buffer`, or -errno.
    [[nodiscard]] long read_start(char* buffer, std::size_t size) const noexcept;

    /// The decimal number at the start of the file; on failure nullopt, and `failure` is an errno
    /// (EBADMSG where there is no number).
    [[nodiscard]] std::optional<std::uint64_t> number(int& failure) const noexcept;

    /// The eight bytes at `offset` as a number of this machine; on failure nullopt, and `failure`
    /// is an errno (ENXIO where the file ends before).
    [[nodiscard]] std::optional<std::uint64_t> word(std::uint64_t offset,
                                                    int& failure) const noexcept;

private:
    int fd_ = -1;
    int error_ = 0;
};

/// Names of the entries of a directory, in any order; empty if it cannot be read. Used instead of
/// the iterators of std::filesystem, which terminate the program on a lack of memory.
std::vector<std::string> names_in(const std::filesystem::path& directory);

/// Whether the path exists, as far as can be seen.
bool is_there(const std::filesystem::path& path) noexcept;

/// Read limit for files, unless more is expected.
inline constexpr std::size_t kMaxBytes = std::size_t{1} << 20;

/// Read limit for /proc/cpuinfo: 2 kB for each logical CPU, of which there may be thousands.
inline constexpr std::size_t kMaxCpuinfoBytes = std::size_t{8} << 20;

/// Text of a regular file without the trailing newline, at most `max_bytes`; nullopt if it cannot
/// be read.
std::optional<std::string> read_text(const std::filesystem::path& path,
                                     std::size_t max_bytes = kMaxBytes);

/// A handle of dlopen, or null. The loader holds one lock for the whole program while it opens a
/// file, and a pipe or a dead mount would hold it for ever: a library given by its path is read
/// first.
void* open_library(const std::string& name);

/// The decimal number in a small file; nullopt if it has none.
std::optional<std::uint64_t> read_number(const std::filesystem::path& path);

/// Parses leading decimal digits; nullopt if the text does not start with one or overflows.
std::optional<std::uint64_t> parse_number(std::string_view text) noexcept;

/// "card12" after "card" -> 12; nullopt if the name is not that prefix followed by a number.
std::optional<std::uint64_t> number_after(std::string_view name, std::string_view prefix) noexcept;

/// "0-2,8" -> 0 1 2 8; anything else ends the list.
std::vector<unsigned> parse_cpu_list(std::string_view text);

/// Whether the processes of this tree run in a container, according to the marks of engines.
bool is_container(const std::filesystem::path& root);

/// Words for an errno, independent of the locale: "permission denied (EACCES)".
std::string describe_errno(int error);

} // namespace carbontracker
