"""The public surface: what is listed exists, whatever else has been imported."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import carbontracker

ROOT = Path(__file__).parents[1]
PUBLIC = (
    "carbontracker",
    *("carbontracker.tracker", "carbontracker.parser", "carbontracker.exceptions"),
    *("carbontracker.intensity", "carbontracker.loggers", "carbontracker.prediction"),
    *("carbontracker.records", "carbontracker.carbon"),
    *(
        f"carbontracker.integrations.{name}"
        for name in ("transformers", "lightning", "keras", "accelerate")
    ),
    "carbontracker.times",  # for a provider, which is a file of the package
)
"""Import paths that documents may use."""
IMPORT = re.compile(r"^from (carbontracker[\w.]*) import (.+)$", re.MULTILINE)


def test_everything_listed_is_there() -> None:
    for name in carbontracker.__all__:
        assert getattr(carbontracker, name) is not None
    assert dir(carbontracker) == sorted(carbontracker.__all__)


def test_no_module_takes_the_place_of_a_public_name() -> None:
    modules = {module.name for module in pkgutil.iter_modules(carbontracker.__path__)}
    assert modules.isdisjoint(carbontracker.__all__)


def packages_with_names() -> list[str]:
    packages = [
        module.name for module in pkgutil.iter_modules(carbontracker.__path__) if module.ispkg
    ]
    loaded = {name: importlib.import_module(f"carbontracker.{name}") for name in packages}
    return [name for name, package in loaded.items() if hasattr(package, "__all__")]


@pytest.mark.parametrize("package", packages_with_names())
def test_everything_that_a_package_lists_is_there(package: str) -> None:
    found = importlib.import_module(f"carbontracker.{package}")
    for name in found.__all__:
        assert getattr(found, name) is not None
    modules = {module.name for module in pkgutil.iter_modules(found.__path__)}
    assert modules.isdisjoint(found.__all__)


@pytest.mark.parametrize(
    "page", ["README.md", *sorted(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]
)
def test_documents_import_public_names_only(page: str) -> None:
    for module, names in IMPORT.findall((ROOT / page).read_text(encoding="utf-8")):
        assert module in PUBLIC
        found = importlib.import_module(module)
        for name in (one.split(" as ")[0].strip() for one in names.split(",")):
            # A class of a framework is not asked for: the framework may not be installed.
            assert name in getattr(found, "__all__", ()) or hasattr(found, name)


def test_names_are_functions_in_any_order_of_imports() -> None:
    program = (
        "import pkgutil, importlib, carbontracker as ct\n"
        "for module in pkgutil.walk_packages(ct.__path__, 'carbontracker.'):\n"
        "    if not module.name.endswith('__main__'): importlib.import_module(module.name)\n"
        "assert callable(ct.measure) and callable(ct.track) and callable(ct.sensors)\n"
        "assert callable(ct.CarbonTracker)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(carbontracker, "nothing_of_the_kind")


def test_track_names_what_it_cannot_measure() -> None:
    with pytest.raises(TypeError, match="put @track below it"):
        carbontracker.track(classmethod(lambda cls: cls))  # type: ignore[call-overload]  # the test
