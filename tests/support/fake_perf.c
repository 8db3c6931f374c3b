/* A `power` unit for sources/rapl_perf.cpp: the two calls of Host::perf_library, driven by the file
 * that FAKE_PERF_SPEC names. It is read again at every call, so that a test may replace it (by
 * renaming another over it) while the counters are open:
 *
 *   unit type=24 now_s=1.5 epoch_ns=N running=yes
 *   event cpu=0 config=2 wave=constant:50 esu=14 start=0 register=0 falls=no errno=0
 *
 * Time is now_s, or without it CLOCK_MONOTONIC less epoch_ns. Each event's register counts whole
 * units of 2^-esu J from `register` on and wraps at 2^32; the count is `start` plus what it has
 * moved since it was opened, in 2^-32 J. With falls=yes the count falls when the register wraps, as
 * in kernels that forget to undo that. running=no stops the running time, not the enabled time.
 * `errno` refuses the opening; an event that is opened and no longer listed, or was opened under
 * another type, answers ENODEV (gone_at_s: from then on).
 *
 * FAKE_PERF_GATE names a file for which every opening waits (gate.h).
 *
 * Descriptors are real ones, of /dev/null, so that they count and close as the kernel's do.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

#include "gate.h"
#include "spec.h"
#include "waveform.h"

enum { MAX_EVENTS = 256, MAX_DESCRIPTORS = 4096, MAX_MEMBERS = 16 };

struct event {
    struct wave wave;
    int cpu, config, esu, falls, error;
    uint64_t start, reg;
    double gone_at_s;
};

static struct unit {
    int type, running;
    double now_s;
    uint64_t epoch_ns;
} unit;
static struct event events[MAX_EVENTS];
static int event_count;

/* What was opened, by descriptor; `leader` is 0 where there is nothing. */
static struct opened {
    int leader, cpu, config, type;
    double opened_s;
} table[MAX_DESCRIPTORS];
static int members[MAX_DESCRIPTORS][MAX_MEMBERS], member_counts[MAX_DESCRIPTORS];
static uint64_t running_until_ns;

static const struct spec_key unit_keys[] = {
    {"type", SPEC_INT, offsetof(struct unit, type), 1},
    {"now_s", SPEC_DOUBLE, offsetof(struct unit, now_s), 1},
    {"epoch_ns", SPEC_U64, offsetof(struct unit, epoch_ns), 1},
    {"running", SPEC_FLAG, offsetof(struct unit, running), 1},
    {NULL, SPEC_INT, 0, 0},
};
static const struct spec_key event_keys[] = {
    {"cpu", SPEC_INT, offsetof(struct event, cpu), 1},
    {"config", SPEC_INT, offsetof(struct event, config), 1},
    {"esu", SPEC_INT, offsetof(struct event, esu), 1},
    {"start", SPEC_U64, offsetof(struct event, start), 1},
    {"register", SPEC_U64, offsetof(struct event, reg), 1},
    {"falls", SPEC_FLAG, offsetof(struct event, falls), 1},
    {"errno", SPEC_INT, offsetof(struct event, error), 1},
    {"gone_at_s", SPEC_DOUBLE, offsetof(struct event, gone_at_s), 1},
    {NULL, SPEC_INT, 0, 0},
};

static int take_line(char* words) {
    char* value;
    char* what = spec_next(&words, &value);
    struct event* e = &events[event_count];
    int is_event = what != NULL && strcmp(what, "event") == 0;
    if (what == NULL || (!is_event && strcmp(what, "unit") != 0)) return -1;
    if (is_event && event_count == MAX_EVENTS) return -1;
    if (is_event) *e = (struct event){.esu = 14, .gone_at_s = INFINITY};
    for (char* key; (key = spec_next(&words, &value)) != NULL;) {
        int bad = value == NULL;
        if (!bad && is_event && strcmp(key, "wave") == 0)
            bad = wave_parse(&e->wave, value);
        else if (!bad)
            bad = is_event ? spec_set(event_keys, e, key, value)
                           : spec_set(unit_keys, &unit, key, value);
        if (bad) return -1;
    }
    event_count += is_event;
    return 0;
}

static int load(void) {
    const char* path = getenv("FAKE_PERF_SPEC");
    event_count = 0;
    unit = (struct unit){.running = 1, .now_s = -1.0};
    return path == NULL ? -1 : spec_read(path, take_line);
}

static double now_s(void) {
    struct timespec now;
    if (unit.now_s >= 0.0) return unit.now_s;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return ((double)now.tv_sec * 1e9 + (double)now.tv_nsec - (double)unit.epoch_ns) * 1e-9;
}

static const struct event* find(int cpu, int config) {
    for (int i = 0; i < event_count; ++i)
        if (events[i].cpu == cpu && events[i].config == config) return &events[i];
    return NULL;
}

static uint64_t register_at(const struct event* e, double t) {
    return e->reg + (uint64_t)floor(ldexp(wave_joules(&e->wave, t), e->esu));
}

static uint64_t count_of(const struct event* e, double opened_s) {
    uint64_t now = register_at(e, now_s()), then = register_at(e, opened_s);
    uint64_t moved = e->falls ? (now & 0xFFFFFFFF) - (then & 0xFFFFFFFF) : now - then;
    return e->start + (moved << (32 - e->esu));
}

/* What the kernel's unit insists on. */
static int accepts(const struct perf_event_attr* a, int pid, int cpu, unsigned long flags) {
    struct perf_event_attr plain;
    memset(&plain, 0, sizeof plain);
    plain.type = a->type;
    plain.size = a->size;
    plain.config = a->config;
    plain.read_format =
        PERF_FORMAT_GROUP | PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING;
    return memcmp(&plain, a, sizeof plain) == 0 && a->size >= PERF_ATTR_SIZE_VER0 && pid == -1 &&
           cpu >= 0 && flags == PERF_FLAG_FD_CLOEXEC;
}

static int fail(int error) {
    errno = error;
    return -1;
}

int carbontracker_perf_open(const void* attr, int pid, int cpu, int group, unsigned long flags) {
    wait_for_gate("FAKE_PERF_GATE");
    const struct perf_event_attr* a = attr;
    if (load() != 0 || !accepts(a, pid, cpu, flags)) return fail(EINVAL);
    if ((int)a->type != unit.type) return fail(ENOENT);
    const struct event* e = find(cpu, (int)a->config);
    if (e == NULL) return fail(EINVAL);
    if (e->error != 0) return fail(e->error);
    if (group >= 0 && (group >= MAX_DESCRIPTORS || member_counts[group] >= MAX_MEMBERS))
        return fail(EBADF);
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    if (fd >= MAX_DESCRIPTORS) return close(fd), fail(EMFILE);
    int leader = group < 0 ? fd : group;
    if (group < 0) member_counts[fd] = 0;
    members[leader][member_counts[leader]++] = fd;
    table[fd] = (struct opened){leader, cpu, (int)a->config, unit.type, now_s()};
    return fd;
}

long carbontracker_perf_read(int fd, void* buffer, unsigned long size) {
    uint64_t words[3 + MAX_MEMBERS];
    if (load() != 0 || fd < 0 || fd >= MAX_DESCRIPTORS || table[fd].leader != fd)
        return fail(EBADF);
    int count = member_counts[fd];
    unsigned long needed = (unsigned long)(3 + count) * sizeof *words;
    if (size < needed) return fail(ENOSPC);
    uint64_t elapsed_ns = (uint64_t)llround((now_s() - table[fd].opened_s) * 1e9);
    if (unit.running) running_until_ns = elapsed_ns;
    words[0] = (uint64_t)count;
    words[1] = elapsed_ns;
    words[2] = running_until_ns;
    for (int i = 0; i < count; ++i) {
        const struct opened* o = &table[members[fd][i]];
        const struct event* e = find(o->cpu, o->config);
        if (e == NULL || o->type != unit.type || now_s() >= e->gone_at_s) return fail(ENODEV);
        words[3 + i] = count_of(e, o->opened_s);
    }
    memcpy(buffer, words, needed);
    return (long)needed;
}
