// The power of the packages of an EPYC from its system management port, which users may read.
//
// Interface: Linux arch/x86/include/uapi/asm/amd_hsmp.h, Documentation/arch/x86/amd_hsmp.rst.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <utility>

#include "platform/clock.hpp"
#include "platform/device_file.hpp"
#include "sources/model/cpuinfo.hpp"
#include "sources/source.hpp"

namespace carbontracker {
namespace {

constexpr const char* kPath = "dev/hsmp";
constexpr unsigned long kRequest = 0xC02CF800;
constexpr std::uint32_t kGetSocketPower = 0x04;
constexpr unsigned kMostSockets = 8;
constexpr double kMilli = 1e-3;
constexpr double kUsualError = 0.05; // AMD states no accuracy
constexpr double kMaxWatts = 1'500.0;
constexpr std::int64_t kPeriodNs = 100'000'000;
constexpr std::int64_t kMinPeriodNs = 10'000'000; // a mailbox that all users share

struct Message {
    std::uint32_t id = 0;
    std::uint16_t arguments = 0;
    std::uint16_t answers = 0;
    std::array<std::uint32_t, 8> words{};
    std::uint16_t socket = 0;
};
static_assert(sizeof(Message) == 44 && offsetof(Message, words) == 8 &&
              offsetof(Message, socket) == 40);

int ask(const DeviceFile& device, unsigned socket, std::uint64_t& milliwatts) noexcept {
    Message message;
    message.id = kGetSocketPower;
    message.answers = 1;
    message.socket = static_cast<std::uint16_t>(socket);
    const int failure = device.request(kRequest, &message);
    milliwatts = message.words[0];
    return failure;
}

class Hsmp final : public Source {
public:
    explicit Hsmp(Host host, DeviceFile device)
        : host_(std::move(host)), device_(std::move(device)) {}

    void add(unsigned socket) {
        Channel channel;
        channel.id = "cpu:" + std::to_string(socket);
        channel.kind = "cpu";
        channel.name = "package-" + std::to_string(socket);
        channel.domain = "rapl/" + channel.name; // where RAPL is read as well, it owns this
        channel.group = channels_.size();
        channel.quantity = Quantity::power;
        channel.quality = Quality::integrated;
        channel.units_per_raw = kMilli;
        channel.max_watts = kMaxWatts;
        channel.relative_error = kUsualError;
        channel.tick_ns = 0; // not documented
        channel.detail = "HSMP power of socket " + std::to_string(socket) + ", summed over time";
        channels_.push_back(std::move(channel));
    }

    [[nodiscard]] const std::vector<Channel>& channels() const noexcept override {
        return channels_;
    }

    void read(std::size_t group, std::span<Reading> readings) noexcept override {
        std::uint64_t milliwatts = 0;
        const std::int64_t before_ns = now_ns();
        const int failure = ask(device_, static_cast<unsigned>(group), milliwatts);
        const std::int64_t after_ns = now_ns();
        const bool has_value = failure == 0 && milliwatts > 0;
        readings[group] = {before_ns + (after_ns - before_ns) / 2, has_value ? milliwatts : 0,
                           has_value ? Status::ok
                                     : (failure == ENODEV ? Status::lost : Status::retry)};
    }

    bool reopen(std::size_t /*group*/) noexcept override {
        try {
            DeviceFile device(host_, host_.root / kPath, Access::read);
            if (device.error() != 0) return false;
            device_ = std::move(device);
            return true;
        } catch (const std::exception&) {
            return false; // out of memory: retry later
        }
    }

    [[nodiscard]] std::int64_t default_period_ns() const noexcept override { return kPeriodNs; }
    [[nodiscard]] std::int64_t min_period_ns() const noexcept override { return kMinPeriodNs; }

private:
    const Host host_;
    DeviceFile device_;
    std::vector<Channel> channels_;
};

// Whether the processor has such a port: EPYC since Zen 3, with a kernel of its own.
bool has_port(const Host& host) {
    constexpr int kZen3 = 0x19;
    const model::Processors machine = model::read_processors(host.root);
    return machine.share == model::Share::whole && machine.name.find("EPYC") != std::string::npos &&
           std::any_of(machine.kinds.begin(), machine.kinds.end(),
                       [](const model::Cores& kind) { return kind.family >= kZen3; });
}

// Whether this user can read the counters of the packages anyway.
bool reads_rapl(const Host& host) {
    const std::filesystem::path zones = host.root / "sys/class/powercap";
    const std::vector<std::string> names = names_in(zones);
    return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
        return name.starts_with("intel-rapl:") && File(zones / name / "energy_uj").error() == 0;
    });
}

} // namespace

ProbeResult probe_hsmp(const Host& host) {
    const std::filesystem::path path = host.root / kPath;
    if (!is_there(path)) {
        if (!has_port(host) || reads_rapl(host)) return {};
        return {nullptr,
                {{"hsmp", "cpu", "no /dev/hsmp: the module amd_hsmp is not loaded",
                  "sudo modprobe amd_hsmp   (from Linux 5.18 on: every user may then read the "
                  "power of the packages)"}}};
    }
    DeviceFile device(host, path, Access::read);
    if (device.error() != 0) {
        return {nullptr, {{"hsmp", "cpu", describe_errno(device.error()), ""}}};
    }
    std::vector<unsigned> sockets;
    int failure = 0;
    for (unsigned socket = 0; socket < kMostSockets && failure == 0; ++socket) {
        std::uint64_t milliwatts = 0;
        failure = ask(device, socket, milliwatts);
        if (failure == 0) sockets.push_back(socket);
    }
    if (sockets.empty()) return {nullptr, {{"hsmp", "cpu", describe_errno(failure), ""}}};
    auto source = std::make_unique<Hsmp>(host, std::move(device));
    for (const unsigned socket : sockets) source->add(socket);
    return {std::move(source), {}};
}

} // namespace carbontracker
