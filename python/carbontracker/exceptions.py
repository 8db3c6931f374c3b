"""What a caller may catch.

The names are those of carbontracker 2.4.x, so that existing ``except`` clauses keep working::

    Exception
    ├── NoComponentsAvailableError   nothing of what was asked for can be read
    ├── UnitError                    a quantity in another unit than expected
    ├── IntelRaplPermissionError     RAPL counters are there and not readable
    ├── GPUPowerUsageRetrievalError  a GPU does not tell its power
    ├── CarbonIntensityFetcherError  no carbon intensity to be had
    ├── IPLocationError              the location could not be looked up
    ├── GPUError, CPUError           a device failed
    ├── ComponentNameError           no such component
    ├── FetcherNameError             no such intensity provider
    ├── MismatchedLogFilesError      log files that do not belong together
    └── MismatchedEpochsError        log lines that do not add up

New here, and no error of monitoring: ``BudgetExceeded``, raised only where ``on_budget="raise"``
asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class NoComponentsAvailableError(Exception):
    """Nothing of what was asked for can be read."""

    def __init__(self, msg: str = "No component is available that could be measured.") -> None:
        super().__init__(msg)


class UnitError(Exception):
    """A quantity came in another unit than expected."""

    def __init__(self, expected_unit: str, received_unit: str, message: str) -> None:
        super().__init__(message)
        self.expected_unit = expected_unit
        self.received_unit = received_unit
        self.message = message


class IntelRaplPermissionError(Exception):
    """RAPL counters exist and may not be read."""

    def __init__(self, file_names: Sequence[str] = ()) -> None:
        super().__init__(f"not readable: {', '.join(file_names)}")
        self.file_names = list(file_names)


class GPUPowerUsageRetrievalError(Exception):
    """A GPU does not tell its power."""


class CarbonIntensityFetcherError(Exception):
    """No carbon intensity is to be had."""


class IPLocationError(Exception):
    """The location could not be looked up."""


class GPUError(Exception):
    """A GPU failed."""


class CPUError(Exception):
    """A processor failed."""


class ComponentNameError(Exception):
    """There is no component of this name."""


class FetcherNameError(Exception):
    """There is no intensity provider of this name."""


class MismatchedLogFilesError(Exception):
    """Log files that do not belong together."""


class MismatchedEpochsError(Exception):
    """Log lines that do not add up."""


class BudgetExceeded(Exception):
    """A training has cost, or will cost, more than it may; the record is written."""

    def __init__(self, limit: str, most: float, value: float, basis: str) -> None:
        super().__init__(f"{limit}={most:g} is exceeded: {value:.6g} {basis}")
        self.limit = limit
        """``max_kwh``, ``max_gco2eq`` or ``max_seconds``."""
        self.most = most
        """What was allowed."""
        self.value = value
        """What it is, in the same unit."""
        self.basis = basis
        """``measured`` so far, or ``predicted`` for the whole training."""

    def __reduce__(self) -> tuple[type[BudgetExceeded], tuple[str, float, float, str]]:
        """Let it cross from one process to another, as those of data loaders do."""
        return type(self), (self.limit, self.most, self.value, self.basis)
