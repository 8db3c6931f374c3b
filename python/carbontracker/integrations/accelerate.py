"""For Accelerate: ``Accelerator(log_with=CarbonTracker(epochs=3))``, and epochs from the tracker.

Accelerate starts trackers, and logs to them, in the main process only. So the tracker begins where
it is made, which every process does, and the loop is ``for epoch in tracker.epochs(loader):``.
A loop over ``tracker.steps(loader)`` in it counts the samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from carbontracker import tracker as drop_in
from carbontracker.integrations.framework_run import batch_size, framework_class
from carbontracker.training.steps import length_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from carbontracker.tracker import EpochCount, PartialEpochCount

__all__ = ["CarbonTracker"]

_Item = TypeVar("_Item")


class Hooks:
    """A tracker of Accelerate that measures; its other attributes are those of ``CarbonTracker``.

    Args:
        epochs: the planned number; 0 if it is not known.
        **arguments: as for ``carbontracker.CarbonTracker``.

    Raises:
        TypeError: an unknown argument.
        ValueError: an impossible argument.
    """

    name = "carbontracker"
    requires_logging_directory = False
    main_process_only = False

    def __init__(self, epochs: float = 0, **arguments: Any) -> None:
        self._carbon_tracker = drop_in.CarbonTracker(epochs, **arguments)
        super().__init__()

    @property
    def tracker(self) -> drop_in.CarbonTracker:
        """Return the tracker itself."""
        return self._carbon_tracker

    @property
    def epochs(self) -> EpochCount | PartialEpochCount:
        """Return the number of epochs, which called yields them: ``for i in tracker.epochs():``."""
        return self._carbon_tracker.epochs

    def steps(self, items: Iterable[_Item]) -> Iterator[_Item]:
        """Yield the batches of an epoch; after each, mark a step and count its samples.

        They are the length of the first tensor of the batch, which is this process's part.
        """
        self._carbon_tracker.expect_steps(length_of(items))
        for item in items:
            samples = batch_size(item)  # now: the loop may change the batch
            yield item
            self._carbon_tracker.step(1, None, samples)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the tracker itself, such as ``step`` or ``result``."""
        if name == "_carbon_tracker":  # of a copy that is not whole
            raise AttributeError(name)
        return getattr(self._carbon_tracker, name)

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Ignore the configuration."""

    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """Ignore the metrics."""

    def finish(self) -> None:
        """End monitoring."""
        self._carbon_tracker.stop()


if TYPE_CHECKING:
    CarbonTracker = Hooks
else:
    __getattr__ = framework_class(Hooks, "CarbonTracker", "GeneralTracker", "accelerate.tracking")
