"""The report as one HTML page: no request, no other file, and complete without its script."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carbontracker.report import document
from carbontracker.report.charts import charts_of
from carbontracker.report.drawing import DARK, LIGHT, NARROW, TIMES, WIDE
from carbontracker.report.page_script import DATA_ID, SCRIPT, power_data, script_policy
from carbontracker.report.svg import css, svg, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from carbontracker.records.run_record import RunRecord
    from carbontracker.report.document import Card, Section, Table
    from carbontracker.report.drawing import Chart

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    f"script-src {script_policy()}"
)
"""The browser refuses every request of the page, and every script but ours."""

_LAYOUT = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;color-scheme:light dark}
body{margin:0 auto;max-width:860px;padding:20px 16px 40px;background:var(--ground);
color:var(--text);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
svg{font-family:inherit;margin:6px 0}
h1{font-size:1.5rem;line-height:1.25;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:36px 0 6px;padding-top:14px;border-top:1px solid var(--rule)}
p{margin:6px 0}
.quiet,caption,figcaption{color:var(--quiet);font-size:.875rem}
.warn{color:var(--warn);overflow-wrap:anywhere}
figure{margin:10px 0}
dl.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(160px,1fr));gap:10px;
margin:18px 0 8px}
dl.cards div{background:var(--card);border:1px solid var(--rule);border-radius:8px;
padding:10px 12px}
dt{color:var(--quiet);font-size:.875rem}
dl.cards dd{margin:0;font-size:1.15rem;font-weight:600;line-height:1.3;overflow-wrap:anywhere}
dl.cards dd small{display:block;font-size:.8125rem;font-weight:400;color:var(--quiet)}
dl.facts{display:grid;grid-template-columns:minmax(110px,max-content) 1fr;gap:2px 16px;margin:8px 0}
dl.facts dd{margin:0;overflow-wrap:anywhere}
.scroll{overflow-x:auto;background:
linear-gradient(90deg,var(--ground) 40%,transparent) 0 0/2rem 100% local,
linear-gradient(270deg,var(--ground) 40%,transparent) 100% 0/2rem 100% local,
linear-gradient(90deg,var(--rule),transparent) 0 0/1rem 100% scroll,
linear-gradient(270deg,var(--rule),transparent) 100% 0/1rem 100% scroll;
background-repeat:no-repeat}
.scroll:focus-visible,summary:focus-visible{outline:2px solid var(--link);outline-offset:2px}
table{border-collapse:collapse;width:100%;font-size:.875rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:4px 0}
th,td{text-align:left;padding:4px 12px 4px 0;border-bottom:1px solid var(--rule);
vertical-align:top}
thead th{color:var(--quiet);font-weight:600}
tbody th{font-weight:600}
td,th{white-space:nowrap}
.n{text-align:right}
.t{white-space:normal;min-width:13.5rem;overflow-wrap:anywhere}
th:last-child,td:last-child{padding-right:0}
summary{cursor:pointer;color:var(--link);padding:6px 0}
figure[data-power] svg[tabindex]{cursor:crosshair;touch-action:pan-y;user-select:none}
figure[data-power] svg:focus-visible{outline:2px solid var(--link);outline-offset:2px}
figure[data-power] svg:focus:not(:focus-visible){outline:none}
.live{display:flex;gap:12px;align-items:center;min-height:2.6em}
.live p{flex:1;font-variant-numeric:tabular-nums}
button{font:inherit;font-size:.875rem;color:var(--link);background:var(--card);
border:1px solid var(--rule);border-radius:6px;padding:2px 10px;cursor:pointer}
pre{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:10px 12px;
white-space:pre-wrap;overflow-wrap:anywhere;font-size:.8125rem}
.narrow{display:none}
@media (max-width:800px){dl.cards{grid-template-columns:1fr 1fr}}
@media (max-width:560px){.wide{display:none}.narrow{display:block}
dl.cards div{padding:8px 10px}dl.cards dd{font-size:.92rem}
dl.facts{grid-template-columns:1fr}dl.facts dd{margin-bottom:6px}}
@media print{body{max-width:none;padding:0;font-size:10pt}.wide{display:block}
.narrow{display:none}figure,dl.cards div,tr,pre{break-inside:avoid}h2{break-after:avoid}
svg{max-height:15.5cm}dl.cards{grid-template-columns:repeat(4,1fr)}dl.cards dd{font-size:1rem}
caption{break-after:avoid}
.live,details:not([open]){display:none}
summary{display:none}
.scroll{overflow:visible;background:none}}
"""


def render(run: RunRecord) -> bytes:
    """Return the page."""
    return "".join(_page(run)).encode()


def page(
    title: str,
    subtitle: str,
    notes: Iterable[str],
    cards: Iterable[Card],
    sections: Iterable[Section],
) -> bytes:
    """Return a page without charts."""
    parts = [*_beginning(title, subtitle, notes, cards)]
    for section in sections:
        parts += _section(section, "")
    return "".join([*parts, "</main></body></html>\n"]).encode()


def _beginning(
    heading: str, subtitle: str, notes: Iterable[str], cards: Iterable[Card]
) -> Iterator[str]:
    title = text(heading)
    yield '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width,initial-scale=1">'
    yield f'<meta name="generator" content="carbontracker"><title>{title}</title>'
    yield f"<style>{_style()}</style></head>\n<body><main><header>"
    yield f'<h1>{title}</h1><p class="quiet">{text(subtitle)}</p></header>'
    for note in notes:
        yield f'<p class="warn" role="note">{text(note)}</p>'
    yield '<dl class="cards">'
    for card in cards:
        below = f"<small>{text(card.below)}</small>" if card.below else ""
        yield f"<div><dt>{text(card.name)}</dt><dd>{text(card.value)}{below}</dd></div>"
    yield "</dl>\n"


def _page(run: RunRecord) -> Iterator[str]:
    about = document.heading(run), document.subtitle(run)
    yield from _beginning(*about, document.notes(run), document.cards(run))
    yield f"<p>{text(document.compared(run))}</p>"
    pictures = list(zip(charts_of(run, WIDE), charts_of(run, NARROW), strict=True))
    for section in document.sections(run):
        mine = [pair for pair in pictures if pair[0].name.partition("-")[0] == section.name]
        yield from _section(section, "".join(_figures(mine)))
    yield "</main>"
    if any(wide.live for wide, _ in pictures):
        steps_s = [step_s for step_s, _, _ in TIMES]
        yield f'<script type="application/json" id="{DATA_ID}">{power_data(run, steps_s)}</script>'
        yield f"<script>{SCRIPT}</script>"
    yield "</body></html>\n"


def _figures(pairs: Sequence[tuple[Chart, Chart]]) -> Iterator[str]:
    """Yield the charts of a section; those that are folded share one fold."""
    yield from (_figure(*pair) for pair in pairs if not pair[0].folded)
    folded = [pair for pair in pairs if pair[0].folded]
    if folded:
        yield f"<details open><summary>{text(folded[0][0].title)}</summary>"
        yield from (_figure(*pair) for pair in folded)
        yield "</details>"


def _figure(wide: Chart, narrow: Chart) -> str:
    captions = text(wide.caption)
    if narrow.caption != wide.caption:
        captions = (
            f'<span class="wide">{captions}</span>'
            f'<span class="narrow">{text(narrow.caption)}</span>'
        )
    pictures = svg(wide, "wide") + svg(narrow, "narrow")
    live = " data-power" if wide.live else ""
    return f"<figure{live}>{pictures}<figcaption>{captions}</figcaption></figure>"


def _section(section: Section, pictures: str) -> Iterator[str]:
    if not pictures and section.empty:
        return
    key = f"h-{section.name}"
    yield f'<section aria-labelledby="{key}"><h2 id="{key}">{text(section.title)}</h2>'
    yield from (f"<p>{text(line)}</p>" for line in section.lines)
    yield pictures
    if section.facts:
        yield '<dl class="facts">'
        yield from (f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in section.facts)
        yield "</dl>"
    for table in section.tables:
        yield from _table(table)
    yield from (f"<pre>{chr(10).join(map(text, code.splitlines()))}</pre>" for code in section.code)
    yield "</section>\n"


def _table(table: Table) -> Iterator[str]:
    if not table.rows:
        return
    if table.folded:
        yield f"<details><summary>{text(table.caption)}</summary>"
    label = f'role="region" tabindex="0" aria-label="{text(table.caption)}"'
    yield f'<div class="scroll" {label}><table><caption>{text(table.caption)}</caption><thead><tr>'
    classes = [f' class="{column.kind}"' if column.kind else "" for column in table.columns]
    for column, cls in zip(table.columns, classes, strict=True):
        yield f'<th scope="col"{cls}>{text(column.name)}</th>'
    yield "</tr></thead><tbody>"
    for row in table.rows:
        yield f"<tr>{_cells(row, classes)}</tr>"
    yield "</tbody></table></div>"
    if table.folded:
        yield "</details>"


def _cells(row: Sequence[str], classes: Sequence[str]) -> str:
    first, *others = row
    cells = "".join(
        f"<td{cls}>{text(cell)}</td>" for cell, cls in zip(others, classes[1:], strict=True)
    )
    return f'<th scope="row"{classes[0]}>{text(first)}</th>{cells}'


def _style() -> str:
    light, dark = _properties(LIGHT), _properties(DARK)
    return (
        f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
        + _LAYOUT.replace("\n", "")
        + css()
    )


def _properties(palette: Mapping[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in palette.items())
