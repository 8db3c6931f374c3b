// Text at the boundary: Python's str, and bytes of the kernel, drivers and programs. Include this
// wherever a std::string crosses the boundary.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <string_view>

namespace carbontracker::bindings {

/// Text for display. Names of processors, drivers and folders may contain any bytes: those that are
/// not UTF-8, and control characters of terminals, become U+FFFD, so that the text can be printed
/// and stored.
inline pybind11::str decode(std::string_view bytes) {
    constexpr std::string_view kReplacement = "\xef\xbf\xbd";
    std::string safe;
    safe.reserve(bytes.size());
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        const auto byte = static_cast<unsigned char>(bytes[i]);
        const auto next = i + 1 < bytes.size() ? static_cast<unsigned char>(bytes[i + 1]) : 0U;
        if (byte == 0xc2 && next >= 0x80 && next < 0xa0) { // U+0080 to U+009F
            safe += kReplacement;
            ++i;
        } else if (byte < 0x20 || byte == 0x7f) {
            safe += kReplacement;
        } else {
            safe += bytes[i];
        }
    }
    PyObject* text =
        PyUnicode_DecodeUTF8(safe.data(), static_cast<Py_ssize_t>(safe.size()), "replace");
    if (text == nullptr) throw pybind11::error_already_set();
    return pybind11::reinterpret_steal<pybind11::str>(text);
}

/// A path or an environment variable as the operating system has it: bytes that Python could not
/// decode are lone surrogates in its str, and become the same bytes again.
struct OsString {
    std::string bytes;
};

/// Takes the bytes of a bytes object; it may be null with an exception set.
inline std::string take_bytes(PyObject* bytes) {
    if (bytes == nullptr) throw pybind11::error_already_set();
    const auto owned = pybind11::reinterpret_steal<pybind11::object>(bytes);
    return {PyBytes_AS_STRING(bytes), static_cast<std::size_t>(PyBytes_GET_SIZE(bytes))};
}

} // namespace carbontracker::bindings

PYBIND11_NAMESPACE_BEGIN(PYBIND11_NAMESPACE)
PYBIND11_NAMESPACE_BEGIN(detail)

/// Replaces pybind11's caster, which raises on bytes that are not UTF-8 and on lone surrogates.
template <> struct type_caster<std::string> {
    PYBIND11_TYPE_CASTER(std::string, const_name("str"));

    bool load(handle source, bool /*convert*/) {
        if (PyUnicode_Check(source.ptr()) == 0) return false;
        value = carbontracker::bindings::take_bytes(
            PyUnicode_AsEncodedString(source.ptr(), "utf-8", "replace"));
        return true;
    }

    static handle cast(const std::string& text, return_value_policy /*policy*/, handle /*parent*/) {
        return carbontracker::bindings::decode(text).release();
    }
};

template <> struct type_caster<carbontracker::bindings::OsString> {
    PYBIND11_TYPE_CASTER(carbontracker::bindings::OsString, const_name("str"));

    bool load(handle source, bool /*convert*/) {
        if (PyUnicode_Check(source.ptr()) == 0) return false;
        value.bytes = carbontracker::bindings::take_bytes(PyUnicode_EncodeFSDefault(source.ptr()));
        return true;
    }

    static handle cast(const carbontracker::bindings::OsString& text,
                       return_value_policy /*policy*/, handle /*parent*/) {
        return PyUnicode_DecodeFSDefaultAndSize(text.bytes.data(),
                                                static_cast<Py_ssize_t>(text.bytes.size()));
    }
};

PYBIND11_NAMESPACE_END(detail)
PYBIND11_NAMESPACE_END(PYBIND11_NAMESPACE)
