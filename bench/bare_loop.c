/* bare_loop LIBRARY GPUS [FILE...]: the least that any sampler can do at a rate.
 *
 * Absolute deadlines, one pread a kept-open file, one NVML energy call a GPU, results added up so
 * that nothing is optimised away. Each line of standard input, `HZ SECONDS`, is answered by
 * `CPU_NS WALL_NS TICKS`: the CPU time of this thread by its own clock.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { MOST_FILES = 64, MOST_GPUS = 32 };

static int files[MOST_FILES], file_count;
static void* gpus[MOST_GPUS];
static int gpu_count;
static int (*read_energy)(void*, unsigned long long*);
static volatile uint64_t sum;

static int64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int open_gpus(const char* path, int count) {
    if (count == 0) return 0;
    void* library = dlopen(path, RTLD_NOW);
    if (library == NULL) return -1;
    int (*init)(void) = (int (*)(void))dlsym(library, "nvmlInit_v2");
    int (*open_one)(unsigned, void**) =
        (int (*)(unsigned, void**))dlsym(library, "nvmlDeviceGetHandleByIndex_v2");
    read_energy = (int (*)(void*, unsigned long long*))dlsym(
        library, "nvmlDeviceGetTotalEnergyConsumption");
    if (init == NULL || open_one == NULL || read_energy == NULL || init() != 0) return -1;
    for (; gpu_count < count; ++gpu_count)
        if (open_one((unsigned)gpu_count, &gpus[gpu_count]) != 0) return -1;
    return 0;
}

static uint64_t read_number(int file) {
    char text[64];
    ssize_t length = pread(file, text, sizeof text, 0);
    uint64_t number = 0;
    for (ssize_t i = 0; i < length && text[i] >= '0' && text[i] <= '9'; ++i)
        number = number * 10 + (uint64_t)(text[i] - '0');
    return number;
}

static void tick(void) {
    uint64_t total = (uint64_t)clock_ns(CLOCK_MONOTONIC);
    for (int i = 0; i < file_count; ++i) total += read_number(files[i]);
    for (int i = 0; i < gpu_count; ++i) {
        unsigned long long energy = 0;
        total += (uint64_t)clock_ns(CLOCK_MONOTONIC);
        read_energy(gpus[i], &energy);
        total += energy;
    }
    sum += total;
}

static void run(double hz, double seconds) {
    int64_t period_ns = (int64_t)(1e9 / hz), start_ns = clock_ns(CLOCK_MONOTONIC);
    int64_t end_ns = start_ns + (int64_t)(seconds * 1e9), cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    long ticks = 0;
    for (int64_t due_ns = start_ns + period_ns; due_ns <= end_ns;) {
        struct timespec due = {due_ns / 1000000000, due_ns % 1000000000};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) != 0) continue;
        tick();
        ++ticks;
        int64_t late = (clock_ns(CLOCK_MONOTONIC) - due_ns) / period_ns;
        due_ns += (late + 1) * period_ns; /* missed deadlines are skipped */
    }
    cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_ns;
    printf("%lld %lld %ld\n", (long long)cpu_ns,
           (long long)(clock_ns(CLOCK_MONOTONIC) - start_ns), ticks);
    fflush(stdout);
}

int main(int argc, char** argv) {
    double hz, seconds;
    if (argc < 3 || argc - 3 > MOST_FILES || atoi(argv[2]) > MOST_GPUS) {
        fprintf(stderr, "usage: bare_loop LIBRARY GPUS [FILE...]\n");
        return 2;
    }
    prctl(PR_SET_TIMERSLACK, 1UL);
    for (int i = 3; i < argc; ++i) {
        files[file_count] = open(argv[i], O_RDONLY | O_CLOEXEC);
        if (files[file_count++] < 0) {
            perror(argv[i]);
            return 1;
        }
    }
    if (open_gpus(argv[1], atoi(argv[2])) != 0) {
        fprintf(stderr, "bare_loop: cannot open the GPUs of %s\n", argv[1]);
        return 1;
    }
    while (scanf("%lf %lf", &hz, &seconds) == 2) run(hz, seconds);
    return 0;
}
