// The power of the whole machine from its management controller, through /dev/ipmi0.
//
// Interfaces: Linux include/uapi/linux/ipmi.h; DCMI specification 1.5, "Get Power Reading".
#include <linux/ipmi.h>
#include <sys/ioctl.h>

#include <array>
#include <cerrno>
#include <utility>

#include "platform/clock.hpp"
#include "platform/device_file.hpp"
#include "sources/source.hpp"

namespace carbontracker {
namespace {

constexpr std::array kPaths = {"dev/ipmi0", "dev/ipmi/0", "dev/ipmidev/0"};
constexpr std::int64_t kPeriodNs = 1'000'000'000;     // controllers renew the value once a second
constexpr std::int64_t kPauseNs = kPeriodNs * 9 / 10; // also for readings at marks
constexpr std::int64_t kPatienceNs = 2'000'000'000;
constexpr double kUsualError = 0.1; // controllers state no accuracy
constexpr double kMaxWatts = 65'535.0;

constexpr unsigned char kGroupExtension = 0x2c;
constexpr unsigned char kGetPowerReading = 0x02;
constexpr unsigned char kDcmi = 0xdc;
constexpr unsigned char kSystemPower = 0x01;

constexpr unsigned kInvalidCommand = 0xc1;
constexpr unsigned kNotAllowed = 0xd4;
constexpr unsigned kActive = 1U << 6U; // of the state: the reading is being taken
constexpr std::size_t kWattsAt = 2;
constexpr std::size_t kStateAt = 18;

/// An answer, or why there is none.
struct Answer {
    Status status = Status::retry;
    std::uint64_t watts = 0;
    std::string_view why = "it does not answer within 2 s";
};

class Controller {
public:
    explicit Controller(DeviceFile device) : device_(std::move(device)) {}

    Answer ask() noexcept {
        const long id = ++last_id_;
        ipmi_system_interface_addr address{};
        address.addr_type = IPMI_SYSTEM_INTERFACE_ADDR_TYPE;
        address.channel = IPMI_BMC_CHANNEL;
        std::array<unsigned char, 4> data = {kDcmi, kSystemPower, 0, 0};
        ipmi_req request{};
        request.addr = reinterpret_cast<unsigned char*>(&address);
        request.addr_len = sizeof address;
        request.msgid = id;
        request.msg = {kGroupExtension, kGetPowerReading, data.size(), data.data()};
        const int failure = device_.request(IPMICTL_SEND_COMMAND, &request);
        if (failure == ENODEV) return {Status::lost, 0, "it has gone"};
        if (failure != 0) return {Status::retry, 0, "it takes no request"};
        return answer_to(id);
    }

private:
    // Answers to earlier requests, which came too late, and events are dropped.
    Answer answer_to(long id) noexcept {
        const std::int64_t deadline_ns = now_ns() + kPatienceNs;
        for (std::int64_t left_ns = kPatienceNs; left_ns > 0; left_ns = deadline_ns - now_ns()) {
            const auto patience = std::chrono::milliseconds(left_ns / 1'000'000 + 1);
            if (!device_.wait(patience)) continue;
            ipmi_addr address{};
            std::array<unsigned char, IPMI_MAX_MSG_LENGTH> data{};
            ipmi_recv received{};
            received.addr = reinterpret_cast<unsigned char*>(&address);
            received.addr_len = sizeof address;
            received.msg.data = data.data();
            received.msg.data_len = data.size();
            const int failure = device_.request(IPMICTL_RECEIVE_MSG_TRUNC, &received);
            if (failure == EAGAIN) continue;
            if (failure != 0) return {Status::retry, 0, "its answer cannot be received"};
            if (received.recv_type != IPMI_RESPONSE_RECV_TYPE || received.msgid != id) continue;
            return understood(
                std::span(data).first(std::min<std::size_t>(received.msg.data_len, data.size())));
        }
        return {};
    }

    static Answer understood(std::span<const unsigned char> data) noexcept {
        const unsigned code = data.empty() ? kInvalidCommand : data[0];
        if (code == kInvalidCommand) return {Status::gone, 0, "it has no power reading (DCMI)"};
        if (code == kNotAllowed) return {Status::gone, 0, "it does not allow power readings"};
        if (code != 0 || data.size() <= kStateAt || data[1] != kDcmi) {
            return {Status::retry, 0, "it has no power reading now"};
        }
        const std::uint64_t watts = data[kWattsAt] + 256U * data[kWattsAt + 1];
        const bool is_active = (data[kStateAt] & kActive) != 0;
        if (!is_active) return {Status::retry, 0, "its power reading is switched off"};
        if (watts == 0) return {Status::retry, 0, "its power reading is 0 W"};
        return {Status::ok, watts, ""};
    }

    DeviceFile device_;
    long last_id_ = 0;
};

class Dcmi final : public Source {
public:
    Dcmi(Host host, std::filesystem::path path, Controller controller)
        : host_(std::move(host)), path_(std::move(path)), controller_(std::move(controller)),
          channels_(1) {
        Channel& channel = channels_.front();
        channel.id = "node:dcmi";
        channel.kind = "node";
        channel.name = "management controller";
        channel.domain = "node/dcmi";
        channel.superset = true;
        channel.quantity = Quantity::power;
        channel.quality = Quality::integrated;
        channel.units_per_raw = 1.0;
        channel.max_watts = kMaxWatts;
        channel.relative_error = kUsualError;
        channel.tick_ns = kPeriodNs;
        channel.detail = "DCMI power reading through " + path_.filename().string() +
                         ", summed over time; the whole machine";
    }

    [[nodiscard]] const std::vector<Channel>& channels() const noexcept override {
        return channels_;
    }

    void read(std::size_t /*group*/, std::span<Reading> readings) noexcept override {
        const std::int64_t before_ns = now_ns();
        if (before_ns - asked_ns_ >= kPauseNs) {
            const Answer answer = controller_.ask();
            asked_ns_ = now_ns();
            newest_ = {before_ns + (asked_ns_ - before_ns) / 2, answer.watts, answer.status};
        }
        readings[0] = newest_;
    }

    bool reopen(std::size_t /*group*/) noexcept override {
        try {
            DeviceFile device(host_, path_, Access::read_write);
            if (device.error() != 0) return false;
            controller_ = Controller(std::move(device));
            asked_ns_ = 0;
            return true;
        } catch (const std::exception&) {
            return false; // out of memory: retry later
        }
    }

    [[nodiscard]] std::int64_t default_period_ns() const noexcept override { return kPeriodNs; }
    [[nodiscard]] std::int64_t min_period_ns() const noexcept override { return kPeriodNs; }

private:
    const Host host_;
    const std::filesystem::path path_;
    Controller controller_;
    std::vector<Channel> channels_;
    Reading newest_;
    std::int64_t asked_ns_ = 0;
};

} // namespace

ProbeResult probe_dcmi(const Host& host) {
    for (const char* name : kPaths) {
        const std::filesystem::path path = host.root / name;
        if (!is_there(path)) continue;
        DeviceFile device(host, path, Access::read_write);
        const auto left = [&](std::string reason, std::string remedy) {
            return ProbeResult{nullptr, {{"dcmi", "node:dcmi", std::move(reason), remedy}}};
        };
        if (device.error() != 0) {
            const bool is_refused = device.error() == EACCES || device.error() == EPERM;
            return left(describe_errno(device.error()),
                        is_refused ? std::string("sudo setfacl -m u:$USER:rw /") + name +
                                         "   (this also allows to change the machine's settings)"
                                   : "");
        }
        Controller controller(std::move(device));
        const Answer answer = controller.ask();
        if (answer.status != Status::ok) return left(std::string(answer.why), "");
        return {std::make_unique<Dcmi>(host, path, std::move(controller)), {}};
    }
    return {};
}

} // namespace carbontracker
