"""One root of all exceptions of the package, whose names of version 2.4 and other bases stay."""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil

import pytest

import carbontracker
from carbontracker import exceptions
from carbontracker.exceptions import CarbonTrackerError

OTHER_BASES = {
    "IntensityUnavailable": RuntimeError,
    "MissingExtra": RuntimeError,
    "NoEpochError": RuntimeError,
    "TableError": RuntimeError,
    "NoSuchRun": LookupError,
    "UnknownAccelerator": ValueError,
    "UnknownLocation": ValueError,
}
"""What a caller of earlier versions catches."""


def all_exceptions() -> set[type[BaseException]]:
    """Return every exception class that a module of the package defines."""
    found = set()
    for module in pkgutil.walk_packages(carbontracker.__path__, "carbontracker."):
        if module.name.endswith("__main__"):
            continue
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(kind, BaseException) and kind.__module__.startswith("carbontracker"):
                found.add(kind)
    return found


def test_every_exception_of_the_package_derives_from_the_root() -> None:
    found = all_exceptions()
    assert {one.__name__ for one in found} >= {*OTHER_BASES, "UnitError", "BudgetExceeded"}
    assert [one for one in found if not issubclass(one, CarbonTrackerError)] == []


def test_every_public_exception_is_in_one_module_and_in_the_package() -> None:
    public = {one for one in all_exceptions() if one.__module__ == "carbontracker.exceptions"}
    assert {one.__name__ for one in public} == set(exceptions.__all__)
    for name in exceptions.__all__:
        assert getattr(carbontracker, name) is getattr(exceptions, name)
        assert name in dir(carbontracker)


@pytest.mark.parametrize(("name", "base"), OTHER_BASES.items())
def test_exceptions_keep_their_builtin_base_classes(name: str, base: type[Exception]) -> None:
    assert issubclass(getattr(exceptions, name), base)


def test_exceptions_cross_processes_whole() -> None:
    error = exceptions.IntensityUnavailable("down", 503, 7.0)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.reason, copy.status, copy.retry_after_s) == ("down", "down", 503, 7.0)
    unit = pickle.loads(pickle.dumps(exceptions.UnitError("J", "W", "not joules")))
    assert (unit.expected_unit, unit.received_unit, str(unit)) == ("J", "W", "not joules")
    over = pickle.loads(pickle.dumps(exceptions.BudgetExceeded("max_kwh", 1.0, 2.0, "measured")))
    assert (over.limit, over.most, over.value, over.basis) == ("max_kwh", 1.0, 2.0, "measured")
