/* A pretended NVIDIA driver library: libnvidia-ml.so.1 as far as a power reader needs it.
 *
 * FAKE_NVML_SPEC names the file that describes the boards. It is read whenever the
 * reference count leaves zero. Lines: see fake_nvml_device.h, and one
 *   global epoch_ns=N driver=550.54 nvml=12.550.54 init_error=CODE init_us=0 serial=yes|no
 * Time is CLOCK_MONOTONIC less epoch_ns (default: the moment of init), so whoever wrote
 * the spec knows the true energy of any interval. `serial=yes` lets one call run at a
 * time, as a driver lock does.
 *
 * FAKE_NVML_CALLS names a file of native uint64 counters, kept up to date by mmap:
 *   0 all  1 power  2 energy  3 fields  4 init  5 shutdown  6 open (by index, UUID, MIG)
 *   7 processes  8 utilisation  9 other  10 refused: called before init or after fork
 *   11 most calls ever in flight at once
 *   16+4i .. 16+4i+3 for board i: all, power, energy, fields
 */
#define _GNU_SOURCE
#include "fake_nvml_call.h"

struct pci_info {
    char bus_id_legacy[16];
    unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
    char bus_id[32];
};

union value {
    double f64;
    unsigned u32;
    unsigned long ulong;
    unsigned long long u64;
    long long i64;
    int i32;
    unsigned short u16;
};

struct field {
    unsigned field_id, scope_id;
    long long timestamp_us, latency_us;
    int value_type, status;
    union value value;
};

struct process_info {
    unsigned pid;
    unsigned long long used_bytes;
    unsigned gpu_instance, compute_instance;
};

struct utilization {
    unsigned gpu, memory;
};

_Static_assert(sizeof(struct pci_info) == 68 && offsetof(struct pci_info, bus_id) == 36, "abi");
_Static_assert(sizeof(struct field) == 40 && offsetof(struct field, status) == 28, "abi");
_Static_assert(offsetof(struct field, value) == 32 && sizeof(union value) == 8, "abi");
_Static_assert(sizeof(struct process_info) == 24, "abi");
_Static_assert(sizeof(struct utilization) == 8, "abi");

/* ---- life cycle ---------------------------------------------------------- */

int nvmlInitWithFlags(unsigned flags) {
    int code = OK;
    (void)flags;
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
    if (references == 0) code = load();
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
    return open_handle(&devices[index].board, out);
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
        if (has_uuid(&d->board, uuid)) return open_handle(&d->board, out);
        for (int slot = 0; slot < MIG_SLOTS; ++slot)
            if (device_has_instance(d, slot) && has_uuid(&d->instances[slot], uuid))
                return open_handle(&d->instances[slot], out);
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

/* ---- readings ------------------------------------------------------------ */

int nvmlDeviceGetPowerUsage(void* handle, unsigned* milliwatts) {
    struct call call;
    int code = begin_on_board(&call, CALL_POWER, handle, milliwatts);
    if (code == OK && !call.device->usage) code = NOT_SUPPORTED;
    if (code == OK) {
        const struct device* d = call.device;
        *milliwatts = (unsigned)device_power_mw(d, call.now_ns, d->average_ns);
    }
    return end(&call, code);
}

int nvmlDeviceGetTotalEnergyConsumption(void* handle, unsigned long long* millijoules) {
    struct call call;
    int code = begin_on_board(&call, CALL_ENERGY, handle, millijoules);
    if (code == OK && !call.device->energy) code = NOT_SUPPORTED;
    if (code == OK) *millijoules = device_counter_mj(call.device, call.now_ns);
    return end(&call, code);
}

static void field_put(struct field* field, int type, uint64_t value) {
    field->value_type = type;
    field->value.u64 = 0;
    switch (type) {
    case 0: field->value.f64 = (double)value; break;
    case 1: field->value.u32 = (unsigned)value; break;
    case 2: field->value.ulong = (unsigned long)value; break;
    case 4: field->value.i64 = (long long)value; break;
    case 5: field->value.i32 = (int)value; break;
    case 6: field->value.u16 = (unsigned short)value; break;
    default: field->value.u64 = value; break;
    }
}

static int field_energy(const struct call* call, struct field* field) {
    const struct device* d = call->device;
    int code = injected_code(d, CALL_ENERGY, (double)call->now_ns / 1e9);
    if (code == OK && !d->energy) code = NOT_SUPPORTED;
    if (code == OK) field_put(field, d->energy_type, device_counter_mj(d, call->now_ns));
    return code;
}

static int field_power(const struct call* call, struct field* field, int64_t window_ns) {
    const struct device* d = call->device;
    int code = injected_code(d, CALL_POWER, (double)call->now_ns / 1e9);
    if (code == OK && !d->fields) code = NOT_SUPPORTED;
    if (code == OK) field_put(field, d->power_type, device_power_mw(d, call->now_ns, window_ns));
    return code;
}

static int field_limit(const struct call* call, struct field* field, double watts) {
    if (!call->device->fields) return NOT_SUPPORTED;
    field_put(field, 1, (uint64_t)(watts * 1000.0));
    return OK;
}

static int field_fill(const struct call* call, struct field* field) {
    const struct device* d = call->device;
    if (call->injected != OK) return call->injected;
    if (field->scope_id != 0 || call->slot >= 0) return NOT_SUPPORTED;
    switch (field->field_id) {
    case 83:
    case 191: return field_energy(call, field);
    case 185: /* the mean that newer drivers give by the side of the momentary power */
        return field_power(call, field, d->average_ns > 0 ? d->average_ns : 1000000000);
    case 186: return field_power(call, field, 0);
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
    int64_t age = call.now_ns - device_published_ns(call.device, call.now_ns);
    for (int i = 0; i < count; ++i) {
        fields[i].timestamp_us = (clock_ns(CLOCK_REALTIME) - age) / 1000;
        fields[i].latency_us = (long long)(2.0 * call.half_wait_us);
        fields[i].status = field_fill(&call, &fields[i]);
    }
    return end(&call, OK);
}

int nvmlDeviceGetEnforcedPowerLimit(void* handle, unsigned* milliwatts) {
    struct call call;
    int code = begin_on_board(&call, CALL_OTHER, handle, milliwatts);
    if (code == OK) *milliwatts = (unsigned)(call.device->limit_w * 1000.0);
    return end(&call, code);
}

int nvmlDeviceGetPowerManagementLimitConstraints(void* handle, unsigned* least, unsigned* most) {
    struct call call;
    int code = begin_on_board(&call, CALL_OTHER, handle, least != NULL ? most : NULL);
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

static int list_processes(const struct processes* from, unsigned* count, struct process_info* out) {
    unsigned room = *count;
    *count = from->count;
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
    return end(&call, code ? code : list_processes(&call.device->compute, count, out));
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void* handle, unsigned* count,
                                             struct process_info* out) {
    struct call call;
    int code = begin_on(&call, CALL_PROCESSES, handle, count);
    return end(&call, code ? code : list_processes(&call.device->graphics, count, out));
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
    if (code == OK) *out = &call.device->instances[index];
    return end(&call, code);
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void* handle, void** out) {
    struct call call;
    int code = begin_on(&call, CALL_OPEN, handle, out);
    if (code == OK && call.slot < 0) code = INVALID_ARGUMENT;
    if (code == OK) *out = &call.device->board;
    return end(&call, code);
}
