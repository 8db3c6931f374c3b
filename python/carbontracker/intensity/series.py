"""Combines the slots of a provider to one figure for each time. Pure arithmetic.

Each time gets the first of these that exists:

1. the slot that contains it, measured or estimated;
2. the slot before it, while that is fresh;
3. the forecast's slot;
4. the slot before it, up to the provider's last resort;
5. after the forecast's horizon the same hour of its last day; without a forecast the newest slot;
6. the table's annual figure of the same scope, or, without such a figure, the nearest slot.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING

from carbontracker.exceptions import IntensityUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from carbontracker.intensity.base import Intensity

    Piece = tuple[datetime, datetime, Intensity]

DAY = timedelta(days=1)
FORECAST_KINDS = ("forecast", "extrapolated")
DAYS_BY_SLOT = 7
STAND_IN = "annual figure of the table"
"""End of the note of a figure that replaces a missing live one."""
MINUTE = timedelta(minutes=1)
INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True)
class Series:
    """The known slots of a provider."""

    past: tuple[Intensity, ...] = ()
    """Measured or estimated slots, in time order, without overlaps."""
    forecast: tuple[Intensity, ...] = ()
    """Slots of the forecast, likewise."""
    fallback: Intensity | None = None
    """The table's annual figure of the same scope, or None."""
    reason: str = ""
    """Why the newest slots are missing, if they are."""
    fresh: timedelta = timedelta(hours=3)
    """How long after its end a slot counts as current."""
    last_resort: timedelta = timedelta(hours=24)
    """How long after its end a slot may still be used."""

    def cover(self, start: datetime, end: datetime, now: datetime) -> list[Intensity]:
        """Return slots that cover ``start`` to ``end`` without gap, in time order.

        A slot ends where the next one begins; the first and the last may reach beyond the ends. A
        single figure for all of it is an open slot, such as that of the table.

        Raises:
            IntensityUnavailable: there are no figures.
        """
        if not (self.past or self.forecast or self.fallback):
            raise IntensityUnavailable(self.reason or "no figure has arrived yet")
        end = max(end, start + INSTANT)
        if inside := self._inside(start, end):
            return [inside]  # the fast path: the end of a run computes thousands of epochs
        if now < end <= now + MINUTE:
            now = end  # a clock that was read a moment earlier is not the future
        gaps, pieces = [(start, end)], []
        near = self if end > now else self._around(start, end)
        for layer in near._layers(end, now):
            if not gaps:
                break
            found, gaps = _fill(gaps, layer)
            pieces += found
        pieces += [(a, b, near._last(a, b)) for a, b in gaps]
        pieces.sort(key=lambda piece: piece[0])
        return [_bounded(piece, start, end) for piece in pieces]

    @cached_property
    def _starts(self) -> tuple[list[datetime], list[datetime]]:
        return [_start(slot) for slot in self.past], [_start(slot) for slot in self.forecast]

    def _inside(self, start: datetime, end: datetime) -> Intensity | None:
        index = bisect_right(self._starts[0], start) - 1
        found = self.past[index] if index >= 0 else None
        return found if found is not None and _end(found) >= end else None

    def _around(self, start: datetime, end: datetime) -> Series:
        """Return the series of a past time: its slots, the one before and the one after."""
        kept = [
            slots[max(0, bisect_right(starts, start) - 1) : bisect_right(starts, end) + 1]
            for slots, starts in zip((self.past, self.forecast), self._starts, strict=True)
        ]
        return replace(self, past=kept[0], forecast=kept[1])

    def _layers(self, end: datetime, now: datetime) -> Iterable[list[Piece]]:
        yield _pieces(self.past)
        yield self._held(self.fresh, now)
        yield self._first_extended_back()
        yield _pieces(self.forecast)
        yield self._held(self.last_resort, now)
        if end > now:
            yield _pieces(self._extrapolated(end))
            yield self._newest_held(now, end)

    def _held(self, longest: timedelta, now: datetime) -> list[Piece]:
        """Return each slot extended into the gap after it, up to ``longest`` and to now."""
        pieces = []
        for slot, following in zip_longest(self.past, self.past[1:]):
            begin = _end(slot)
            finish = min(now, begin + longest)
            if following is not None:
                finish = min(finish, _start(following))
            if finish > begin:
                pieces.append((begin, finish, _estimated(slot, f"held from {_start_utc(slot)}")))
        return pieces

    def _first_extended_back(self) -> list[Piece]:
        if not self.past:
            return []
        first = self.past[0]
        figure = _estimated(first, f"the first there is, of {_start_utc(first)}")
        return [(_start(first) - self.fresh, _start(first), figure)]

    def _extrapolated(self, end: datetime) -> list[Intensity]:
        """Return the last day of the forecast, repeated from the horizon to ``end``.

        After a week its mean is used: a year of 15-minute slots would take too long.
        """
        if not self.forecast:
            return []
        horizon = _end(self.forecast[-1])
        known = [*(s for s in self.past if _end(s) <= _start(self.forecast[0])), *self.forecast]
        day = [slot for slot in known if _start(slot) >= horizon - DAY]
        note = "the same hour of the last day of the forecast: extrapolated"
        slots = []
        for repeat in range(1, min((end - horizon) // DAY + 1, DAYS_BY_SLOT) + 1):
            slots += [
                replace(
                    slot,
                    start=_start(slot) + repeat * DAY,
                    end=_end(slot) + repeat * DAY,
                    kind="extrapolated",
                    note=_joined_notes(note, slot.note),
                )
                for slot in day
                if _start(slot) + repeat * DAY < end
            ]
        far = horizon + DAYS_BY_SLOT * DAY
        if end > far:
            hours = [(_end(slot) - _start(slot)) / timedelta(hours=1) for slot in day]
            grams = sum(h * slot.gco2eq_per_kwh for h, slot in zip(hours, day, strict=True))
            grams /= sum(hours)
            mean = replace(day[-1], gco2eq_per_kwh=grams, start=far, end=end, kind="extrapolated")
            slots.append(
                replace(mean, note="the mean of the last day of the forecast: extrapolated")
            )
        return slots

    def _newest_held(self, now: datetime, end: datetime) -> list[Piece]:
        newest = self.past[-1] if self.past else None
        if newest is None or now - _end(newest) > self.last_resort:
            return []
        figure = _estimated(newest, f"the newest there is, of {_start_utc(newest)}")
        return [(now, end, replace(figure, kind="extrapolated"))]

    def _last(self, start: datetime, end: datetime) -> Intensity:
        """Return the figure for a gap that no layer fills."""
        if self.fallback is not None:
            note = f"{self.reason or 'no figure for that time'}: {STAND_IN}"
            return replace(self.fallback, note=_joined_notes(note, self.fallback.note))
        nearest = min(
            (*self.past, *self.forecast), key=lambda s: max(_start(s) - end, start - _end(s))
        )
        when = _start_utc(nearest)
        note = f"the nearest there is, of {when}: no {nearest.scope} figure in the table"
        return _estimated(nearest, note)


def merged(old: Iterable[Intensity], new: Iterable[Intensity]) -> tuple[Intensity, ...]:
    """Return both in time order; of two slots with the same start the newer.

    A forecast never replaces a measured slot. A slot ends where the next one starts.
    """
    by_start: dict[datetime, Intensity] = {}
    for slot in (*old, *new):
        known = by_start.get(_start(slot))
        if known is None or not (slot.kind in FORECAST_KINDS and known.kind not in FORECAST_KINDS):
            by_start[_start(slot)] = slot
    ordered = [by_start[key] for key in sorted(by_start)]
    return tuple(
        replace(slot, end=_start(after)) if after and _end(slot) > _start(after) else slot
        for slot, after in zip_longest(ordered, ordered[1:])
    )


def _start(slot: Intensity) -> datetime:
    if slot.start is None:
        raise ValueError("a slot of a series needs a start")
    return slot.start


def _end(slot: Intensity) -> datetime:
    if slot.end is None:
        raise ValueError("a slot of a series needs an end")
    return slot.end


def _pieces(slots: Iterable[Intensity]) -> list[Piece]:
    return [(_start(slot), _end(slot), slot) for slot in slots]


def _fill(
    gaps: Sequence[tuple[datetime, datetime]], layer: Sequence[Piece]
) -> tuple[list[Piece], list[tuple[datetime, datetime]]]:
    """Return the parts of the layer in the gaps, and the remaining gaps."""
    ends = [end for _, end, _ in layer]
    pieces: list[Piece] = []
    left: list[tuple[datetime, datetime]] = []
    for start, end in gaps:
        at = start
        for begin, finish, figure in layer[bisect_right(ends, start) :]:
            if begin >= end:
                break
            if begin > at:
                left.append((at, begin))
            pieces.append((max(begin, at), min(finish, end), figure))
            at = min(finish, end)
        if at < end:
            left.append((at, end))
    return pieces, left


def _bounded(piece: Piece, start: datetime, end: datetime) -> Intensity:
    """Return the figure as a slot between its neighbours."""
    begin, finish, figure = piece
    if (begin, finish) == (start, end) and figure.start is None:
        return figure
    inner_start, inner_end = figure.start, figure.end
    if inner_start is None or begin > start or inner_start > begin:
        inner_start = begin
    if inner_end is None or finish < end or inner_end < finish:
        inner_end = finish
    return replace(figure, start=inner_start, end=inner_end)


def _estimated(slot: Intensity, note: str) -> Intensity:
    """Return the figure for another time than its own, as an estimate."""
    return replace(
        slot, start=None, end=None, kind="estimated", note=_joined_notes(note, slot.note)
    )


def _start_utc(slot: Intensity) -> str:
    return f"{_start(slot):%Y-%m-%d %H:%M} UTC"


def _joined_notes(note: str, further: str) -> str:
    return f"{note}; {further}" if further else note
