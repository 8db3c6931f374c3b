/* The exports that read a board's sensors. Part of fake_nvml.c, which includes it once. */
#ifndef TESTS_SUPPORT_FAKE_NVML_READ_H
#define TESTS_SUPPORT_FAKE_NVML_READ_H

#include "fake_nvml_abi.h"
#include "fake_nvml_call.h"

int nvmlDeviceGetPowerUsage(void* handle, unsigned* milliwatts) {
    struct call call;
    int code = begin_on_board(&call, CALL_POWER, handle, milliwatts);
    if (code == OK && !call.device->usage) code = NOT_SUPPORTED;
    if (code == OK) {
        const struct device* d = call.device;
        *milliwatts = (unsigned)sensor_power_mw(d, &d->power, call.now_ns, d->average_ns);
    }
    return end(&call, code);
}

int nvmlDeviceGetTotalEnergyConsumption(void* handle, unsigned long long* millijoules) {
    struct call call;
    int code = begin_on_board(&call, CALL_ENERGY, handle, millijoules);
    if (code == OK && !call.device->energy) code = NOT_SUPPORTED;
    if (code == OK) *millijoules = sensor_counter_mj(call.device, call.now_ns);
    return end(&call, code);
}

/* ---- fields -------------------------------------------------------------- */

static void value_put(union value* place, int type, uint64_t value) {
    place->u64 = 0;
    switch (type) {
    case 0: place->f64 = (double)value; break;
    case 1: place->u32 = (unsigned)value; break;
    case 2: place->ulong = (unsigned long)value; break;
    case 4: place->i64 = (long long)value; break;
    case 5: place->i32 = (int)value; break;
    case 6: place->u16 = (unsigned short)value; break;
    default: place->u64 = value; break;
    }
}

static void field_put(struct field* field, int type, uint64_t value) {
    field->value_type = type;
    value_put(&field->value, type, value);
}

/* The driver's wall clock at a time since the epoch. */
static long long stamp_us(const struct call* call, int64_t t_ns) {
    const struct span* skew = device_span(call->device, SPAN_SKEW, (double)call->now_ns / 1e9);
    int64_t wall_ns = setup.epoch_ns + setup.wall_offset_ns + t_ns;
    return (wall_ns + (int64_t)(skew ? skew->value * 1e6 : 0.0)) / 1000;
}

static void field_stamp(const struct call* call, struct field* field, const struct refresh* r) {
    const struct device* d = call->device;
    int64_t t_ns = d->stamp_calls ? call->now_ns : sensor_published_ns(d, r, call->now_ns);
    field->timestamp_us = stamp_us(call, t_ns);
}

static int span_code(const struct call* call, enum span_kind kind) {
    const struct span* span = device_span(call->device, kind, (double)call->now_ns / 1e9);
    return span == NULL ? OK : (int)span->value;
}

static int field_energy(const struct call* call, struct field* field) {
    const struct device* d = call->device;
    int code = injected_code(d, CALL_ENERGY, (double)call->now_ns / 1e9);
    if (code == OK) code = span_code(call, SPAN_FAIL_ENERGY_FIELD);
    if (code == OK && !d->energy) code = NOT_SUPPORTED;
    field_stamp(call, field, &d->counter);
    if (code == OK) field_put(field, d->energy_type, sensor_counter_mj(d, call->now_ns));
    return code;
}

static int field_power(const struct call* call, struct field* field, int64_t window_ns) {
    const struct device* d = call->device;
    const struct wave* wave = field->scope_id == 1 ? &d->module : &d->power;
    int code = injected_code(d, CALL_POWER, (double)call->now_ns / 1e9);
    if (code == OK)
        code = span_code(call, field->field_id == 186 ? SPAN_FAIL_INSTANT : SPAN_FAIL_AVERAGE);
    if (code == OK && !d->fields) code = NOT_SUPPORTED;
    field_stamp(call, field, &d->reading);
    if (code == OK)
        field_put(field, d->power_type, sensor_power_mw(d, wave, call->now_ns, window_ns));
    return code;
}

static int field_limit(const struct call* call, struct field* field, double watts) {
    if (!call->device->fields || field->scope_id != 0) return NOT_SUPPORTED;
    field_put(field, 1, (uint64_t)(watts * 1000.0));
    return OK;
}

/* Scope 0 is the board, 1 the module of a superchip; more there is not. */
static int scope_exists(const struct device* d, unsigned scope) {
    return scope == 0 ? d->gpu_scope : scope == 1 && d->has_module;
}

static int field_fill(const struct call* call, struct field* field) {
    const struct device* d = call->device;
    /* Other headers number these differently, so no program may ask for one. */
    if (field->field_id > LAST_STABLE_FIELD) count_slot(CALL_REFUSED);
    if (call->injected != OK) return call->injected;
    if (!scope_exists(d, field->scope_id) || call->slot >= 0) return NOT_SUPPORTED;
    switch (field->field_id) {
    case 83:
    case 191: return field_energy(call, field);
    case 185: /* the mean that newer drivers give by the side of the momentary power */
        return field_power(call, field, d->average_ns > 0 ? d->average_ns : 1000000000);
    case 186: return field_power(call, field, d->instant_ns);
    case 187: return field_limit(call, field, d->min_w);
    case 188: return field_limit(call, field, d->max_w);
    case 189:
    case 190:
    case 192: return field_limit(call, field, d->limit_w);
    default: return NOT_SUPPORTED;
    }
}

/* Succeeds as a whole even where every field failed: readers must look at each status. */
int nvmlDeviceGetFieldValues(void* handle, int count, struct field* fields) {
    struct call call;
    int code = begin_on(&call, CALL_FIELDS, handle, fields);
    if (code != OK && call.injected == OK) return end(&call, code);
    if (count <= 0 || fields == NULL) return end(&call, INVALID_ARGUMENT);
    for (int i = 0; i < count; ++i) {
        field_stamp(&call, &fields[i], &call.device->reading);
        fields[i].latency_us = (long long)(2.0 * call.half_wait_us);
        fields[i].status = field_fill(&call, &fields[i]);
    }
    return end(&call, OK);
}

/* ---- the ring ------------------------------------------------------------ */

/* The entries that the ring holds and the caller has not seen, oldest first. */
static unsigned ring_copy(const struct call* call, unsigned long long seen_us, unsigned room,
                          struct sample* out) {
    const struct device* d = call->device;
    int64_t last = sensor_refresh_number(d, &d->sample, call->now_ns);
    unsigned count = 0;
    for (int64_t k = last - d->sample_depth + 1; k <= last && count < room; ++k) {
        int64_t t_ns = sensor_refresh_ns(d, &d->sample, k);
        if (t_ns < 0 || stamp_us(call, t_ns) <= (long long)seen_us) continue;
        out[count].timestamp_us = (unsigned long long)stamp_us(call, t_ns);
        value_put(&out[count++].value, d->power_type, sensor_sample_mw(d, t_ns));
    }
    return count;
}

/* What real rings have been seen to hold, or may. */
static unsigned ring_spoil(const struct device* d, unsigned count, unsigned room,
                           struct sample* out) {
    struct sample first = out[0], newest = out[count - 1];
    if (d->sample_repeats && count < room) out[count++] = newest;
    for (unsigned i = 0; d->sample_disorder && i + 1 < count; i += 2) {
        first = out[i];
        out[i] = out[i + 1];
        out[i + 1] = first;
    }
    for (int i = 0; i < d->sample_zeros && (unsigned)i + 1 < count; ++i)
        memset(&out[i], 0, sizeof out[i]);
    return count;
}

int nvmlDeviceGetSamples(void* handle, int type, unsigned long long seen_us, int* value_type,
                         unsigned* count, struct sample* samples) {
    struct call call;
    int code = begin_on_board(&call, CALL_SAMPLES, handle, value_type != NULL ? count : NULL);
    if (code == OK && (!call.device->samples || type != 0)) code = NOT_SUPPORTED;
    if (code != OK) return end(&call, code);
    const struct device* d = call.device;
    *value_type = d->power_type;
    if (samples == NULL) {
        *count = (unsigned)d->sample_depth;
        return end(&call, OK);
    }
    if (*count == 0) return end(&call, INVALID_ARGUMENT);
    unsigned found = ring_copy(&call, seen_us, *count, samples);
    if (found > 0) found = ring_spoil(d, found, *count, samples);
    *count = found;
    return end(&call, found > 0 ? OK : NOT_FOUND);
}

#endif
