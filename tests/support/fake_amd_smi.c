/* AMD's management library for sources/amd_smi.cpp, with the structures of one ABI (-DABI=24, 25 or 26).
 *
 * The file that FAKE_AMD_SMI names is what it shows, read at every call:
 *   gpus=2 watts=140 average=140 resolution_nj=15259 unit_nj=15259 refused=0
 * resolution_nj is what it states for a count of the energy, unit_nj what a count is. watts and
 * average may be 65535 or 4294967295: not available. refused: the status of every call.
 *
 * Sizes and offsets: the ctypes layouts in amdsmi_wrapper.py of the wheels amdsmi 6.2.4 (24), 6.4.4 (25)
 * and 7.0.2 (26).
 */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if ABI == 24
struct power_info {
    uint32_t current, average, gfx_voltage, soc_voltage, mem_voltage, limit, reserved[11];
};
_Static_assert(sizeof(struct power_info) == 68, "amdsmi 6.2.4");
_Static_assert(offsetof(struct power_info, average) == 4, "amdsmi 6.2.4");
#elif ABI == 25
struct power_info {
    uint64_t socket;
    uint32_t current, average, gfx_voltage, soc_voltage, mem_voltage, limit, reserved[2];
};
_Static_assert(sizeof(struct power_info) == 40, "amdsmi 6.4.4");
_Static_assert(offsetof(struct power_info, current) == 8, "amdsmi 6.4.4");
#else
struct power_info {
    uint64_t socket;
    uint32_t current, average;
    uint64_t gfx_voltage, soc_voltage, mem_voltage;
    uint32_t limit, padding;
    uint64_t reserved[18];
};
_Static_assert(sizeof(struct power_info) == 192, "amdsmi 7.0.2");
_Static_assert(offsetof(struct power_info, average) == 12, "amdsmi 7.0.2");
#endif

enum { NOT_INITIALIZED = 32, INVALID = 1, MOST = 8 };
static int is_ready;
static char handles[MOST]; /* their addresses are the handles */

static long number(const char *name, long other) {
    char text[512] = " ", key[32];
    const char *path = getenv("FAKE_AMD_SMI");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (file == NULL) return other;
    const size_t got = fread(text + 1, 1, sizeof text - 2, file);
    fclose(file);
    text[1 + got] = '\0';
    snprintf(key, sizeof key, " %s=", name);
    const char *found = strstr(text, key);
    return found ? strtol(found + strlen(key), NULL, 10) : other;
}

static int begin(void) {
    if (!is_ready) return NOT_INITIALIZED;
    return (int)number("refused", 0);
}

int amdsmi_init(uint64_t flags) {
    if (flags != 2) return INVALID;
    is_ready = 1;
    return (int)number("refused", 0);
}

/* One socket for each GPU. */
int amdsmi_get_socket_handles(uint32_t *count, void **sockets) {
    const int status = begin();
    if (status) return status;
    const uint32_t all = (uint32_t)number("gpus", 1);
    for (uint32_t i = 0; sockets != NULL && i < all && i < *count; ++i) sockets[i] = &handles[i];
    *count = all;
    return 0;
}

int amdsmi_get_processor_handles(void *socket, uint32_t *count, void **processors) {
    const int status = begin();
    if (status) return status;
    if (processors != NULL && *count > 0) processors[0] = socket;
    *count = 1;
    return 0;
}

static long index_of(const void *gpu) { return (const char *)gpu - handles; }

int amdsmi_get_gpu_device_bdf(void *gpu, uint64_t *place) {
    const int status = begin();
    *place = (uint64_t)(0x41 + index_of(gpu)) << 8;
    return status;
}

int amdsmi_get_energy_count(void *gpu, uint64_t *count, float *microjoules, uint64_t *t_ns) {
    const int status = begin();
    if (status) return status;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    *t_ns = (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
    const double joules = 1e-9 * (double)*t_ns * (double)number("watts", 140);
    *count = (uint64_t)(joules / (1e-9 * (double)number("unit_nj", 15259)));
    *microjoules = (float)number("resolution_nj", 15259) / 1000.0F;
    (void)gpu;
    return 0;
}

int amdsmi_get_power_info(void *gpu, struct power_info *info) {
    const int status = begin();
    if (status) return status;
    memset(info, 0, sizeof *info);
    info->current = (uint32_t)number("watts", 140);
    info->average = (uint32_t)number("average", 140);
    (void)gpu;
    return 0;
}
