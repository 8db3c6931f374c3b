// Devices that exist only as a formula: for planning purchases, and for tests.
//
// A waveform is a name and its figures, powers in watts and times in seconds:
//   constant:W   square:LOW,HIGH,PERIOD,DUTY   sine:MEAN,AMPLITUDE,PERIOD   ramp:FROM,TO,SECONDS
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <numbers>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "platform/clock.hpp"
#include "platform/host.hpp"
#include "sources/source.hpp"

namespace carbontracker {
namespace {

constexpr double kMicro = 1e6;
constexpr double kMaxFigure = 1e9; // a gigawatt, or thirty years

using Figures = std::vector<double>;
using Joules = double (*)(const Figures&, double); // energy from 0 to t seconds, in closed form

double constant_joules(const Figures& f, double t) {
    return f[0] * t;
}

double square_joules(const Figures& f, double t) {
    const double low = f[0];
    const double high = f[1];
    const double period = f[2];
    const double on = period * f[3];
    const double cycles = std::floor(t / period);
    const double on_seconds = cycles * on + std::min(t - cycles * period, on);
    return low * t + (high - low) * on_seconds;
}

double sine_joules(const Figures& f, double t) {
    const double omega = 2.0 * std::numbers::pi / f[2];
    return f[0] * t + f[1] / omega * (1.0 - std::cos(omega * t));
}

double ramp_joules(const Figures& f, double t) {
    const double rising = std::min(t, f[2]);
    return f[0] * rising + (f[1] - f[0]) * rising * rising / (2.0 * f[2]) + f[1] * (t - rising);
}

struct Shape {
    std::string_view name;
    std::size_t figures;
    Joules joules;
    bool (*valid)(const Figures&); // beyond the powers being finite and not negative
};

constexpr std::array kShapes = {
    Shape{"constant", 1, constant_joules, [](const Figures&) { return true; }},
    Shape{"square", 4, square_joules, [](const Figures& f) { return f[2] > 0.0 && f[3] <= 1.0; }},
    Shape{"sine", 3, sine_joules, [](const Figures& f) { return f[2] > 0.0 && f[1] <= f[0]; }},
    Shape{"ramp", 3, ramp_joules, [](const Figures& f) { return f[2] > 0.0; }},
};

Figures parse_figures(std::string_view text) {
    Figures figures;
    while (!text.empty()) {
        double value = 0.0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
        if (error != std::errc{} || !(value >= 0.0 && value <= kMaxFigure)) return {};
        figures.push_back(value);
        text.remove_prefix(static_cast<std::size_t>(end - text.data()));
        if (!text.empty() && text.front() != ',') return {};
        if (!text.empty()) text.remove_prefix(1);
    }
    return figures;
}

struct Wave {
    Joules joules;
    Figures figures;
};

Wave parse_wave(const SimulatedDevice& device) {
    const std::string_view text = device.waveform;
    const std::size_t colon = text.find(':');
    if (colon != std::string_view::npos) {
        for (const Shape& shape : kShapes) {
            if (shape.name != text.substr(0, colon)) continue;
            Figures figures = parse_figures(text.substr(colon + 1));
            if (figures.size() == shape.figures && shape.valid(figures)) {
                return {shape.joules, std::move(figures)};
            }
        }
    }
    throw std::invalid_argument("simulated device '" + device.name + "': '" + device.waveform +
                                "' is not a waveform; write for example constant:250 or "
                                "square:80,300,2,0.5 (low W, high W, period s, duty)");
}

class Simulated final : public Source {
public:
    explicit Simulated(const std::vector<SimulatedDevice>& devices) : start_ns_(now_ns()) {
        for (const SimulatedDevice& device : devices) {
            waves_.push_back(parse_wave(device));
            channels_.push_back(describe(device));
        }
    }

    [[nodiscard]] const std::vector<Channel>& channels() const noexcept override {
        return channels_;
    }

    void read(std::size_t /*group*/, std::span<Reading> readings) noexcept override {
        for (std::size_t i = 0; i < waves_.size(); ++i) {
            const std::int64_t t_ns = now_ns();
            const double seconds =
                static_cast<double>(t_ns - start_ns_) / static_cast<double>(kNanosPerSecond);
            const double joules = waves_[i].joules(waves_[i].figures, seconds);
            readings[i] = {t_ns, static_cast<std::uint64_t>(joules * kMicro), Status::ok};
        }
    }

    [[nodiscard]] bool counts_for_all() const noexcept override { return false; }

    [[nodiscard]] std::int64_t default_period_ns() const noexcept override { return 10'000'000; }

    [[nodiscard]] std::vector<std::string> claimed_kinds() const override {
        std::vector<std::string> kinds;
        for (const Channel& channel : channels_) {
            kinds.push_back(channel.kind);
            if (channel.kind == "cpu") kinds.emplace_back("dram"); // its power covers both
        }
        return kinds;
    }

private:
    [[nodiscard]] Channel describe(const SimulatedDevice& device) const {
        const auto same_kind = [&](const Channel& other) { return other.kind == device.kind; };
        const auto index = std::count_if(channels_.begin(), channels_.end(), same_kind);
        Channel channel;
        channel.id = device.kind + ":" + std::to_string(index);
        channel.kind = device.kind;
        channel.name = device.name;
        channel.domain = "simulated/" + channel.id;
        channel.quality = Quality::modelled;
        channel.units_per_raw = 1.0 / kMicro;
        channel.max_watts = 2.0 * kMaxFigure;
        channel.tick_ns = 0; // it changes all the time
        channel.detail = "simulated: " + device.waveform;
        return channel;
    }

    const std::int64_t start_ns_;
    std::vector<Wave> waves_;
    std::vector<Channel> channels_;
};

} // namespace

ProbeResult probe_simulated(const Host& host) {
    if (host.simulated.empty()) return {};
    return {std::make_unique<Simulated>(host.simulated), {}};
}

} // namespace carbontracker
