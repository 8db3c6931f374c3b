// AMD GPUs through the files of the amdgpu driver: the power of hwmon, and the energy counter of
// gpu_metrics where its unit was confirmed.
//
// Interfaces: Linux Documentation/gpu/amdgpu/thermal.rst, drivers/gpu/drm/amd/pm.
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "platform/clock.hpp"
#include "platform/host.hpp"
#include "sources/amd/gpu_metrics.hpp"
#include "sources/amd/rocm_visible.hpp"
#include "sources/model/cpuinfo.hpp"
#include "sources/pci/devices.hpp"
#include "sources/pci/nodes.hpp"
#include "sources/pci/roles.hpp"
#include "sources/pci/unread.hpp"
#include "sources/pci/vendors.hpp"
#include "sources/source.hpp"

namespace carbontracker {
namespace {

namespace fs = std::filesystem;
using pci::Device;

constexpr double kMicro = 1e-6; // watts in a microwatt
constexpr std::int64_t kMs = 1'000'000;
constexpr std::int64_t kPeriodNs = 50 * kMs;
constexpr std::int64_t kCacheNs = 10 * kMs; // the driver caches its table for up to two jiffies

// The documentation of the driver states no accuracy: that of comparable sensors.
constexpr double kUsualError = 0.05;
constexpr double kApuError = 0.1;
// Cards since RDNA show whole watts.
constexpr double kQuantumError = 0.5;
constexpr std::uint64_t kWholeWatt = 1'000'000;

constexpr double kMaxWatts = 2000.0;
constexpr double kLeniency = 1.5; // a mean does not exceed the highest limit by more
// A counter may update late, and then by more.
constexpr double kCounterLeniency = 2.5;

// ---- one card --------------------------------------------------------------------------------

// Files of a card, opened anew when the driver was loaded again: the number of its hwmon changes.
struct Files {
    File power;
    File status;  // "suspended": reading anything else would wake the card
    File metrics; // if its energy counter is read
};

// The first one with a value: some kernels keep a file that gives none.
std::string power_file(const fs::path& sensors) {
    std::string first;
    for (const char* name : {"power1_average", "power1_input"}) {
        if (!is_there(sensors / name)) continue;
        if (read_number(sensors / name).value_or(0) > 0) return name;
        if (first.empty()) first = name;
    }
    return first;
}

// 0, or an errno.
int open(const Device& device, bool with_metrics, Files& files) {
    const auto sensors = pci::sensors_of(device);
    if (!sensors) return ENOENT;
    const std::string name = power_file(*sensors);
    if (name.empty()) return ENOENT;
    files.power = File(*sensors / name);
    files.status = File(device.path / "power/runtime_status");
    if (with_metrics) files.metrics = File(device.path / "gpu_metrics");
    return files.power.error();
}

struct Card {
    Device device;
    Files files;
    std::optional<amd::Layout> layout; // of the counter, if it is read
    std::size_t power = 0;             // index of the channel
    std::size_t counter = 0;
};

std::optional<std::uint64_t> read_counter(const File& metrics, const amd::Layout& layout) noexcept {
    amd::Table table;
    const long got = metrics.read_start(table.data(), table.size());
    if (got < 0) return std::nullopt;
    return amd::counter_of(std::span(table).first(static_cast<std::size_t>(got)), layout);
}

class Amdgpu final : public Source {
public:
    /// Adds a card with its power, and with its counter, which then owns their domain.
    void add(Card card, Channel power, std::optional<Channel> counter) {
        power.group = cards_.size();
        if (counter) {
            counter->group = power.group;
            card.counter = channels_.size();
            channels_.push_back(*std::move(counter));
        }
        card.power = channels_.size();
        channels_.push_back(std::move(power));
        cards_.push_back(std::move(card));
    }

    [[nodiscard]] const std::vector<Channel>& channels() const noexcept override {
        return channels_;
    }

    void read(std::size_t group, std::span<Reading> readings) noexcept override {
        const Card& card = cards_[group];
        const bool sleeps = pci::is_suspended(card.files.status);
        if (card.layout) readings[card.counter] = sleeps ? nothing() : counter(card);
        readings[card.power] = sleeps ? nothing() : power(card);
    }

    bool reopen(std::size_t group) noexcept override {
        Card& card = cards_[group];
        try {
            Files files;
            if (open(card.device, card.layout.has_value(), files) != 0) return false;
            card.files = std::move(files);
            return true;
        } catch (const std::exception&) {
            return false; // out of memory, or the tree changed: retry later
        }
        return false;
    }

    [[nodiscard]] std::int64_t default_period_ns() const noexcept override { return kPeriodNs; }
    [[nodiscard]] std::int64_t min_period_ns() const noexcept override { return kCacheNs; }

private:
    static Reading nothing() noexcept { return {now_ns(), 0, Status::retry}; }

    // EPERM during a reset passes.
    static Status status_of(int failure, const File& file) noexcept {
        if (failure == ENODEV || failure == ENOENT || file.is_removed()) return Status::lost;
        return Status::retry;
    }

    static Reading power(const Card& card) noexcept {
        int failure = 0;
        const std::int64_t before_ns = now_ns();
        const auto value = card.files.power.number(failure);
        const std::int64_t after_ns = now_ns();
        const bool is_gone = card.files.power.is_removed();
        // A card that runs draws more than nothing.
        if (!value || *value == 0 || is_gone) {
            return {after_ns, 0, status_of(failure, card.files.power)};
        }
        return {before_ns + (after_ns - before_ns) / 2, *value, Status::ok};
    }

    static Reading counter(const Card& card) noexcept {
        const std::int64_t before_ns = now_ns();
        const auto value = read_counter(card.files.metrics, *card.layout);
        const std::int64_t after_ns = now_ns();
        if (!value || card.files.metrics.is_removed()) {
            return {after_ns, 0, status_of(0, card.files.metrics)};
        }
        return {before_ns + (after_ns - before_ns) / 2, *value, Status::ok};
    }

    std::vector<Card> cards_;
    std::vector<Channel> channels_;
};

// ---- the unit of a counter ---------------------------------------------------------------------

// The kernel states the unit for some revisions only, and the counters of some cards stand at 0 or
// count something else. So a counter owns nothing before it was seen to move as the power says.
constexpr double kStatedUnit = 1.0 / 65536; // joules
constexpr double kMillijoule = 1e-3;
constexpr double kTolerance = 0.25;
constexpr double kMinWatts = 1.0;
constexpr int kLooks = 10;
constexpr std::chrono::milliseconds kBetweenLooks(50);

// What a card showed while its counter was compared with its power.
struct Trial {
    Card card;
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    std::int64_t first_ns = 0;
    std::int64_t last_ns = 0;
    double watts = 0.0; // mean
    std::optional<std::uint64_t> microwatts;

    [[nodiscard]] double counts_per_second() const noexcept {
        if (last <= first || last_ns <= first_ns) return 0.0;
        return static_cast<double>(last - first) * kNanosPerSecond /
               static_cast<double>(last_ns - first_ns);
    }
};

void compare(std::vector<Trial>& trials) {
    const auto look = [](Trial& trial, bool is_first) {
        const std::int64_t before_ns = now_ns();
        const auto count = read_counter(trial.card.files.metrics, *trial.card.layout);
        const std::int64_t t_ns = before_ns + (now_ns() - before_ns) / 2;
        if (!count) return;
        (is_first ? trial.first : trial.last) = *count;
        (is_first ? trial.first_ns : trial.last_ns) = t_ns;
    };
    const auto power = [](Trial& trial) {
        int failure = 0;
        const auto value = trial.card.files.power.number(failure);
        if (value) trial.microwatts = value;
        trial.watts += kMicro * static_cast<double>(value.value_or(0)) / kLooks;
    };
    bool is_any = false;
    for (Trial& trial : trials) {
        if (!trial.card.layout) continue;
        look(trial, true);
        // Those of many cards are always 0: not worth the wait.
        if (trial.first == 0) trial.card.layout.reset();
        is_any = is_any || trial.card.layout;
    }
    for (int i = 0; i < kLooks; ++i) {
        for (Trial& trial : trials) power(trial);
        if (!is_any) break;
        std::this_thread::sleep_for(kBetweenLooks);
    }
    for (Trial& trial : trials) {
        if (!is_any) trial.watts *= kLooks; // only one was taken
        if (trial.card.layout) look(trial, false);
    }
}

// Joules per count; nullopt if no unit fits.
std::optional<double> unit_of(const Trial& trial) noexcept {
    if (trial.watts < kMinWatts) return std::nullopt;
    for (const double unit : {kStatedUnit, kMillijoule}) {
        if (unit != kStatedUnit && trial.card.layout->is_unit_stated) continue;
        const double ratio = unit * trial.counts_per_second() / trial.watts;
        if (1.0 - kTolerance <= ratio && ratio <= 1.0 + kTolerance) return unit;
    }
    return std::nullopt;
}

// ---- channels ----------------------------------------------------------------------------------

double watts_in(const fs::path& file) {
    return kMicro * static_cast<double>(read_number(file).value_or(0));
}

std::string product_of(const Device& device) {
    const auto product = read_text(device.path / "product_name");
    return product && !product->empty() ? *product : "AMD GPU " + device.model;
}

// Instinct MI300A: processor, memory and GPU in one socket.
bool has_processor(const Device& device) {
    return device.model == "0x74a0";
}

// Instinct MI250X and MI250: two dies, each of them a device, with one power reading.
bool has_two_dies(const Device& device) {
    return device.model == "0x7408" || device.model == "0x740c";
}

Channel power_channel(const Device& device, const Trial& trial) {
    const fs::path sensors = pci::sensors_of(device).value_or(device.path);
    Channel channel;
    channel.kind = "gpu";
    channel.name = product_of(device);
    channel.domain = "gpu/" + (device.address.empty() ? device.name : device.address);
    channel.quantity = Quantity::power;
    channel.quality = Quality::integrated;
    channel.verified = Verified::recorded_dump;
    channel.units_per_raw = kMicro;
    channel.limit_watts = watts_in(sensors / "power1_cap");
    const double most = std::max(channel.limit_watts, watts_in(sensors / "power1_cap_max"));
    channel.max_watts = most > 0.0 ? std::min(kMaxWatts, kLeniency * most) : kMaxWatts;
    channel.relative_error = kUsualError;
    channel.tick_ns = 0; // how often its firmware computes the value is not documented
    channel.detail = "amdgpu " + power_file(sensors) + " summed over time";
    const std::uint64_t shown = trial.microwatts.value_or(0);
    if (shown > 0 && shown % kWholeWatt == 0) {
        channel.relative_error =
            std::clamp(kQuantumError / (kMicro * static_cast<double>(shown)), kUsualError, 1.0);
        channel.detail += ", in whole watts";
    }
    if (has_processor(device)) {
        channel.covers = {"cpu", "dram"};
        channel.detail += "; the whole socket: GPU, processor and memory";
    }
    if (has_two_dies(device)) channel.detail += "; both dies of the module";
    return channel;
}

std::string rounded(double watts) {
    return std::to_string(static_cast<long>(watts * 10.0 + 0.5) / 10) + "." +
           std::to_string(static_cast<long>(watts * 10.0 + 0.5) % 10) + " W";
}

// Why the counter of a card is not read.
std::string counter_note(const Trial& trial) {
    const double rate = trial.counts_per_second();
    if (rate == 0.0) return "; its energy counter stands still and is not used";
    return "; its energy counter is not used: " + rounded(kStatedUnit * rate) + " in 2^-16 J and " +
           rounded(kMillijoule * rate) + " in mJ, beside " + rounded(trial.watts);
}

Channel counter_channel(const Channel& power, const amd::Layout& layout, double unit) {
    Channel channel = power;
    channel.quantity = Quantity::energy_counter;
    channel.quality = Quality::measured;
    channel.verified =
        layout.is_unit_stated ? Verified::documented_layout : Verified::recorded_dump;
    channel.units_per_raw = unit;
    channel.tick_ns = kCacheNs;
    if (layout.width == 4) channel.modulus = std::uint64_t{1} << 32U;
    channel.max_watts = std::min(kMaxWatts, kCounterLeniency / kLeniency * power.max_watts);
    channel.relative_error = kUsualError;
    channel.detail = "amdgpu gpu_metrics " + layout.revision() + ", counter in " +
                     (unit == kStatedUnit ? "2^-16 J" : "mJ") +
                     (layout.is_unit_stated ? "" : " (found by comparison with the power)");
    return channel;
}

// ---- selection
// -----------------------------------------------------------------------------------

class Probing {
public:
    explicit Probing(const Host& host)
        : host_(host), devices_(pci::devices(host.root)),
          assume_(pci::assumption(host.root, devices_)),
          is_virtual_(model::read_processors(host.root).is_virtual()) {}

    ProbeResult finish() {
        std::vector<Device> cards;
        for (const Device& device : devices_) {
            if (device.vendor != pci::vendor::kAmdGraphics || pci::is_mere_display(device))
                continue;
            if (!pci::is_in_processor(host_.root, device)) {
                cards.push_back(device);
            } else if (is_virtual_) {
                leave(device, "the host has passed on the graphics of a processor");
            } else {
                take_apu(device);
            }
        }
        const auto by_address = [](const Device& a, const Device& b) {
            return a.address < b.address;
        };
        std::sort(cards.begin(), cards.end(), by_address);
        for (const Device& card : cards) addresses_.push_back(card.address);
        keep_visible(cards);
        std::sort(cards.begin(), cards.end(), by_address);
        for (const Device& device : cards) take(device);
        compare(trials_);
        for (std::size_t i = 0; i < trials_.size(); ++i) add(i);
        if (!source_->channels().empty()) found_.source = std::move(source_);
        return std::move(found_);
    }

private:
    void leave(const Device& device, const std::string& why) {
        found_.missing.push_back(pci::unread("amdgpu", host_.root, device, why, assume_));
    }

    void keep_visible(std::vector<Device>& cards) {
        std::vector<amd::RocmGpu> gpus = amd::rocm_gpus(host_.root);
        if (gpus.empty()) {
            for (const Device& card : cards) gpus.push_back({card.address, 0});
        }
        const bool has_nvidia =
            std::any_of(devices_.begin(), devices_.end(),
                        [](const Device& one) { return one.vendor == pci::vendor::kNvidia; });
        const amd::Visible variables = {
            host_.variable("ROCR_VISIBLE_DEVICES"), host_.variable("HIP_VISIBLE_DEVICES"),
            has_nvidia ? std::nullopt : host_.variable("CUDA_VISIBLE_DEVICES")};
        const std::vector<std::size_t> visible = amd::visible_gpus(variables, gpus);
        std::vector<Device> kept;
        std::vector<Device> hidden;
        for (Device& card : cards) {
            // A card may be several GPUs, and one that ROCm does not know is hidden from none.
            const auto is_of_card = [&](std::size_t i) {
                return card.address.starts_with(gpus[i].place);
            };
            std::vector<std::size_t> all(gpus.size());
            for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
            const bool is_known = std::any_of(all.begin(), all.end(), is_of_card);
            const bool is_visible = std::any_of(visible.begin(), visible.end(), is_of_card);
            (is_known && !is_visible ? hidden : kept).push_back(std::move(card));
        }
        if (kept.empty() && !hidden.empty()) {
            found_.missing.push_back(
                {"amdgpu", "gpu",
                 "ROCR_VISIBLE_DEVICES and HIP_VISIBLE_DEVICES leave no GPU to this process",
                 "unset ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES"});
        }
        add_first_dies(kept, hidden);
        cards = std::move(kept);
    }

    // The first die of a module shows the power of both: it is read if either is visible.
    static void add_first_dies(std::vector<Device>& cards, const std::vector<Device>& hidden) {
        const std::vector<Device> visible = cards;
        std::vector<Device> all = visible;
        all.insert(all.end(), hidden.begin(), hidden.end());
        for (const Device& second : visible) {
            if (!has_two_dies(second) || shows_power(second)) continue;
            const Device* first = nullptr;
            for (const Device& other : all) {
                const bool is_before = other.model == second.model &&
                                       other.address < second.address && shows_power(other);
                if (!is_before) continue;
                if (first == nullptr || other.address > first->address) first = &other;
            }
            const bool is_taken = std::any_of(cards.begin(), cards.end(), [&](const Device& card) {
                return first != nullptr && card.address == first->address;
            });
            if (first != nullptr && !is_taken) cards.push_back(*first);
        }
    }

    static bool shows_power(const Device& device) {
        const auto sensors = pci::sensors_of(device);
        if (!sensors || pci::is_asleep(device)) return false;
        const std::string name = power_file(*sensors);
        return !name.empty() && read_number(*sensors / name).value_or(0) > 0;
    }

    // Why the card cannot be read; empty if it can.
    static std::string fault(const Device& device, Files& files) {
        const auto sensors = pci::sensors_of(device);
        if (device.driver == "radeon") return "the driver radeon shows no power";
        if (!sensors) return "its driver shows no sensors";
        if (power_file(*sensors).empty()) {
            return is_there(*sensors / "power1_label") ? "its driver names a power without a value"
                                                       : "its driver shows no power";
        }
        int failure = open(device, true, files);
        if (failure != 0 || files.power.number(failure)) {
            return failure == 0 ? "" : describe_errno(failure);
        }
        const bool may_pass = failure == EPERM || failure == EBUSY || failure == EAGAIN;
        return may_pass ? "" : "its driver names a power without a value";
    }

    void take(const Device& device) {
        if (pci::is_withheld(host_.root, device) || pci::is_passed_through(device)) {
            leave(device, "");
            return;
        }
        if (pci::is_asleep(device)) {
            found_.missing.push_back(pci::asleep("amdgpu", device));
            return;
        }
        Trial trial;
        trial.card.device = device;
        const std::string why = fault(device, trial.card.files);
        if (!why.empty()) {
            leave(device, why);
            return;
        }
        if (has_two_dies(device) && !shows_power(device)) {
            found_.missing.push_back({"amdgpu", pci::title(device),
                                      "the second die of a module: its power is in that of the "
                                      "first",
                                      ""});
            return;
        }
        amd::Table table;
        const long got = trial.card.files.metrics.error() == 0
                             ? trial.card.files.metrics.read_start(table.data(), table.size())
                             : 0;
        trial.card.layout =
            amd::layout_of(std::span(table).first(static_cast<std::size_t>(std::max(0L, got))));
        has_table_.push_back(trial.card.layout.has_value());
        trials_.push_back(std::move(trial));
    }

    // The power of integrated graphics is that of the package: processor and graphics.
    void take_apu(const Device& device) {
        found_.missing.push_back(pci::part_of_processor("amdgpu", device));
        Trial trial;
        trial.card.device = device;
        if (has_apu_ || pci::is_withheld(host_.root, device) || pci::is_asleep(device) ||
            !fault(device, trial.card.files).empty()) {
            return;
        }
        has_apu_ = true;
        Channel channel = power_channel(device, trial);
        channel.id = "cpu:0";
        channel.kind = "cpu";
        channel.name = "AMD APU " + device.model;
        // Beside RAPL it is shown, and neither added nor a standby: they need not measure the same
        // part of the chip, and a second opinion that differs would replace RAPL.
        channel.domain = "ppt/" + device.address;
        channel.superset = true;
        channel.covers = {"cpu"};
        channel.relative_error = kApuError;
        channel.detail += "; the package: processor and graphics";
        trial.card.files.metrics = File();
        source_->add(std::move(trial.card), std::move(channel), std::nullopt);
    }

    void add(std::size_t index) {
        Trial& trial = trials_[index];
        Channel power = power_channel(trial.card.device, trial);
        const auto place =
            std::find(addresses_.begin(), addresses_.end(), trial.card.device.address);
        power.id = "gpu:" + std::to_string(place - addresses_.begin());
        if (host_.gpus_of_process) power.detail += "; every visible GPU of AMD";
        std::optional<Channel> counter;
        if (trial.card.layout) {
            if (const auto unit = unit_of(trial)) {
                counter = counter_channel(power, *trial.card.layout, *unit);
            }
        }
        if (counter) {
            power.id += "/power";
        } else {
            if (has_table_[index]) power.detail += counter_note(trial);
            trial.card.layout.reset();
            trial.card.files.metrics = File();
        }
        source_->add(std::move(trial.card), std::move(power), std::move(counter));
    }

    const Host& host_;
    const std::vector<Device> devices_;
    const std::string assume_; // how to count an unread card
    const bool is_virtual_;
    bool has_apu_ = false;
    std::vector<std::string> addresses_; // of all cards, visible or not, in their order
    std::vector<Trial> trials_;
    std::vector<bool> has_table_; // with a counter, of each of them
    std::unique_ptr<Amdgpu> source_ = std::make_unique<Amdgpu>();
    ProbeResult found_;
};

} // namespace

ProbeResult probe_amdgpu(const Host& host) {
    return Probing(host).finish();
}

} // namespace carbontracker
