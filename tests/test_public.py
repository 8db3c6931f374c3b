"""The public surface: what is listed exists, whatever else has been imported."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import carbontracker


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


def test_names_are_functions_whatever_was_imported_first() -> None:
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


def test_track_says_what_it_cannot_follow() -> None:
    with pytest.raises(TypeError, match="put @track below it"):
        carbontracker.track(classmethod(lambda cls: cls))  # type: ignore[call-overload]  # the test
