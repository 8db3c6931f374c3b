/* libfakeperf: stands in for perf_event_open and for read of the kernel's `power` PMU.
 *
 * Driven by the file that FAKE_PERF_SPEC names, or by fake_perf_load(). One line of the whole:
 *   global type=9 epoch_ns=N clock=monotonic|manual step_us=1000
 *          moves_at_s= new_type=9 moved_errno=19 starved_from_s= starved_until_s= paranoid=no
 *          seccomp=no
 * and one for each counter:
 *   event config=2 cpu=-1 wave=WAVE esu=14 start_units=0 tpmi=no open_errno=0
 * cpu=-1 is every CPU: each opening reads the same counter, as those of a package do.
 *
 * A register counts whole units of 2^-esu J in 32 bits, from start_units at the epoch. Count: what
 * it has risen since the opening, in 2^-32 J, in 64 bits. With tpmi=yes the kernel forgets its
 * wraps: the count falls by 2^32 units at each.
 *
 * From moves_at_s on the PMU has been registered again: what was opened before answers with
 * moved_errno (0: an empty read) and only new_type can be opened. Between the two starved_ times
 * the events do not run, and both the count and time_running stand still.
 *
 * With clock=manual time is what fake_perf_set_seconds() says, and each read adds step_us to it
 * before it answers: then every count is known to the bit.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "spec.h"
#include "waveform.h"

enum { MAX_EVENTS = 1024, MAX_OPEN = 4096, NANO = 1000000000 };

struct pmu {
    uint64_t epoch_ns;
    double step_us, moves_at_s, starved_from_s, starved_until_s;
    int type, new_type, moved_errno, manual, paranoid, seccomp;
};

struct event {
    struct wave wave;
    uint64_t start_units;
    int config, cpu, esu, tpmi, open_errno, has_wave;
};

struct opened {
    const struct event* event;
    double at_s;
    int fd, leader;
};

static struct pmu pmu;
static struct event events[MAX_EVENTS];
static struct opened table[MAX_OPEN];
static int event_count, opened_count, is_loaded;
static double manual_s;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static const struct spec_key pmu_keys[] = {
    {"epoch_ns", SPEC_U64, offsetof(struct pmu, epoch_ns), 1},
    {"step_us", SPEC_DOUBLE, offsetof(struct pmu, step_us), 1},
    {"moves_at_s", SPEC_DOUBLE, offsetof(struct pmu, moves_at_s), 1},
    {"starved_from_s", SPEC_DOUBLE, offsetof(struct pmu, starved_from_s), 1},
    {"starved_until_s", SPEC_DOUBLE, offsetof(struct pmu, starved_until_s), 1},
    {"type", SPEC_INT, offsetof(struct pmu, type), 1},
    {"new_type", SPEC_INT, offsetof(struct pmu, new_type), 1},
    {"moved_errno", SPEC_INT, offsetof(struct pmu, moved_errno), 1},
    {"paranoid", SPEC_FLAG, offsetof(struct pmu, paranoid), 1},
    {"seccomp", SPEC_FLAG, offsetof(struct pmu, seccomp), 1},
    {NULL, SPEC_INT, 0, 0},
};

static const struct spec_key event_keys[] = {
    {"start_units", SPEC_U64, offsetof(struct event, start_units), 1},
    {"config", SPEC_INT, offsetof(struct event, config), 1},
    {"cpu", SPEC_INT, offsetof(struct event, cpu), 1},
    {"esu", SPEC_INT, offsetof(struct event, esu), 1},
    {"tpmi", SPEC_FLAG, offsetof(struct event, tpmi), 1},
    {"open_errno", SPEC_INT, offsetof(struct event, open_errno), 1},
    {NULL, SPEC_INT, 0, 0},
};

/* ---- the specification ----------------------------------------------------------------- */

static int take_global(char* words) {
    char *key, *value;
    while ((key = spec_next(&words, &value)) != NULL) {
        if (value == NULL) return -1;
        if (strcmp(key, "clock") == 0) {
            pmu.manual = strcmp(value, "manual") == 0;
        } else if (spec_set(pmu_keys, &pmu, key, value) != 0) {
            return -1;
        }
    }
    return 0;
}

static int take_event(char* words) {
    char *key, *value;
    struct event* e = &events[event_count];
    if (event_count == MAX_EVENTS) return -1;
    memset(e, 0, sizeof *e);
    e->cpu = -1;
    e->esu = 14;
    while ((key = spec_next(&words, &value)) != NULL) {
        if (value == NULL) return -1;
        if (strcmp(key, "wave") == 0) {
            if (wave_parse(&e->wave, value) != 0) return -1;
            e->has_wave = 1;
        } else if (spec_set(event_keys, e, key, value) != 0) {
            return -1;
        }
    }
    ++event_count;
    return e->has_wave && e->esu >= 0 && e->esu <= 32 ? 0 : -1;
}

static int take_line(char* words) {
    char* value;
    const char* kind = spec_next(&words, &value);
    if (kind != NULL && strcmp(kind, "global") == 0) return take_global(words);
    if (kind != NULL && strcmp(kind, "event") == 0) return take_event(words);
    return -1;
}

static double now_s(void) {
    struct timespec now;
    if (pmu.manual) return manual_s;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)((int64_t)now.tv_sec * NANO + now.tv_nsec - (int64_t)pmu.epoch_ns) / NANO;
}

static int load(const char* path) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    pmu = (struct pmu){.type = 9,
                       .new_type = 9,
                       .epoch_ns = (uint64_t)now.tv_sec * NANO + (uint64_t)now.tv_nsec,
                       .step_us = 1000,
                       .moves_at_s = INFINITY,
                       .moved_errno = ENODEV,
                       .starved_from_s = INFINITY,
                       .starved_until_s = INFINITY};
    event_count = opened_count = 0;
    manual_s = 0;
    is_loaded = path != NULL && spec_read(path, take_line) == 0;
    return is_loaded ? 0 : -1;
}

/* ---- counting -------------------------------------------------------------------------- */

/* Seconds between the two that the events were not running. */
static double starved_s(double from, double until) {
    double begin = fmax(from, pmu.starved_from_s), end = fmin(until, pmu.starved_until_s);
    return end > begin ? end - begin : 0;
}

static uint64_t units_at(const struct event* e, double t) {
    return e->start_units + (uint64_t)ldexp(wave_joules(&e->wave, t), e->esu);
}

static uint64_t count_at(const struct opened* o, double t) {
    const struct event* e = o->event;
    uint64_t from = units_at(e, o->at_s), to = units_at(e, t);
    if (starved_s(o->at_s, t) > 0) {
        to -= units_at(e, fmin(t, pmu.starved_until_s)) - units_at(e, pmu.starved_from_s);
    }
    if (e->tpmi) return ((to & 0xFFFFFFFF) - (from & 0xFFFFFFFF)) << (32 - e->esu);
    return (to - from) << (32 - e->esu);
}

static const struct opened* find(int fd) {
    for (int i = 0; i < opened_count; ++i)
        if (table[i].fd == fd) return &table[i];
    return NULL;
}

/* A number that the kernel gives out again: whatever bore it, or was led by it, is closed. */
static void forget(int fd) {
    int kept = 0;
    for (int i = 0; i < opened_count; ++i)
        if (table[i].fd != fd && table[i].leader != fd) table[kept++] = table[i];
    opened_count = kept;
}

static int attr_is_sound(const struct perf_event_attr* attr) {
    return !attr->exclude_user && !attr->exclude_kernel && !attr->exclude_hv &&
           !attr->exclude_idle && !attr->exclude_host && !attr->exclude_guest && !attr->inherit &&
           attr->sample_period == 0 && attr->size >= PERF_ATTR_SIZE_VER0 &&
           attr->read_format == (PERF_FORMAT_GROUP | PERF_FORMAT_TOTAL_TIME_ENABLED |
                                 PERF_FORMAT_TOTAL_TIME_RUNNING);
}

static const struct event* event_of(uint64_t config, int cpu) {
    for (int i = 0; i < event_count; ++i) {
        const struct event* e = &events[i];
        if ((uint64_t)e->config == config && (e->cpu < 0 || e->cpu == cpu)) return e;
    }
    return NULL;
}

/* The errno with which the kernel refuses, or 0. */
static int refusal(const struct perf_event_attr* attr, pid_t pid, int cpu, double t) {
    if (!is_loaded && load(getenv("FAKE_PERF_SPEC")) != 0) return ENOSYS;
    if (pmu.seccomp) return EPERM;
    if (pmu.paranoid) return EACCES;
    if (attr->type != (unsigned)(t < pmu.moves_at_s ? pmu.type : pmu.new_type)) return ENOENT;
    if (pid != -1 || cpu < 0 || !attr_is_sound(attr)) return EINVAL;
    const struct event* e = event_of(attr->config, cpu);
    if (e == NULL) return EINVAL;
    if (opened_count == MAX_OPEN) return EMFILE;
    return e->open_errno;
}

/* ---- what is called -------------------------------------------------------------------- */

static int open_locked(const struct perf_event_attr* attr, pid_t pid, int cpu, int leader,
                       unsigned long flags) {
    double t = now_s();
    errno = refusal(attr, pid, cpu, t);
    if (errno != 0) return -1;
    int fd = open("/dev/null", O_RDONLY | (flags & PERF_FLAG_FD_CLOEXEC ? O_CLOEXEC : 0));
    if (fd < 0) return -1;
    forget(fd);
    if (leader >= 0 && find(leader) == NULL) {
        close(fd);
        errno = EBADF;
        return -1;
    }
    table[opened_count++] = (struct opened){
        event_of(attr->config, cpu), now_s(), fd, leader < 0 ? fd : leader};
    return fd;
}

int carbontracker_perf_open(const struct perf_event_attr* attr, pid_t pid, int cpu, int leader,
                            unsigned long flags) {
    pthread_mutex_lock(&lock);
    int fd = open_locked(attr, pid, cpu, leader, flags);
    pthread_mutex_unlock(&lock);
    return fd;
}

static ssize_t read_locked(int fd, uint64_t* out, size_t size) {
    if (pmu.manual) manual_s += pmu.step_us / 1e6;
    const struct opened* leader = find(fd);
    double t = now_s();
    if (leader == NULL) {
        errno = EBADF;
        return -1;
    }
    if (leader->at_s < pmu.moves_at_s && t >= pmu.moves_at_s) {
        errno = pmu.moved_errno;
        return pmu.moved_errno == 0 ? 0 : -1;
    }
    uint64_t enabled_ns = (uint64_t)((t - leader->at_s) * NANO);
    size_t used = 3;
    for (int i = 0; i < opened_count; ++i) {
        if (table[i].leader != fd) continue;
        if ((used + 1) * sizeof *out > size) {
            errno = ENOSPC;
            return -1;
        }
        out[used++] = count_at(&table[i], t);
    }
    out[0] = used - 3;
    out[1] = enabled_ns;
    out[2] = enabled_ns - (uint64_t)(starved_s(leader->at_s, t) * NANO);
    return (ssize_t)(used * sizeof *out);
}

ssize_t carbontracker_perf_read(int fd, void* buffer, size_t size) {
    pthread_mutex_lock(&lock);
    ssize_t got = read_locked(fd, buffer, size);
    pthread_mutex_unlock(&lock);
    return got;
}

int fake_perf_load(const char* path) {
    pthread_mutex_lock(&lock);
    int status = load(path);
    pthread_mutex_unlock(&lock);
    return status;
}

void fake_perf_set_seconds(double seconds) {
    pthread_mutex_lock(&lock);
    manual_s = seconds;
    pthread_mutex_unlock(&lock);
}

double fake_perf_seconds(void) {
    pthread_mutex_lock(&lock);
    double t = now_s();
    pthread_mutex_unlock(&lock);
    return t;
}
