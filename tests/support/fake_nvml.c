/* A pretended NVIDIA driver library: libnvidia-ml.so.1 as far as a power reader needs it.
 *
 * FAKE_NVML_SPEC names the file that describes the boards. It is read whenever the
 * reference count leaves zero. Lines: see fake_nvml_device.h, and one
 *   global epoch_ns=N driver=550.54 nvml=12.550.54 init_error=CODE init_us=0 serial=yes|no
 *          reload_at_s=S reload_takes_s=0
 * Time is CLOCK_MONOTONIC less epoch_ns (default: the moment of init), so the program that wrote
 * the spec knows the true energy of any interval. `serial=yes` lets one call run at a
 * time, as a driver lock does. From reload_at_s on every call is UNINITIALIZED until init is
 * called again, which fails for reload_takes_s; then all counters begin at 0 and the handles of
 * before are invalid.
 *
 * FAKE_NVML_INIT_GATE and FAKE_NVML_NAME_GATE name files for which init and every question for a
 * name wait (gate.h): a driver that takes long, or, where the file is never made, one that hangs.
 *
 * FAKE_NVML_CALLS names a file of native uint64 counters, kept up to date by mmap:
 *   0 all  1 power  2 energy  3 fields  4 init  5 shutdown  6 open (by index, UUID, MIG)
 *   7 processes  8 utilisation  9 other  10 refused: called before init or after fork
 *      (also: fields of unstable number)  11 most calls ever in flight at once  12 samples
 *   16+4i .. 16+4i+3 for board i: all, power, energy, fields
 */
#define _GNU_SOURCE
#include "fake_nvml_abi.h"
#include "fake_nvml_call.h"
#include "fake_nvml_read.h"

/* ---- life cycle ---------------------------------------------------------- */

int nvmlInitWithFlags(unsigned flags) {
    int code = OK;
    (void)flags;
    wait_for_gate("FAKE_NVML_INIT_GATE");
    if (owner != 0 && owner != getpid()) { /* a forked child starts from nothing */
        pthread_mutex_init(&init_lock, NULL);
        pthread_mutex_init(&driver_lock, NULL);
        references = 0;
        in_flight = 0;
        owner = 0;
    }
    pthread_mutex_lock(&init_lock);
    counters_open();
    count_slot(CALL_ALL);
    count_slot(CALL_INIT);
    if (references == 0)
        code = load();
    else if (is_reloading())
        code = reload();
    if (code == OK) {
        owner = getpid();
        ++references;
    }
    pthread_mutex_unlock(&init_lock);
    return code;
}

int nvmlInit_v2(void) {
    return nvmlInitWithFlags(0);
}

int nvmlShutdown(void) {
    if (!is_alive()) {
        count_slot(CALL_REFUSED);
        return UNINITIALIZED;
    }
    pthread_mutex_lock(&init_lock);
    count_slot(CALL_ALL);
    count_slot(CALL_SHUTDOWN);
    --references;
    pthread_mutex_unlock(&init_lock);
    return OK;
}

const char* nvmlErrorString(int code) {
    static const struct {
        int code;
        const char* text;
    } texts[] = {
        {OK, "Success"},
        {UNINITIALIZED, "Uninitialized"},
        {INVALID_ARGUMENT, "Invalid Argument"},
        {NOT_SUPPORTED, "Not Supported"},
        {4, "Insufficient Permissions"},
        {NOT_FOUND, "Not Found"},
        {INSUFFICIENT_SIZE, "Insufficient Size"},
        {DRIVER_NOT_LOADED, "Driver Not Loaded"},
        {10, "Timeout"},
        {15, "GPU is lost"},
        {16, "GPU requires reset"},
        {18, "Driver/library version mismatch"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; ++i)
        if (texts[i].code == code) return texts[i].text;
    return "Unknown Error";
}

int nvmlSystemGetDriverVersion(char* out, unsigned length) {
    struct call call;
    int code = begin(&call, CALL_OTHER, NULL);
    return end(&call, code != OK ? code : put_text(out, length, setup.driver));
}

int nvmlSystemGetNVMLVersion(char* out, unsigned length) {
    struct call call;
    int code = begin(&call, CALL_OTHER, NULL);
    return end(&call, code != OK ? code : put_text(out, length, setup.nvml));
}

/* ---- finding boards ------------------------------------------------------ */

int nvmlDeviceGetCount_v2(unsigned* count) {
    struct call call;
    int code = begin(&call, CALL_OTHER, NULL);
    if (code == OK) *count = (unsigned)device_count;
    return end(&call, code);
}

static int open_handle(struct handle* found, void** out) {
    struct call call;
    int code = begin(&call, CALL_OPEN, found);
    if (code == OK) *out = found;
    return end(&call, code);
}

static int refuse_open(int reason) {
    struct call call;
    int code = begin(&call, CALL_OPEN, NULL);
    return end(&call, code != OK ? code : reason);
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** out) {
    if (out == NULL || !is_alive() || index >= (unsigned)device_count)
        return refuse_open(INVALID_ARGUMENT);
    return open_handle(device_board(&devices[index]), out);
}

static int has_uuid(const struct handle* handle, const char* uuid) {
    char own[TEXT];
    device_uuid(handle, own);
    return strcmp(own, uuid) == 0;
}

int nvmlDeviceGetHandleByUUID(const char* uuid, void** out) {
    if (uuid == NULL || out == NULL || !is_alive()) return refuse_open(INVALID_ARGUMENT);
    for (int i = 0; i < device_count; ++i) {
        struct device* d = &devices[i];
        if (has_uuid(device_board(d), uuid)) return open_handle(device_board(d), out);
        for (int slot = 0; slot < MIG_SLOTS; ++slot)
            if (device_has_instance(d, slot) && has_uuid(device_instance(d, slot), uuid))
                return open_handle(device_instance(d, slot), out);
    }
    return refuse_open(NOT_FOUND);
}

int nvmlDeviceGetUUID(void* handle, char* out, unsigned length) {
    struct call call;
    char uuid[TEXT];
    int code = begin_on(&call, CALL_OTHER, handle, out);
    if (code == OK) {
        device_uuid(handle, uuid);
        code = put_text(out, length, uuid);
    }
    return end(&call, code);
}

int nvmlDeviceGetName(void* handle, char* out, unsigned length) {
    struct call call;
    char name[TEXT + 16];
    wait_for_gate("FAKE_NVML_NAME_GATE");
    int code = begin_on(&call, CALL_OTHER, handle, out);
    if (code == OK) {
        snprintf(name, sizeof name, "%s%s", call.device->name, call.slot < 0 ? "" : " MIG 1g");
        code = put_text(out, length, name);
    }
    return end(&call, code);
}

int nvmlDeviceGetIndex(void* handle, unsigned* index) {
    struct call call;
    int code = begin_on(&call, CALL_OTHER, handle, index);
    if (code == OK) *index = (unsigned)(call.slot < 0 ? call.device->index : call.slot);
    return end(&call, code);
}

int nvmlDeviceGetPciInfo_v3(void* handle, struct pci_info* pci) {
    struct call call;
    int code = begin_on(&call, CALL_OTHER, handle, pci);
    if (code == OK) {
        memset(pci, 0, sizeof *pci);
        pci->bus = 0x10u + (unsigned)call.device->index;
        snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02X:00.0", pci->bus & 0xffu);
        snprintf(pci->bus_id_legacy, sizeof pci->bus_id_legacy, "0000:%02X:00.0", pci->bus & 0xffu);
    }
    return end(&call, code);
}

/* ---- what else there is to know about a board ----------------------------- */

int nvmlDeviceGetEnforcedPowerLimit(void* handle, unsigned* milliwatts) {
    struct call call;
    int code = begin_on_board(&call, CALL_OTHER, handle, milliwatts);
    if (code == OK && !call.device->limits) code = NOT_SUPPORTED;
    if (code == OK) *milliwatts = (unsigned)(call.device->limit_w * 1000.0);
    return end(&call, code);
}

int nvmlDeviceGetPowerManagementLimitConstraints(void* handle, unsigned* least, unsigned* most) {
    struct call call;
    int code = begin_on_board(&call, CALL_OTHER, handle, least != NULL ? most : NULL);
    if (code == OK && !call.device->limits) code = NOT_SUPPORTED;
    if (code == OK) {
        *least = (unsigned)(call.device->min_w * 1000.0);
        *most = (unsigned)(call.device->max_w * 1000.0);
    }
    return end(&call, code);
}

int nvmlDeviceGetArchitecture(void* handle, unsigned* architecture) {
    struct call call;
    int code = begin_on(&call, CALL_OTHER, handle, architecture);
    if (code == OK) *architecture = (unsigned)call.device->arch;
    return end(&call, code);
}

int nvmlDeviceGetVirtualizationMode(void* handle, int* mode) {
    struct call call;
    int code = begin_on(&call, CALL_OTHER, handle, mode);
    if (code == OK) *mode = call.device->is_virtual;
    return end(&call, code);
}

int nvmlDeviceGetPersistenceMode(void* handle, int* mode) {
    struct call call;
    int code = begin_on(&call, CALL_OTHER, handle, mode);
    if (code == OK) *mode = call.device->persistence;
    return end(&call, code);
}

int nvmlDeviceGetUtilizationRates(void* handle, struct utilization* out) {
    struct call call;
    int code = begin_on_board(&call, CALL_UTILISATION, handle, out);
    if (code == OK) {
        out->gpu = (unsigned)call.device->util;
        out->memory = out->gpu / 2;
    }
    return end(&call, code);
}

static int list_processes(struct device* d, const struct processes* from, unsigned* count,
                          struct process_info* out) {
    unsigned room = *count;
    *count = from->count;
    if (room > 0 && d->pid_race > 0) { /* some more came since the length was asked */
        --d->pid_race;
        *count = room + 1;
        return INSUFFICIENT_SIZE;
    }
    if (from->count > room || (from->count > 0 && out == NULL)) return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < from->count; ++i) {
        out[i].pid = from->list[i].pid;
        out[i].used_bytes = from->list[i].bytes;
        out[i].gpu_instance = out[i].compute_instance = ~0u;
    }
    return OK;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void* handle, unsigned* count,
                                            struct process_info* out) {
    struct call call;
    int code = begin_on(&call, CALL_PROCESSES, handle, count);
    struct device* d = call.device;
    return end(&call, code ? code : list_processes(d, &d->compute, count, out));
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void* handle, unsigned* count,
                                             struct process_info* out) {
    struct call call;
    int code = begin_on(&call, CALL_PROCESSES, handle, count);
    struct device* d = call.device;
    return end(&call, code ? code : list_processes(d, &d->graphics, count, out));
}

/* ---- MIG ----------------------------------------------------------------- */

int nvmlDeviceGetMigMode(void* handle, unsigned* current, unsigned* pending) {
    struct call call;
    int code = begin_on_board(&call, CALL_OTHER, handle, current != NULL ? pending : NULL);
    if (code == OK && call.device->mig < 0) code = NOT_SUPPORTED;
    if (code == OK) *current = *pending = call.device->mig > 0;
    return end(&call, code);
}

int nvmlDeviceGetMaxMigDeviceCount(void* handle, unsigned* count) {
    struct call call;
    int code = begin_on_board(&call, CALL_OTHER, handle, count);
    if (code == OK) *count = call.device->mig < 0 ? 0 : MIG_SLOTS;
    return end(&call, code);
}

int nvmlDeviceIsMigDeviceHandle(void* handle, unsigned* is_mig) {
    struct call call;
    int code = begin_on(&call, CALL_OTHER, handle, is_mig);
    if (code == OK) *is_mig = call.slot >= 0;
    return end(&call, code);
}

int nvmlDeviceGetMigDeviceHandleByIndex(void* handle, unsigned index, void** out) {
    struct call call;
    int code = begin_on_board(&call, CALL_OPEN, handle, out);
    if (code == OK && call.device->mig < 0) code = NOT_SUPPORTED;
    if (code == OK && index >= MIG_SLOTS) code = INVALID_ARGUMENT;
    if (code == OK && !device_has_instance(call.device, (int)index)) code = NOT_FOUND;
    if (code == OK) *out = device_instance(call.device, (int)index);
    return end(&call, code);
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void* handle, void** out) {
    struct call call;
    int code = begin_on(&call, CALL_OPEN, handle, out);
    if (code == OK && call.slot < 0) code = INVALID_ARGUMENT;
    if (code == OK) *out = device_board(call.device);
    return end(&call, code);
}

/* ---- for tests only ------------------------------------------------------ */

/* Names without a suffix exist too, with an older ABI: no program may call them. */
#define LEGACY(name)                                                                               \
    void name(void) {                                                                              \
        abort();                                                                                   \
    }
LEGACY(nvmlInit)
LEGACY(nvmlDeviceGetCount)
LEGACY(nvmlDeviceGetHandleByIndex)
LEGACY(nvmlDeviceGetPciInfo)
LEGACY(nvmlDeviceGetComputeRunningProcesses)
LEGACY(nvmlDeviceGetGraphicsRunningProcesses)

/* Lets time pass for the boards at once. What they showed before lies further back from then on. */
void fake_nvml_advance_ms(long long ms) {
    setup.epoch_ns -= ms * 1000000;
}
