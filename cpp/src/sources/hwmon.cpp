// Power sensors of boards, by a table of drivers and labels: nothing is read that no rule names.
//
// Labels and units: Linux
// drivers/hwmon/{ina3221,xgene-hwmon,macsmc-hwmon,corsair-psu,ibmpowernv}.c, the device trees of
// the boards, and for ibmpowernv hw/occ-sensor.c of the firmware skiboot.
#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <map>
#include <optional>
#include <string_view>
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
constexpr double kMicro = 1e-6; // watts in a microwatt: of a power, and of mV x mA
constexpr std::int64_t kPeriodNs = 100'000'000;
constexpr double kUsualError = 0.05; // no driver states an accuracy
constexpr double kMaxWatts = 5000.0;

// A longer reading delays the others of its thread: it gets a thread of its own.
constexpr std::int64_t kSlowNs = 1'000'000;
constexpr int kTimings = 3; // the shortest counts: this thread may have waited for a CPU

// How the driver shows a power.
enum class Form : std::uint8_t {
    power, ///< powerN_input
    rail,  ///< inN_input in mV and currN_input in mA
};

// What becomes of a reading.
enum class Use : std::uint8_t {
    counted,
    board, ///< the input of the board: contains all other rails
    shown, ///< a part of something that others read as a whole
};

struct Rule {
    std::string_view driver;
    std::string_view label; ///< # stands for a number
    Form form;
    const char* kind;
    const char* covers = ""; ///< a further kind in the reading
    Use use = Use::counted;
};

// Jetson's rails: the device trees of its modules, as listed in energymon's JetsonPowerRails.md.
// The rails of a board without an input add up to it. Those of carrier boards have no rule.
constexpr std::string_view kIna3221 = "ina3221";
constexpr std::string_view kIbmPower = "ibmpowernv";
constexpr std::string_view kZenpower = "zenpower"; // not a part of Linux
constexpr auto kRules = std::to_array<Rule>({
    {kIna3221, "VDD_IN", Form::rail, "node", "", Use::board},    // Xavier NX, Orin NX and Nano, TX2
    {kIna3221, "POM_5V_IN", Form::rail, "node", "", Use::board}, // Nano
    {kIna3221, "VDD_CPU_GPU_CV", Form::rail, "gpu", "cpu"},
    {kIna3221, "VDD_CPU_GPU", Form::rail, "gpu", "cpu"}, // TX2 NX
    {kIna3221, "VDD_GPU_SOC", Form::rail, "gpu"},
    {kIna3221, "VDD_CPU_CV", Form::rail, "cpu"},
    {kIna3221, "VDD_SOC", Form::rail, "other"},
    {kIna3221, "VIN_SYS_5V0", Form::rail, "other"},
    {kIna3221, "VDDQ_VDD2_1V8AO", Form::rail, "dram"},
    {kIna3221, "GPU", Form::rail, "gpu"}, // AGX Xavier
    {kIna3221, "CPU", Form::rail, "cpu"},
    {kIna3221, "SOC", Form::rail, "other"},
    {kIna3221, "CV", Form::rail, "other"},
    {kIna3221, "VDDRQ", Form::rail, "dram"},
    {kIna3221, "SYS5V", Form::rail, "other"},
    {kIna3221, "VDD_GPU", Form::rail, "gpu"}, // TX1
    {kIna3221, "VDD_CPU", Form::rail, "cpu"},
    {kIna3221, "POM_5V_GPU", Form::rail, "gpu"}, // Nano
    {kIna3221, "POM_5V_CPU", Form::rail, "cpu"},
    {kIna3221, "VDD_SYS_GPU", Form::rail, "gpu"}, // TX2
    {kIna3221, "VDD_SYS_CPU", Form::rail, "cpu"},
    {kIna3221, "VDD_SYS_SOC", Form::rail, "other"},
    {kIna3221, "VDD_SYS_DDR", Form::rail, "dram"},
    {kIna3221, "VDD_4V0_WIFI", Form::rail, "other"},
    {"apm_xgene", "CPU power", Form::power, "cpu"}, // Ampere
    {"apm_xgene", "IO power", Form::power, "cpu"},
    {"macsmc_hwmon", "Total System Power", Form::power, "node", "", Use::board}, // Apple
    {"corsairpsu", "power total", Form::power, "node", "", Use::board},
    // POWER9 without a hypervisor. Its GPUs are NVIDIA's and read by their own sensor; Vdd and Vdn
    // are parts of the chip.
    {kIbmPower, "System", Form::power, "node", "", Use::board},
    {kIbmPower, "Chip #", Form::power, "cpu"},
    {kIbmPower, "Chip # Memory", Form::power, "dram"},
    // Two rails of a Zen processor: less than its package, which RAPL reads.
    {kZenpower, "SVI2_P_Core", Form::power, "cpu", "", Use::shown},
    {kZenpower, "SVI2_P_SoC", Form::power, "cpu", "", Use::shown},
    {kZenpower, "cpu# SVI2_P_Core", Form::power, "cpu", "", Use::shown},
    {kZenpower, "cpu# SVI2_P_SoC", Form::power, "cpu", "", Use::shown},
});

// ---- sensors -----------------------------------------------------------------------------------

struct Place {
    std::string driver;
    std::string device; // of the driver: stays the same, unlike the number of the hwmon
    std::string number; // of its file: "1" in "power1_input"
    std::string label;
    const Rule* rule = nullptr;

    [[nodiscard]] std::string key() const { return driver + "/" + device + "/" + label; }
};

// A chip or a driver's device, and the folder with its files.
struct Chip {
    fs::path folder;
    std::string driver;
    std::string device;
};

std::vector<Chip> find_chips(const fs::path& root) {
    std::vector<Chip> chips;
    for (const std::string& hwmon : names_in(root / kClass)) {
        Chip chip;
        chip.folder = followed(root / kClass / hwmon);
        chip.driver = read_text(chip.folder / "name").value_or("");
        const bool has_rule = std::any_of(kRules.begin(), kRules.end(), [&](const Rule& rule) {
            return rule.driver == chip.driver;
        });
        if (!has_rule) continue;
        std::error_code error;
        const fs::path own = fs::canonical(chip.folder, error); // .../1-0040/hwmon/hwmon2
        const bool is_inside = !error && own.parent_path().filename() == "hwmon";
        chip.device = is_inside ? own.parent_path().parent_path().filename().string() : hwmon;
        chips.push_back(std::move(chip));
    }
    std::sort(chips.begin(), chips.end(), [](const Chip& a, const Chip& b) {
        return std::pair(a.driver, a.device) < std::pair(b.driver, b.device);
    });
    return chips;
}

// Whether a label is that of a rule, in which # stands for one or more digits.
bool is_called(std::string_view rule, std::string_view label) {
    std::size_t at = 0;
    for (const char wanted : rule) {
        const std::size_t first = at;
        if (wanted == '#') {
            while (at < label.size() && std::isdigit(static_cast<unsigned char>(label[at]))) ++at;
        } else if (at < label.size() && label[at] == wanted) {
            ++at;
        }
        if (at == first) return false;
    }
    return at == label.size();
}

// "Chip 0 " is how POWER's firmware calls the processor itself.
std::string trimmed(std::string text) {
    while (!text.empty() && text.back() == ' ') text.pop_back();
    return text;
}

const Rule* rule_for(const Chip& chip, const std::string& label) {
    const auto found = std::find_if(kRules.begin(), kRules.end(), [&](const Rule& rule) {
        return rule.driver == chip.driver && is_called(rule.label, label);
    });
    return found == kRules.end() ? nullptr : &*found;
}

// The labelled sensors of a chip that a rule names. The sums of an INA3221 (in7, curr4) have no
// rule, and a channel without a wire is disabled or called NC.
std::vector<Place> places_of(const Chip& chip) {
    std::vector<Place> places;
    for (const std::string& name : names_in(chip.folder)) {
        constexpr std::string_view kLabel = "_label";
        if (!name.ends_with(kLabel)) continue;
        const std::string stem = name.substr(0, name.size() - kLabel.size());
        const std::string label = trimmed(read_text(chip.folder / name).value_or(""));
        const Rule* rule = rule_for(chip, label);
        if (rule == nullptr) continue;
        const std::string prefix = rule->form == Form::rail ? "in" : "power";
        const auto number = number_after(stem, prefix);
        const bool is_enabled = read_number(chip.folder / (stem + "_enable")).value_or(1) != 0;
        if (!number || !is_enabled) continue;
        places.push_back({chip.driver, chip.device, std::to_string(*number), label, rule});
    }
    std::sort(places.begin(), places.end(),
              [](const Place& a, const Place& b) { return a.number < b.number; });
    return places;
}

// The rails of a chip that are connected and that no rule names.
std::vector<std::string> unknown_rails(const Chip& chip) {
    std::vector<std::string> labels;
    if (chip.driver != kIna3221) return labels;
    for (const char* number : {"1", "2", "3"}) { // the others are sums
        const std::string stem = std::string("in") + number;
        const std::string label = trimmed(read_text(chip.folder / (stem + "_label")).value_or(""));
        const bool is_enabled = read_number(chip.folder / (stem + "_enable")).value_or(1) != 0;
        const bool is_wired = is_there(chip.folder / (stem + "_input")) && label != "NC";
        if (is_enabled && is_wired && rule_for(chip, label) == nullptr) {
            labels.push_back(label.empty() ? "channel " + std::string(number) : label);
        }
    }
    return labels;
}

struct Files {
    File power; // or the voltage
    File current;

    [[nodiscard]] int error() const noexcept {
        return power.error() != 0 ? power.error() : current.error();
    }
};

Files open(const fs::path& folder, const Place& place) {
    Files files;
    if (place.rule->form == Form::power) {
        files.power = File(folder / ("power" + place.number + "_input"));
    } else {
        files.power = File(folder / ("in" + place.number + "_input"));
        files.current = File(folder / ("curr" + place.number + "_input"));
    }
    return files;
}

// Microwatts; nullopt if it cannot be read.
std::optional<std::uint64_t> read_microwatts(const Files& files, Form form, int& failure) noexcept {
    const auto first = files.power.number(failure);
    if (!first || form == Form::power) return first;
    const auto milliamperes = files.current.number(failure);
    if (!milliamperes) return std::nullopt;
    constexpr std::uint64_t kMost = 1'000'000; // 1 kV, 1 kA: no rail has more
    if (*first > kMost || *milliamperes > kMost) return std::nullopt;
    return *first * *milliamperes;
}

// A rail that is switched off draws nothing. A processor and a whole machine never do.
bool may_be_zero(const Rule& rule) noexcept {
    return rule.form == Form::rail && rule.use == Use::counted;
}

class Hwmon final : public Source {
public:
    explicit Hwmon(fs::path root) : root_(std::move(root)) {}

    void add(Place place, Files files, Channel channel) {
        channel.group = channels_.size();
        channels_.push_back(std::move(channel));
        places_.push_back(std::move(place));
        files_.push_back(std::move(files));
    }

    [[nodiscard]] const std::vector<Channel>& channels() const noexcept override {
        return channels_;
    }

    void read(std::size_t group, std::span<Reading> readings) noexcept override {
        int failure = 0;
        const std::int64_t before_ns = now_ns();
        const auto value = read_microwatts(files_[group], places_[group].rule->form, failure);
        const std::int64_t after_ns = now_ns();
        if (failure == ENODEV || files_[group].power.is_removed()) {
            readings[group] = {after_ns, 0, Status::lost};
        } else if (!value || (*value == 0 && !may_be_zero(*places_[group].rule))) {
            // ENODATA: the channel is disabled
            readings[group] = {after_ns, 0, Status::retry};
        } else {
            readings[group] = {before_ns + (after_ns - before_ns) / 2, *value, Status::ok};
        }
    }

    bool reopen(std::size_t group) noexcept override {
        try {
            for (const Chip& chip : find_chips(root_)) {
                for (const Place& place : places_of(chip)) {
                    if (place.key() != places_[group].key()) continue;
                    Files files = open(chip.folder, place);
                    if (files.error() != 0) return false;
                    files_[group] = std::move(files);
                    return true;
                }
            }
        } catch (const std::exception&) {
            return false; // out of memory, or the tree changed: retry later
        }
        return false;
    }

    [[nodiscard]] std::int64_t default_period_ns() const noexcept override { return kPeriodNs; }

private:
    const fs::path root_;
    std::vector<Channel> channels_;
    std::vector<Place> places_;
    std::vector<Files> files_;
};

// ---- channels ----------------------------------------------------------------------------------

// "cpu:0", "node:VDD_IN"; the later ones of a kind get its next number.
std::string id_of(const Place& place, std::map<std::string, int>& count) {
    const std::string kind = place.rule->kind;
    if (place.rule->use != Use::counted || kind == "other") {
        std::string label = place.label;
        std::replace(label.begin(), label.end(), ' ', '_');
        return kind + ":" + label;
    }
    return kind + ":" + std::to_string(count[kind]++);
}

Channel describe(const Place& place, std::string id) {
    Channel channel;
    channel.id = std::move(id);
    channel.kind = place.rule->kind;
    channel.name = place.label;
    channel.domain = "hwmon/" + place.key();
    channel.superset = place.rule->use != Use::counted;
    if (*place.rule->covers != '\0') channel.covers = {place.rule->covers};
    channel.quantity = Quantity::power;
    channel.quality = Quality::integrated;
    channel.units_per_raw = kMicro;
    channel.max_watts = kMaxWatts;
    channel.relative_error = kUsualError;
    channel.tick_ns = 0; // not stated by the drivers
    channel.detail = place.driver + " " + place.device + " " +
                     (place.rule->form == Form::rail ? "voltage x current of " : "power ") +
                     place.number + ", summed over time";
    if (place.rule->use == Use::board && place.rule->form == Form::rail) {
        channel.detail += "; the input of the whole board";
    }
    return channel;
}

// Whether a reading takes so long that it would delay those of other chips.
bool is_slow(const Files& files, Form form) {
    for (int i = 0; i < kTimings; ++i) {
        int failure = 0;
        const std::int64_t before_ns = now_ns();
        static_cast<void>(read_microwatts(files, form, failure));
        if (now_ns() - before_ns <= kSlowNs) return false;
    }
    return true;
}

} // namespace

bool reads_gpu_rail(const Host& host) {
    for (const Chip& chip : find_chips(host.root)) {
        for (const Place& place : places_of(chip)) {
            const bool is_gpu = std::string_view(place.rule->kind) == "gpu";
            if (is_gpu && open(chip.folder, place).error() == 0) return true;
        }
    }
    return false;
}

ProbeResult probe_hwmon(const Host& host) {
    ProbeResult found;
    auto quick = std::make_unique<Hwmon>(host.root);
    auto slow = std::make_unique<Hwmon>(host.root);
    std::map<std::string, int> count;
    for (const Chip& chip : find_chips(host.root)) {
        for (const std::string& label : unknown_rails(chip)) {
            found.missing.push_back(
                {"hwmon", label + " (" + chip.driver + ")", "not read: no rule names this rail",
                 "carbontracker sensors --snapshot FILE.tar.gz, and report it"});
        }
        for (Place& place : places_of(chip)) {
            Files files = open(chip.folder, place);
            const std::string what = place.label + " (" + place.driver + ")";
            if (files.error() != 0) {
                found.missing.push_back({"hwmon", what, describe_errno(files.error()), ""});
                continue;
            }
            int failure = 0;
            if (read_microwatts(files, place.rule->form, failure) == std::uint64_t{0} &&
                !may_be_zero(*place.rule)) { // it would take the place of the estimate
                found.missing.push_back({"hwmon", what, "it shows 0 W, which is no reading", ""});
                continue;
            }
            Channel channel = describe(place, id_of(place, count));
            Hwmon& source = is_slow(files, place.rule->form) ? *slow : *quick;
            source.add(std::move(place), std::move(files), std::move(channel));
        }
    }
    if (!quick->channels().empty()) found.source = std::move(quick);
    if (!slow->channels().empty()) found.slow = std::move(slow);
    return found;
}

} // namespace carbontracker
