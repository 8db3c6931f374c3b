"""The report of a day on eight GPUs: its size, the time to make it and to open it in Chromium.

A page is open when its `load` event has ended, by the browser's own clock, in a browser that is
running already. An empty page, opened in turn with it, is what it is held against.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from bench.common import Report, abba, arguments_parser, ratios, spread, table
from carbontracker.exceptions import MissingExtra
from carbontracker.records.reader import read_run
from carbontracker.report import FORMATS, rendered
from tests.support import chromium
from tests.support.simulated import Training

WIDTHS = (360, 768, 1280)
PICTURES = (
    (1280, False, "", 1130),
    (768, True, "", 1130),
    (360, False, "", 1340),
)
"""Width, dark or not, the element to begin at, and length: those in docs/pictures."""
OPENED = "performance.getEntriesByType('navigation')[0].loadEventEnd"
EMPTY = "<!DOCTYPE html><html lang=en><title>empty</title><p>empty</p></html>"


def make(folder: Path) -> tuple[Path, list[list[str]]]:
    """Write the page and an empty one; return its path, and a row for each kind of file."""
    record = Training().write(folder / "day.jsonl")
    start = time.perf_counter()
    run = read_run(record)
    seconds = time.perf_counter() - start
    rows = [["(the record, read)", f"{record.stat().st_size / 1000:.0f}", f"{seconds:.2f}"]]
    for name in FORMATS:
        start = time.perf_counter()
        try:
            content = rendered(name, run)
        except MissingExtra as error:
            rows.append([name, str(error), "-"])
            continue
        seconds = time.perf_counter() - start
        (folder / f"day.{name}").write_bytes(content)
        rows.append([name, f"{len(content) / 1000:.0f}", f"{seconds:.2f}"])
    (folder / "empty.html").write_text(EMPTY)
    return folder / "day.html", rows


def main() -> None:
    """Print the tables."""
    parser = arguments_parser(__doc__)
    parser.add_argument("--pictures", type=Path, help="folder for pictures of the page")
    arguments = parser.parse_args()
    report = Report("reports", "Reports of a day on eight GPUs", arguments.quick)
    if chromium.found() is None:
        sys.exit("this needs a Chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        day, rows = make(folder)
        report.say(table(["file", "kB", "s to make"], rows))
        pages = {"report": day, "empty page": folder / "empty.html"}
        with chromium.browser(folder / "profile") as page:
            for width in WIDTHS:
                found: dict[str, list[float]] = {one: [] for one in pages}
                for number, one in abba(list(pages), 4 if arguments.quick else 11):
                    page.open(pages[one], width)
                    if number:  # the first round warms the browser
                        found[one].append(page.value(OPENED))
                told = ", ".join(f"{one} {spread(values)}" for one, values in found.items())
                report.say(f"{width} px wide, ms until it is loaded: {told}.")
                report.row(f"open at {width} px", ratios(*found.values()), "an empty page")
            if arguments.pictures is not None:
                for width, dark, top, length in PICTURES:
                    page.open(day, width, dark=dark)
                    start = page.value(f"document.{top}.getBoundingClientRect().top") if top else 0
                    span = (round(start), round(start) + length)
                    page.picture(arguments.pictures / f"report-{width}.png", span)
    report.finish(arguments)


if __name__ == "__main__":
    main()
