// Intel graphics cards through hwmon: energy counters of the drivers xe and i915.
//
// Interfaces: Linux Documentation/ABI/testing/sysfs-driver-intel-xe-hwmon and -i915-hwmon.
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <optional>
#include <sstream>
#include <thread>
#include <utility>

#include "platform/clock.hpp"
#include "platform/host.hpp"
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

constexpr double kMicro = 1e-6; // joules in a microjoule
constexpr std::int64_t kMs = 1'000'000;

// The kernel adds up a register that overflows within minutes, and only when it is read: the core
// reads every source at least every two seconds. Readings closer than 50 ms are of no use.
constexpr std::int64_t kPeriodNs = 100 * kMs;
constexpr std::int64_t kMinPeriodNs = 50 * kMs;

constexpr double kUsualError = 0.05; // not documented: that of comparable sensors
constexpr double kMaxWatts = 2000.0;
constexpr double kLeniency = 2.5; // a counter may update late, and then by more

// How long to look for the counter that moves.
constexpr int kLooks = 6;
constexpr std::chrono::milliseconds kBetweenLooks(60);

// A counter of a card.
struct Counter {
    std::string file;  // "energy1_input"
    std::string label; // "card", "pkg", or empty
    File open;
    std::uint64_t first = 0;
    std::uint64_t last = 0;

    [[nodiscard]] bool moves() const noexcept { return last != first; }
    [[nodiscard]] bool is_alive() const noexcept { return last != 0; }
};

// The folder of the whole card: i915 shows its parts as i915_gt0 beside it.
std::optional<fs::path> energy_folder(const Device& device) {
    for (const std::string& name : names_in(device.path / "hwmon")) {
        const fs::path folder = device.path / "hwmon" / name;
        const auto driver = read_text(folder / "name");
        if (driver == "xe" || driver == "i915") return folder;
    }
    return std::nullopt;
}

struct Card {
    Device device;
    File status;
    std::vector<std::string> names; // of its counters' files
    std::vector<File> files;
    std::size_t first = 0; // channel of the first counter
    std::vector<Reading> newest;
};

class IntelGpu final : public Source {
public:
    void add(Card card, std::vector<Channel> channels) {
        card.first = channels_.size();
        card.newest.resize(channels.size());
        for (Channel& channel : channels) {
            channel.group = cards_.size();
            channels_.push_back(std::move(channel));
        }
        cards_.push_back(std::move(card));
    }

    [[nodiscard]] const std::vector<Channel>& channels() const noexcept override {
        return channels_;
    }

    void read(std::size_t group, std::span<Reading> readings) noexcept override {
        Card& card = cards_[group];
        const std::int64_t now = now_ns();
        if (now - card.newest.front().t_ns >= kMinPeriodNs) {
            const bool sleeps = pci::is_suspended(card.status);
            for (std::size_t i = 0; i < card.files.size(); ++i) {
                card.newest[i] = sleeps ? Reading{now, 0, Status::retry} : read_one(card.files[i]);
            }
        }
        for (std::size_t i = 0; i < card.files.size(); ++i) {
            readings[card.first + i] = card.newest[i];
        }
    }

    bool reopen(std::size_t group) noexcept override {
        Card& card = cards_[group];
        try {
            const auto sensors = energy_folder(card.device);
            if (!sensors) return false;
            std::vector<File> files;
            for (const std::string& name : card.names) {
                files.emplace_back(*sensors / name);
                if (files.back().error() != 0) return false;
            }
            card.files = std::move(files);
            card.status = File(card.device.path / "power/runtime_status");
            return true;
        } catch (const std::exception&) {
            return false; // out of memory, or the tree changed: retry later
        }
        return false;
    }

    [[nodiscard]] std::int64_t default_period_ns() const noexcept override { return kPeriodNs; }
    [[nodiscard]] std::int64_t min_period_ns() const noexcept override { return kMinPeriodNs; }

private:
    static Reading read_one(const File& file) noexcept {
        int failure = 0;
        const std::int64_t before_ns = now_ns();
        const auto value = file.number(failure);
        const std::int64_t after_ns = now_ns();
        const bool is_lost = failure == ENODEV || failure == ENOENT || file.is_removed();
        if (!value || is_lost) return {after_ns, 0, is_lost ? Status::lost : Status::retry};
        return {before_ns + (after_ns - before_ns) / 2, *value, Status::ok};
    }

    std::vector<Card> cards_;
    std::vector<Channel> channels_;
};

// ---- selection
// -----------------------------------------------------------------------------------

std::size_t tiles_of(const Device& device) {
    std::size_t tiles = 0;
    for (const std::string& name : names_in(device.path)) {
        if (number_after(name, "tile")) ++tiles;
    }
    return std::max<std::size_t>(1, tiles);
}

// Which cards ZE_AFFINITY_MASK leaves: "0", "1.0,2". Level Zero numbers the tiles of all cards
// unless ZE_FLAT_DEVICE_HIERARCHY is COMPOSITE. An entry that names no card is ignored.
std::vector<bool> visible_cards(const Host& host, const std::vector<Device>& cards) {
    const auto mask = host.variable("ZE_AFFINITY_MASK");
    std::vector<bool> visible(cards.size(), !mask || mask->empty());
    if (!mask) return visible;
    const bool is_by_card = host.variable("ZE_FLAT_DEVICE_HIERARCHY") == "COMPOSITE";
    std::vector<std::size_t> owners; // the card of each number
    for (std::size_t i = 0; i < cards.size(); ++i) {
        owners.insert(owners.end(), is_by_card ? 1 : tiles_of(cards[i]), i);
    }
    std::istringstream entries(*mask);
    for (std::string entry; std::getline(entries, entry, ',');) {
        const auto number = parse_number(entry);
        if (number && *number < owners.size()) visible[owners[*number]] = true;
    }
    return visible;
}

class Probing {
public:
    explicit Probing(const Host& host)
        : host_(host), devices_(pci::devices(host.root)),
          assume_(pci::assumption(host.root, devices_)),
          is_virtual_(model::read_processors(host.root).is_virtual()) {}

    ProbeResult finish() {
        std::vector<Device> cards;
        for (const Device& device : devices_) {
            if (device.vendor != pci::vendor::kIntel || !device.is_gpu) continue;
            if (!is_virtual_ && pci::is_in_processor(host_.root, device)) {
                found_.missing.push_back(pci::part_of_processor("intel_gpu", device));
            } else {
                cards.push_back(device);
            }
        }
        std::sort(cards.begin(), cards.end(),
                  [](const Device& a, const Device& b) { return a.address < b.address; });
        const std::vector<bool> visible = visible_cards(host_, cards);
        const bool is_any = std::find(visible.begin(), visible.end(), true) != visible.end();
        if (!cards.empty() && !is_any) {
            found_.missing.push_back({"intel_gpu", "gpu",
                                      "ZE_AFFINITY_MASK leaves no GPU to this process",
                                      "unset ZE_AFFINITY_MASK"});
        }
        for (std::size_t i = 0; i < cards.size(); ++i) {
            if (visible[i]) take(cards[i], "gpu:" + std::to_string(i));
        }
        if (!source_->channels().empty()) found_.source = std::move(source_);
        return std::move(found_);
    }

private:
    void leave(const Device& device, const std::string& why) {
        found_.missing.push_back(pci::unread("intel_gpu", host_.root, device, why, assume_));
    }

    void take(const Device& device, const std::string& id) {
        const auto sensors = energy_folder(device);
        if (pci::is_withheld(host_.root, device) || pci::is_passed_through(device) || !sensors) {
            leave(device, "its driver shows no energy");
            return;
        }
        if (pci::is_asleep(device)) {
            found_.missing.push_back(pci::asleep("intel_gpu", device));
            return;
        }
        std::vector<Counter> counters = open(*sensors);
        if (counters.empty()) {
            leave(device, "its driver shows no energy, or not to this user");
            return;
        }
        keep_moving(counters);
        if (counters.empty()) {
            leave(device, "its energy counter stays at 0");
            return;
        }
        Card card;
        card.device = device;
        card.status = File(device.path / "power/runtime_status");
        std::vector<Channel> channels;
        for (Counter& counter : counters) {
            channels.push_back(describe(device, *sensors, counter, id, channels.empty()));
            card.names.push_back(counter.file);
            card.files.push_back(std::move(counter.open));
        }
        source_->add(std::move(card), std::move(channels));
    }

    // The whole card first: "card" contains "pkg", whatever their values, because the two counters
    // begin and lose overflows separately.
    static std::vector<Counter> open(const fs::path& sensors) {
        std::vector<Counter> counters;
        for (const char* number : {"1", "2"}) {
            Counter counter;
            counter.file = std::string("energy") + number + "_input";
            counter.label =
                read_text(sensors / (std::string("energy") + number + "_label")).value_or("");
            counter.open = File(sensors / counter.file);
            if (counter.open.error() == 0) counters.push_back(std::move(counter));
        }
        std::stable_sort(counters.begin(), counters.end(), [](const Counter& a, const Counter& b) {
            return a.label != "pkg" && b.label == "pkg";
        });
        return counters;
    }

    // Some kernels show a counter that is always 0 or stands still beside one that counts.
    static void keep_moving(std::vector<Counter>& counters) {
        const auto look = [](const Counter& counter) {
            int failure = 0;
            return counter.open.number(failure).value_or(0);
        };
        for (Counter& counter : counters) counter.first = counter.last = look(counter);
        for (int i = 0; i < kLooks && !counters.front().moves(); ++i) {
            std::this_thread::sleep_for(kBetweenLooks);
            for (Counter& counter : counters) counter.last = look(counter);
        }
        const bool is_any_moving = std::any_of(counters.begin(), counters.end(),
                                               [](const Counter& one) { return one.moves(); });
        std::erase_if(counters, [&](const Counter& one) {
            return is_any_moving ? !one.moves() : !one.is_alive();
        });
    }

    static Channel describe(const Device& device, const fs::path& sensors, const Counter& counter,
                            const std::string& id, bool is_first) {
        Channel channel;
        channel.kind = "gpu";
        channel.name = "Intel GPU " + device.model;
        channel.domain = "gpu/" + (device.address.empty() ? device.name : device.address);
        channel.id = id;
        if (!is_first) {
            channel.id += "/" + counter.label;
            channel.domain += "/" + counter.label;
            channel.part_of = id;
        }
        channel.quantity = Quantity::energy_counter;
        channel.quality = Quality::measured;
        channel.verified = Verified::recorded_dump;
        channel.units_per_raw = kMicro;
        channel.tick_ns = 0; // not documented
        channel.relative_error = kUsualError;
        channel.max_watts = kMaxWatts;
        for (const char* file : {"power1_max", "power1_rated_max", "power1_crit"}) {
            const double watts =
                kMicro * static_cast<double>(read_number(sensors / file).value_or(0));
            if (watts <= 0.0) continue;
            channel.limit_watts = watts;
            channel.max_watts = std::min(kMaxWatts, kLeniency * watts);
            break;
        }
        channel.detail = read_text(sensors / "name").value_or("") + " " + counter.file +
                         (counter.label.empty() ? "" : " (" + counter.label + ")");
        return channel;
    }

    const Host& host_;
    const std::vector<Device> devices_;
    const std::string assume_; // how to count an unread card
    const bool is_virtual_;
    std::unique_ptr<IntelGpu> source_ = std::make_unique<IntelGpu>();
    ProbeResult found_;
};

} // namespace

ProbeResult probe_intel_gpu(const Host& host) {
    return Probing(host).finish();
}

} // namespace carbontracker
