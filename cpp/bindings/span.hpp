// Mark and Span, the two types on the training's own path.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "session/session.hpp"

namespace carbontracker::bindings {

/// Adds the types to the module.
void bind_span(pybind11::module_& m);

/// The C++ mark of a Python Mark; raises TypeError for any other object.
Mark& mark_of(pybind11::handle mark);

} // namespace carbontracker::bindings
