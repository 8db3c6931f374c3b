#include "sources/nvidia/doors.hpp"

#include "sources/nvidia/errors.hpp"

namespace carbontracker::nvml {
namespace {

// A door is not shut because it was in use once.
constexpr int kTries = 3;

/// What one try gave.
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
    // A board that answers draws something: a power of zero comes from a sensor that is not there.
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

// The board first; a superchip may know its whole module only.
std::optional<Door> field_door(const Library& library, Device device, unsigned field) {
    if (library.field_values == nullptr) return std::nullopt;
    for (const unsigned scope : {kScopeGpu, kScopeModule}) {
        const Answer answer = patiently([&] { return ask_field(library, device, field, scope); });
        if (answer.status == kSuccess) return Door{field, scope, modulus_of(answer.type)};
    }
    return std::nullopt;
}

std::optional<Door> counter_door(const Library& library, Device device) {
    std::optional<Door> door = field_door(library, device, kFieldEnergy);
    if (door && door->modulus == 0) return door;
    // The function's own type is wide enough.
    const Answer answer = patiently([&] { return ask_counter(library, device); });
    if (answer.status == kSuccess) return Door{};
    return door;
}

} // namespace

Doors find_doors(const Library& library, Device device, const SensorTraits& traits,
                 const std::string& name) {
    Doors doors;
    doors.counter = counter_door(library, device);
    if (doors.counter && counts_its_module(name)) doors.counter->scope = kScopeModule;
    doors.power = field_door(library, device, kFieldPowerInstant);
    if (doors.power) {
        doors.power->window_ns = traits.instant_window_ns;
        if (traits.average_window_ns > 0) {
            doors.average = field_door(library, device, kFieldPowerAverage);
        }
        if (doors.average) doors.average->window_ns = traits.average_window_ns;
        return doors;
    }
    const Answer answer = patiently([&] { return ask_power(library, device); });
    doors.failure = answer.status;
    if (answer.status == kSuccess) doors.power = Door{0, kScopeGpu, 0, traits.usage_window_ns};
    return doors;
}

} // namespace carbontracker::nvml
