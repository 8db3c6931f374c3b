// Uses the CPython API directly: a mark must cost a tenth of a microsecond, and pybind11 alone
// costs more than that.
#include "span.hpp"

#include <exception>
#include <new>
#include <utility>

#include "platform/clock.hpp"

namespace carbontracker::bindings {
namespace {

namespace py = pybind11;
using SessionPointer = std::shared_ptr<Session>;

struct PyMark {
    PyObject_HEAD Mark mark;
    SessionPointer session; // null in a process without sampling
};

struct PySpan {
    PyObject_HEAD SessionPointer session;
    PyObject* name;
    PyObject* context; // any object of the caller
    PyObject* start;   // a Mark, or null before it began
    PyObject* end;
    bool edge_reads;
};

PyTypeObject* mark_type = nullptr;

// Without a time yet.
PyMark* make_mark(const SessionPointer& session) {
    auto* self = PyObject_New(PyMark, mark_type);
    if (self == nullptr) return nullptr;
    new (&self->mark) Mark;
    new (&self->session) SessionPointer(session);
    return self;
}

// The end of a window, or any other moment: everything else comes after the time.
PyObject* new_mark(const SessionPointer& session, bool edge_reads) {
    const std::int64_t t_ns = now_ns();
    PyMark* self = make_mark(session);
    if (self == nullptr) return nullptr;
    self->mark.t_ns = t_ns;
    if (session) session->mark_at(self->mark, edge_reads);
    return reinterpret_cast<PyObject*>(self);
}

// The beginning of a window: everything else comes before the time.
void stamp_beginning(PyMark& self, bool edge_reads) {
    if (self.session) {
        self.session->mark_beginning(self.mark, edge_reads);
    } else {
        self.mark.t_ns = now_ns();
    }
}

// None, or a session; false with an exception set for anything else.
bool take_session(PyObject* object, SessionPointer& session) {
    if (object == Py_None) return true;
    try {
        session = py::cast<SessionPointer>(py::handle(object));
    } catch (const py::cast_error&) {
        PyErr_SetString(PyExc_TypeError, "expected a Session or None");
        return false;
    } catch (const std::exception&) { // exceptions must not pass through CPython's frames
        PyErr_NoMemory();
        return false;
    }
    return true;
}

PyObject* mark_new(PyTypeObject* /*type*/, PyObject* args, PyObject* kwargs) {
    static const char* names[] = {"session", "edge_reads", "t_ns", "begins", nullptr};
    PyObject* session_object = nullptr;
    int edge_reads = 1;
    long long t_ns = 0;
    int begins = 0;
    if (PyArg_ParseTupleAndKeywords(args, kwargs, "O|pLp:Mark", const_cast<char**>(names),
                                    &session_object, &edge_reads, &t_ns, &begins) == 0) {
        return nullptr;
    }
    SessionPointer session;
    if (!take_session(session_object, session)) return nullptr;
    if (t_ns == 0 && begins != 0) {
        PyMark* beginning = make_mark(session);
        if (beginning != nullptr) stamp_beginning(*beginning, edge_reads != 0);
        return reinterpret_cast<PyObject*>(beginning);
    }
    if (t_ns == 0) return new_mark(session, edge_reads != 0);
    // A mark in the past: samples around it cannot be kept.
    PyObject* self = new_mark(nullptr, false);
    if (self != nullptr) reinterpret_cast<PyMark*>(self)->mark.t_ns = t_ns;
    return self;
}

void mark_dealloc(PyObject* object) {
    auto* self = reinterpret_cast<PyMark*>(object);
    PyTypeObject* type = Py_TYPE(object);
    const bool here = !self->session || self->session->owned_by_this_process();
    if (self->session) self->session->forget(self->mark);
    self->session.~SessionPointer();
    if (here) self->mark.~Mark(); // a child does not free what a thread was changing at the fork
    PyObject_Free(object);
    Py_DECREF(reinterpret_cast<PyObject*>(type));
}

PyObject* mark_t_ns(PyObject* object, void* /*unused*/) {
    return PyLong_FromLongLong(reinterpret_cast<PyMark*>(object)->mark.t_ns);
}

PyObject* span_new(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
    static const char* names[] = {"session", "name", "context", "edge_reads", nullptr};
    PyObject* session_object = nullptr;
    PyObject* name = nullptr;
    PyObject* context = Py_None;
    int edge_reads = 1;
    if (PyArg_ParseTupleAndKeywords(args, kwargs, "OO|Op:Span", const_cast<char**>(names),
                                    &session_object, &name, &context, &edge_reads) == 0) {
        return nullptr;
    }
    SessionPointer session;
    if (!take_session(session_object, session)) return nullptr;
    auto* self = reinterpret_cast<PySpan*>(type->tp_alloc(type, 0));
    if (self == nullptr) return nullptr;
    new (&self->session) SessionPointer(std::move(session));
    self->name = Py_NewRef(name);
    self->context = Py_NewRef(context);
    self->start = self->end = nullptr;
    self->edge_reads = edge_reads != 0;
    return reinterpret_cast<PyObject*>(self);
}

void span_dealloc(PyObject* object) {
    auto* self = reinterpret_cast<PySpan*>(object);
    PyTypeObject* type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    Py_CLEAR(self->name);
    Py_CLEAR(self->context);
    Py_CLEAR(self->start);
    Py_CLEAR(self->end);
    self->session.~SessionPointer();
    type->tp_free(object);
    Py_DECREF(reinterpret_cast<PyObject*>(type));
}

int span_traverse(PyObject* object, visitproc visit, void* arg) {
    auto* self = reinterpret_cast<PySpan*>(object);
    Py_VISIT(self->name);
    Py_VISIT(self->context);
    Py_VISIT(Py_TYPE(object));
    return 0;
}

int span_clear(PyObject* object) {
    auto* self = reinterpret_cast<PySpan*>(object);
    Py_CLEAR(self->name);
    Py_CLEAR(self->context);
    return 0;
}

PyObject* span_begin(PyObject* object, PyObject* /*unused*/) {
    auto* self = reinterpret_cast<PySpan*>(object);
    PyMark* mark = make_mark(self->session);
    if (mark == nullptr) return nullptr;
    Py_XSETREF(self->start, reinterpret_cast<PyObject*>(mark));
    Py_CLEAR(self->end); // begun again
    Py_INCREF(object);
    stamp_beginning(*mark, self->edge_reads);
    return object;
}

PyObject* span_end(PyObject* object, PyObject* const* /*args*/, Py_ssize_t /*count*/) {
    auto* self = reinterpret_cast<PySpan*>(object);
    PyObject* mark = new_mark(self->session, self->edge_reads);
    if (mark == nullptr) return nullptr;
    Py_XSETREF(self->end, mark);
    Py_RETURN_NONE; // an exception passes through
}

template <PyObject* PySpan::* member> PyObject* span_get(PyObject* object, void* /*unused*/) {
    PyObject* value = reinterpret_cast<PySpan*>(object)->*member;
    return Py_NewRef(value != nullptr ? value : Py_None);
}

PyGetSetDef mark_fields[] = {{"t_ns", mark_t_ns, nullptr, nullptr, nullptr},
                             {nullptr, nullptr, nullptr, nullptr, nullptr}};

PyType_Slot mark_slots[] = {{Py_tp_new, reinterpret_cast<void*>(mark_new)},
                            {Py_tp_dealloc, reinterpret_cast<void*>(mark_dealloc)},
                            {Py_tp_getset, mark_fields},
                            {0, nullptr}};

PyType_Spec mark_spec = {"carbontracker._core.Mark", sizeof(PyMark), 0, Py_TPFLAGS_DEFAULT,
                         mark_slots};

PyGetSetDef span_fields[] = {{"name", span_get<&PySpan::name>, nullptr, nullptr, nullptr},
                             {"context", span_get<&PySpan::context>, nullptr, nullptr, nullptr},
                             {"start", span_get<&PySpan::start>, nullptr, nullptr, nullptr},
                             {"end", span_get<&PySpan::end>, nullptr, nullptr, nullptr},
                             {nullptr, nullptr, nullptr, nullptr, nullptr}};

PyMethodDef span_methods[] = {
    {"__enter__", span_begin, METH_NOARGS, "Begin."},
    {"__exit__", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(span_end)),
     METH_FASTCALL, "End; an exception passes through."},
    {nullptr, nullptr, 0, nullptr}};

PyType_Slot span_slots[] = {{Py_tp_new, reinterpret_cast<void*>(span_new)},
                            {Py_tp_dealloc, reinterpret_cast<void*>(span_dealloc)},
                            {Py_tp_traverse, reinterpret_cast<void*>(span_traverse)},
                            {Py_tp_clear, reinterpret_cast<void*>(span_clear)},
                            {Py_tp_methods, span_methods},
                            {Py_tp_getset, span_fields},
                            {0, nullptr}};

PyType_Spec span_spec = {"carbontracker._core.Span", sizeof(PySpan), 0,
                         Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, span_slots};

PyObject* add_type(py::module_& m, const char* name, PyType_Spec& spec) {
    PyObject* type = PyType_FromSpec(&spec);
    if (type == nullptr) throw py::error_already_set();
    m.add_object(name, py::reinterpret_borrow<py::object>(type));
    return type;
}

} // namespace

Mark& mark_of(py::handle mark) {
    if (Py_TYPE(mark.ptr()) != mark_type) throw py::type_error("expected a Mark");
    return reinterpret_cast<PyMark*>(mark.ptr())->mark;
}

void bind_span(py::module_& m) {
    mark_type = reinterpret_cast<PyTypeObject*>(add_type(m, "Mark", mark_spec));
    Py_DECREF(add_type(m, "Span", span_spec));
}

} // namespace carbontracker::bindings
