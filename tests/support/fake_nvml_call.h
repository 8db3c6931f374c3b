/* The machinery behind the exports of fake_nvml.c: the spec, the clock, the call counters,
 * and the opening and closing half of every call. Included once; it holds the state.
 */
#ifndef TESTS_SUPPORT_FAKE_NVML_CALL_H
#define TESTS_SUPPORT_FAKE_NVML_CALL_H

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "fake_nvml_sensor.h"
#include "gate.h"

enum {
    OK = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    UNKNOWN = 999
};

enum { LAST_STABLE_FIELD = 250 }; /* headers disagree on the numbers above */

enum { MAX_DEVICES = 32, BOARD_BASE = 16, BOARD_SLOTS = 4 };
enum { CALL_SLOTS = BOARD_BASE + BOARD_SLOTS * MAX_DEVICES };

enum call_kind {
    CALL_ALL,
    CALL_POWER,
    CALL_ENERGY,
    CALL_FIELDS,
    CALL_INIT,
    CALL_SHUTDOWN,
    CALL_OPEN,
    CALL_PROCESSES,
    CALL_UTILISATION,
    CALL_OTHER,
    CALL_REFUSED,
    CALL_MAX_AT_ONCE,
    CALL_SAMPLES
};

static struct {
    int64_t epoch_ns, wall_offset_ns; /* the wall clock less CLOCK_MONOTONIC */
    int init_error, serial;
    double init_us, reload_at_s, reload_takes_s;
    char driver[TEXT], nvml[TEXT];
} setup;

static const struct spec_key global_keys[] = {
    {"epoch_ns", SPEC_U64, 0, 1},
    {"init_error", SPEC_INT, offsetof(__typeof__(setup), init_error), 1},
    {"serial", SPEC_FLAG, offsetof(__typeof__(setup), serial), 1},
    {"init_us", SPEC_DOUBLE, offsetof(__typeof__(setup), init_us), 1},
    {"reload_at_s", SPEC_DOUBLE, offsetof(__typeof__(setup), reload_at_s), 1},
    {"reload_takes_s", SPEC_DOUBLE, offsetof(__typeof__(setup), reload_takes_s), 1},
    {NULL, SPEC_INT, 0, 0},
};

static struct device devices[MAX_DEVICES];
static int device_count;
static pthread_mutex_t init_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t driver_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic int references;
static _Atomic int owner; /* the process that initialised */
static _Atomic int in_flight;
static _Atomic uint64_t* _Atomic counters;

/* ---- time ---------------------------------------------------------------- */

static int64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static double since_epoch_s(void) {
    return (double)(clock_ns(CLOCK_MONOTONIC) - setup.epoch_ns) / 1e9;
}

/* Of several tries that which was least disturbed between the two clocks. */
static int64_t wall_offset_ns(void) {
    int64_t best_ns = INT64_MAX, offset_ns = 0;
    for (int i = 0; i < 16; ++i) {
        int64_t before_ns = clock_ns(CLOCK_MONOTONIC);
        int64_t wall_ns = clock_ns(CLOCK_REALTIME);
        int64_t took_ns = clock_ns(CLOCK_MONOTONIC) - before_ns;
        if (took_ns >= best_ns) continue;
        best_ns = took_ns;
        offset_ns = wall_ns - before_ns - took_ns / 2;
    }
    return offset_ns;
}

/* Short waits spin: a sleep would overshoot them by more than their length. */
static void wait_us(double us) {
    int64_t until = clock_ns(CLOCK_MONOTONIC) + (int64_t)(us * 1e3);
    struct timespec deadline = {until / 1000000000, until % 1000000000};
    if (us >= 200.0)
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &deadline, NULL) != 0) continue;
    while (us > 0.0 && clock_ns(CLOCK_MONOTONIC) < until) continue;
}

/* ---- call counters ------------------------------------------------------- */

static void counters_open(void) {
    const char* path = getenv("FAKE_NVML_CALLS");
    size_t bytes = CALL_SLOTS * sizeof(uint64_t);
    if (path == NULL || counters != NULL) return;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0) {
        perror(path);
        return;
    }
    void* map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map != MAP_FAILED) counters = map;
}

static void count_slot(int slot) {
    if (counters != NULL) atomic_fetch_add(&counters[slot], 1);
}

static void count_in_flight(void) {
    uint64_t now = (uint64_t)(atomic_fetch_add(&in_flight, 1) + 1);
    if (counters == NULL) return;
    uint64_t most = atomic_load(&counters[CALL_MAX_AT_ONCE]);
    while (most < now && !atomic_compare_exchange_weak(&counters[CALL_MAX_AT_ONCE], &most, now))
        continue;
}

static void count_call(enum call_kind kind, const struct handle* handle) {
    count_slot(CALL_ALL);
    count_slot(kind);
    if (handle == NULL) return;
    int base = BOARD_BASE + BOARD_SLOTS * handle->device->index;
    count_slot(base);
    if (kind <= CALL_FIELDS) count_slot(base + (int)kind);
}

/* ---- one call ------------------------------------------------------------ */

struct call {
    struct device* device;
    int slot;
    int64_t now_ns; /* since the epoch: the moment of the reading */
    double half_wait_us;
    int injected; /* the code came from the spec */
    int entered;
};

/* The driver has gone, and no call has initialised it again. */
static int is_reloading(void) {
    return driver_generation == 0 && since_epoch_s() >= setup.reload_at_s;
}

static int is_alive(void) {
    return references > 0 && owner == getpid() && !is_reloading();
}

static struct handle* checked(void* handle) {
    for (int i = 0; i < device_count; ++i) {
        struct device* d = &devices[i];
        if (handle == device_board(d)) return handle;
        for (int slot = 0; slot < MIG_SLOTS; ++slot)
            if (handle == device_instance(d, slot) && device_has_instance(d, slot)) return handle;
    }
    return NULL;
}

static int injected_code(const struct device* d, enum call_kind kind, double t) {
    static const enum span_kind narrow[] = {
        [CALL_POWER] = SPAN_FAIL_POWER,   [CALL_ENERGY] = SPAN_FAIL_ENERGY,
        [CALL_FIELDS] = SPAN_FAIL_FIELDS, [CALL_OPEN] = SPAN_FAIL_OPEN,
        [CALL_OTHER] = SPAN_FAIL,         [CALL_SAMPLES] = SPAN_FAIL_SAMPLES,
    };
    const struct span* span = device_span(d, SPAN_FAIL, t);
    if (span == NULL) span = device_span(d, narrow[kind], t);
    return span == NULL ? OK : (int)span->value;
}

/* Counts, waits out the first half of the latency, takes the time, looks for faults. */
static int begin(struct call* call, enum call_kind kind, const struct handle* handle) {
    memset(call, 0, sizeof *call);
    if (!is_alive()) {
        count_slot(CALL_REFUSED);
        return UNINITIALIZED;
    }
    count_call(kind, handle);
    count_in_flight();
    call->entered = 1;
    if (setup.serial) pthread_mutex_lock(&driver_lock);
    call->now_ns = clock_ns(CLOCK_MONOTONIC) - setup.epoch_ns;
    if (handle == NULL) return OK;
    call->device = handle->device;
    call->slot = handle->slot;
    const struct span* slow = device_span(call->device, SPAN_SLOW, (double)call->now_ns / 1e9);
    call->half_wait_us = (call->device->latency_us + (slow ? slow->value : 0.0)) / 2.0;
    wait_us(call->half_wait_us);
    call->now_ns = clock_ns(CLOCK_MONOTONIC) - setup.epoch_ns;
    call->injected = injected_code(call->device, kind, (double)call->now_ns / 1e9);
    return call->injected;
}

static int end(struct call* call, int code) {
    if (!call->entered) return code;
    wait_us(call->half_wait_us);
    if (setup.serial) pthread_mutex_unlock(&driver_lock);
    atomic_fetch_sub(&in_flight, 1);
    return code;
}

/* The same for a call on a handle that writes to `out`. */
static int begin_on(struct call* call, enum call_kind kind, void* handle, const void* out) {
    struct handle* known = checked(handle);
    int code = begin(call, kind, known);
    if (code == OK && (known == NULL || out == NULL)) return INVALID_ARGUMENT;
    return code;
}

/* The same where a MIG instance has no answer of its own. */
static int begin_on_board(struct call* call, enum call_kind kind, void* handle, const void* out) {
    int code = begin_on(call, kind, handle, out);
    return code == OK && call->slot >= 0 ? NOT_SUPPORTED : code;
}

static int put_text(char* out, unsigned length, const char* text) {
    if (strlen(text) >= length) return INSUFFICIENT_SIZE;
    strcpy(out, text);
    return OK;
}

/* ---- the spec ------------------------------------------------------------ */

static int take_global(char* words) {
    char *key, *value;
    while ((key = spec_next(&words, &value)) != NULL) {
        int status = -1;
        if (value == NULL) return -1;
        if (strcmp(key, "driver") == 0)
            status = device_set_text(setup.driver, value);
        else if (strcmp(key, "nvml") == 0)
            status = device_set_text(setup.nvml, value);
        else
            status = spec_set(global_keys, &setup, key, value);
        if (status != 0) return -1;
    }
    return 0;
}

static int take_device(char* words) {
    char *key, *value;
    struct device* d = &devices[device_count];
    if (device_count == MAX_DEVICES) return -1;
    device_defaults(d, device_count);
    while ((key = spec_next(&words, &value)) != NULL)
        if (value == NULL || device_set(d, key, value) != 0) return -1;
    device_complete(d);
    ++device_count;
    return device_is_sound(d) ? 0 : -1;
}

static int take_line(char* line) {
    static const char global[] = "global";
    size_t length = sizeof global - 1;
    if (strncmp(line, global, length) == 0 && strchr(SPEC_BLANKS, line[length]) != NULL)
        return take_global(line + length);
    return take_device(line);
}

static int load(void) {
    const char* path = getenv("FAKE_NVML_SPEC");
    if (path == NULL) return DRIVER_NOT_LOADED;
    memset(&setup, 0, sizeof setup);
    setup.epoch_ns = clock_ns(CLOCK_MONOTONIC);
    setup.wall_offset_ns = wall_offset_ns();
    setup.reload_at_s = INFINITY;
    driver_generation = 0;
    strcpy(setup.driver, "550.54.15");
    strcpy(setup.nvml, "12.550.54.15");
    device_count = 0;
    if (spec_read(path, take_line) != 0) return UNKNOWN;
    for (int i = 0; i < device_count; ++i)
        devices[i].reset_at_s = fmin(devices[i].reset_at_s, setup.reload_at_s);
    wait_us(setup.init_us);
    return setup.init_error;
}

/* After the driver has gone: the first init that finds it again. */
static int reload(void) {
    if (since_epoch_s() < setup.reload_at_s + setup.reload_takes_s) return DRIVER_NOT_LOADED;
    driver_generation = 1;
    references = 0;
    return OK;
}

#endif
