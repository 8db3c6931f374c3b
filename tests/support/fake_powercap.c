/* fake_powercap SPEC: plays RAPL counters into `energy_uj` files of a made-up sysfs tree.
 *
 * One line per counter:
 *   path=FILE wave=WAVE range_uj=N start_uj=0 unit_uj=61 epoch_ns=N period_us=1000 reset_at_s=
 *   offset=N: counts of unit_uj as 8 bytes, little-endian, in the middle of an existing file
 *   watts=1: the power in microwatts in place of a counter
 * Time is CLOCK_MONOTONIC less epoch_ns (default: the start of the program). Prints
 * `ready` when every file holds its first value; ends when its standard input closes, so
 * a test that dies leaves no writer behind.
 *
 * The value follows the kernel: a register counts whole units of unit_uj (fractions down
 * to a nanojoule are kept: 61.035), wraps, and is shown in microjoules, truncated. It runs
 * up to the highest count whose value fits range_uj, then to 0: the true modulus is that
 * highest value plus one unit. Between updates the file stands still, as RAPL does; each
 * update shows the energy at the moment of the write, on a grid of period_us since the epoch.
 *
 * The text is 23 digits with leading zeros and a newline: it never changes length, so one
 * pwrite on an open file replaces it whole, and base-10 integer parsers read it as it stands.
 * A read that runs at the very moment of a write may still meet some of the old bytes; page
 * copies go by 8 bytes, and 24 bytes put the low seven digits into one such word, so only an
 * update that carries past 10 J can be torn at all.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "spec.h"
#include "waveform.h"
#include <stddef.h>

enum { MAX_COUNTERS = 128, PATH_LENGTH = 1024 };

struct counter {
    char path[PATH_LENGTH];
    struct wave wave;
    int has_wave, fd;
    uint64_t range_uj, start_uj, epoch_ns;
    int64_t unit_nj, period_ns, due_ns, offset;
    int watts;
    double reset_at_s;
};

static struct counter counters[MAX_COUNTERS];
static int counter_count;

static const struct spec_key counter_keys[] = {
    {"range_uj", SPEC_U64, offsetof(struct counter, range_uj), 1},
    {"start_uj", SPEC_U64, offsetof(struct counter, start_uj), 1},
    {"epoch_ns", SPEC_U64, offsetof(struct counter, epoch_ns), 1},
    {"unit_uj", SPEC_I64, offsetof(struct counter, unit_nj), 1e3},
    {"period_us", SPEC_I64, offsetof(struct counter, period_ns), 1e3},
    {"offset", SPEC_I64, offsetof(struct counter, offset), 1},
    {"watts", SPEC_INT, offsetof(struct counter, watts), 1},
    {"reset_at_s", SPEC_DOUBLE, offsetof(struct counter, reset_at_s), 1},
    {NULL, SPEC_INT, 0, 0},
};

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int counter_set(struct counter* c, const char* key, const char* value) {
    if (strcmp(key, "path") == 0) {
        if (strlen(value) >= sizeof c->path) return -1;
        strcpy(c->path, value);
        return 0;
    }
    if (strcmp(key, "wave") == 0) {
        c->has_wave = 1;
        return wave_parse(&c->wave, value);
    }
    return spec_set(counter_keys, c, key, value);
}

static int take_counter(char* words) {
    char *key, *value;
    struct counter* c = &counters[counter_count];
    if (counter_count == MAX_COUNTERS) return -1;
    c->range_uj = 262143328850ULL;
    c->unit_nj = 61000;
    c->period_ns = 1000000;
    c->offset = -1;
    c->epoch_ns = (uint64_t)now_ns();
    c->reset_at_s = INFINITY;
    while ((key = spec_next(&words, &value)) != NULL)
        if (value == NULL || counter_set(c, key, value) != 0) return -1;
    ++counter_count;
    return c->path[0] != '\0' && c->has_wave && c->unit_nj > 0 && c->period_ns > 0 ? 0 : -1;
}

/* Microjoules since the register was last at 0, before units and wrapping. */
static uint64_t counter_total_uj(const struct counter* c, double t) {
    double joules = wave_joules(&c->wave, t);
    if (t >= c->reset_at_s)
        return (uint64_t)((joules - wave_joules(&c->wave, c->reset_at_s)) * 1e6);
    return c->start_uj + (uint64_t)(joules * 1e6);
}

static uint64_t counter_value_uj(const struct counter* c, double t) {
    /* 128 bits: a server's psys range times 1000 is close to the end of 64. */
    unsigned __int128 unit = (unsigned __int128)c->unit_nj;
    uint64_t highest = (uint64_t)((((unsigned __int128)c->range_uj + 1) * 1000 - 1) / unit);
    uint64_t counts = (uint64_t)((unsigned __int128)counter_total_uj(c, t) * 1000 / unit);
    return (uint64_t)((unsigned __int128)(counts % (highest + 1)) * unit / 1000);
}

/* The length written, or -1. */
static int counter_write(const struct counter* c) {
    char text[32];
    double t = (double)(now_ns() - (int64_t)c->epoch_ns) / 1e9;
    if (c->offset >= 0) {
        uint64_t counts = counter_total_uj(c, t) * 1000 / (uint64_t)c->unit_nj;
        return pwrite(c->fd, &counts, sizeof counts, c->offset) == sizeof counts ? 0 : -1;
    }
    uint64_t value = c->watts ? (uint64_t)(wave_watts(&c->wave, t) * 1e6) : counter_value_uj(c, t);
    int length = snprintf(text, sizeof text, "%023llu\n", (unsigned long long)value);
    return pwrite(c->fd, text, (size_t)length, 0) == length ? length : -1;
}

/* The next point of the grid; points already past are left out, as hardware leaves none. */
static void counter_schedule(struct counter* c) {
    int64_t past = now_ns() - (int64_t)c->epoch_ns;
    int64_t steps = past < 0 ? 0 : past / c->period_ns + 1;
    c->due_ns = (int64_t)c->epoch_ns + steps * c->period_ns;
}

static int counter_open(struct counter* c) {
    c->fd = open(c->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    int length = c->fd < 0 ? -1 : counter_write(c);
    /* Cut after the write, not by O_TRUNC: a reader never sees an empty file. */
    if (length < 0 || (c->offset < 0 && ftruncate(c->fd, length) != 0)) {
        perror(c->path);
        return -1;
    }
    counter_schedule(c);
    return 0;
}

static struct counter* next_due(void) {
    struct counter* first = &counters[0];
    for (int i = 1; i < counter_count; ++i)
        if (counters[i].due_ns < first->due_ns) first = &counters[i];
    return first;
}

/* Gone with the parent: the parent holds the other end of our standard input. */
static void* end_with_stdin(void* unused) {
    char ignored[64];
    while (read(STDIN_FILENO, ignored, sizeof ignored) > 0) continue;
    _exit(0);
    return unused;
}

/* Hardware does not wait for a processor: when asked for and where it is allowed, nobody goes before
 * this program. */
static void be_punctual(int wanted) {
    struct sched_param urgent = {.sched_priority = 1};
    if (wanted && sched_setscheduler(0, SCHED_FIFO, &urgent) != 0) perror("not before others");
    prctl(PR_SET_TIMERSLACK, 1UL);
}

static int play(void) {
    for (;;) {
        struct counter* c = next_due();
        struct timespec due = {c->due_ns / 1000000000, c->due_ns % 1000000000};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) != 0) continue;
        if (counter_write(c) < 0) {
            perror(c->path);
            return 1;
        }
        counter_schedule(c);
    }
}

int main(int argc, char** argv) {
    pthread_t watcher;
    if (argc != 2 && argc != 3) {
        fprintf(stderr, "usage: fake_powercap SPEC [punctual]\n");
        return 2;
    }
    if (spec_read(argv[1], take_counter) != 0 || counter_count == 0) return 2;
    for (int i = 0; i < counter_count; ++i)
        if (counter_open(&counters[i]) != 0) return 1;
    if (pthread_create(&watcher, NULL, end_with_stdin, NULL) != 0) return 1;
    be_punctual(argc == 3);
    puts("ready");
    fflush(stdout);
    return play();
}
