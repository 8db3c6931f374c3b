// Code that runs without the GIL.
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

namespace carbontracker::bindings {

/// Releases the GIL for its lifetime.
///
/// Up to Python 3.13, CPython unwinds a daemon thread that wants the GIL while the interpreter
/// ends. Destructors do not allow that: the program would be aborted. Such a thread waits here for
/// the end of the process, as it does from 3.14 on.
class Unlocked {
public:
    Unlocked() noexcept : state_(PyEval_SaveThread()) {}
    Unlocked(const Unlocked&) = delete;
    Unlocked& operator=(const Unlocked&) = delete;
    ~Unlocked() { restore(); }

    /// Holds the GIL again for its lifetime, inside a longer Unlocked.
    class Interrupted {
    public:
        explicit Interrupted(Unlocked& outer) noexcept : outer_(outer) { outer_.restore(); }
        Interrupted(const Interrupted&) = delete;
        Interrupted& operator=(const Interrupted&) = delete;
        ~Interrupted() { outer_.state_ = PyEval_SaveThread(); }

    private:
        Unlocked& outer_;
    };

private:
    void restore() noexcept {
        try {
            PyEval_RestoreThread(state_);
        } catch (...) {
            while (true) pause();
        }
    }

    PyThreadState* state_;
};

} // namespace carbontracker::bindings
