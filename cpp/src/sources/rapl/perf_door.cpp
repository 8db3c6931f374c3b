#include "perf_door.hpp"

#include <dlfcn.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <system_error>
#include <utility>

#include "topology.hpp"

namespace carbontracker::rapl {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "energy-";

struct Known {
    std::string_view name;
    Domain domain;
};

constexpr std::array kKnown = {
    Known{"energy-pkg", Domain::package},   Known{"energy-cores", Domain::core},
    Known{"energy-gpu", Domain::uncore},    Known{"energy-ram", Domain::dram},
    Known{"energy-psys", Domain::platform},
};

int kernel_open(const perf_event_attr* attr, pid_t pid, int cpu, int group_fd,
                unsigned long flags) {
    return static_cast<int>(syscall(SYS_perf_event_open, attr, pid, cpu, group_fd, flags));
}

std::optional<std::uint64_t> parse_value(std::string_view text) {
    int base = 10;
    if (text.starts_with("0x")) {
        text.remove_prefix(2);
        base = 16;
    }
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}

// The lowest bit and the width that a format such as "config:0-7" gives a term.
struct Bits {
    unsigned lowest = 0;
    unsigned width = 0;
};

std::optional<Bits> term_bits(const fs::path& pmu, std::string_view term) {
    constexpr std::string_view field = "config:";
    const std::string format = read_text(pmu / "format" / term).value_or("");
    if (!format.starts_with(field)) return std::nullopt;
    const std::string_view range = std::string_view(format).substr(field.size());
    const auto dash = range.find('-');
    const auto low = parse_value(range.substr(0, dash));
    const auto high = dash == std::string_view::npos ? low : parse_value(range.substr(dash + 1));
    if (!low || !high || *high < *low || *high > 63) return std::nullopt;
    return Bits{static_cast<unsigned>(*low), static_cast<unsigned>(*high - *low + 1)};
}

// The event of that name, or nullopt if it is not known what it counts or in which unit.
std::optional<Event> read_event(const fs::path& pmu, const std::string& name) {
    const auto known = std::find_if(kKnown.begin(), kKnown.end(),
                                    [&](const Known& one) { return one.name == name; });
    const fs::path file = pmu / "events" / name;
    const auto config = event_config(pmu, read_text(file).value_or(""));
    const auto scale = parse_scale(read_text(file.string() + ".scale").value_or(""));
    const std::string unit = read_text(file.string() + ".unit").value_or("Joules");
    if (known == kKnown.end() || !config || !scale || unit != "Joules") return std::nullopt;
    return Event{name, known->domain, *config, *scale};
}

void read_events(const fs::path& pmu, Pmu& result) {
    std::vector<std::string> names;
    for (const fs::path& path : list_folder(pmu / "events")) {
        const std::string name = path.filename();
        if (name.starts_with(kPrefix) && name.find('.') == std::string::npos) names.push_back(name);
    }
    std::sort(names.begin(), names.end()); // a folder has no order
    for (const std::string& name : names) {
        if (auto event = read_event(pmu, name)) {
            result.events.push_back(std::move(*event));
        } else {
            result.unknown.push_back(name);
        }
    }
    // The package leads its group: it is the one that is never missing.
    std::stable_sort(result.events.begin(), result.events.end(),
                     [](const Event& a, const Event& b) { return a.domain < b.domain; });
}

} // namespace

std::optional<PerfCalls> load_perf(const std::string& library) {
    if (library.empty()) return PerfCalls{kernel_open, ::read};
    void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) return std::nullopt;
    PerfCalls calls{};
    calls.open = reinterpret_cast<decltype(calls.open)>(dlsym(handle, "carbontracker_perf_open"));
    calls.read = reinterpret_cast<decltype(calls.read)>(dlsym(handle, "carbontracker_perf_read"));
    if (calls.open == nullptr || calls.read == nullptr) return std::nullopt;
    return calls;
}

fs::path pmu_folder(const Host& host) {
    return host.root / "sys/bus/event_source/devices/power";
}

std::optional<Pmu> read_pmu(const Host& host) {
    const fs::path pmu = pmu_folder(host);
    const auto type = read_number(pmu / "type");
    if (!type || *type > UINT32_MAX) return std::nullopt;
    Pmu result;
    result.type = static_cast<std::uint32_t>(*type);
    result.cpumask = parse_cpu_list(read_text(pmu / "cpumask").value_or(""));
    read_events(pmu, result);
    return result;
}

std::optional<std::uint64_t> event_config(const fs::path& pmu, std::string_view text) {
    if (text.empty()) return std::nullopt;
    std::uint64_t config = 0;
    while (!text.empty()) {
        const std::string_view term = text.substr(0, text.find(','));
        text.remove_prefix(std::min(term.size() + 1, text.size()));
        const auto equals = term.find('=');
        if (equals == std::string_view::npos) return std::nullopt;
        const auto bits = term_bits(pmu, term.substr(0, equals));
        const auto value = parse_value(term.substr(equals + 1));
        if (!bits || !value) return std::nullopt;
        if (bits->width < 64 && *value >> bits->width != 0) return std::nullopt;
        config |= *value << bits->lowest;
    }
    return config;
}

std::optional<double> parse_scale(std::string_view text) noexcept {
    double value = 0.0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    if (!std::isfinite(value) || value <= 0.0) return std::nullopt;
    return value;
}

perf_event_attr attributes(std::uint32_t type, std::uint64_t config) noexcept {
    perf_event_attr attr{};
    attr.type = type;
    attr.size = PERF_ATTR_SIZE_VER0; // the first published: no kernel finds it too long
    attr.config = config;
    attr.read_format =
        PERF_FORMAT_GROUP | PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING;
    return attr;
}

Descriptor::Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
}

Descriptor::~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
}

} // namespace carbontracker::rapl
