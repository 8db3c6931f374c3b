#include "sources/rapl/perf_event.hpp"

#include <dlfcn.h>
#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <system_error>

namespace carbontracker::rapl {
namespace {

namespace fs = std::filesystem;

constexpr const char* kUnit = "sys/bus/event_source/devices/power";

int kernel_open(const void* attr, int pid, int cpu, int group, unsigned long flags) {
    return static_cast<int>(::syscall(SYS_perf_event_open, attr, pid, cpu, group, flags));
}

long kernel_read(int descriptor, void* buffer, unsigned long size) {
    return ::read(descriptor, buffer, size);
}

template <typename Function> bool bind(void* handle, const char* symbol, Function& function) {
    function = reinterpret_cast<Function>(dlsym(handle, symbol));
    return function != nullptr;
}

// "event=0x02" -> 2
std::optional<std::uint64_t> parse_config(std::string_view text) {
    constexpr std::string_view prefix = "event=0x";
    if (!text.starts_with(prefix)) return std::nullopt;
    std::uint64_t config = 0;
    const auto [end, error] =
        std::from_chars(text.data() + prefix.size(), text.data() + text.size(), config, 16);
    // Further terms are unknown.
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return config;
}

// Not strtod, which reads "2.3e-10" as 2 where the decimal point is a comma.
std::optional<double> parse_scale(std::string_view text) {
    double scale = 0.0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), scale);
    if (error != std::errc{} || !(scale > 0.0)) return std::nullopt;
    return scale;
}

std::optional<PerfEvent> read_event(const fs::path& path) {
    const std::string name = path.filename();
    if (!name.starts_with("energy-") || name.find('.') != std::string::npos) return std::nullopt;
    const auto config = parse_config(read_text(path).value_or(""));
    const auto scale = parse_scale(read_text(path.string() + ".scale").value_or(""));
    const auto unit = read_text(path.string() + ".unit");
    if (!config || !scale || (unit && *unit != "Joules")) return std::nullopt;
    return PerfEvent{name, *config, *scale};
}

} // namespace

std::optional<PerfCalls> perf_calls(const std::string& library) {
    if (library.empty()) return PerfCalls{kernel_open, kernel_read};
    void* handle = open_library(library); // never closed: may be in use
    PerfCalls calls;
    if (handle == nullptr || !bind(handle, "carbontracker_perf_open", calls.open) ||
        !bind(handle, "carbontracker_perf_read", calls.read)) {
        return std::nullopt;
    }
    return calls;
}

std::optional<PerfUnit> read_perf_unit(const fs::path& root) {
    const fs::path path = root / kUnit;
    const auto type = read_number(path / "type");
    if (!type) return std::nullopt;
    PerfUnit unit;
    unit.type = static_cast<std::uint32_t>(*type);
    unit.cpus = parse_cpu_list(read_text(path / "cpumask").value_or(""));
    for (const std::string& name : names_in(path / "events")) {
        if (auto event = read_event(path / "events" / name))
            unit.events.push_back(std::move(*event));
    }
    if (unit.events.empty()) return std::nullopt;
    std::sort(unit.events.begin(), unit.events.end(),
              [](const PerfEvent& a, const PerfEvent& b) { return a.name < b.name; });
    return unit;
}

int open_event(const PerfCalls& calls, std::uint32_t type, std::uint64_t config, unsigned cpu,
               int leader) {
    // All other fields stay 0: this unit refuses filters, inheritance and sampling.
    perf_event_attr attr{};
    attr.type = type;
    attr.size = sizeof attr;
    attr.config = config;
    attr.read_format =
        PERF_FORMAT_GROUP | PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING;
    constexpr int every_process = -1;
    const int descriptor =
        calls.open(&attr, every_process, static_cast<int>(cpu), leader, PERF_FLAG_FD_CLOEXEC);
    return descriptor < 0 ? -errno : descriptor;
}

} // namespace carbontracker::rapl
