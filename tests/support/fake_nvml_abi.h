/* The structures that cross the boundary of the pretended driver library, as NVML lays them out. */
#ifndef TESTS_SUPPORT_FAKE_NVML_ABI_H
#define TESTS_SUPPORT_FAKE_NVML_ABI_H

#include <stddef.h>

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

struct sample {
    unsigned long long timestamp_us;
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
_Static_assert(sizeof(struct sample) == 16 && offsetof(struct sample, value) == 8, "abi");
_Static_assert(sizeof(struct process_info) == 24, "abi");
_Static_assert(sizeof(struct utilization) == 8, "abi");

#endif
