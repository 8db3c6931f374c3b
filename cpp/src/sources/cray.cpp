// The counters of HPE Cray nodes: the whole node, its processors, memory and accelerators. Every
// user may read them.
//
// Interface: HPE Cray "pm_counters" below /sys/cray: a number, its unit, and a time in us.
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include "platform/clock.hpp"
#include "platform/host.hpp"
#include "platform/links.hpp"
#include "sources/source.hpp"

namespace carbontracker {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFolder = "sys/cray/pm_counters";
constexpr std::int64_t kPeriodNs = 100'000'000; // renewed at 10 Hz
constexpr double kUsualError = 0.05;            // HPE states no accuracy for each counter
constexpr double kMaxNodeWatts = 20'000.0;
constexpr double kMaxPartWatts = 5'000.0;

// The counters of some nodes freeze: then their time stands still as well.
constexpr std::int64_t kFrozenNs = 2'000'000'000;
constexpr std::chrono::milliseconds kBetweenLooks(50);
constexpr int kLooks = 10;

// "1234567 J 1700000000123456 us"
struct Value {
    std::uint64_t joules = 0;
    std::uint64_t time_us = 0;
};

std::optional<Value> parse(std::string_view text) noexcept {
    constexpr std::string_view kUnit = " J ";
    const auto joules = parse_number(text);
    const std::size_t unit = text.find(kUnit);
    if (!joules || unit == std::string_view::npos) return std::nullopt;
    const auto time_us = parse_number(text.substr(unit + kUnit.size()));
    return Value{*joules, time_us.value_or(0)};
}

struct Part {
    std::string file;
    const char* kind;
    std::string id;
    std::string name;
};

// The parts that this node has a counter of; the node itself comes first.
std::vector<Part> parts_in(const fs::path& folder) {
    std::vector<Part> parts;
    for (const std::string& file : names_in(folder)) {
        constexpr std::string_view kEnergy = "_energy";
        if (file == "energy") {
            parts.push_back({file, "node", "node:cray", "node"});
        } else if (file == "cpu_energy") {
            parts.push_back({file, "cpu", "cpu:cray", "processors"});
        } else if (file == "memory_energy") {
            parts.push_back({file, "dram", "dram:cray", "memory"});
        } else if (file.starts_with("accel") && file.ends_with(kEnergy)) {
            const std::string name = file.substr(0, file.size() - kEnergy.size());
            if (number_after(name, "accel")) parts.push_back({file, "gpu", "gpu:" + name, name});
        }
    }
    const auto rank = [](const Part& part) {
        return std::pair(std::string_view(part.kind) != "node", part.file);
    };
    std::sort(parts.begin(), parts.end(),
              [&](const Part& a, const Part& b) { return rank(a) < rank(b); });
    return parts;
}

class Cray final : public Source {
public:
    explicit Cray(fs::path folder) : folder_(std::move(folder)) {}

    void add(Part part, File file, Channel channel) {
        channel.group = channels_.size();
        channels_.push_back(std::move(channel));
        parts_.push_back(std::move(part));
        files_.push_back(std::move(file));
        renewals_.emplace_back();
    }

    [[nodiscard]] const std::vector<Channel>& channels() const noexcept override {
        return channels_;
    }

    void read(std::size_t group, std::span<Reading> readings) noexcept override {
        char text[64];
        const std::int64_t before_ns = now_ns();
        const long got = files_[group].read_start(text, sizeof text);
        const std::int64_t after_ns = now_ns();
        const auto value = parse({text, static_cast<std::size_t>(std::max(0L, got))});
        if (got == -ENODEV || files_[group].is_removed()) {
            readings[group] = {after_ns, 0, Status::lost};
        } else if (!value || is_frozen(renewals_[group], *value, after_ns)) {
            readings[group] = {after_ns, 0, Status::retry};
        } else {
            readings[group] = {before_ns + (after_ns - before_ns) / 2, value->joules, Status::ok};
        }
    }

    bool reopen(std::size_t group) noexcept override {
        try {
            File file(folder_ / parts_[group].file);
            if (file.error() != 0) return false;
            files_[group] = std::move(file);
            return true;
        } catch (const std::exception&) {
            return false; // out of memory: retry later
        }
    }

    [[nodiscard]] std::int64_t default_period_ns() const noexcept override { return kPeriodNs; }

private:
    struct Renewal {
        std::uint64_t time_us = 0; // in the file
        std::int64_t since_ns = 0; // when it was first seen
    };

    static bool is_frozen(Renewal& newest, const Value& value, std::int64_t now) noexcept {
        if (value.time_us == 0) return false; // it shows no time
        if (value.time_us != newest.time_us) newest = {value.time_us, now};
        return now - newest.since_ns > kFrozenNs;
    }

    const fs::path folder_;
    std::vector<Channel> channels_;
    std::vector<Part> parts_;
    std::vector<File> files_;
    std::vector<Renewal> renewals_;
};

// Whether the counters of a node are renewed. They are renewed together.
bool is_running(const fs::path& file) {
    const auto first = parse(read_text(file).value_or(""));
    if (!first || first->time_us == 0) return true; // it shows no time
    for (int i = 0; i < kLooks; ++i) {
        std::this_thread::sleep_for(kBetweenLooks);
        const auto next = parse(read_text(file).value_or(""));
        if (next && next->time_us != first->time_us) return true;
    }
    return false;
}

Channel describe(const Part& part) {
    const bool is_node = std::string_view(part.kind) == "node";
    Channel channel;
    channel.id = part.id;
    channel.kind = part.kind;
    channel.name = part.name;
    channel.domain = "cray/" + part.name;
    // A part counts where no sensor of its own kind is read: RAPL, NVML and the driver of AMD know
    // single packages and cards.
    channel.superset = true;
    if (!is_node) channel.covers = {part.kind};
    channel.quantity = Quantity::energy_counter;
    channel.quality = Quality::measured;
    channel.units_per_raw = 1.0;
    channel.max_watts = is_node ? kMaxNodeWatts : kMaxPartWatts;
    channel.relative_error = kUsualError;
    channel.tick_ns = kPeriodNs;
    channel.detail = "pm_counters " + part.file + ", whole joules";
    return channel;
}

} // namespace

ProbeResult probe_cray(const Host& host) {
    ProbeResult found;
    const fs::path folder = followed(host.root / kFolder);
    auto source = std::make_unique<Cray>(folder);
    std::vector<Part> parts = parts_in(folder);
    if (!parts.empty() && !is_running(folder / parts.front().file)) {
        return {nullptr,
                {{"cray", "node, cpu, dram, gpu",
                  "the counters in " + (host.root / kFolder).string() + " stand still", ""}}};
    }
    for (Part& part : parts) {
        File file(folder / part.file);
        const auto text = read_text(folder / part.file);
        Channel channel = describe(part);
        if (file.error() != 0) {
            found.missing.push_back({"cray", channel.id, describe_errno(file.error()), ""});
        } else if (!parse(text.value_or(""))) {
            found.missing.push_back({"cray", channel.id, part.file + " has no joules", ""});
        } else {
            source->add(std::move(part), std::move(file), std::move(channel));
        }
    }
    if (!source->channels().empty()) found.source = std::move(source);
    return found;
}

} // namespace carbontracker
