// The power of a notebook on battery: what its batteries give is what the whole machine draws.
//
// Interface: Linux Documentation/ABI/testing/sysfs-class-power.
#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <string_view>
#include <utility>

#include "platform/clock.hpp"
#include "platform/host.hpp"
#include "platform/links.hpp"
#include "sources/source.hpp"

namespace carbontracker {
namespace {

namespace fs = std::filesystem;

constexpr const char* kClass = "sys/class/power_supply";
constexpr std::int64_t kPeriodNs = 1'000'000'000;
constexpr std::int64_t kMinPeriodNs = kPeriodNs / 2;
constexpr double kMicro = 1e-6;
constexpr double kUsualError = 0.1; // no driver states an accuracy
constexpr double kMaxWatts = 500.0; // of a notebook

struct Battery {
    File status;
    File power;   // µW; or, without it:
    File current; // µA
    File voltage; // µV

    [[nodiscard]] bool has_power() const noexcept {
        return power.error() == 0 || (current.error() == 0 && voltage.error() == 0);
    }
};

// Some drivers show the power of discharging as a negative number.
std::optional<std::uint64_t> magnitude(const File& file) noexcept {
    char text[32];
    const long got = file.read_start(text, sizeof text);
    if (got <= 0) return std::nullopt;
    std::string_view number(text, static_cast<std::size_t>(got));
    if (number.starts_with('-')) number.remove_prefix(1);
    return parse_number(number);
}

std::optional<std::uint64_t> microwatts(const Battery& battery) noexcept {
    if (battery.power.error() == 0) return magnitude(battery.power);
    const auto microamperes = magnitude(battery.current);
    const auto microvolts = magnitude(battery.voltage);
    constexpr std::uint64_t kMost = 1'000'000'000; // 1 kA, 1 kV
    if (!microamperes || !microvolts || *microamperes > kMost || *microvolts > kMost) {
        return std::nullopt;
    }
    return *microamperes * *microvolts / 1'000'000;
}

enum class State : std::uint8_t { discharging, idle, unknown };

// A battery that is charged gives nothing, and the machine is not on battery.
State state_of(const Battery& battery) noexcept {
    char text[32];
    const long got = battery.status.read_start(text, sizeof text);
    const std::string_view status(text, static_cast<std::size_t>(std::max(0L, got)));
    if (status.starts_with("Discharging")) return State::discharging;
    const bool is_idle = status.starts_with("Not charging") || status.starts_with("Full");
    return is_idle ? State::idle : State::unknown;
}

// Those of the machine: the battery of a mouse has the scope Device.
std::vector<Battery> open_batteries(const fs::path& root) {
    std::vector<std::string> names = names_in(root / kClass);
    std::sort(names.begin(), names.end());
    std::vector<Battery> batteries;
    for (const std::string& name : names) {
        const fs::path folder = followed(root / kClass / name);
        if (read_text(folder / "type") != "Battery") continue;
        if (read_text(folder / "scope") == "Device") continue;
        if (read_number(folder / "present") == std::uint64_t{0}) continue; // an empty bay
        Battery battery{File(folder / "status"), File(folder / "power_now"),
                        File(folder / "current_now"), File(folder / "voltage_now")};
        batteries.push_back(std::move(battery));
    }
    const auto has_power = [](const Battery& one) { return one.has_power(); };
    if (std::none_of(batteries.begin(), batteries.end(), has_power)) batteries.clear();
    return batteries;
}

class Batteries final : public Source {
public:
    Batteries(fs::path root, std::vector<Battery> batteries)
        : root_(std::move(root)), batteries_(std::move(batteries)), channels_(1) {
        Channel& channel = channels_.front();
        channel.id = "node:battery";
        channel.kind = "node";
        channel.name = batteries_.size() == 1 ? "battery" : "batteries";
        channel.domain = "node/battery";
        channel.superset = true;
        channel.quantity = Quantity::power;
        channel.quality = Quality::integrated;
        channel.units_per_raw = kMicro;
        channel.max_watts = kMaxWatts;
        channel.relative_error = kUsualError;
        channel.tick_ns = kPeriodNs; // 0.5 to 30 s, by firmware
        channel.detail = "power of " + std::to_string(batteries_.size()) +
                         (batteries_.size() == 1 ? " battery" : " batteries") +
                         ", summed over time; the whole machine, only while it is on battery";
    }

    [[nodiscard]] const std::vector<Channel>& channels() const noexcept override {
        return channels_;
    }

    void read(std::size_t /*group*/, std::span<Reading> readings) noexcept override {
        const std::int64_t before_ns = now_ns();
        if (before_ns - newest_.t_ns < kMinPeriodNs) {
            readings[0] = newest_;
            return;
        }
        const auto sum = total();
        const std::int64_t after_ns = now_ns();
        const std::int64_t t_ns = before_ns + (after_ns - before_ns) / 2;
        const bool is_removed = std::any_of(batteries_.begin(), batteries_.end(),
                                            [](auto& one) { return one.status.is_removed(); });
        newest_ = {t_ns, sum.value_or(0),
                   is_removed ? Status::lost : (sum ? Status::ok : Status::retry)};
        readings[0] = newest_;
    }

    bool reopen(std::size_t /*group*/) noexcept override {
        try {
            std::vector<Battery> found = open_batteries(root_);
            if (found.empty()) return false;
            batteries_ = std::move(found);
            newest_ = {};
            return true;
        } catch (const std::exception&) {
            return false; // out of memory, or the tree changed: retry later
        }
    }

    [[nodiscard]] std::int64_t default_period_ns() const noexcept override { return kPeriodNs; }
    // A reading may be a call of the firmware.
    [[nodiscard]] std::int64_t min_period_ns() const noexcept override { return kMinPeriodNs; }

private:
    // nullopt unless the batteries alone supply the machine.
    [[nodiscard]] std::optional<std::uint64_t> total() const noexcept {
        std::uint64_t sum = 0;
        for (const Battery& battery : batteries_) {
            const State state = state_of(battery);
            if (state == State::idle) continue;
            const auto power = microwatts(battery);
            if (state == State::unknown || !power) return std::nullopt;
            sum += *power;
        }
        return sum > 0 ? std::optional(sum) : std::nullopt;
    }

    const fs::path root_;
    std::vector<Battery> batteries_;
    std::vector<Channel> channels_;
    Reading newest_;
};

} // namespace

ProbeResult probe_battery(const Host& host) {
    std::vector<Battery> batteries = open_batteries(host.root);
    if (batteries.empty()) return {};
    std::vector<SkippedSensor> missing;
    if (!std::all_of(batteries.begin(), batteries.end(),
                     [](const Battery& one) { return one.has_power(); })) {
        missing.push_back({"battery", "node:battery",
                           "one of its batteries shows no power: while that one discharges, the "
                           "power of the machine is not known",
                           ""});
    }
    return {std::make_unique<Batteries>(host.root, std::move(batteries)), std::move(missing)};
}

} // namespace carbontracker
