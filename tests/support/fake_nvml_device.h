/* One pretended board: what its spec line says, and what its sensors show at a time.
 *
 * Words of a device line (all but `uuid` and `power` have a default):
 *   uuid=GPU-…  name=NVIDIA_A100 (underscores become spaces)  power=WAVE
 *   period_ms=0 phase_ms=0  readings refresh at phase + k * period; 0 = continuous
 *   average_ms=0            power is the mean over that long; 0 = instantaneous
 *   latency_us=0            length of a call; the reading is taken in its middle
 *   energy=yes usage=yes fields=yes   `no`: that door answers NOT_SUPPORTED
 *   energy_type=3 power_type=1        value types used in GetFieldValues
 *   start_j=0 gain=1        counter = start + gain * true energy
 *   reset_at_s= stuck_at_s= counter restarts from 0 / moves no more
 *   limit_w=400 min_w=100 max_w=(limit)  arch=7 persistence=1 util=100
 *   mig=N                   N MIG instances from slot mig_first (0); absent: no MIG at all
 *   pids=1,2:4096 gpids=…   compute and graphics processes, bytes after the colon
 *   fail=CODE@FROM-TO       every call on this board; TO may be `end`. Narrower:
 *   fail_power fail_energy fail_fields fail_open
 *   slow=MICROSECONDS@FROM-TO   calls take that much longer
 *   bogus_w=WATTS@FROM-TO       power readings show this instead
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
    SPAN_SLOW,
    SPAN_BOGUS,
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

struct device {
    int index;
    char uuid[TEXT], name[TEXT];
    struct wave power;
    int has_power;
    int64_t period_ns, phase_ns, average_ns, start_mj;
    double latency_us, gain, reset_at_s, stuck_at_s, limit_w, min_w, max_w;
    int energy, usage, fields, energy_type, power_type;
    int arch, persistence, util, mig, mig_first;
    struct processes compute, graphics;
    int span_count;
    struct span spans[MAX_SPANS];
    struct handle board, instances[MIG_SLOTS];
};

#define DEVICE_KEY(name, type, member, scale) {name, type, offsetof(struct device, member), scale}
static const struct spec_key device_keys[] = {
    DEVICE_KEY("period_ms", SPEC_I64, period_ns, 1e6),
    DEVICE_KEY("phase_ms", SPEC_I64, phase_ns, 1e6),
    DEVICE_KEY("average_ms", SPEC_I64, average_ns, 1e6),
    DEVICE_KEY("latency_us", SPEC_DOUBLE, latency_us, 1),
    DEVICE_KEY("gain", SPEC_DOUBLE, gain, 1),
    DEVICE_KEY("reset_at_s", SPEC_DOUBLE, reset_at_s, 1),
    DEVICE_KEY("stuck_at_s", SPEC_DOUBLE, stuck_at_s, 1),
    DEVICE_KEY("limit_w", SPEC_DOUBLE, limit_w, 1),
    DEVICE_KEY("min_w", SPEC_DOUBLE, min_w, 1),
    DEVICE_KEY("max_w", SPEC_DOUBLE, max_w, 1),
    DEVICE_KEY("energy", SPEC_FLAG, energy, 1),
    DEVICE_KEY("usage", SPEC_FLAG, usage, 1),
    DEVICE_KEY("fields", SPEC_FLAG, fields, 1),
    DEVICE_KEY("energy_type", SPEC_INT, energy_type, 1),
    DEVICE_KEY("power_type", SPEC_INT, power_type, 1),
    DEVICE_KEY("arch", SPEC_INT, arch, 1),
    DEVICE_KEY("persistence", SPEC_INT, persistence, 1),
    DEVICE_KEY("util", SPEC_INT, util, 1),
    DEVICE_KEY("mig", SPEC_INT, mig, 1),
    DEVICE_KEY("mig_first", SPEC_INT, mig_first, 1),
    {NULL, SPEC_INT, 0, 0},
};

static inline void device_defaults(struct device* d, int index) {
    memset(d, 0, sizeof *d);
    d->index = index;
    d->gain = 1.0;
    d->reset_at_s = d->stuck_at_s = INFINITY;
    d->limit_w = 400.0;
    d->min_w = 100.0;
    d->energy = d->usage = d->fields = 1;
    d->energy_type = 3;
    d->power_type = 1;
    d->arch = 7;
    d->persistence = 1;
    d->util = 100;
    d->mig = -1;
    strcpy(d->name, "NVIDIA Fake");
    d->board.device = d;
    d->board.slot = -1;
    for (int slot = 0; slot < MIG_SLOTS; ++slot) {
        d->instances[slot].device = d;
        d->instances[slot].slot = slot;
    }
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
        "fail", "fail_power", "fail_energy", "fail_fields", "fail_open", "slow", "bogus_w",
    };
    if (strcmp(key, "uuid") == 0) return device_set_text(d->uuid, value);
    if (strcmp(key, "name") == 0) return device_set_name(d, value);
    if (strcmp(key, "power") == 0) {
        d->has_power = 1;
        return wave_parse(&d->power, value);
    }
    if (strcmp(key, "start_j") == 0) return device_set_start(d, value);
    if (strcmp(key, "pids") == 0) return device_set_processes(&d->compute, value);
    if (strcmp(key, "gpids") == 0) return device_set_processes(&d->graphics, value);
    for (int kind = 0; kind < SPAN_KINDS; ++kind)
        if (strcmp(key, span_keys[kind]) == 0)
            return device_add_span(d, (enum span_kind)kind, value);
    return spec_set(device_keys, d, key, value);
}

static inline int device_is_sound(const struct device* d) {
    int last = d->mig_first + (d->mig > 0 ? d->mig : 0);
    return d->uuid[0] != '\0' && d->has_power && d->period_ns >= 0 && d->average_ns >= 0 &&
           d->mig_first >= 0 && last <= MIG_SLOTS;
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

/* When the value now on show was taken: the last multiple of the period, plus the phase. */
static inline int64_t device_published_ns(const struct device* d, int64_t now_ns) {
    int64_t at = now_ns;
    if (d->period_ns > 0) {
        int64_t past = now_ns - d->phase_ns;
        int64_t rest = past % d->period_ns;
        at = now_ns - (rest < 0 ? rest + d->period_ns : rest);
    }
    return at < 0 ? 0 : at;
}

static inline uint64_t device_counter_mj(const struct device* d, int64_t now_ns) {
    double t = (double)device_published_ns(d, now_ns) / 1e9;
    t = fmin(t, d->stuck_at_s);
    if (t >= d->reset_at_s) {
        double since = wave_joules(&d->power, t) - wave_joules(&d->power, d->reset_at_s);
        return (uint64_t)(d->gain * 1000.0 * since);
    }
    return (uint64_t)d->start_mj + (uint64_t)(d->gain * 1000.0 * wave_joules(&d->power, t));
}

/* Mean over the `window_ns` before the moment of publication, cut at t = 0; 0 = no mean. */
static inline uint64_t device_power_mw(const struct device* d, int64_t now_ns, int64_t window_ns) {
    double t = (double)device_published_ns(d, now_ns) / 1e9;
    const struct span* bogus = device_span(d, SPAN_BOGUS, (double)now_ns / 1e9);
    if (bogus != NULL) return (uint64_t)(bogus->value * 1000.0);
    double from = fmax(0.0, t - (double)window_ns / 1e9);
    if (from >= t) return (uint64_t)(wave_watts(&d->power, t) * 1000.0);
    double joules = wave_joules(&d->power, t) - wave_joules(&d->power, from);
    return (uint64_t)(joules / (t - from) * 1000.0);
}

#endif
