"""Prometheus' text format, version 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats).

Written here and not by ``prometheus_client``: docs/design.md, "Decisions, and why".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from carbontracker.telemetry.metrics import build_info

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from carbontracker.telemetry.metrics import Metric, Point

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def prometheus_text(metrics: Iterable[tuple[Metric, list[Point]]]) -> str:
    """Return the text of a scrape."""
    lines: list[str] = []
    for metric, points in metrics:
        name = metric_name(metric)
        lines += _head(name, "counter" if metric.is_counter else "gauge", metric.help)
        lines += [f"{name}{_braces(dict(labels))} {value!r}" for labels, value in points]
    name = "carbontracker_build_info"
    help_text = "Version of the program that serves these metrics."
    lines += [*_head(name, "gauge", help_text), f"{name}{_braces(build_info())} 1"]
    return "\n".join(lines) + "\n"


def metric_name(metric: Metric) -> str:
    """Return the name with its base unit, and ``_total`` at the end if it is a counter."""
    words = ["carbontracker", *metric.name.split("."), metric.unit]
    return "_".join(filter(None, words)) + ("_total" if metric.is_counter else "")


def _head(name: str, kind: str, help_text: str) -> list[str]:
    return [f"# HELP {name} {_escaped(help_text)}", f"# TYPE {name} {kind}"]


def _braces(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    inner = ",".join(f'{key}="{_quoted(value)}"' for key, value in labels.items())
    return "{" + inner + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', r"\"")
