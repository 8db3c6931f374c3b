// The boundary between the core and Python. It translates and makes no decisions.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <exception>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "platform/clock.hpp"
#include "platform/host.hpp"
#include "probe.hpp"
#include "sample.hpp"
#include "session/session.hpp"
#include "span.hpp"
#include "text.hpp"
#include "unlocked.hpp"

namespace py = pybind11;
namespace ct = carbontracker;

namespace {

using ct::bindings::mark_of;
using ct::bindings::OsString;
using ct::bindings::Unlocked;

// Deletes a session. Stopping its threads may take as long as a driver does.
void discard(ct::Session* session) noexcept {
    if (!session->owned_by_this_process())
        return; // a child frees nothing that a thread was changing at the fork
    if (PyGILState_Check() == 0) {
        delete session;
        return;
    }
    const Unlocked unlocked;
    delete session;
}

// Translates exceptions whose text comes from outside. A MemoryError that Python has already set
// is more specific and is kept.
void translate(std::exception_ptr error) {
    if (!error || PyErr_ExceptionMatches(PyExc_MemoryError) != 0) return;
    try {
        std::rethrow_exception(error);
    } catch (const std::invalid_argument& wrong) {
        PyErr_SetObject(PyExc_ValueError, ct::bindings::decode(wrong.what()).ptr());
    } catch (const std::system_error& failed) {
        PyErr_SetObject(PyExc_OSError, ct::bindings::decode(failed.what()).ptr());
    }
}

// Numbers that Python uses where they are. Not pybind11's arrays: their conversion loads numpy in
// the middle of a call, and a daemon thread that does this while the interpreter ends aborts the
// program.
template <typename T> struct Numbers {
    std::vector<T> values;
};

template <typename T> void bind_numbers(py::module_& m, const char* name) {
    py::class_<Numbers<T>>(m, name, py::buffer_protocol())
        .def("__len__", [](const Numbers<T>& numbers) { return numbers.values.size(); })
        .def_buffer([](Numbers<T>& numbers) {
            if (numbers.values.empty()) numbers.values.reserve(1); // an address, even so
            return py::buffer_info(numbers.values.data(),
                                   static_cast<py::ssize_t>(numbers.values.size()));
        });
}

// Calls with the lock of the measured data. The GIL is released only if that lock must be waited
// for: taking the GIL back may cost milliseconds beside a busy thread.
template <typename Call> auto look(const ct::Session& session, const Call& call) {
    if (ct::Session::Lock lock = session.try_lock()) return call(std::move(lock));
    const Unlocked unlocked;
    return call(ct::Session::Lock());
}

py::tuple power(ct::Session& session, std::size_t index, std::int64_t t0_ns, std::int64_t t1_ns) {
    ct::PowerSeries series = look(session, [&](ct::Session::Lock lock) {
        return session.power(index, t0_ns, t1_ns, std::move(lock));
    });
    return py::make_tuple(Numbers<std::int64_t>{std::move(series.t_ns)},
                          Numbers<double>{std::move(series.watts)}, series.thinned_to_ns);
}

py::object as_tuple(const ct::Energy& e) {
    PyObject* figures =
        Py_BuildValue("(dddsdddd)", e.joules, e.error_joules, e.modelled_joules, e.quality,
                      e.coverage, e.unknown_joules_max, e.coverage_devices, e.seconds);
    if (figures == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(figures);
}

py::tuple energy(ct::Session& session, py::handle start, py::handle end) {
    ct::Mark& from = mark_of(start);
    ct::Mark& to = mark_of(end);
    const ct::MachineEnergy machine = look(
        session, [&](ct::Session::Lock lock) { return session.energy(from, to, std::move(lock)); });
    py::tuple devices(machine.devices.size());
    for (std::size_t i = 0; i < machine.devices.size(); ++i) {
        const ct::DeviceEnergy& device = machine.devices[i];
        devices[i] = py::make_tuple(device.entry, as_tuple(device.energy));
    }
    return py::make_tuple(as_tuple(machine.total), devices);
}

void bind_host(py::module_& m) {
    py::class_<ct::SimulatedDevice>(m, "SimulatedDevice")
        .def(py::init<std::string, std::string, std::string>(), py::arg("kind"), py::arg("name"),
             py::arg("waveform"));
    py::class_<ct::Host>(m, "Host").def(
        py::init([](std::filesystem::path root, OsString nvml_library,
                    std::filesystem::path data_dir,
                    const std::map<std::string, OsString>& environment,
                    std::vector<ct::SimulatedDevice> simulated, bool gpus_of_process,
                    OsString perf_library) {
            ct::Host host;
            host.root = std::move(root);
            host.nvml_library = std::move(nvml_library.bytes);
            host.data_dir = std::move(data_dir);
            for (const auto& [name, value] : environment) host.environment[name] = value.bytes;
            host.simulated = std::move(simulated);
            host.gpus_of_process = gpus_of_process;
            host.perf_library = std::move(perf_library.bytes);
            return host;
        }),
        py::kw_only(), py::arg("root"), py::arg("nvml_library"), py::arg("data_dir"),
        py::arg("environment"), py::arg("simulated"), py::arg("gpus_of_process") = false,
        py::arg("perf_library") = OsString{});
}

void bind_entry(py::module_& m) {
    py::class_<ct::Entry>(m, "Entry")
        .def_property_readonly("id", [](const ct::Entry& e) { return e.channel.id; })
        .def_property_readonly("kind", [](const ct::Entry& e) { return e.channel.kind; })
        .def_property_readonly("name", [](const ct::Entry& e) { return e.channel.name; })
        .def_property_readonly("domain", [](const ct::Entry& e) { return e.channel.domain; })
        .def_property_readonly("part_of", [](const ct::Entry& e) { return e.channel.part_of; })
        .def_property_readonly("covers", [](const ct::Entry& e) { return e.channel.covers; })
        .def_property_readonly("verified",
                               [](const ct::Entry& e) { return ct::name_of(e.channel.verified); })
        .def_property_readonly("detail", [](const ct::Entry& e) { return e.channel.detail; })
        .def_property_readonly("quality",
                               [](const ct::Entry& e) { return ct::name_of(e.channel.quality); })
        .def_property_readonly(
            "is_counter",
            [](const ct::Entry& e) { return e.channel.quantity == ct::Quantity::energy_counter; })
        .def_property_readonly("relative_error",
                               [](const ct::Entry& e) { return e.channel.relative_error; })
        .def_property_readonly("tick_ns", [](const ct::Entry& e) { return e.channel.tick_ns; })
        .def_readonly("source", &ct::Entry::source)
        .def_readonly("counted", &ct::Entry::counted)
        .def_readonly("standby_for", &ct::Entry::standby_for)
        .def_readonly("joined_ns", &ct::Entry::joined_ns)
        .def_property_readonly("limit_watts",
                               [](const ct::Entry& e) { return ct::limit_watts(e.channel); })
        .def_readonly("why", &ct::Entry::why)
        .def_readonly("read", &ct::Entry::read);
    py::class_<ct::SkippedSensor>(m, "SkippedSensor")
        .def_readonly("source", &ct::SkippedSensor::source)
        .def_readonly("what", &ct::SkippedSensor::what)
        .def_readonly("reason", &ct::SkippedSensor::reason)
        .def_readonly("awaited", &ct::SkippedSensor::awaited)
        .def_readonly("shortage", &ct::SkippedSensor::shortage)
        .def_readonly("remedy", &ct::SkippedSensor::remedy)
        .def_readonly("device", &ct::SkippedSensor::device)
        .def_readonly("limit_watts", &ct::SkippedSensor::limit_watts);
}

void bind_stats(py::module_& m) {
    py::class_<ct::SamplerStats>(m, "SamplerStats")
        .def_readonly("reads", &ct::SamplerStats::reads)
        .def_readonly("edge_reads", &ct::SamplerStats::edge_reads)
        .def_readonly("late", &ct::SamplerStats::late)
        .def_readonly("cpu_ns", &ct::SamplerStats::cpu_ns)
        .def_readonly("held_ns", &ct::SamplerStats::held_ns)
        .def_readonly("wall_ns", &ct::SamplerStats::wall_ns)
        .def_readonly("lateness_p50_ns", &ct::SamplerStats::lateness_p50_ns)
        .def_readonly("lateness_p99_ns", &ct::SamplerStats::lateness_p99_ns);
    py::class_<ct::ChannelStats>(m, "ChannelStats")
        .def_readonly("errors", &ct::ChannelStats::errors)
        .def_readonly("dropped", &ct::ChannelStats::dropped)
        .def_readonly("resets", &ct::ChannelStats::resets)
        .def_readonly("readings", &ct::ChannelStats::readings)
        .def_readonly("last_read_ns", &ct::ChannelStats::last_read_ns)
        .def_readonly("tick_ns", &ct::ChannelStats::tick_ns)
        .def_readonly("lost", &ct::ChannelStats::lost)
        .def_readonly("refused_watts", &ct::ChannelStats::refused_watts)
        .def_readonly("gone", &ct::ChannelStats::gone);
}

// Probing may take long: the GIL is released, and taken now and then to check for signals. Not a
// call_guard for the whole call: pybind11 registers the new object in a table that the GIL
// protects.
std::shared_ptr<ct::Session> make_session(const ct::Host& host, std::int64_t period_ns,
                                          double overhead_budget, std::vector<std::string> kinds,
                                          std::int64_t spacing_ns, std::int64_t patience_ns,
                                          const py::object& while_waiting,
                                          std::filesystem::path share_directory,
                                          std::int64_t keep_full_ns) {
    Unlocked unlocked;
    const auto look = [&] {
        const Unlocked::Interrupted locked(unlocked);
        if (PyErr_CheckSignals() != 0) throw py::error_already_set();
        if (!while_waiting.is_none()) while_waiting();
    };
    const ct::Options options{period_ns,   overhead_budget, std::move(kinds),
                              spacing_ns,  patience_ns,     std::move(share_directory),
                              keep_full_ns};
    return {new ct::Session(host, options, look), discard};
}

void bind_session(py::module_& m) {
    // Joining must not lock the GIL: other threads need it, sampling threads do not.
    using WithoutLock = py::call_guard<Unlocked>;
    py::class_<ct::Session::FailoverEvent>(m, "FailoverEvent")
        .def_readonly("owner", &ct::Session::FailoverEvent::owner)
        .def_readonly("successor", &ct::Session::FailoverEvent::successor)
        .def_readonly("from_ns", &ct::Session::FailoverEvent::from_ns)
        .def_readonly("why", &ct::Session::FailoverEvent::why);
    py::class_<ct::Session::Change>(m, "Change")
        .def_readonly("number", &ct::Session::Change::number)
        .def_readonly("id", &ct::Session::Change::id)
        .def_readonly("t_ns", &ct::Session::Change::t_ns)
        .def_readonly("lost", &ct::Session::Change::lost)
        .def_readonly("why", &ct::Session::Change::why);
    py::class_<ct::Session, std::shared_ptr<ct::Session>>(m, "Session")
        .def(py::init(&make_session), py::arg("host"), py::kw_only(), py::arg("period_ns") = 0,
             py::arg("overhead_budget") = 0.005, py::arg("kinds") = std::vector<std::string>{},
             py::arg("spacing_ns") = 1'000'000'000, py::arg("patience_ns") = 2'000'000'000,
             py::arg("while_waiting") = py::none(),
             // Not an empty path, which would become Path("."), the working directory.
             py::arg("share_directory") = "", py::arg("keep_full_ns") = 60'000'000'000)
        .def_property_readonly("entries", py::cpp_function(&ct::Session::entries, WithoutLock()))
        .def_property_readonly("entry_count", &ct::Session::entry_count)
        .def_property_readonly("missing", py::cpp_function(&ct::Session::missing, WithoutLock()))
        .def_property_readonly("owned_by_this_process", &ct::Session::owned_by_this_process)
        .def_property_readonly("cpu_ns", &ct::Session::cpu_ns)
        .def("start", &ct::Session::start, WithoutLock())
        .def("stop", &ct::Session::stop, WithoutLock())
        .def("energy", &energy, py::arg("start"), py::arg("end"))
        .def(
            "is_final",
            [](ct::Session& session, py::handle mark) {
                const ct::Mark& given = mark_of(mark);
                return look(session, [&](ct::Session::Lock lock) {
                    return session.is_final(given, std::move(lock));
                });
            },
            py::arg("mark"))
        .def("power", &power, py::arg("index"), py::arg("t0_ns"), py::arg("t1_ns"))
        .def("failovers",
             [](ct::Session& session) {
                 return look(session, [&](ct::Session::Lock lock) {
                     return session.failovers(std::move(lock));
                 });
             })
        .def(
            "channel_stats",
            [](const ct::Session& session, std::size_t index) {
                return look(session, [&](ct::Session::Lock lock) {
                    return session.channel_stats(index, std::move(lock));
                });
            },
            py::arg("index"))
        .def(
            "changes",
            [](ct::Session& session, std::size_t since) {
                return look(session, [&](ct::Session::Lock lock) {
                    return session.changes(since, std::move(lock));
                });
            },
            py::arg("since"))
        .def_property_readonly("placement",
                               py::cpp_function(&ct::Session::placement, WithoutLock()))
        .def_property_readonly("share_failure",
                               py::cpp_function(&ct::Session::share_failure, WithoutLock()))
        .def("reader_pids",
             [](const ct::Session& session) {
                 return look(session, [&](ct::Session::Lock lock) {
                     return session.reader_pids(std::move(lock));
                 });
             })
        .def_property_readonly("skipped_rounds", &ct::Session::skipped_rounds)
        .def("stats", &ct::Session::stats);
}

bool is_main_interpreter() noexcept {
    return PyInterpreterState_Get() == PyInterpreterState_Main();
}

constexpr const char* kOnlyMain =
    "carbontracker can only be imported in the main interpreter, not in a sub-interpreter";

} // namespace

PYBIND11_MODULE(_core_of_main, m) {
    if (!is_main_interpreter()) throw py::import_error(kOnlyMain); // Python 3.13 gets here directly
    py::register_local_exception_translator(translate);
    m.doc() = "Native core of carbontracker: sensors, sampling threads and rings.";
    m.attr("FIRST") = static_cast<unsigned>(ct::kFirst);
    m.attr("GAP") = static_cast<unsigned>(ct::kGap);
    m.attr("STOOD_STILL") = static_cast<unsigned>(ct::kStoodStill);
    m.def("now_ns", &ct::now_ns);
    m.attr("RESTART") = static_cast<unsigned>(ct::kRestart);
    bind_host(m);
    bind_entry(m);
    bind_stats(m);
    bind_numbers<std::int64_t>(m, "_Int64s");
    bind_numbers<double>(m, "_Floats");
    bind_session(m);
    ct::bindings::bind_span(m);
    ct::bindings::bind_probe(m);
}

// Before pybind11's code, which up to 3.12 waits for a lock held by a sub-interpreter's import.
extern "C" PYBIND11_EXPORT PyObject* PyInit__core() {
    if (!is_main_interpreter()) {
        PyErr_SetString(PyExc_ImportError, kOnlyMain);
        return nullptr;
    }
    return PyInit__core_of_main();
}
