/* One pretended board: what its spec line says. What its sensors show: fake_nvml_sensor.h.
 *
 * Words of a device line (all but `uuid` and `power` have a default):
 *   uuid=GPU-…  name=NVIDIA_A100 (underscores become spaces)  power=WAVE
 *   period_ms=0 phase_ms=0  readings refresh at phase + k * period; 0 = continuous
 *   counter_period_ms= counter_phase_ms=  the same for the energy counter, if it differs
 *   jitter_ms=0             refreshes are off by up to that, pseudo-randomly by k
 *   missed=0                share of refreshes that do not happen, chosen by k
 *   average_ms=0            GetPowerUsage is the mean over that long, and so is field 185
 *                           (there 0 stands for 1000); 0 = instantaneous
 *   instant_ms=0            the same for field 186 and the kept samples
 *   log=TAU_MS              instead of a mean, power passes a first-order low-pass
 *   power_gain=1 power_offset_w=0   power readings = offset + gain * true power
 *   latency_us=0            length of a call; the reading is taken in its middle
 *   energy=yes usage=yes fields=yes   `no`: that door answers NOT_SUPPORTED
 *   energy_type=3 power_type=1        value types used in GetFieldValues and GetSamples
 *   stamp_calls=no          `yes`: a field is stamped with its call, not its refresh
 *   start_j=0 gain=1        counter = start + gain * true energy
 *   counter_duty=no         `yes`: it adds up the readings of field 186 times their period
 *   reset_at_s= stuck_at_s= counter restarts from 0 / moves no more
 *   module=WAVE             scope 1: a superchip, whose module draws this
 *   module_counter=no       `yes`: the counter counts the module whatever is asked
 *   gpu_scope=yes           `no`: fields answer for the module only
 *   samples=no sample_period_ms=20 sample_depth=120   the ring of GetSamples
 *   sample_disorder=no sample_zeros=0 sample_repeats=no   unsorted / so many empty entries
 *                           first / each call returns the newest entry twice
 *   limit_w=400 min_w=100 max_w=(limit)  limits=yes  persistence=1 util=100
 *   arch=5                  Volta: of all real kinds the one that shows nearly the moment, as
 *                           a board does here that is given no means
 *   virtual=0               what GetVirtualizationMode says; 2 = a vGPU
 *   mig=N                   N MIG instances from slot mig_first (0); absent: no MIG at all
 *   pids=1,2:4096 gpids=…   compute and graphics processes, bytes after the colon
 *   pid_race=0              so many times, a list has grown since its length was asked
 *   fail=CODE@FROM-TO       every call on this board; TO may be `end`. Narrower:
 *   fail_power fail_energy fail_fields fail_open fail_samples
 *   fail_energy_field fail_average fail_instant   fields 83 and 191, 185, 186 alone
 *   slow=MICROSECONDS@FROM-TO   calls take that much longer
 *   bogus_w=WATTS@FROM-TO       power readings show this instead
 *   stamp_skew_ms=MS@FROM-TO    the wall clock of the driver is off by that
 */
#ifndef TESTS_SUPPORT_FAKE_NVML_DEVICE_H
#define TESTS_SUPPORT_FAKE_NVML_DEVICE_H

#include "spec.h"
#include "waveform.h"
#include <stddef.h>

enum { MIG_SLOTS = 7, MAX_SPANS = 16, MAX_PROCESSES = 64, TEXT = 96 };

enum span_kind {
    SPAN_FAIL,
    SPAN_FAIL_POWER,
    SPAN_FAIL_ENERGY,
    SPAN_FAIL_FIELDS,
    SPAN_FAIL_OPEN,
    SPAN_FAIL_SAMPLES,
    SPAN_FAIL_ENERGY_FIELD,
    SPAN_FAIL_AVERAGE,
    SPAN_FAIL_INSTANT,
    SPAN_SLOW,
    SPAN_BOGUS,
    SPAN_SKEW,
    SPAN_KINDS
};

struct span {
    enum span_kind kind;
    double value, from_s, to_s;
};

struct process {
    unsigned pid;
    unsigned long long bytes;
};

struct processes {
    unsigned count;
    struct process list[MAX_PROCESSES];
};

struct device;

/* What an nvmlDevice_t points to: slot -1 is the board, 0.. a MIG instance. */
struct handle {
    struct device* device;
    int slot;
};

/* When something is renewed: at phase + k * period. */
struct refresh {
    int64_t period_ns, phase_ns;
};

struct device {
    int index;
    char uuid[TEXT], name[TEXT];
    struct wave power, module;
    int has_power, has_module;
    struct refresh reading, counter, sample;
    int64_t jitter_ns, average_ns, instant_ns, log_ns, start_mj;
    double missed, latency_us, gain, power_gain, power_offset_w, reset_at_s, stuck_at_s;
    double limit_w, min_w, max_w;
    int energy, usage, fields, limits, energy_type, power_type, stamp_calls, counter_duty;
    int module_counter, gpu_scope;
    int samples, sample_depth, sample_disorder, sample_zeros, sample_repeats;
    int arch, persistence, util, is_virtual, mig, mig_first, pid_race;
    struct processes compute, graphics;
    int span_count;
    struct span spans[MAX_SPANS];
    struct handle handles[2][1 + MIG_SLOTS]; /* before and after the driver was reloaded */
};

static int driver_generation; /* index of the handles that are valid */

static inline struct handle* device_board(struct device* d) {
    return &d->handles[driver_generation][0];
}

static inline struct handle* device_instance(struct device* d, int slot) {
    return &d->handles[driver_generation][1 + slot];
}

#define DEVICE_KEY(name, type, member, scale) {name, type, offsetof(struct device, member), scale}
static const struct spec_key device_keys[] = {
    DEVICE_KEY("period_ms", SPEC_I64, reading.period_ns, 1e6),
    DEVICE_KEY("phase_ms", SPEC_I64, reading.phase_ns, 1e6),
    DEVICE_KEY("counter_period_ms", SPEC_I64, counter.period_ns, 1e6),
    DEVICE_KEY("counter_phase_ms", SPEC_I64, counter.phase_ns, 1e6),
    DEVICE_KEY("sample_period_ms", SPEC_I64, sample.period_ns, 1e6),
    DEVICE_KEY("jitter_ms", SPEC_I64, jitter_ns, 1e6),
    DEVICE_KEY("average_ms", SPEC_I64, average_ns, 1e6),
    DEVICE_KEY("instant_ms", SPEC_I64, instant_ns, 1e6),
    DEVICE_KEY("log", SPEC_I64, log_ns, 1e6),
    DEVICE_KEY("missed", SPEC_DOUBLE, missed, 1),
    DEVICE_KEY("latency_us", SPEC_DOUBLE, latency_us, 1),
    DEVICE_KEY("gain", SPEC_DOUBLE, gain, 1),
    DEVICE_KEY("power_gain", SPEC_DOUBLE, power_gain, 1),
    DEVICE_KEY("power_offset_w", SPEC_DOUBLE, power_offset_w, 1),
    DEVICE_KEY("reset_at_s", SPEC_DOUBLE, reset_at_s, 1),
    DEVICE_KEY("stuck_at_s", SPEC_DOUBLE, stuck_at_s, 1),
    DEVICE_KEY("limit_w", SPEC_DOUBLE, limit_w, 1),
    DEVICE_KEY("min_w", SPEC_DOUBLE, min_w, 1),
    DEVICE_KEY("max_w", SPEC_DOUBLE, max_w, 1),
    DEVICE_KEY("energy", SPEC_FLAG, energy, 1),
    DEVICE_KEY("usage", SPEC_FLAG, usage, 1),
    DEVICE_KEY("fields", SPEC_FLAG, fields, 1),
    DEVICE_KEY("limits", SPEC_FLAG, limits, 1),
    DEVICE_KEY("stamp_calls", SPEC_FLAG, stamp_calls, 1),
    DEVICE_KEY("counter_duty", SPEC_FLAG, counter_duty, 1),
    DEVICE_KEY("module_counter", SPEC_FLAG, module_counter, 1),
    DEVICE_KEY("gpu_scope", SPEC_FLAG, gpu_scope, 1),
    DEVICE_KEY("samples", SPEC_FLAG, samples, 1),
    DEVICE_KEY("sample_disorder", SPEC_FLAG, sample_disorder, 1),
    DEVICE_KEY("sample_repeats", SPEC_FLAG, sample_repeats, 1),
    DEVICE_KEY("energy_type", SPEC_INT, energy_type, 1),
    DEVICE_KEY("power_type", SPEC_INT, power_type, 1),
    DEVICE_KEY("sample_depth", SPEC_INT, sample_depth, 1),
    DEVICE_KEY("sample_zeros", SPEC_INT, sample_zeros, 1),
    DEVICE_KEY("arch", SPEC_INT, arch, 1),
    DEVICE_KEY("persistence", SPEC_INT, persistence, 1),
    DEVICE_KEY("util", SPEC_INT, util, 1),
    DEVICE_KEY("mig", SPEC_INT, mig, 1),
    DEVICE_KEY("mig_first", SPEC_INT, mig_first, 1),
    DEVICE_KEY("pid_race", SPEC_INT, pid_race, 1),
    DEVICE_KEY("virtual", SPEC_INT, is_virtual, 1),
    {NULL, SPEC_INT, 0, 0},
};

static inline void device_defaults(struct device* d, int index) {
    memset(d, 0, sizeof *d);
    d->index = index;
    d->gain = d->power_gain = 1.0;
    d->counter.period_ns = d->counter.phase_ns = -1; /* as the power readings */
    d->sample.period_ns = 20000000;
    d->sample_depth = 120;
    d->reset_at_s = d->stuck_at_s = INFINITY;
    d->limit_w = 400.0;
    d->min_w = 100.0;
    d->energy = d->usage = d->fields = d->limits = d->gpu_scope = 1;
    d->energy_type = 3;
    d->power_type = 1;
    d->arch = 5;
    d->persistence = 1;
    d->util = 100;
    d->mig = -1;
    strcpy(d->name, "NVIDIA Fake");
    for (int generation = 0; generation < 2; ++generation)
        for (int slot = -1; slot < MIG_SLOTS; ++slot)
            d->handles[generation][1 + slot] = (struct handle){d, slot};
}

static inline int device_set_text(char* place, const char* value) {
    if (value[0] == '\0' || strlen(value) >= TEXT) return -1;
    strcpy(place, value);
    return 0;
}

static inline int device_set_name(struct device* d, const char* value) {
    int status = device_set_text(d->name, value);
    for (char* c = d->name; *c != '\0'; ++c)
        if (*c == '_') *c = ' ';
    return status;
}

/* `VALUE@FROM-TO` in seconds since the epoch of the spec. */
static inline int device_add_span(struct device* d, enum span_kind kind, const char* value) {
    struct span span = {kind, 0.0, 0.0, INFINITY};
    char* end = NULL;
    span.value = strtod(value, &end);
    if (*end != '@' || d->span_count == MAX_SPANS) return -1;
    span.from_s = strtod(end + 1, &end);
    if (*end != '-') return -1;
    if (strcmp(end + 1, "end") != 0) {
        span.to_s = strtod(end + 1, &end);
        if (*end != '\0') return -1;
    }
    d->spans[d->span_count++] = span;
    return 0;
}

/* The span of a kind that covers t, or NULL. */
static inline const struct span* device_span(const struct device* d, enum span_kind kind,
                                             double t) {
    for (int i = 0; i < d->span_count; ++i)
        if (d->spans[i].kind == kind && t >= d->spans[i].from_s && t < d->spans[i].to_s)
            return &d->spans[i];
    return NULL;
}

static inline int device_set_processes(struct processes* p, const char* value) {
    char* end = NULL;
    for (p->count = 0; p->count < MAX_PROCESSES; value = end + 1) {
        struct process* entry = &p->list[p->count++];
        entry->pid = (unsigned)strtoul(value, &end, 10);
        entry->bytes = ~0ULL; /* NVML's word for "not available" */
        if (end == value) return -1;
        if (*end == ':') entry->bytes = strtoull(end + 1, &end, 10);
        if (*end != ',') return *end == '\0' ? 0 : -1;
    }
    return -1;
}

static inline int device_set_start(struct device* d, const char* value) {
    char* end = NULL; /* long double keeps every mJ of counters beyond 2^53 */
    d->start_mj = (int64_t)llroundl(strtold(value, &end) * 1000.0L);
    return *end == '\0' && end != value ? 0 : -1;
}

static inline int device_set(struct device* d, const char* key, const char* value) {
    static const char* const span_keys[SPAN_KINDS] = {
        "fail",         "fail_power",   "fail_energy",       "fail_fields",
        "fail_open",    "fail_samples", "fail_energy_field", "fail_average",
        "fail_instant", "slow",         "bogus_w",           "stamp_skew_ms",
    };
    if (strcmp(key, "uuid") == 0) return device_set_text(d->uuid, value);
    if (strcmp(key, "name") == 0) return device_set_name(d, value);
    if (strcmp(key, "power") == 0) {
        d->has_power = 1;
        return wave_parse(&d->power, value);
    }
    if (strcmp(key, "module") == 0) {
        d->has_module = 1;
        return wave_parse(&d->module, value);
    }
    if (strcmp(key, "start_j") == 0) return device_set_start(d, value);
    if (strcmp(key, "pids") == 0) return device_set_processes(&d->compute, value);
    if (strcmp(key, "gpids") == 0) return device_set_processes(&d->graphics, value);
    for (int kind = 0; kind < SPAN_KINDS; ++kind)
        if (strcmp(key, span_keys[kind]) == 0)
            return device_add_span(d, (enum span_kind)kind, value);
    return spec_set(device_keys, d, key, value);
}

/* Fills in what follows from other words. */
static inline void device_complete(struct device* d) {
    if (d->max_w <= 0.0) d->max_w = d->limit_w;
    if (d->counter.period_ns < 0) d->counter.period_ns = d->reading.period_ns;
    if (d->counter.phase_ns < 0) d->counter.phase_ns = d->reading.phase_ns;
    d->sample.phase_ns = d->reading.phase_ns;
}

static inline int refresh_is_sound(const struct device* d, const struct refresh* r) {
    /* Refreshes must keep their order whatever the jitter. */
    return r->period_ns >= 0 && (r->period_ns == 0 || 2 * d->jitter_ns < r->period_ns);
}

static inline int device_is_sound(const struct device* d) {
    int last = d->mig_first + (d->mig > 0 ? d->mig : 0);
    return d->uuid[0] != '\0' && d->has_power && d->average_ns >= 0 && d->instant_ns >= 0 &&
           d->jitter_ns >= 0 && d->log_ns >= 0 && d->missed >= 0.0 && d->missed < 1.0 &&
           refresh_is_sound(d, &d->reading) && refresh_is_sound(d, &d->counter) &&
           d->sample.period_ns > 0 && d->sample_depth > 0 && d->mig_first >= 0 &&
           last <= MIG_SLOTS && (d->has_module || (d->gpu_scope && !d->module_counter));
}

static inline int device_has_instance(const struct device* d, int slot) {
    return slot >= d->mig_first && slot < d->mig_first + d->mig;
}

/* A MIG uuid is the board's with "MIG" for "GPU" and the slot for its first two digits. */
static inline void device_uuid(const struct handle* h, char out[TEXT]) {
    strcpy(out, h->device->uuid);
    if (h->slot < 0) return;
    memcpy(out, "MIG", 3);
    if (strlen(out) >= 6) {
        out[4] = '0';
        out[5] = (char)('0' + h->slot);
    }
}

#endif
