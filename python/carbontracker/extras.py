"""Packages that single features need, and the command that installs them.

Messages name the packages, not an extra of this one: until a release is on the package index, pip
would install version 2.4.x from there.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from carbontracker.exceptions import MissingExtra

PACKAGES = {
    "completion": ("shtab",),
    "declare": ("tomli",),  # before Python 3.11
    "mlflow": ("mlflow-skinny",),
    "otlp": ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"),
    "parquet": ("pyarrow",),
    "pdf": ("reportlab",),
    "pdfreport": ("reportlab",),  # the name of pdf in 2.4.x
    "plot": ("matplotlib",),
    "tensorboard": ("tensorboard",),
    "trace": ("pyarrow",),
    "wandb": ("wandb",),
}
"""Distributions by the name of the extra, as in ``pyproject.toml``."""


def optional_module(module: str, extra: str) -> Any:
    """Import a module of a package that an extra installs.

    Raises:
        MissingExtra: the package cannot be imported; the message has the command to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise missing_extra(extra, error) from error


def missing_extra(extra: str, error: ImportError) -> MissingExtra:
    """Return the exception of a feature whose packages cannot be imported."""
    packages = " ".join(PACKAGES[extra])
    return MissingExtra(
        f"{extra} needs {packages}, which cannot be imported ({error}): pip install {packages}"
    )
