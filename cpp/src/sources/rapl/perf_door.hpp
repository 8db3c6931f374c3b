// perf_event_open and read, of the kernel or of a library that stands in for it, and what is known
// of the `power` PMU from its folder.
#pragma once

#include <linux/perf_event.h>
#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../../host.hpp"
#include "processor.hpp"

namespace carbontracker::rapl {

/// The two calls. Both answer as the system calls do: -1 and errno on failure.
struct PerfCalls {
    int (*open)(const perf_event_attr*, pid_t, int cpu, int group_fd, unsigned long flags);
    ssize_t (*read)(int fd, void* buffer, std::size_t size);
};

/// Those of `library`, or the kernel's if that is empty; nullopt if it lacks them.
std::optional<PerfCalls> load_perf(const std::string& library);

/// An energy counter that the PMU offers.
struct Event {
    std::string name; ///< "energy-pkg"
    Domain domain = Domain::package;
    std::uint64_t config = 0;
    double joules_per_count = 0.0;
};

struct Pmu {
    std::uint32_t type = 0;
    std::vector<int> cpumask; ///< as the kernel has it: see readers()
    std::vector<Event> events;
    std::vector<std::string> unknown; ///< names of events that were left out
};

std::filesystem::path pmu_folder(const Host& host);

/// What its folder says now; nullopt if there is no PMU. A kernel may give it another `type` later.
std::optional<Pmu> read_pmu(const Host& host);

/// `text` of an event ("event=0x02,umask=0x1") as the PMU's format files place it in `config`.
std::optional<std::uint64_t> event_config(const std::filesystem::path& pmu, std::string_view text);

/// A positive decimal number, with a point in every locale.
std::optional<double> parse_scale(std::string_view text) noexcept;

/// A counting event of the whole CPU, read with its group. Anything more, such as an excluded mode,
/// inheritance or a sampling period, this PMU refuses.
perf_event_attr attributes(std::uint32_t type, std::uint64_t config) noexcept;

/// A file descriptor that is closed with its owner.
class Descriptor {
public:
    explicit Descriptor(int fd = -1) noexcept : fd_(fd) {}
    Descriptor(Descriptor&& other) noexcept;
    Descriptor& operator=(Descriptor&& other) noexcept;
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor();

    [[nodiscard]] int get() const noexcept { return fd_; }

private:
    int fd_;
};

} // namespace carbontracker::rapl
