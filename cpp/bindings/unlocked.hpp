// Without the interpreter's lock.
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

namespace carbontracker::bindings {

/// Lets go of the interpreter's lock while it lives.
///
/// A daemon thread that wants the lock back while the interpreter ends is unwound by CPython, up to
/// 3.13. No destructor lets that pass: the program would be aborted. Such a thread waits here for
/// the end of the process, as it does from 3.14 on.
class Unlocked {
public:
    Unlocked() noexcept : state_(PyEval_SaveThread()) {}
    Unlocked(const Unlocked&) = delete;
    Unlocked& operator=(const Unlocked&) = delete;
    ~Unlocked() { restore(); }

    /// Has the lock again while it lives, within an Unlocked that goes on after it.
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
