"""Compiles the C doubles into a directory of the caller's choice, each only once."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SOURCES = Path(__file__).parent
NVML_SONAME = "libnvidia-ml.so.1"
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{SOURCES}")
SHARED = ("-shared", "-fPIC")


class NoCompilerError(RuntimeError):
    """There is no C compiler, so the doubles written in C cannot be made."""


class BuildError(RuntimeError):
    """The compiler refused a double; the message holds its output."""


@dataclass(frozen=True)
class Doubles:
    """Where the compiled doubles are."""

    nvml: Path
    powercap: Path


def compiler() -> list[str]:
    """Return the command of the C compiler: `$CC`, else `cc`."""
    command = shlex.split(os.environ.get("CC", "cc"))
    if not command or shutil.which(command[0]) is None:
        asked = " ".join(command) or "an empty $CC"
        raise NoCompilerError(f"no C compiler: {asked} not found; install one or set CC")
    return command


def build(cache: Path) -> Doubles:
    """Compile every double into `cache`, or find them there."""
    return Doubles(nvml=build_nvml(cache), powercap=build_powercap(cache))


def build_nvml(cache: Path, without: Sequence[str] = ()) -> Path:
    """Compile the fake driver library, leaving out the exports named in `without`.

    An export is left out by giving its function another name, which is how an older driver
    looks to `dlsym`.
    """
    renamed = [f"-D{symbol}=absent_{symbol}" for symbol in sorted(without)]
    directory = cache / "-".join(["nvml", *sorted(without)])
    arguments = [*SHARED, *renamed, f"-Wl,-soname,{NVML_SONAME}", _source("fake_nvml.c")]
    return _compile(directory / NVML_SONAME, arguments)


def build_powercap(cache: Path) -> Path:
    """Compile the program that plays RAPL counters into files."""
    return _compile(cache / "fake_powercap", [_source("fake_powercap.c")])


def build_perf(cache: Path) -> Path:
    """Compile the library that stands in for the kernel's perf events."""
    return _compile(cache / "fake_perf.so", [*SHARED, _source("fake_perf.c")])


def build_devices(cache: Path) -> Path:
    """Compile the library that stands in for devices that answer requests."""
    return _compile(cache / "fake_devices.so", [*SHARED, _source("fake_devices.c")])


def build_amd_smi(rocm: Path, abi: int) -> Path:
    """Compile AMD's management library of one ABI as ROCm installs it; return its folder."""
    library = rocm / "lib" / f"libamd_smi.so.{abi}"
    made = _compile(library, [*SHARED, f"-DABI={abi}", _source("fake_amd_smi.c")])
    link = made.with_name("libamd_smi.so")
    link.unlink(missing_ok=True)
    link.symlink_to(made.name)
    return rocm


def build_shared(cache: Path, name: str, text: str) -> Path:
    """Compile C text into the shared library `name`; it may include the headers here."""
    cache.mkdir(parents=True, exist_ok=True)
    source = cache / f"{name}.c"
    source.write_text(text)
    return _compile(cache / f"{name}.so", [*SHARED, str(source)])


def _source(name: str) -> str:
    return str(SOURCES / name)


def _digest(command: Sequence[str]) -> str:
    """Return a digest of the command and of all that it may read."""
    own = [Path(word) for word in command if word.endswith(".c")]
    digest = hashlib.sha256(shlex.join(command).encode())
    for source in sorted({*SOURCES.glob("*.[ch]"), *own}):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _compile(target: Path, arguments: Sequence[str]) -> Path:
    """Compile to another name, then rename: a rival process sees all of the file or none."""
    command = [*compiler(), *FLAGS, *arguments]
    made_from = target.with_name(target.name + ".from")
    recipe = _digest(command)
    if target.exists() and made_from.exists() and made_from.read_text() == recipe:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as directory:
        made = Path(directory) / target.name
        command += ["-o", str(made), "-lm", "-lpthread"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise BuildError(f"{shlex.join(command)}\n{result.stderr}")
        made.replace(target)
        made_from.write_text(recipe)
    return target
