"""Our declarations of NVML's ABI against NVIDIA's own header; and that every trap has its test.

The header belongs to `nvidia-nvml-dev-cu12`, under a licence of its own: it is neither needed to
build nor shipped, and where that package is not installed its tests are skipped.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("nvidia-nvml-dev-cu12", "nvidia-nvml-dev-cu13", "nvidia-nvml-dev")

COMPARISON = """
#include <nvml.h>
#include "sources/nvidia/abi.hpp"
#include "sources/nvidia/library.hpp"
namespace ours = carbontracker::nvml;
#define SAME(us, them) static_assert((us) == (them))
#define SAME_SIZE(us, them) SAME(sizeof(ours::us), sizeof(them))
#define SAME_PLACE(us, m, them, n) SAME(offsetof(ours::us, m), offsetof(them, n)); \\
    SAME(sizeof(ours::us::m), sizeof(them::n))

SAME_SIZE(Device, nvmlDevice_t);
SAME_SIZE(Value, nvmlValue_t);
SAME_SIZE(FieldValue, nvmlFieldValue_t);
SAME_PLACE(FieldValue, field_id, nvmlFieldValue_t, fieldId);
SAME_PLACE(FieldValue, scope_id, nvmlFieldValue_t, scopeId);
SAME_PLACE(FieldValue, timestamp_us, nvmlFieldValue_t, timestamp);
SAME_PLACE(FieldValue, latency_us, nvmlFieldValue_t, latencyUsec);
SAME_PLACE(FieldValue, value_type, nvmlFieldValue_t, valueType);
SAME_PLACE(FieldValue, status, nvmlFieldValue_t, nvmlReturn);
SAME_PLACE(FieldValue, value, nvmlFieldValue_t, value);
SAME_SIZE(Sample, nvmlSample_t);
SAME_PLACE(Sample, timestamp_us, nvmlSample_t, timeStamp);
SAME_PLACE(Sample, value, nvmlSample_t, sampleValue);
SAME_SIZE(PciInfo, nvmlPciInfo_t);
SAME_PLACE(PciInfo, bus_id_legacy, nvmlPciInfo_t, busIdLegacy);
SAME_PLACE(PciInfo, domain, nvmlPciInfo_t, domain);
SAME_PLACE(PciInfo, bus, nvmlPciInfo_t, bus);
SAME_PLACE(PciInfo, device, nvmlPciInfo_t, device);
SAME_PLACE(PciInfo, bus_id, nvmlPciInfo_t, busId);
SAME_SIZE(ProcessInfo, nvmlProcessInfo_t);
SAME_PLACE(ProcessInfo, pid, nvmlProcessInfo_t, pid);
SAME_PLACE(ProcessInfo, used_bytes, nvmlProcessInfo_t, usedGpuMemory);

SAME(int{ours::kUninitialized}, int{NVML_ERROR_UNINITIALIZED});
SAME(int{ours::kInvalidArgument}, int{NVML_ERROR_INVALID_ARGUMENT});
SAME(int{ours::kNotSupported}, int{NVML_ERROR_NOT_SUPPORTED});
SAME(int{ours::kNoPermission}, int{NVML_ERROR_NO_PERMISSION});
SAME(int{ours::kNotFound}, int{NVML_ERROR_NOT_FOUND});
SAME(int{ours::kInsufficientSize}, int{NVML_ERROR_INSUFFICIENT_SIZE});
SAME(int{ours::kInsufficientPower}, int{NVML_ERROR_INSUFFICIENT_POWER});
SAME(int{ours::kDriverNotLoaded}, int{NVML_ERROR_DRIVER_NOT_LOADED});
SAME(int{ours::kIrqIssue}, int{NVML_ERROR_IRQ_ISSUE});
SAME(int{ours::kLibraryNotFound}, int{NVML_ERROR_LIBRARY_NOT_FOUND});
SAME(int{ours::kFunctionNotFound}, int{NVML_ERROR_FUNCTION_NOT_FOUND});
SAME(int{ours::kGpuIsLost}, int{NVML_ERROR_GPU_IS_LOST});
SAME(int{ours::kResetRequired}, int{NVML_ERROR_RESET_REQUIRED});
SAME(int{ours::kOperatingSystem}, int{NVML_ERROR_OPERATING_SYSTEM});
SAME(int{ours::kVersionMismatch}, int{NVML_ERROR_LIB_RM_VERSION_MISMATCH});
SAME(int{ours::kNoData}, int{NVML_ERROR_NO_DATA});
SAME(int{ours::kArgumentVersionMismatch}, int{NVML_ERROR_ARGUMENT_VERSION_MISMATCH});
SAME(int{ours::kDeprecated}, int{NVML_ERROR_DEPRECATED});
SAME(int{ours::kGpuNotFound}, int{NVML_ERROR_GPU_NOT_FOUND});
SAME(int{ours::kUnknown}, int{NVML_ERROR_UNKNOWN});

SAME(ours::kFieldEnergy + 0U, NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION + 0U);
SAME(ours::kFieldPowerAverage + 0U, NVML_FI_DEV_POWER_AVERAGE + 0U);
SAME(ours::kFieldPowerInstant + 0U, NVML_FI_DEV_POWER_INSTANT + 0U);
SAME(ours::kScopeGpu + 0U, NVML_POWER_SCOPE_GPU);
SAME(ours::kScopeModule + 0U, NVML_POWER_SCOPE_MODULE);
SAME(int{ours::kDouble}, int{NVML_VALUE_TYPE_DOUBLE});
SAME(int{ours::kUnsignedInt}, int{NVML_VALUE_TYPE_UNSIGNED_INT});
SAME(int{ours::kUnsignedLong}, int{NVML_VALUE_TYPE_UNSIGNED_LONG});
SAME(int{ours::kUnsignedLongLong}, int{NVML_VALUE_TYPE_UNSIGNED_LONG_LONG});
SAME(int{ours::kSignedLongLong}, int{NVML_VALUE_TYPE_SIGNED_LONG_LONG});
SAME(int{ours::kSignedInt}, int{NVML_VALUE_TYPE_SIGNED_INT});
SAME(int{ours::kUnsignedShort}, int{NVML_VALUE_TYPE_UNSIGNED_SHORT});
SAME(ours::kTotalPowerSamples, int{NVML_TOTAL_POWER_SAMPLES});
SAME(ours::kVirtualGpu, int{NVML_GPU_VIRTUALIZATION_MODE_VGPU});
SAME(ours::kUuidSize, NVML_DEVICE_UUID_V2_BUFFER_SIZE + 0U);
SAME(ours::kNameSize, NVML_DEVICE_NAME_V2_BUFFER_SIZE + 0U);

// The names that are bound, with their parameters: only what NVIDIA's types convert to.
void check(ours::Device raw) {
    auto device = static_cast<nvmlDevice_t>(raw);
    unsigned n = 0;
    unsigned long long wide = 0;
    nvmlDevice_t found{};
    nvmlValueType_t type{};
    nvmlGpuVirtualizationMode_t mode{};
    nvmlPciInfo_t pci{};
    nvmlInit_v2();
    nvmlDeviceGetCount_v2(&n);
    nvmlDeviceGetHandleByIndex_v2(n, &found);
    nvmlDeviceGetHandleByUUID("", &found);
    nvmlDeviceGetPowerUsage(device, &n);
    nvmlDeviceGetTotalEnergyConsumption(device, &wide);
    nvmlDeviceGetFieldValues(device, 1, static_cast<nvmlFieldValue_t*>(nullptr));
    nvmlDeviceGetSamples(device, NVML_TOTAL_POWER_SAMPLES, wide, &type, &n,
                         static_cast<nvmlSample_t*>(nullptr));
    nvmlDeviceGetEnforcedPowerLimit(device, &n);
    nvmlDeviceGetPowerManagementLimitConstraints(device, &n, &n);
    nvmlDeviceGetArchitecture(device, &n);
    nvmlDeviceGetPciInfo_v3(device, &pci);
    nvmlDeviceGetVirtualizationMode(device, &mode);
    nvmlDeviceGetComputeRunningProcesses_v3(device, &n, static_cast<nvmlProcessInfo_t*>(nullptr));
    nvmlDeviceGetGraphicsRunningProcesses_v3(device, &n, static_cast<nvmlProcessInfo_t*>(nullptr));
    nvmlDeviceGetMaxMigDeviceCount(device, &n);
    nvmlDeviceGetMigDeviceHandleByIndex(device, n, &found);
}
SAME(sizeof(nvmlReturn_t), sizeof(int));
SAME(sizeof(nvmlValueType_t), sizeof(int));
SAME(sizeof(nvmlGpuVirtualizationMode_t), sizeof(int));
SAME(sizeof(nvmlSamplingType_t), sizeof(int));
"""


def nvidia_header() -> Path:
    """Return NVIDIA's nvml.h; skip where no package has brought it."""
    for package in PACKAGES:
        try:
            files = metadata.files(package) or []
        except metadata.PackageNotFoundError:
            continue
        for file in files:
            if file.name == "nvml.h":
                return Path(str(file.locate()))
    pytest.skip(f"no nvml.h: none of {', '.join(PACKAGES)} is installed")


def compile_as(tmp_path: Path, compiler: str, standard: str, text: str, *folders: Path) -> None:
    """Let the compiler check `text`, with NVIDIA's names without the renaming of its macros."""
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    source = tmp_path / ("abi.cpp" if compiler == "c++" else "abi.c")
    source.write_text(text)
    flags = [
        f"-std={standard}",
        "-Wall",
        "-Wno-unused",
        "-fsyntax-only",
        "-DNVML_NO_UNVERSIONED_FUNC_DEFS",
    ]
    includes = [f"-I{folder}" for folder in folders]
    done = subprocess.run(
        [compiler, *flags, *includes, str(source)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_n3_our_layouts_and_numbers_are_nvidias(tmp_path: Path) -> None:
    header = nvidia_header()
    compile_as(tmp_path, "c++", "c++20", COMPARISON, header.parent, ROOT / "cpp" / "src")


def test_n3_the_fake_has_nvidias_layouts_too(tmp_path: Path) -> None:
    header = nvidia_header()
    pairs = {
        "pci_info": "nvmlPciInfo_t",
        "field": "nvmlFieldValue_t",
        "sample": "nvmlSample_t",
        "process_info": "nvmlProcessInfo_t",
        "utilization": "nvmlUtilization_t",
    }
    places = {
        ("field", "timestamp_us"): "timestamp",
        ("field", "status"): "nvmlReturn",
        ("field", "value"): "value",
        ("sample", "value"): "sampleValue",
        ("pci_info", "bus_id"): "busId",
        ("process_info", "used_bytes"): "usedGpuMemory",
    }
    lines = ["#include <nvml.h>", '#include "fake_nvml_abi.h"']
    for ours, theirs in pairs.items():
        lines.append(f'_Static_assert(sizeof(struct {ours}) == sizeof({theirs}), "");')
    for (ours, member), theirs in places.items():
        at = f"offsetof({pairs[ours]}, {theirs})"
        lines.append(f'_Static_assert(offsetof(struct {ours}, {member}) == {at}, "");')
    text = "\n".join(lines) + "\n"
    compile_as(tmp_path, "cc", "gnu11", text, header.parent, ROOT / "tests" / "support")


def test_every_trap_has_tests_that_exist() -> None:
    rows = [
        line.split("|")
        for line in (ROOT / "docs" / "traps-nvml.md").read_text().splitlines()
        if re.match(r"\| N\d+ ", line)
    ]
    assert [row[1].strip() for row in rows] == [f"N{number}" for number in range(1, 26)]
    for row in rows:
        named = re.findall(r"`([\w/.]+)::(\w+)`", row[-2])
        assert named, row
        for file, test in named:
            text = (ROOT / "tests" / file).read_text()
            assert re.search(rf"(TEST\({test}\)|def {test}\()", text), f"{file}::{test}"
