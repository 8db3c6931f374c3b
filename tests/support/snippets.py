"""The fenced blocks of the documents: found, run, and compared with what the documents show.

The info string of a block decides what is done with it:

* ``python``: executed; the blocks of a page share their names, in the page's order;
* ``bash``: executed by ``bash -eu`` in the page's directory;
* ``console``: lines after ``$`` are executed on a terminal, the other lines are compared with what
  was printed, numbers aside;
* ``cpp``: compiled as a part of the core; ``json``, ``yaml``, ``ini``: parsed;
* ``text``, ``bibtex``: not code.

HTML comments above a block change that: ``not run: REASON``, ``needs: MODULE ...`` (left out where
one is not installed), ``output: REASON`` (executed, not compared), ``exact`` (numbers included),
``recipe: HOW`` (executed by ``tests/test_recipes.py``, with the servers that it needs).

``python -m tests.support.snippets`` prints how many blocks of each page are executed and marked.
"""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
EXECUTED = ("python", "bash", "console", "cpp")
PARSED = ("json", "yaml", "ini")
SHOWN = ("text", "bibtex", "sql")
TREATMENTS = ("executed", "parsed", "recipe", "shown", "not installed", "not run")

_BLOCK = re.compile(
    r"(?P<marks>(?:^ *<!--[^\n]*-->\n\s*)*)^(?P<indent> *)```(?P<language>[^\n`]*)\n"
    r"(?P<text>.*?)^(?P=indent)```[ \t]*$",
    re.DOTALL | re.MULTILINE,
)
_MARK = re.compile(r"<!-- (not run|needs|output|exact|recipe)(?:: (.+?))? -->")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str
    marks: Mapping[str, str]

    @property
    def place(self) -> str:
        """Return where it stands."""
        return f"{self.page}:{self.line}"

    @property
    def missing(self) -> list[str]:
        """Return the modules that it needs and that are not installed."""
        return [one for one in self.marks.get("needs", "").split() if not installed(one)]

    @property
    def treatment(self) -> str:
        """Return what is done with it: a column of the table."""
        if self.language in SHOWN:
            return "shown"
        if "recipe" in self.marks:
            return "recipe"
        if "not run" in self.marks:
            return "not run"
        if self.missing:
            return "not installed"
        return "parsed" if self.language in PARSED else "executed"


def installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def pages() -> list[str]:
    """Return the documents whose blocks are held."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
    for folder in ("docs", "examples"):
        found += sorted((ROOT / folder).rglob("*.md"))
    return [str(path.relative_to(ROOT)) for path in found]


def blocks(page: str, text: str | None = None) -> list[Block]:
    """Return the blocks of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8") if text is None else text
    found = []
    for match in _BLOCK.finditer(text):
        indent = len(match["indent"])
        lines = (line[indent:] for line in match["text"].splitlines(keepends=True))
        marks = {name: reason or "" for name, reason in _MARK.findall(match["marks"])}
        line = text[: match.start("language")].count("\n") + 1
        found.append(Block(page, line, match["language"].strip(), "".join(lines), marks))
    return found


def recipes(page: str) -> dict[str, list[Block]]:
    """Return the recipes of a page by their headings."""
    text = (ROOT / page).read_text(encoding="utf-8")
    headings = [
        (text[: one.start()].count("\n") + 1, one[1])
        for one in re.finditer(r"^#{2,3} (.+)$", text, re.MULTILINE)
    ]
    found: dict[str, list[Block]] = {}
    for block in blocks(page, text):
        if block.treatment == "recipe":
            heading = [name for line, name in headings if line < block.line][-1]
            found.setdefault(heading, []).append(block)
    return found


def complaints(block: Block) -> list[str]:
    """Return what is wrong with how a block is marked."""
    found = []
    if block.language not in EXECUTED + PARSED + SHOWN:
        found.append(f"{block.place}: unknown language {block.language!r}")
    for name, reason in block.marks.items():
        if (name != "exact") != bool(reason.strip()):
            found.append(f"{block.place}: {name} with {reason.strip() or 'no reason'}")
    return found


def table() -> str:
    """Return how many blocks of each page are treated how, as text."""
    rows = [(page, Counter(block.treatment for block in blocks(page))) for page in pages()]
    rows = [row for row in rows if row[1]]
    rows.append(("all", sum((counts for _, counts in rows), Counter())))
    width = max(len(page) for page, _ in rows)
    lines = [" " * width + "".join(f"  {name}" for name in TREATMENTS)]
    for page, counts in rows:
        cells = (f"{counts[name] or '-':>{len(name) + 2}}" for name in TREATMENTS)
        lines.append(page.ljust(width) + "".join(cells))
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
