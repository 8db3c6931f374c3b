#include "share/shared_file.hpp"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "platform/clock.hpp"
#include "platform/forks.hpp"
#include "platform/host.hpp"

namespace carbontracker {
namespace {

// Locks are on bytes far behind the data: a key is the place of its byte.
constexpr std::uint64_t kLocks = std::uint64_t{1} << 40;
constexpr std::uint64_t kLockMask = (std::uint64_t{1} << 38) - 1;
constexpr std::uint64_t kAttached = kLocks - 1; // read-locked by every process that uses the file

// A file that disappears between two steps is opened again, this often.
constexpr int kTries = 8;

// Without futexes, requests are looked for this often.
constexpr std::int64_t kLookNs = 50'000'000;

constexpr std::size_t kPage = 4096;

// The test that shows a race being noticed builds without this lock.
#ifndef CARBONTRACKER_SHARE_UNLOCKED
using OwnersLock = std::lock_guard<std::mutex>;
#else
struct OwnersLock {
    explicit OwnersLock(std::mutex& /*unused*/) {}
};
#endif

bool set_byte(int descriptor, std::uint64_t offset, short type) noexcept {
    struct flock lock{};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = static_cast<off_t>(offset);
    lock.l_len = 1;
    return ::fcntl(descriptor, F_SETLK, &lock) == 0; // never F_SETLKW, flock or OFD locks
}

} // namespace

/// The files of this process, by path.
class SharedFile::Files {
public:
    void remove_orphans(const std::filesystem::path& path) const;

    std::mutex mutex;
    std::map<std::filesystem::path, std::shared_ptr<SharedFile>> open;
};

// To close a descriptor ends all locks of this process on its file: no file that is open here is
// opened again.
void SharedFile::Files::remove_orphans(const std::filesystem::path& path) const {
    const std::string name = path.filename().string();
    const std::string prefix = name.substr(0, name.rfind('-') + 1);
    if (prefix.empty()) return;
    for (const std::string& other : names_in(path.parent_path())) {
        if (other == name || other.size() != name.size() || !other.starts_with(prefix)) continue;
        const std::filesystem::path its_path = path.parent_path() / other;
        struct stat state{};
        if (::lstat(its_path.c_str(), &state) != 0 || !S_ISREG(state.st_mode)) continue;
        const bool is_open = std::any_of(open.begin(), open.end(), [&](const auto& one) {
            return one.second->device_ == state.st_dev && one.second->inode_ == state.st_ino;
        });
        if (is_open || state.st_uid != ::geteuid()) continue;
        const File orphan = File::adopt(
            ::open(its_path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
        if (orphan.descriptor() < 0) continue;
        if (set_byte(orphan.descriptor(), kAttached, F_WRLCK)) ::unlink(its_path.c_str());
    }
}

SharedFile::SharedFile(std::filesystem::path path, int descriptor)
    : path_(std::move(path)), descriptor_(descriptor) {
    struct stat state{};
    if (::fstat(descriptor_, &state) == 0) {
        device_ = state.st_dev;
        inode_ = state.st_ino;
    }
    void* const page = ::mmap(nullptr, kPage, PROT_READ, MAP_SHARED, descriptor_, 0);
    if (page != MAP_FAILED) page_ = page;
}

SharedFile::~SharedFile() {
    if (page_ != nullptr) ::munmap(page_, kPage);
    if (is_ours()) ::close(descriptor_);
}

// Whether the descriptor is still this file: a program may close all descriptors and open others.
bool SharedFile::is_ours() const noexcept {
    struct stat state{};
    return ::fstat(descriptor_, &state) == 0 && state.st_dev == device_ && state.st_ino == inode_;
}

bool SharedFile::is_at_path() const noexcept {
    struct stat state{};
    return ::lstat(path_.c_str(), &state) == 0 && state.st_dev == device_ && state.st_ino == inode_;
}

// The lock that keeps others from removing the file is confirmed: see confirm() of Sharing.
bool SharedFile::is_usable() const noexcept {
    return is_ours() && is_at_path() && set_byte(descriptor_, kAttached, F_RDLCK);
}

std::shared_ptr<SharedFile> SharedFile::join(const std::filesystem::path& path, std::string& why) {
    Files& files = of_this_process<Files>();
    const std::lock_guard lock(files.mutex);
    if (const auto found = files.open.find(path); found != files.open.end()) {
        SharedFile& file = *found->second;
        if (file.users_ > 0 || (file.is_ours() && file.is_at_path() &&
                                set_byte(file.descriptor_, kAttached, F_RDLCK))) {
            ++file.users_;
            return found->second;
        }
        files.open.erase(found);
    }
    files.remove_orphans(path);
    for (int i = 0; i < kTries; ++i) {
        const int descriptor = ::open(
            path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600);
        if (descriptor < 0) {
            why = path.string() + ": " + describe_errno(errno);
            return nullptr;
        }
        std::shared_ptr<SharedFile> file(new SharedFile(path, descriptor));
        struct stat state{};
        if (::fstat(descriptor, &state) != 0 || !S_ISREG(state.st_mode)) {
            why = path.string() + ": not a regular file";
            return nullptr;
        }
        if (state.st_uid != ::geteuid()) {
            why = path.string() + ": it belongs to another user";
            return nullptr;
        }
        if ((state.st_mode & 0077) != 0 && ::fchmod(descriptor, 0600) != 0) {
            why = path.string() + ": " + describe_errno(errno);
            return nullptr;
        }
        const bool is_attached = set_byte(descriptor, kAttached, F_RDLCK);
        if (is_attached && file->is_at_path()) {
            if (const int error = file->reserve(0, kHeadBytes); error != 0) {
                why = path.parent_path().string() + ": " +
                      (error == ENOSPC ? "less than 32 MiB would stay free for other programs"
                                       : describe_errno(error));
                if (state.st_size == 0) ::unlink(path.c_str());
                return nullptr;
            }
            file->users_ = 1;
            files.open.emplace(path, file);
            return file;
        }
        // Its last user is removing it.
        const timespec pause{0, 1'000'000};
        ::nanosleep(&pause, nullptr);
    }
    why = path.string() + ": it is being removed";
    return nullptr;
}

void SharedFile::leave(std::shared_ptr<SharedFile> file, const void* owner) noexcept {
    if (!file) return;
    Files& files = of_this_process<Files>();
    const std::lock_guard lock(files.mutex);
    {
        const OwnersLock owners(file->mutex_);
        for (auto it = file->owners_.begin(); it != file->owners_.end();) {
            if (it->second != owner) {
                ++it;
                continue;
            }
            if (file->is_ours()) static_cast<void>(file->set_lock(it->first, F_UNLCK));
            it = file->owners_.erase(it);
        }
    }
    if (--file->users_ > 0 || !file->is_ours()) return;
    if (set_byte(file->descriptor_, kAttached, F_WRLCK)) {
        // No other process uses it, and none can attach now.
        if (file->is_at_path()) ::unlink(file->path_.c_str());
        static_cast<void>(::ftruncate(file->descriptor_, 0)); // a child may hold it open
        files.open.erase(file->path_);
        return; // without a user, the descriptor may be closed
    }
    set_byte(file->descriptor_, kAttached, F_UNLCK);
}

std::size_t SharedFile::read(std::uint64_t offset, void* bytes, std::size_t size) const noexcept {
    const ssize_t got = ::pread(descriptor_, bytes, size, static_cast<off_t>(offset));
    return got > 0 ? static_cast<std::size_t>(got) : 0;
}

bool SharedFile::write(std::uint64_t offset, const void* bytes, std::size_t size) const noexcept {
    const ssize_t put = ::pwrite(descriptor_, bytes, size, static_cast<off_t>(offset));
    return put >= 0 && static_cast<std::size_t>(put) == size;
}

int SharedFile::reserve(std::uint64_t offset, std::uint64_t size) const noexcept {
    // Beyond this limit a write is not only refused: it sends a signal that ends the program.
    struct rlimit largest{};
    if (::getrlimit(RLIMIT_FSIZE, &largest) == 0 && offset + size > largest.rlim_cur) return EFBIG;
    struct statvfs room{};
    if (::fstatvfs(descriptor_, &room) != 0) return errno;
    if (std::uint64_t{room.f_bavail} * room.f_frsize < size + kMinFreeBytes) return ENOSPC;
    return ::posix_fallocate(descriptor_, static_cast<off_t>(offset), static_cast<off_t>(size));
}

bool SharedFile::set_lock(std::uint64_t key, short type) const noexcept {
    return set_byte(descriptor_, kLocks + (key & kLockMask), type);
}

bool SharedFile::lock(std::uint64_t key, const void* owner) noexcept {
    const OwnersLock lock(mutex_);
    const auto found = owners_.find(key);
    if (found != owners_.end() && found->second != owner) return false;
    // A lock that this process has is confirmed: it may have been lost with another descriptor.
    if (!set_lock(key, F_WRLCK)) {
        if (found != owners_.end()) owners_.erase(found);
        return false;
    }
    try {
        owners_[key] = owner;
    } catch (const std::exception&) {
        static_cast<void>(set_lock(key, F_UNLCK));
        return false;
    }
    return true;
}

void SharedFile::unlock(std::uint64_t key, const void* owner) noexcept {
    const OwnersLock lock(mutex_);
    const auto found = owners_.find(key);
    if (found == owners_.end() || found->second != owner) return;
    owners_.erase(found);
    if (is_ours()) static_cast<void>(set_lock(key, F_UNLCK));
}

bool SharedFile::is_free(std::uint64_t key) noexcept {
    {
        const OwnersLock lock(mutex_);
        if (owners_.contains(key)) return false;
    }
    struct flock found{};
    found.l_type = F_WRLCK;
    found.l_whence = SEEK_SET;
    found.l_start = static_cast<off_t>(kLocks + (key & kLockMask));
    found.l_len = 1;
    return ::fcntl(descriptor_, F_GETLK, &found) == 0 && found.l_type == F_UNLCK;
}

// ---- requests -------------------------------------------------------------------------------

std::uint32_t SharedFile::requests() const noexcept {
    std::uint32_t count = 0;
    static_cast<void>(read(0, &count, sizeof count));
    return count;
}

// Two processes may write the same count at once: it differs from the one before all the same.
void SharedFile::request() noexcept {
    const std::uint32_t count = requests() + 1;
    static_cast<void>(write(0, &count, sizeof count));
    if (page_ != nullptr) syscall(SYS_futex, page_, FUTEX_WAKE, INT32_MAX, nullptr, nullptr, 0);
}

void SharedFile::await_request(std::uint32_t seen, std::int64_t deadline_ns) const noexcept {
    while (requests() == seen && now_ns() < deadline_ns) {
        const timespec deadline{deadline_ns / kNanosPerSecond, deadline_ns % kNanosPerSecond};
        const long woken = page_ == nullptr ? -1
                                            : syscall(SYS_futex, page_, FUTEX_WAIT_BITSET, seen,
                                                      &deadline, nullptr, FUTEX_BITSET_MATCH_ANY);
        if (woken == 0 || (page_ != nullptr && (errno == EINTR || errno == EAGAIN))) continue;
        if (page_ != nullptr && errno == ETIMEDOUT) return;
        const timespec pause{0, kLookNs}; // the page is gone: the file was truncated
        ::nanosleep(&pause, nullptr);
    }
}

} // namespace carbontracker
