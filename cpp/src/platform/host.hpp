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
    /// Answers for perf_event_open(2) and its reads, as handed to dlopen; empty: the kernel.
    std::string perf_library{};
    bool gpus_of_process = false; ///< only the GPUs that this process or its descendants work on

    [[nodiscard]] std::optional<std::string> variable(const std::string& name) const;

    bool operator==(const Host&) const = default;
};

/// What may be opened at a path.
enum class Node : std::uint8_t {
    file, ///< a regular file, as all of sysfs and procfs are
    msr,  ///< the same, or the character device of a CPU's registers
};

/// A file that stays open: one pread a reading costs a sixth of open, read and close. The only way
/// in which a file of the machine is opened: whatever lies at the path, to open it waits for
/// nothing.
class File {
public:
    File() = default;
    /// Opens read-only; check error() before use: EISDIR for a folder, ESPIPE for a pipe, a socket
    /// or a device that is not expected there.
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

    /// Whether the open file has lost its last name: it was deleted or replaced.
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

/// Names of what is in a directory, in any order; none if it cannot be read. In place of the
/// iterators of std::filesystem, which end the program where there is no memory for a name.
std::vector<std::string> names_in(const std::filesystem::path& directory);

/// Whether there is anything of that name, as far as can be seen.
bool is_there(const std::filesystem::path& path) noexcept;

/// The most that is read of a file, unless more is known to be there.
inline constexpr std::size_t kMostBytes = std::size_t{1} << 20;

/// Of /proc/cpuinfo: two kilobytes a logical CPU, of which there may be a few thousand.
inline constexpr std::size_t kMostCpuinfoBytes = std::size_t{8} << 20;

/// Text of a regular file, without the trailing newline, of a larger one as much as `most_bytes`;
/// nullopt if it cannot be read.
std::optional<std::string> read_text(const std::filesystem::path& path,
                                     std::size_t most_bytes = kMostBytes);

/// A handle of dlopen, or null. The loader holds one lock for the whole program while it looks at a
/// file, which a pipe or a mount that does not answer would hold for good: a file that is given by
/// its path is read before that.
void* open_library(const std::string& name);

/// The decimal number in a small file; nullopt if there is none.
std::optional<std::uint64_t> read_number(const std::filesystem::path& path);

/// Parses leading decimal digits; nullopt if the text does not start with one or overflows.
std::optional<std::uint64_t> parse_number(std::string_view text) noexcept;

/// "card12" after "card" -> 12; nullopt where the name is not that prefix and a number alone.
std::optional<std::uint64_t> number_after(std::string_view name, std::string_view prefix) noexcept;

/// "0-2,8" -> 0 1 2 8; what is no number ends the list.
std::vector<unsigned> parse_cpu_list(std::string_view text);

/// Whether the processes of this tree are in a container, as engines mark it.
bool is_container(const std::filesystem::path& root);

/// Words for an errno, independent of the locale: "permission denied (EACCES)".
std::string describe_errno(int error);

} // namespace carbontracker
