// The whole boundary between the core and Python. It translates and decides nothing.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <optional>
#include <string>
#include <vector>

#include "clock.hpp"
#include "host.hpp"
#include "meter.hpp"
#include "ring.hpp"
#include "sample.hpp"
#include "session.hpp"

namespace py = pybind11;
namespace ct = carbontracker;

namespace {

template <typename T, typename Member>
py::array_t<T> column(const std::vector<ct::Sample>& samples, Member member) {
    py::array_t<T> values(static_cast<py::ssize_t>(samples.size()));
    T* out = values.mutable_data();
    for (const ct::Sample& sample : samples) *out++ = sample.*member;
    return values;
}

py::tuple columns(const std::vector<ct::Sample>& samples) {
    return py::make_tuple(column<std::int64_t>(samples, &ct::Sample::t_ns),
                          column<std::int64_t>(samples, &ct::Sample::energy_uj),
                          column<std::int64_t>(samples, &ct::Sample::span_ns),
                          column<std::uint32_t>(samples, &ct::Sample::flags));
}

py::tuple drain(ct::Session& session, std::size_t index) {
    std::vector<ct::Sample> samples;
    session.drain(index, samples);
    return columns(samples);
}

// A meter and its ring without a thread, for property tests of the real thing.
class MeterProbe {
public:
    MeterProbe(bool counter, double units_per_raw, std::uint64_t modulus, double max_watts,
               std::size_t capacity)
        : meter_(channel(counter, units_per_raw, modulus, max_watts)), ring_(capacity) {}

    bool take(std::int64_t t_ns, std::uint64_t raw) {
        ct::Sample sample;
        if (meter_.take({t_ns, raw, ct::Status::ok}, sample) != ct::Meter::Outcome::sample) {
            return true;
        }
        return ring_.push(sample);
    }

    py::tuple drain() {
        std::vector<ct::Sample> samples;
        ring_.drain(samples);
        return columns(samples);
    }

private:
    static ct::Channel channel(bool counter, double units_per_raw, std::uint64_t modulus,
                               double max_watts) {
        ct::Channel result;
        result.quantity = counter ? ct::Quantity::energy_counter : ct::Quantity::power;
        result.units_per_raw = units_per_raw;
        result.modulus = modulus;
        result.max_watts = max_watts;
        return result;
    }

    ct::Meter meter_;
    ct::Ring<ct::Sample> ring_;
};

const char* quality_name(ct::Quality quality) {
    switch (quality) {
    case ct::Quality::measured: return "measured";
    case ct::Quality::integrated: return "integrated";
    case ct::Quality::modelled: return "modelled";
    }
    return "modelled";
}

void bind_host(py::module_& m) {
    py::class_<ct::SimulatedDevice>(m, "SimulatedDevice")
        .def(py::init<std::string, std::string, std::string>(), py::arg("kind"), py::arg("name"),
             py::arg("waveform"));
    py::class_<ct::Host>(m, "Host").def(
        py::init([](std::filesystem::path root, std::string nvml_library,
                    std::filesystem::path data_dir, std::map<std::string, std::string> environment,
                    std::vector<ct::SimulatedDevice> simulated) {
            return ct::Host{std::move(root), std::move(nvml_library), std::move(data_dir),
                            std::move(environment), std::move(simulated)};
        }),
        py::kw_only(), py::arg("root"), py::arg("nvml_library"), py::arg("data_dir"),
        py::arg("environment"), py::arg("simulated"));
}

void bind_entry(py::module_& m) {
    py::class_<ct::Entry>(m, "Entry")
        .def_property_readonly("id", [](const ct::Entry& e) { return e.channel.id; })
        .def_property_readonly("kind", [](const ct::Entry& e) { return e.channel.kind; })
        .def_property_readonly("name", [](const ct::Entry& e) { return e.channel.name; })
        .def_property_readonly("domain", [](const ct::Entry& e) { return e.channel.domain; })
        .def_property_readonly("part_of", [](const ct::Entry& e) { return e.channel.part_of; })
        .def_property_readonly("detail", [](const ct::Entry& e) { return e.channel.detail; })
        .def_property_readonly("quality",
                               [](const ct::Entry& e) { return quality_name(e.channel.quality); })
        .def_property_readonly(
            "is_counter",
            [](const ct::Entry& e) { return e.channel.quantity == ct::Quantity::energy_counter; })
        .def_property_readonly("relative_error",
                               [](const ct::Entry& e) { return e.channel.relative_error; })
        .def_property_readonly("tick_ns", [](const ct::Entry& e) { return e.channel.tick_ns; })
        .def_readonly("source", &ct::Entry::source)
        .def_readonly("counted", &ct::Entry::counted)
        .def_readonly("why", &ct::Entry::why);
    py::class_<ct::Unavailable>(m, "Unavailable")
        .def_readonly("source", &ct::Unavailable::source)
        .def_readonly("what", &ct::Unavailable::what)
        .def_readonly("reason", &ct::Unavailable::reason)
        .def_readonly("remedy", &ct::Unavailable::remedy);
}

void bind_stats(py::module_& m) {
    py::class_<ct::SamplerStats>(m, "SamplerStats")
        .def_readonly("reads", &ct::SamplerStats::reads)
        .def_readonly("edge_reads", &ct::SamplerStats::edge_reads)
        .def_readonly("late", &ct::SamplerStats::late)
        .def_readonly("cpu_ns", &ct::SamplerStats::cpu_ns)
        .def_readonly("period_ns", &ct::SamplerStats::period_ns);
    py::class_<ct::ChannelStats>(m, "ChannelStats")
        .def_readonly("errors", &ct::ChannelStats::errors)
        .def_readonly("dropped", &ct::ChannelStats::dropped)
        .def_readonly("resets", &ct::ChannelStats::resets)
        .def_readonly("last_read_ns", &ct::ChannelStats::last_read_ns)
        .def_readonly("gone", &ct::ChannelStats::gone);
}

void bind_session(py::module_& m) {
    // Joining must not hold the interpreter: a sampling thread never needs it, others do.
    using Unlocked = py::call_guard<py::gil_scoped_release>;
    py::class_<ct::Session>(m, "Session")
        .def(py::init([](const ct::Host& host, std::int64_t period_ns, double budget,
                         std::vector<std::string> kinds) {
                 return std::make_unique<ct::Session>(
                     host, ct::Options{period_ns, budget, std::move(kinds)});
             }),
             py::arg("host"), py::kw_only(), py::arg("period_ns") = 0, py::arg("budget") = 0.005,
             py::arg("kinds") = std::vector<std::string>{}, Unlocked())
        .def_property_readonly("entries", &ct::Session::entries)
        .def_property_readonly("missing", &ct::Session::missing)
        .def_property_readonly("here", &ct::Session::here)
        .def("start", &ct::Session::start, Unlocked())
        .def("stop", &ct::Session::stop, Unlocked())
        .def("poke", &ct::Session::poke)
        .def("drain", &drain, py::arg("index"))
        .def("channel_stats", &ct::Session::channel_stats, py::arg("index"))
        .def("stats", &ct::Session::stats);
}

} // namespace

PYBIND11_MODULE(_core, m) {
    m.doc() = "Native core of carbontracker: sensors, sampling threads and rings.";
    m.attr("FIRST") = static_cast<unsigned>(ct::kFirst);
    m.attr("GAP") = static_cast<unsigned>(ct::kGap);
    m.attr("STOOD_STILL") = static_cast<unsigned>(ct::kStoodStill);
    m.def("now_ns", &ct::now_ns);
    bind_host(m);
    bind_entry(m);
    bind_stats(m);
    bind_session(m);
    py::class_<MeterProbe>(m, "MeterProbe")
        .def(py::init<bool, double, std::uint64_t, double, std::size_t>(), py::kw_only(),
             py::arg("counter"), py::arg("units_per_raw"), py::arg("modulus") = 0,
             py::arg("max_watts") = 2000.0, py::arg("capacity") = 4096)
        .def("take", &MeterProbe::take, py::arg("t_ns"), py::arg("raw"))
        .def("drain", &MeterProbe::drain);
}
