// Mark and Span, the two types that a training meets on its own path.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "session/session.hpp"

namespace carbontracker::bindings {

/// Adds the types to the module.
void bind_span(pybind11::module_& m);

/// The moment of a Mark; raises TypeError for anything else.
Moment& moment_of(pybind11::handle mark);

} // namespace carbontracker::bindings
