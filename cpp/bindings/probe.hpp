// Parts of the core without threads, sensors or a clock, for tests and benchmarks.
#pragma once

#include <pybind11/pybind11.h>

namespace carbontracker::bindings {

void bind_probe(pybind11::module_& m);

} // namespace carbontracker::bindings
