// The core without threads, sensors or a clock, so that tests and benches can run it on their own.
#pragma once

#include <pybind11/pybind11.h>

namespace carbontracker::bindings {

void bind_probe(pybind11::module_& m);

} // namespace carbontracker::bindings
