"""The script of the page: values under the pointer and zoom for the chart of total power.

Without it, the page shows the same picture. It reads numbers only (`power_data`), makes no request,
and writes text with ``textContent``, so no name from a record can become markup or code.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from typing import TYPE_CHECKING, Any

from carbontracker.report import derived
from carbontracker.report.charts import shown_windows
from carbontracker.report.formatting import is_known

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carbontracker.records.run_record import RunRecord

MAX_INTERVALS = 3000
"""Intervals of power in the page: four for each pixel, for zooming."""
MAX_SPANS = 3000
"""Epochs, or windows of a name, that the script can place; more of them would only fill a pixel."""
DATA_ID = "power-data"

SCRIPT = """
(() => {
"use strict";
const data = JSON.parse(document.getElementById("power-data").textContent);
const edges = data.edges_s, watts = data.watts, lowest = data.lowest, highest = data.highest;
const count = watts.length, whole = [0, data.seconds];
let range = whole, at = null;
const figure = document.querySelector("figure[data-power]");
const caption = figure.querySelector("figcaption");
const readout = document.createElement("p"), reset = document.createElement("button");
readout.setAttribute("role", "status");
reset.type = "button";
reset.textContent = "Whole run";
reset.hidden = true;
const live = document.createElement("div");
live.className = "live quiet";
live.append(readout, reset);
figure.insertBefore(live, caption);

const power = w => {
  const size = w >= 1e6 ? 1e6 : w >= 1e3 ? 1e3 : w >= 1 || w === 0 ? 1 : 1e-3;
  const unit = {1e6: "MW", 1e3: "kW", 1: "W", 1e-3: "mW"}[size];
  const text = (w / size).toPrecision(4);
  return (text.includes("e") ? String(Number(text)) : text) + " " + unit;
};
const clock = (t, digits) => {
  const unit = 10 ** digits, all = Math.round(t * unit), s = all / unit % 60;
  const hours = Math.floor(all / unit / 3600), minutes = Math.floor(all / unit / 60) % 60;
  const rest = s.toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return hours + ":" + String(minutes).padStart(2, "0") + ":" + rest;
};
const interval = t => {
  let low = 0, high = count;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (edges[middle + 1] <= t) low = middle + 1; else high = middle;
  }
  return low;
};
const epoch = t => {
  let low = 0, high = data.epochs.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (data.epochs[middle][2] <= t) low = middle + 1; else high = middle;
  }
  const found = data.epochs[low];
  return found && found[1] <= t ? ", epoch " + found[0] : "";
};
const inView = spans => spans.filter(one => one[1] > range[0] && one[0] < range[1]);
const hint = () => {
  if (range === whole) return "Point at the chart for its values. Drag to zoom.";
  const i = Math.min(interval(range[0]), count - 1), length = edges[i + 1] - edges[i];
  const each = "Each point is the mean of " + length.toPrecision(3) + " s. ";
  return each + (lowest ? "The band goes from the lowest to the highest within it." : "");
};
const say = () => {
  if (at === null) { readout.textContent = hint(); return; }
  const i = interval(at), digits = range[1] - range[0] < 20 ? 2 : 0;
  const known = i < count && edges[i] <= at && watts[i] !== null;
  let text = clock(at, digits) + epoch(at) + ": " + (known ? power(watts[i]) : "not measured");
  if (known && lowest) text += " (" + power(lowest[i]) + " to " + power(highest[i]) + ")";
  readout.textContent = text;
};

const pictures = [...figure.querySelectorAll("svg")].map(svg => {
  const [left, top, width, height, bottom, highestWatts] = svg.dataset.frame.split(" ").map(Number);
  const line = svg.querySelector(".s-total-line"), area = svg.querySelector(".s-total-area");
  const band = svg.querySelector(".s-total-band");
  const made = (name, cls) => {
    const one = document.createElementNS(svg.namespaceURI, name);
    one.setAttribute("class", cls);
    return one;
  };
  const x = t => left + width * (t - range[0]) / (range[1] - range[0]);
  const y = w => top + height * (1 - Math.min(1, w / highestWatts));
  const inside = value => Math.min(left + width, Math.max(left, value));
  const drawn = [line, area, band].map(path => path && path.getAttribute("d"));
  const boxes = [...svg.querySelectorAll(".s-band, .s-window")];
  const tops = new Set([...svg.querySelectorAll(".s-window")].map(one => one.getAttribute("y")));
  const lanes = [...tops].sort((a, b) => a - b);
  const ticks = [...svg.querySelectorAll(".s-tick, .s-time")], zoomed = made("g", "");
  const under = made("g", "");
  svg.insertBefore(under, boxes[0] || svg.querySelector("path"));
  svg.append(zoomed);
  const cross = made("path", "s-axis");
  svg.append(cross);
  svg.tabIndex = 0;

  const rect = (cls, from, to, where, tall) => {
    const box = made("rect", cls), a = inside(x(from)), b = Math.max(a + 1, inside(x(to)));
    const sizes = {x: a, y: where, width: b - a, height: tall};
    for (const name in sizes) box.setAttribute(name, sizes[name]);
    return box;
  };
  const spans = () => {
    const shown = inView(data.epochs.map(one => [one[1], one[2], one[0]]));
    if (shown.length * 3 <= width) for (const [from, to, index] of shown)
      if (index % 2) under.append(rect("s-band", from, to, top, bottom - top));
    data.windows.slice(0, lanes.length).forEach((one, i) => {
      for (const [from, to] of inView(one)) under.append(rect("s-window", from, to, lanes[i], 8));
    });
  };
  const axis = () => {
    zoomed.replaceChildren();
    under.replaceChildren();
    const full = range === whole;
    for (const one of [...ticks, ...boxes]) one.style.display = full ? "" : "none";
    if (full) return;
    spans();
    const length = range[1] - range[0], least = length / Math.max(2, Math.floor(width / 80));
    const fine = 10 ** Math.floor(Math.log10(least));
    const step = least < 1 ? [1, 2, 5, 10].map(n => n * fine).find(n => n >= least)
      : data.steps_s.find(n => n >= least) || 86400 * Math.ceil(least / 86400);
    const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
    for (let n = Math.ceil(range[0] / step); n * step <= range[1]; n++) {
      const where = x(n * step).toFixed(1), tick = made("path", "s-axis");
      tick.setAttribute("d", `M${where} ${bottom}V${bottom + 4}`);
      const text = made("text", "s-label");
      text.setAttribute("x", where);
      text.setAttribute("y", bottom + 16);
      text.setAttribute("text-anchor",
        where < left + 25 ? "start" : where > left + width - 25 ? "end" : "middle");
      text.textContent = clock(n * step, digits);
      zoomed.append(tick, text);
    }
  };
  const stairs = values => {
    const lines = [];
    let last = null;
    for (let i = interval(range[0]); i < count && edges[i] < range[1]; i++) {
      if (values[i] === null) { last = null; continue; }
      if (!last) lines.push(last = []);
      last.push([inside(x(edges[i])), y(values[i])], [inside(x(edges[i + 1])), y(values[i])]);
    }
    return lines;
  };
  const path = lines => lines.map(points =>
    "M" + points.map(p => p[0].toFixed(1) + " " + p[1].toFixed(1)).join("L")).join("");
  const draw = () => {
    axis();
    if (range === whole) {
      [line, area, band].forEach((one, i) => one && one.setAttribute("d", drawn[i]));
      return;
    }
    const means = stairs(watts), floor = top + height;
    line.setAttribute("d", path(means));
    area.setAttribute("d",
      path(means.map(points => [[points[0][0], floor], ...points, [points.at(-1)[0], floor]])));
    if (!band) return;
    const lows = lowest ? stairs(lowest) : [], highs = lowest ? stairs(highest) : [];
    band.setAttribute("d", path(highs.map((points, i) => [...points, ...lows[i].reverse()])));
  };
  const point = () => {
    const seen = at !== null && at >= range[0] && at <= range[1];
    cross.setAttribute("d", seen ? `M${x(at).toFixed(1)} ${top}V${bottom}` : "");
  };
  const time = event => {
    const box = svg.getBoundingClientRect();
    const px = (event.clientX - box.left) * svg.viewBox.baseVal.width / box.width;
    return range[0] + (inside(px) - left) / width * (range[1] - range[0]);
  };
  let from = null;
  const choose = to => {
    zoomed.querySelector(".s-chosen")?.remove();
    if (to !== null)
      zoomed.append(rect("s-chosen", Math.min(from, to), Math.max(from, to), top, bottom - top));
  };
  svg.addEventListener("pointerdown", event => {
    if (event.button) return;
    from = time(event);
    svg.setPointerCapture(event.pointerId);
  });
  svg.addEventListener("pointermove", event => {
    at = time(event);
    if (from !== null) choose(at);
    show();
  });
  svg.addEventListener("pointerup", event => {
    const to = time(event), a = from;
    choose(null);
    from = null;
    if (a !== null && Math.abs(x(a) - x(to)) > 4) zoom(Math.min(a, to), Math.max(a, to));
  });
  svg.addEventListener("pointercancel", () => { choose(null); from = null; });
  svg.addEventListener("pointerleave", () => { if (from === null) { at = null; show(); } });
  svg.addEventListener("dblclick", all);
  svg.addEventListener("keydown", event => {
    const length = range[1] - range[0];
    const here = at === null ? range[0] + length / 2 : at;
    const moves = {ArrowLeft: -1, ArrowRight: 1};
    if (event.key in moves) {
      at = Math.min(range[1], Math.max(range[0], here + moves[event.key] * length / 100));
      show();
    } else if (event.key === "+") zoom(here - length / 4, here + length / 4);
    else if (event.key === "-") zoom(here - length, here + length);
    else if (event.key === "Escape") all();
    else return;
    event.preventDefault();
  });
  return {draw, point};
});
function show() { say(); for (const one of pictures) one.point(); }
function zoom(from, to) {
  const least = Math.min(whole[1], edges[1] - edges[0] || whole[1]);
  const half = Math.max(least, to - from) / 2, middle = (from + to) / 2;
  range = [Math.max(0, middle - half), Math.min(whole[1], middle + half)];
  if (range[0] <= 0 && range[1] >= whole[1]) range = whole;
  reset.hidden = range === whole;
  caption.hidden = range !== whole;
  for (const one of pictures) one.draw();
  show();
}
function all() { at = null; zoom(0, whole[1]); }
reset.addEventListener("click", all);
addEventListener("beforeprint", all);
show();
})();
"""


def script_policy() -> str:
    """Return the only source of scripts that the page's policy allows: the hash of ours."""
    digest = hashlib.sha256(SCRIPT.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def power_data(run: RunRecord, steps_s: Sequence[float]) -> str:
    """Return the numbers that the script draws, as JSON without ``<``.

    Args:
        run: the run.
        steps_s: distances between ticks that are round times, s, ascending.
    """
    power = derived.total_power(run).thinned(MAX_INTERVALS)
    digits = 3 if derived.length_of(run) > 100 else 6
    epochs = [
        [one.index, round(one.start_s, digits), round(one.end_s, digits)]
        for one in run.epochs
        if is_known(one.end_s)
    ]
    windows = [
        [[round(start_s, digits), round(end_s, digits)] for start_s, end_s in one.spans]
        for one in shown_windows(run)
    ]
    data: dict[str, Any] = {
        "seconds": derived.length_of(run),
        "edges_s": [round(t_s, digits) for t_s in power.edges_s],
        "watts": _rounded(power.watts),
        "lowest": None,
        "highest": None,
        "epochs": _few(epochs),
        "windows": [_few(one) for one in windows],
        "steps_s": list(steps_s),
    }
    if power.lowest is not power.watts:
        data |= {"lowest": _rounded(power.lowest), "highest": _rounded(power.highest)}
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _few(spans: list[Any]) -> list[Any]:
    return spans if len(spans) <= MAX_SPANS else []


def _rounded(watts: Sequence[float]) -> list[float | None]:
    """Return watts to six significant digits; None where unknown."""
    return [
        None
        if not is_known(one)
        else round(one, 5 - math.floor(math.log10(abs(one))))
        if one
        else 0.0
        for one in watts
    ]
