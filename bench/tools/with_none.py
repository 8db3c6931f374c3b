"""No tool at all: the bare process beside which the others are judged."""

from __future__ import annotations

from typing import Any


class Tool:
    """Does nothing, with the interface of all adapters."""

    def start(self, **options: Any) -> None:
        """Start what runs in the background."""

    def devices(self) -> list[str]:
        """Return the devices that are measured, by our names."""
        return []

    def begin(self, _name: str) -> None:
        """Begin a window."""

    def end(self, _name: str) -> None:
        """End it."""

    def resume(self) -> None:
        """Measure as during a training, in the background, until `pause`."""

    def pause(self) -> None:
        """Stop all that `resume` has started."""

    def energies(self) -> list[dict[str, list[float]]]:
        """Return [joules, error joules] by device for each window so far."""
        return []

    def cpu_seconds(self) -> float:
        """Return the CPU time that the tool says it has used, s; 0 where it does not say."""
        return 0.0

    def close(self) -> None:
        """End what runs in the background."""
