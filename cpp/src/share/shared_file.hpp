// The file through which the processes of one user on one node share readings.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>

namespace carbontracker {

/// Bytes that stay free in the file system: other programs need it (Docker gives /dev/shm 64 MB).
inline constexpr std::uint64_t kMinFreeBytes = std::uint64_t{32} << 20;

/// Bytes at the start of the file that are there from the beginning.
inline constexpr std::uint64_t kHeadBytes = std::uint64_t{64} << 10;

/// One file, opened once in a process, with the process's locks on it.
///
/// Bytes go by pread and pwrite: what another process truncates or damages is a short read or a bad
/// checksum, never a signal. The one mapped page is only an address for the kernel's futex.
///
/// POSIX locks belong to the process: a forked child has none of them, and they all end when the
/// process closes any descriptor of the file. So there is one descriptor, and it stays open while
/// others use the file. Two sessions of one process are told apart by `owner`.
class SharedFile {
public:
    /// The file at `path`, created if it is absent. Null if it cannot be used, and `why` says so.
    /// Removes files beside it that differ only after the last `-` and that no process uses: killed
    /// processes have left them.
    /// Give it back with leave().
    static std::shared_ptr<SharedFile> join(const std::filesystem::path& path, std::string& why);
    SharedFile(const SharedFile&) = delete;
    SharedFile& operator=(const SharedFile&) = delete;
    ~SharedFile();

    /// Releases the locks of `owner`. The last user of the last process removes the file.
    static void leave(std::shared_ptr<SharedFile> file, const void* owner) noexcept;

    /// How many bytes were read: fewer where the file ends before, 0 on any failure.
    [[nodiscard]] std::size_t read(std::uint64_t offset, void* bytes,
                                   std::size_t size) const noexcept;
    [[nodiscard]] bool write(std::uint64_t offset, const void* bytes,
                             std::size_t size) const noexcept;

    /// Takes memory for these bytes now. Returns 0, ENOSPC if too little would stay free, or
    /// another errno.
    [[nodiscard]] int reserve(std::uint64_t offset, std::uint64_t size) const noexcept;

    /// Takes the lock `key`, or confirms it; never waits. False if another owner or process has it.
    [[nodiscard]] bool lock(std::uint64_t key, const void* owner) noexcept;
    void unlock(std::uint64_t key, const void* owner) noexcept;

    /// Whether no owner and no process has the lock. It does not take it.
    [[nodiscard]] bool is_free(std::uint64_t key) noexcept;

    /// Asks the readers of all processes for a reading.
    void request() noexcept;
    /// The count to pass to await_request().
    [[nodiscard]] std::uint32_t requests() const noexcept;
    /// Waits for a request since `seen` was taken, at most until `deadline_ns`.
    void await_request(std::uint32_t seen, std::int64_t deadline_ns) const noexcept;

    /// Whether it is still open here and at its path, so that others find it.
    [[nodiscard]] bool is_usable() const noexcept;

    [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

private:
    class Files; // of this process

    SharedFile(std::filesystem::path path, int descriptor);
    [[nodiscard]] bool set_lock(std::uint64_t key, short type) const noexcept;
    [[nodiscard]] bool is_ours() const noexcept;
    [[nodiscard]] bool is_at_path() const noexcept;

    const std::filesystem::path path_;
    const int descriptor_;
    void* page_ = nullptr; // an address for futexes; never read or written here
    std::uint64_t device_ = 0;
    std::uint64_t inode_ = 0;
    std::size_t users_ = 0; // guarded by Files
    std::mutex mutex_;      // guards owners_
    std::map<std::uint64_t, const void*> owners_;
};

} // namespace carbontracker
