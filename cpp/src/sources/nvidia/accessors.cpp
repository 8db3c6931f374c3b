#include "sources/nvidia/accessors.hpp"

#include "sources/nvidia/errors.hpp"

namespace carbontracker::nvml {
namespace {

// Retry: a call may fail once because the device is in use.
constexpr int kTries = 3;

/// The result of one try.
struct Answer {
    int status = kNoData;
    std::uint64_t value = 0;
    int type = kUnsignedLongLong;
};

template <typename Ask> Answer patiently(Ask ask) {
    Answer answer;
    for (int i = 0; i < kTries; ++i) {
        answer = ask();
        if (action(answer.status) != Action::retry) break;
    }
    return answer;
}

Answer ask_field(const Library& library, Device device, unsigned field, unsigned scope) {
    FieldValue asked{};
    asked.field_id = field;
    asked.scope_id = scope;
    Answer answer;
    answer.status = library.field_values(device, 1, &asked);
    if (answer.status == kSuccess) answer.status = asked.status;
    if (answer.status != kSuccess) return answer;
    const std::optional<std::uint64_t> value = decode(asked.value, asked.value_type);
    // A board that answers draws power: 0 W means that the sensor does not exist.
    const bool is_missing = field != kFieldEnergy && value == 0U;
    if (!value || is_missing) return {};
    return {kSuccess, *value, asked.value_type};
}

Answer ask_counter(const Library& library, Device device) {
    unsigned long long millijoules = 0;
    if (library.energy_millijoules == nullptr) return {kFunctionNotFound};
    const int status = library.energy_millijoules(device, &millijoules);
    return {status, millijoules};
}

Answer ask_power(const Library& library, Device device) {
    unsigned milliwatts = 0;
    const int status = library.power_milliwatts(device, &milliwatts);
    if (status == kSuccess && milliwatts == 0) return {};
    return {status, milliwatts};
}

// The board first; a superchip may know only its whole module.
std::optional<Accessor> field_accessor(const Library& library, Device device, unsigned field) {
    if (library.field_values == nullptr) return std::nullopt;
    for (const unsigned scope : {kScopeGpu, kScopeModule}) {
        const Answer answer = patiently([&] { return ask_field(library, device, field, scope); });
        if (answer.status == kSuccess) return Accessor{field, scope, modulus_of(answer.type)};
    }
    return std::nullopt;
}

std::optional<Accessor> counter_accessor(const Library& library, Device device) {
    std::optional<Accessor> accessor = field_accessor(library, device, kFieldEnergy);
    if (accessor && accessor->modulus == 0) return accessor;
    // The function's type is wide enough.
    const Answer answer = patiently([&] { return ask_counter(library, device); });
    if (answer.status == kSuccess) return Accessor{};
    return accessor;
}

} // namespace

Accessors find_accessors(const Library& library, Device device, const SensorTraits& traits,
                         bool counts_module) {
    Accessors accessors;
    accessors.counter = counter_accessor(library, device);
    if (accessors.counter && counts_module) accessors.counter->scope = kScopeModule;
    accessors.power = field_accessor(library, device, kFieldPowerInstant);
    if (accessors.power) {
        accessors.power->window_ns = traits.instant_window_ns;
        if (traits.average_window_ns > 0) {
            accessors.average = field_accessor(library, device, kFieldPowerAverage);
        }
        if (accessors.average) accessors.average->window_ns = traits.average_window_ns;
        return accessors;
    }
    const Answer answer = patiently([&] { return ask_power(library, device); });
    accessors.failure = answer.status;
    if (answer.status == kSuccess)
        accessors.power = Accessor{0, kScopeGpu, 0, traits.usage_window_ns};
    return accessors;
}

} // namespace carbontracker::nvml
