// The part of NVML's documented C ABI that is used here: only numbers and layouts.
// tests/test_nvml.py compares it with NVIDIA's own header where that is installed.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace carbontracker::nvml {

using Device = void*; // opaque handle, passed by value

/// nvmlReturn_t: the values that lead to different actions.
enum Return : int {
    kSuccess = 0,
    kUninitialized = 1,
    kInvalidArgument = 2,
    kNotSupported = 3,
    kNoPermission = 4,
    kNotFound = 6,
    kInsufficientSize = 7,
    kInsufficientPower = 8,
    kDriverNotLoaded = 9,
    kTimeout = 10,
    kIrqIssue = 11,
    kLibraryNotFound = 12,
    kFunctionNotFound = 13,
    kGpuIsLost = 15,
    kResetRequired = 16,
    kOperatingSystem = 17,
    kVersionMismatch = 18,
    kInUse = 19,
    kNoData = 21,
    kArgumentVersionMismatch = 25,
    kDeprecated = 26,
    kGpuNotFound = 28,
    kUnknown = 999,
};

/// Identifiers for nvmlDeviceGetFieldValues. Those above 250 differ between drivers, so none of
/// them is used.
enum Field : unsigned {
    kFieldEnergy = 83,        ///< mJ since the driver was loaded
    kFieldPowerAverage = 185, ///< mW, mean over a second
    kFieldPowerInstant = 186, ///< mW
    kLastStableField = 250,
};
static_assert(kFieldEnergy <= kLastStableField && kFieldPowerAverage <= kLastStableField &&
              kFieldPowerInstant <= kLastStableField);

/// The scope of a power field.
enum Scope : unsigned {
    kScopeGpu = 0,
    kScopeModule = 1, ///< GPU, processor and memory of a superchip
};

enum ValueType : int {
    kDouble = 0,
    kUnsignedInt = 1,
    kUnsignedLong = 2,
    kUnsignedLongLong = 3,
    kSignedLongLong = 4,
    kSignedInt = 5,
    kUnsignedShort = 6,
};

union Value {
    double f64;
    unsigned u32;
    unsigned long ulong;
    unsigned long long u64;
    long long i64;
    int i32;
    unsigned short u16;
};

struct FieldValue {
    unsigned field_id;
    unsigned scope_id;
    long long timestamp_us; // since 1970, of the wall clock
    long long latency_us;
    int value_type;
    int status; // status of this field: the call succeeds even if every field failed
    Value value;
};

struct Sample {
    unsigned long long timestamp_us;
    Value value;
};

struct PciInfo {
    char bus_id_legacy[16];
    unsigned domain;
    unsigned bus;
    unsigned device;
    unsigned pci_device_id;
    unsigned pci_subsystem_id;
    char bus_id[32];
};

struct ProcessInfo {
    unsigned pid;
    unsigned long long used_bytes; // all ones: not available
    unsigned gpu_instance;
    unsigned compute_instance;
};

static_assert(sizeof(Value) == 8 && sizeof(unsigned long) == 8);
static_assert(sizeof(FieldValue) == 40);
static_assert(offsetof(FieldValue, scope_id) == 4 && offsetof(FieldValue, timestamp_us) == 8);
static_assert(offsetof(FieldValue, latency_us) == 16 && offsetof(FieldValue, value_type) == 24);
static_assert(offsetof(FieldValue, status) == 28 && offsetof(FieldValue, value) == 32);
static_assert(sizeof(Sample) == 16 && offsetof(Sample, value) == 8);
static_assert(sizeof(PciInfo) == 68);
static_assert(offsetof(PciInfo, domain) == 16 && offsetof(PciInfo, bus_id) == 36);
static_assert(sizeof(ProcessInfo) == 24);
static_assert(offsetof(ProcessInfo, used_bytes) == 8 && offsetof(ProcessInfo, gpu_instance) == 16);

constexpr int kTotalPowerSamples = 0; // nvmlSamplingType_t
constexpr int kVirtualGpu = 2;        // nvmlGpuVirtualizationMode_t

constexpr unsigned kUuidSize = 96;
constexpr unsigned kNameSize = 96;

/// The whole number in a union, read with its stated type: drivers use different types for the same
/// field. nullopt for a negative value, one that is not a number, or an unknown type.
inline std::optional<std::uint64_t> decode(const Value& value, int type) noexcept {
    constexpr double kTooMuch = 9.2e18; // what no longer fits 63 bits
    switch (type) {
    case kDouble:
        if (!(value.f64 >= 0.0 && value.f64 < kTooMuch)) return std::nullopt;
        return static_cast<std::uint64_t>(std::llround(value.f64));
    case kUnsignedInt: return value.u32;
    case kUnsignedLong: return value.ulong;
    case kUnsignedLongLong: return value.u64;
    case kSignedLongLong:
        if (value.i64 < 0) return std::nullopt;
        return static_cast<std::uint64_t>(value.i64);
    case kSignedInt:
        if (value.i32 < 0) return std::nullopt;
        return static_cast<std::uint64_t>(value.i32);
    case kUnsignedShort: return value.u16;
    default: return std::nullopt;
    }
}

/// The modulus of a counter of that type; 0 if it is wide enough never to wrap.
constexpr std::uint64_t modulus_of(int type) noexcept {
    switch (type) {
    case kUnsignedInt: return std::uint64_t{1} << 32;
    case kSignedInt: return std::uint64_t{1} << 31;
    case kUnsignedShort: return std::uint64_t{1} << 16;
    default: return 0;
    }
}

} // namespace carbontracker::nvml
