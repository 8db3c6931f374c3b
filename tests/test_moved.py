"""Import paths of the release before go on working, and say where the module is now."""

from __future__ import annotations

import importlib
import sys

import pytest

from carbontracker import times
from carbontracker._moved import MOVED, RENAMED
from carbontracker.intensity import service


@pytest.mark.parametrize("old", sorted(MOVED))
def test_an_old_path_leads_to_the_new_module(old: str) -> None:
    sys.modules.pop(f"carbontracker.{old}", None)
    first, *more = MOVED[old].split()
    with pytest.warns(DeprecationWarning, match=first.replace(".", r"\.")):
        moved = importlib.import_module(f"carbontracker.{old}")
    seen: set[str] = set()
    for new in (importlib.import_module(f"carbontracker.{name}") for name in (first, *more)):
        names = [name for name in vars(new) if not name.startswith("_") and name not in seen]
        seen.update(names)
        assert names
        assert all(getattr(moved, name) is getattr(new, name) for name in names)
        assert new.__spec__ is not None
        assert new.__spec__.name == new.__name__


def test_an_old_name_leads_to_the_new_one() -> None:
    for old, names in RENAMED.items():
        moved = importlib.import_module(f"carbontracker.{old}")
        new = [importlib.import_module(f"carbontracker.{name}") for name in MOVED[old].split()]
        for was, name in names.items():
            assert any(getattr(moved, was) is getattr(one, name, None) for one in new)


@pytest.mark.parametrize(("old", "new"), [("iso", times.iso_utc), ("moment", times.parse_utc)])
def test_a_provider_written_for_the_release_before_finds_its_functions(
    old: str, new: object
) -> None:
    with pytest.warns(DeprecationWarning, match=new.__name__):  # type: ignore[attr-defined]
        assert getattr(service, old) is new
    with pytest.raises(AttributeError, match="nothing"):
        service.nothing  # noqa: B018  # the access is the test


def test_what_has_not_moved_is_not_found() -> None:
    for name in ("carbontracker.nothing", "carbontracker.ahead.nothing"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(name)
