"""Adds to the site what is not in this folder: the documents of the root, the command line, files.

The root's documents link to ``docs/x.md``, and pages here to ``../examples/y.json``, so that links
work in a checkout. Here each is turned into the link that works on the site.
"""

from __future__ import annotations

import os
import posixpath
import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

os.environ["COLUMNS"] = "100"  # of help texts

from mkdocs.structure.files import File

from carbontracker.cli.commands import COMMANDS
from carbontracker.cli.overview import overview

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
"""Documents of the root, and what they are called on the site."""
SOURCES = {page: source for source, page in PAGES.items()}
_LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)]*)?(\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents of the root, the command line, and the files that pages link to."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    files.append(File.generated(config, "cli.md", content=command_line()))
    pages = [file for file in files if file.is_documentation_page()]
    for path in sorted({path for file in pages for path in _files_outside(file)}):
        files.append(File.generated(config, f"files/{path}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Turn the links of a checkout into those of the site."""

    def turned(match: re.Match[str]) -> str:
        before, link, anchor, after = match.groups(default="")
        return f"{before}{_on_the_site(page.file.src_uri, link)}{anchor}{after}"

    return _LINK.sub(turned, markdown)


def command_line() -> str:
    """Return the page of all commands, from their parsers."""
    parts = ["# Command line", "", "```text", overview().rstrip(), "```", ""]
    for command in COMMANDS.values():
        parser: ArgumentParser = import_module(command.module).command_parser()
        parts += [f"## `carbontracker {command.name}`", ""]
        parts += ["```text", parser.format_help().rstrip(), "```", ""]
    return "\n".join(parts)


def _in_the_checkout(page: str, link: str) -> str | None:
    """Return the path, from the root, that a page's link means; None for an address."""
    if "://" in link or link.startswith("mailto:"):
        return None
    folder = "" if page in SOURCES else posixpath.join("docs", posixpath.dirname(page))
    return posixpath.normpath(posixpath.join(folder, link))


def _on_the_site(page: str, link: str) -> str:
    path = _in_the_checkout(page, link)
    if path is None:
        return link
    if path.startswith("docs/"):
        target = path.removeprefix("docs/")
    else:
        target = PAGES.get(path, f"files/{path}")
    return posixpath.relpath(target, posixpath.dirname(page) or ".")


def _files_outside(file: File) -> set[str]:
    """Return the files of the checkout, no pages of the site, that a page links to."""
    links = (match[2] for match in _LINK.finditer(file.content_string))
    paths = (_in_the_checkout(file.src_uri, link) for link in links)
    outside = (path for path in paths if path and not path.startswith("docs/"))
    return {path for path in outside if path not in PAGES and (ROOT / path).is_file()}
