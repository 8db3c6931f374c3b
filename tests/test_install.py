"""What the documents and messages say of installing is what a reader can do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from carbontracker import _core
from carbontracker.exceptions import MissingExtra
from carbontracker.extras import PACKAGES, optional_module

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parents[1]
TEXTS = [
    path
    for folder in ("python", "docs", "examples", "bench", "tests")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".md", ".ipynb", ".sh") and path != Path(__file__)
] + [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml")]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_line_installs_from_an_index_that_has_another_carbontracker(path: Path) -> None:
    assert not installs_from_an_index(path.read_text(encoding="utf-8"))


INSTALLERS = re.compile(
    r"\b(?:pip[\d.]* (?:install|download|wheel)|pipx (?:install|run|inject)|uvx|uv (?:add|run|tool)"
    r"|(?:conda|mamba|micromamba) (?:install|create)|(?:poetry|pdm|pixi|rye) add|easy_install)\b"
    r"(?:\\\n|[^\n`])*"
)


def installs_from_an_index(text: str) -> list[str]:
    """Return the commands in a text that take a package called carbontracker from an index."""
    commands = [found[0] for found in INSTALLERS.finditer(text)]
    name = re.compile(
        r"(?<![\w./\\-])carbontracker(?:\[[\w,]*\])?(?![\w./-]|==2\.|[^\s'\"]*\.whl| @ )"
    )
    return [command for command in commands if name.search(command)]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("pip install carbontracker", True),
        ("pip install 'carbontracker[plot]'", True),
        ("python -m pip install -U carbontracker==3.0", True),
        ("!pip3 install --quiet carbontracker\\n", True),
        ("uv pip install carbontracker", True),
        ("uv add carbontracker", True),
        ("uvx carbontracker sensors", True),
        ("pipx install carbontracker", True),
        ("conda install -c conda-forge carbontracker", True),
        ("pip install numpy \\\n    carbontracker", True),
        ("pip install .", False),
        ("pip install carbontracker==2.4.7", False),
        ("pip install dist/*.whl", False),
        ("pip install carbontracker-3.0.0-py3-none-any.whl", False),
        ("pip install 'carbontracker @ https://example.org/carbontracker-3.0.0.whl'", False),
        ("pip install matplotlib", False),
        ("carbontracker run -- python train.py", False),
    ],
)
def test_a_command_that_takes_ours_from_an_index_is_found(line: str, found: bool) -> None:
    assert bool(installs_from_an_index(line)) == found


def test_pip_builds_outside_of_the_sources() -> None:
    """Two builds of the same tree at once, for example of two environments, must not meet."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "build-dir" not in project["tool"]["scikit-build"]


def test_every_extra_names_its_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {
        extra: tuple(re.split(r"[<>=!~ ;\[]", one)[0] for one in wanted)
        for extra, wanted in project["optional-dependencies"].items()
    }
    assert declared == PACKAGES


@pytest.mark.parametrize("extra", PACKAGES)
def test_a_missing_package_is_named_with_its_command(extra: str) -> None:
    with pytest.raises(MissingExtra) as caught:
        optional_module("no_such_module_here", extra)
    assert str(caught.value).endswith(": pip install " + " ".join(PACKAGES[extra]))
    assert isinstance(caught.value, ImportError)


def test_the_core_exports_only_its_entry() -> None:
    """Other symbols might meet those of another extension in the same process."""
    assert _core.__file__ is not None
    listed = subprocess.run(
        ["nm", "--dynamic", "--defined-only", _core.__file__],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    symbols = [line.split()[-2:] for line in listed.splitlines()]
    exported = [name.partition("@")[0] for kind, name in symbols if kind.isupper()]
    assert exported == ["PyInit__core"]


def test_the_citation_has_the_version_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {project['version']}\n" in citation


def test_the_readme_is_short_and_says_what_other_systems_get() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 700
    assert re.search(r"On macOS and Windows, use `pip install .`:\s+it only estimates", text)


def test_every_picture_is_on_a_page() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    texts = "".join(page.read_text(encoding="utf-8") for page in pages)
    pictures = {path.name for path in (ROOT / "docs" / "pictures").iterdir()}
    assert {name for name in pictures if f"pictures/{name})" not in texts} == set()
