// Power meters of ACPI: those of NVIDIA's Grace by the names in their firmware, and a server's own.
//
// Interfaces: Linux drivers/hwmon/acpi_power_meter.c; NVIDIA Grace performance tuning guide.
#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "platform/clock.hpp"
#include "platform/host.hpp"
#include "platform/links.hpp"
#include "sources/boards/meters.hpp"
#include "sources/source.hpp"

namespace carbontracker {
namespace {

namespace fs = std::filesystem;

constexpr const char* kClass = "sys/class/hwmon";
constexpr double kMicro = 1e-6; // watts in a microwatt
constexpr std::int64_t kMs = 1'000'000;
constexpr std::int64_t kUsualIntervalMs = 1000; // where the meter states none
constexpr std::int64_t kMaxIntervalMs = 60'000;

constexpr double kUsualError = 0.05; // the meters state 100 % accuracy, which means nothing
constexpr double kMaxModuleWatts = 5000.0;
constexpr double kMaxNodeWatts = 50'000.0;

/// What a meter measures. A module contains Grace with its memory, which contains both rails.
enum class Scope : std::uint8_t {
    module,
    grace,
    cpu,
    system_io,
    node, ///< not one of Grace's: a server
};

struct Named {
    std::string_view label; ///< before the number of the socket
    Scope scope;
};
constexpr std::array kNames = {
    Named{"Module Power Socket ", Scope::module},
    Named{"Grace Power Socket ", Scope::grace},
    Named{"CPU Power Socket ", Scope::cpu},
    Named{"SysIO Power Socket ", Scope::system_io},
};

struct Meter {
    fs::path folder;  // with its files
    std::string name; // of its ACPI device, which stays the same, unlike the number of its hwmon
    std::string label;
    Scope scope = Scope::node;
    std::string socket;
    std::int64_t interval_ns = 0;
};

// "Grace Power Socket 1" -> Scope::grace, "1"
void identify(Meter& meter) {
    for (const Named& one : kNames) {
        const auto number = number_after(meter.label, one.label);
        if (!number) continue;
        meter.scope = one.scope;
        meter.socket = std::to_string(*number);
    }
}

std::vector<Meter> find_meters(const fs::path& root) {
    std::vector<Meter> meters;
    for (const std::string& hwmon : names_in(root / kClass)) {
        const fs::path folder = followed(root / kClass / hwmon);
        if (read_text(folder / "name") != "power_meter") continue;
        Meter meter;
        meter.folder = folder;
        if (!is_there(folder / "power1_average")) meter.folder = followed(folder / "device");
        if (read_number(meter.folder / "power1_is_battery").value_or(0) == 1) continue;
        std::error_code error;
        const fs::path device = fs::canonical(followed(folder / "device"), error);
        meter.name = error || device.filename() == "device" ? hwmon : device.filename().string();
        meter.label = read_text(meter.folder / "power1_oem_info").value_or("");
        meter.interval_ns =
            kMs * static_cast<std::int64_t>(std::clamp<std::uint64_t>(
                      read_number(meter.folder / "power1_average_interval").value_or(0), 0,
                      kMaxIntervalMs));
        if (meter.interval_ns == 0) meter.interval_ns = kUsualIntervalMs * kMs;
        identify(meter);
        meters.push_back(std::move(meter));
    }
    std::sort(meters.begin(), meters.end(), [](const Meter& a, const Meter& b) {
        if (a.scope != b.scope) return a.scope < b.scope;
        if (a.socket != b.socket) return a.socket < b.socket;
        return a.name.size() != b.name.size() ? a.name.size() < b.name.size() : a.name < b.name;
    });
    // Where several sockets have one name, the first of each kind belong together, and so on.
    std::map<std::pair<Scope, std::string>, int> seen;
    for (Meter& meter : meters) {
        const int nth = ++seen[{meter.scope, meter.socket}];
        if (nth > 1) meter.socket += "." + std::to_string(nth);
    }
    return meters;
}

class Grace final : public Source {
public:
    explicit Grace(fs::path root) : root_(std::move(root)) {}

    void add(Meter meter, File file, Channel channel) {
        channel.group = channels_.size(); // each is a call of the firmware
        channels_.push_back(std::move(channel));
        meters_.push_back(std::move(meter));
        files_.push_back(std::move(file));
    }

    [[nodiscard]] const std::vector<Channel>& channels() const noexcept override {
        return channels_;
    }

    void read(std::size_t group, std::span<Reading> readings) noexcept override {
        int failure = 0;
        const std::int64_t before_ns = now_ns();
        const auto value = files_[group].number(failure);
        const std::int64_t after_ns = now_ns();
        if (failure == ENODEV || files_[group].is_removed()) {
            readings[group] = {after_ns, 0, Status::lost};
        } else if (!value || *value == 0) { // ENODATA, or a meter that has no value yet
            readings[group] = {after_ns, 0, Status::retry};
        } else {
            readings[group] = {before_ns + (after_ns - before_ns) / 2, *value, Status::ok};
        }
    }

    bool reopen(std::size_t group) noexcept override {
        try {
            const Meter& meter = meters_[group];
            for (const Meter& found : find_meters(root_)) {
                if (found.scope != meter.scope || found.socket != meter.socket) continue;
                File file(found.folder / "power1_average");
                if (file.error() != 0) return false;
                files_[group] = std::move(file);
                return true;
            }
        } catch (const std::exception&) {
            return false; // out of memory, or the tree changed: retry later
        }
        return false;
    }

    [[nodiscard]] std::int64_t default_period_ns() const noexcept override {
        std::int64_t shortest_ns = kUsualIntervalMs * kMs;
        for (const Meter& meter : meters_) shortest_ns = std::min(shortest_ns, meter.interval_ns);
        return std::max(shortest_ns, 10 * kMs);
    }

private:
    const fs::path root_;
    std::vector<Channel> channels_;
    std::vector<Meter> meters_;
    std::vector<File> files_;
};

// The meter of the same socket that contains this one; nullptr if there is none.
const Meter* whole_of(const Meter& meter, const std::vector<Meter>& meters) {
    const Meter* whole = nullptr;
    for (const Meter& other : meters) {
        const bool contains = other.scope == Scope::module
                                  ? meter.scope != Scope::module && meter.scope != Scope::node
                                  : other.scope == Scope::grace && meter.scope > Scope::grace &&
                                        meter.scope != Scope::node;
        if (contains && other.socket == meter.socket) whole = &other; // the smallest comes last
    }
    return whole;
}

std::string id_of(const Meter& meter) {
    switch (meter.scope) {
    case Scope::module: return "module:" + meter.socket;
    case Scope::grace: return "cpu:" + meter.socket;
    case Scope::cpu: return "cpu:" + meter.socket + "/cpu";
    case Scope::system_io: return "cpu:" + meter.socket + "/sysio";
    case Scope::node: break;
    }
    return "node:" + (meter.name.empty() ? "0" : meter.name);
}

Channel describe(const Meter& meter, const std::vector<Meter>& meters) {
    Channel channel;
    channel.id = id_of(meter);
    channel.kind = "cpu";
    channel.name = meter.label.empty() ? "ACPI power meter" : meter.label;
    channel.domain = "acpi/" + channel.id;
    channel.quantity = Quantity::power;
    channel.quality = Quality::integrated;
    channel.units_per_raw = kMicro;
    channel.max_watts = kMaxModuleWatts;
    channel.relative_error = kUsualError;
    channel.tick_ns = channel.window_ns = meter.interval_ns;
    channel.detail = "ACPI power meter " + meter.name + " summed over time, a mean over " +
                     std::to_string(meter.interval_ns / kMs) + " ms";
    if (meter.scope == Scope::node) {
        channel.kind = "node";
        channel.superset = true;
        channel.max_watts = kMaxNodeWatts;
    } else if (meter.scope == Scope::module) {
        // Of the kind of a GPU: NVML may show the same, or the GPU alone.
        channel.kind = "gpu";
        channel.superset = true;
        channel.covers = {"cpu", "dram"};
        channel.detail += "; the whole module: GPU, processor and memory";
    } else if (meter.scope == Scope::grace) {
        channel.covers = {"dram"};
        channel.detail += "; processor and memory";
    }
    if (const Meter* whole = whole_of(meter, meters)) channel.part_of = id_of(*whole);
    return channel;
}

// Why a meter gives no power; empty if it does.
std::string fault_of(const Meter& meter) {
    const File file(meter.folder / "power1_average");
    int failure = file.error();
    const auto value = failure == 0 ? file.number(failure) : std::nullopt;
    if (value && *value > 0) return "";
    return "power1_average of " + meter.name + ": " +
           (value ? std::string("it shows 0 W") : describe_errno(failure));
}

std::string remedy_of(const Meter& meter) {
    const std::string path = meter.folder / "power1_average";
    const int error = File(path).error();
    return error == EACCES || error == EPERM ? "sudo chmod a+r " + path : "";
}

} // namespace

std::vector<bool> modules_read(const Host& host) {
    std::vector<bool> read;
    for (const Meter& meter : find_meters(host.root)) { // modules come first, by socket
        if (meter.scope == Scope::module) read.push_back(fault_of(meter).empty());
    }
    return read;
}

ProbeResult probe_grace(const Host& host) {
    ProbeResult found;
    auto source = std::make_unique<Grace>(host.root);
    std::vector<Meter> meters;
    for (Meter& meter : find_meters(host.root)) {
        std::string fault = fault_of(meter);
        if (fault.empty()) {
            meters.push_back(std::move(meter));
            continue;
        }
        const std::string label = meter.label.empty() ? "ACPI power meter" : meter.label;
        found.missing.push_back(
            {"grace", id_of(meter) + " (" + label + ")", std::move(fault), remedy_of(meter)});
    }
    // A part counts where the meter of its whole is not read.
    const std::vector<Meter> all = meters;
    for (Meter& meter : meters) {
        Channel channel = describe(meter, all);
        File file(meter.folder / "power1_average");
        source->add(std::move(meter), std::move(file), std::move(channel));
    }
    if (!source->channels().empty()) found.source = std::move(source);
    return found;
}

} // namespace carbontracker
