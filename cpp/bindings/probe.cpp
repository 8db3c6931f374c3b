#include "probe.hpp"

#include <pybind11/stl.h>

#include <string>
#include <tuple>
#include <vector>

#include "history/energy_accounts.hpp"
#include "sampling/lane.hpp"
#include "sampling/ring.hpp"
#include "session/session.hpp"
#include "text.hpp"

namespace carbontracker::bindings {
namespace {

namespace py = pybind11;

// One channel's lane, and its samples.
class LaneProbe {
public:
    LaneProbe(bool counter, double units_per_raw, std::uint64_t modulus, double max_watts,
              double limit_watts, double relative_error, std::int64_t tick_ns,
              std::int64_t window_ns, bool low_pass, std::size_t capacity)
        : channel_(make(counter, units_per_raw, modulus, max_watts, tick_ns, window_ns, low_pass)),
          lane_(channel_), ring_(capacity) {
        channel_.limit_watts = limit_watts;
        channel_.relative_error = relative_error;
    }

    /// Whether the reading was usable and its sample, if any, fitted into the ring.
    bool take(std::int64_t t_ns, std::uint64_t raw, std::int64_t sensor_ns) {
        Sample sample;
        const Outcome outcome = lane_.take({t_ns, raw, Status::ok, sensor_ns}, sample);
        if (outcome == Outcome::sample) return ring_.push(sample);
        return outcome != Outcome::unusable;
    }

    std::int64_t next_read_ns(std::int64_t now_ns, std::int64_t spacing_ns) {
        return lane_.rhythm().next_read_ns(now_ns, spacing_ns);
    }

    bool mark(std::int64_t t_ns) { return lane_.rhythm().mark(t_ns); }
    [[nodiscard]] std::int64_t tick_ns() const { return lane_.rhythm().tick_ns(); }
    [[nodiscard]] const Channel& channel() const { return channel_; }

    std::vector<Sample> samples() {
        std::vector<Sample> out;
        ring_.drain(out);
        return out;
    }

    // (t_ns, energy_uj, since_last_read_ns, time_ci95_ns, tick_ns, flags) of every sample since the
    // last call.
    py::list drain() {
        py::list out;
        for (const Sample& s : samples()) {
            out.append(py::make_tuple(s.t_ns, s.energy_uj, s.since_last_read_ns, s.time_ci95_ns,
                                      s.tick_ns, s.flags));
        }
        return out;
    }

private:
    static Channel make(bool counter, double units_per_raw, std::uint64_t modulus, double max_watts,
                        std::int64_t tick_ns, std::int64_t window_ns, bool low_pass) {
        Channel channel;
        channel.id = "probe";
        channel.quantity = counter ? Quantity::energy_counter : Quantity::power;
        channel.quality = counter ? Quality::measured : Quality::integrated;
        channel.units_per_raw = units_per_raw;
        channel.modulus = modulus;
        channel.max_watts = max_watts;
        channel.tick_ns = tick_ns;
        channel.window_ns = window_ns;
        channel.low_pass = low_pass;
        return channel;
    }

    Channel channel_;
    Lane lane_;
    Ring<Sample> ring_;
};

// Lanes of one device, the first of which owns it, and their accounts.
class DeviceProbe {
public:
    explicit DeviceProbe(std::vector<LaneProbe*> lanes)
        : lanes_(std::move(lanes)), accounts_(entries(lanes_)), health_(lanes_.size()),
          silent_(lanes_.size()) {}

    /// Takes the samples that the lanes have made.
    void collect(std::int64_t seen_ns) {
        for (std::size_t i = 0; i < lanes_.size(); ++i) {
            accounts_.extend(i, lanes_[i]->samples(), silent_[i] ? 0 : seen_ns);
            if (!health_[i].gone && !silent_[i]) health_[i].last_read_ns = seen_ns;
        }
    }

    void lose(std::size_t lane) { health_.at(lane).gone = true; }

    /// Whether `lane` silently stops giving readings.
    void silence(std::size_t lane, bool silent) { silent_.at(lane) = silent; }

    std::size_t review(std::int64_t now_ns) {
        accounts_.review(health_, now_ns);
        return accounts_.arbiters().front().active();
    }

    void thin(std::int64_t before_ns, std::int64_t spacing_ns) {
        for (std::size_t i = 0; i < lanes_.size(); ++i) accounts_.thin(i, before_ns, spacing_ns);
    }

    [[nodiscard]] std::size_t size(std::size_t lane) const { return accounts_.line(lane).size(); }

    [[nodiscard]] std::vector<std::string> failovers() const {
        std::vector<std::string> reasons;
        for (const Failover& one : accounts_.arbiters().front().failovers().kept()) {
            reasons.push_back(one.why);
        }
        return reasons;
    }

    /// joules, error_joules, final
    [[nodiscard]] std::tuple<double, double, bool> estimate(std::int64_t t_ns) const {
        const EnergyEstimate estimate = accounts_.estimates(t_ns).front();
        return {estimate.joules, estimate.error_joules, estimate.final};
    }

    /// The same as Session::is_final(): final values are held.
    bool is_final(std::int64_t t_ns) {
        const bool is_final = accounts_.estimates(t_ns).front().final;
        if (is_final) accounts_.hold(t_ns);
        return is_final;
    }

    /// joules, error_joules, coverage, quality, unknown_joules_max
    [[nodiscard]] std::tuple<double, double, double, std::string, double>
    energy(std::int64_t t0_ns, std::int64_t t1_ns) const {
        const Energy e =
            accounts_.energy(t0_ns, accounts_.estimates(t0_ns), t1_ns, accounts_.estimates(t1_ns))
                .total;
        return {e.joules, e.error_joules, e.coverage, e.quality, e.unknown_joules_max};
    }

private:
    static std::vector<Entry> entries(const std::vector<LaneProbe*>& lanes) {
        std::vector<Entry> result;
        for (const LaneProbe* lane : lanes) {
            Entry entry{lane->channel(), "probe", result.empty(), "", ""};
            if (!result.empty()) {
                entry.channel.id += std::to_string(result.size());
                entry.standby_for = result.front().channel.id;
            }
            result.push_back(std::move(entry));
        }
        return result;
    }

    std::vector<LaneProbe*> lanes_;
    EnergyAccounts accounts_;
    std::vector<Health> health_;
    std::vector<bool> silent_;
};

// Holds a session's lock for long.
class HoldProbe {
public:
    explicit HoldProbe(const Session& session) {
        while (!lock_.owns_lock()) lock_ = session.try_lock();
    }

    void release() { lock_.unlock(); }

private:
    Session::Lock lock_;
};

} // namespace

void bind_probe(py::module_& m) {
    py::class_<LaneProbe>(m, "LaneProbe")
        .def(py::init<bool, double, std::uint64_t, double, double, double, std::int64_t,
                      std::int64_t, bool, std::size_t>(),
             py::kw_only(), py::arg("counter"), py::arg("units_per_raw"), py::arg("modulus") = 0,
             py::arg("max_watts") = 2000.0, py::arg("limit_watts") = 0.0,
             py::arg("relative_error") = 0.0, py::arg("tick_ns") = 0, py::arg("window_ns") = 0,
             py::arg("low_pass") = false, py::arg("capacity") = 4096)
        .def("take", &LaneProbe::take, py::arg("t_ns"), py::arg("raw"), py::arg("sensor_ns") = 0)
        .def("next_read_ns", &LaneProbe::next_read_ns, py::arg("now_ns"), py::arg("spacing_ns"))
        .def("mark", &LaneProbe::mark, py::arg("t_ns"))
        .def_property_readonly("tick_ns", &LaneProbe::tick_ns)
        .def("drain", &LaneProbe::drain);
    py::class_<DeviceProbe>(m, "DeviceProbe")
        .def(py::init<std::vector<LaneProbe*>>(), py::arg("lanes"), py::keep_alive<1, 2>())
        .def("collect", &DeviceProbe::collect, py::arg("seen_ns"))
        .def("lose", &DeviceProbe::lose, py::arg("lane"))
        .def("silence", &DeviceProbe::silence, py::arg("lane"), py::arg("silent"))
        .def("review", &DeviceProbe::review, py::arg("now_ns"))
        .def("thin", &DeviceProbe::thin, py::arg("before_ns"), py::arg("spacing_ns"))
        .def("size", &DeviceProbe::size, py::arg("lane"))
        .def_property_readonly("failovers", &DeviceProbe::failovers)
        .def("estimate", &DeviceProbe::estimate, py::arg("t_ns"))
        .def("is_final", &DeviceProbe::is_final, py::arg("t_ns"))
        .def("energy", &DeviceProbe::energy, py::arg("t0_ns"), py::arg("t1_ns"));
    py::class_<HoldProbe>(m, "HoldProbe")
        .def(py::init<const Session&>(), py::arg("session"), py::keep_alive<1, 2>())
        .def("release", &HoldProbe::release);
}

} // namespace carbontracker::bindings
