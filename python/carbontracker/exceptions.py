"""The exceptions of the package, all below ``CarbonTrackerError``.

Those of carbontracker 2.4.x keep their names, so that existing ``except`` clauses work::

    CarbonTrackerError
    ├── NoComponentsAvailableError   no requested component can be measured
    ├── UnitError                    a quantity in another unit than expected
    ├── IntelRaplPermissionError     RAPL counters exist but cannot be read
    ├── GPUPowerUsageRetrievalError  the power of a GPU cannot be read
    ├── CarbonIntensityFetcherError  no carbon intensity is available
    ├── IPLocationError              the location could not be looked up
    ├── GPUError, CPUError           a device failed
    ├── ComponentNameError           unknown name of a component
    ├── FetcherNameError             unknown name of an intensity provider
    ├── MismatchedLogFilesError      log files that do not belong together
    ├── MismatchedEpochsError        log lines that contradict each other
    ├── BudgetExceeded               more than a budget, with ``on_budget="raise"``
    ├── IntensityUnavailable         a provider has no figure (also a RuntimeError)
    ├── MissingExtra                 a package of an extra is not installed (RuntimeError)
    ├── NoEpochError                 ``epoch_end()`` without ``epoch_start()`` (RuntimeError)
    ├── TableError                   a table of the package is damaged (RuntimeError)
    ├── NoSuchRun                    no record of that name (LookupError)
    ├── UnknownAccelerator           (ValueError)
    └── UnknownLocation              (ValueError)
"""

from __future__ import annotations

import copyreg
from typing import TYPE_CHECKING, Any

from carbontracker.json_values import number, string

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "BudgetExceeded",
    "CPUError",
    "CarbonIntensityFetcherError",
    "CarbonTrackerError",
    "ComponentNameError",
    "FetcherNameError",
    "GPUError",
    "GPUPowerUsageRetrievalError",
    "IPLocationError",
    "IntelRaplPermissionError",
    "IntensityUnavailable",
    "MismatchedEpochsError",
    "MismatchedLogFilesError",
    "MissingExtra",
    "NoComponentsAvailableError",
    "NoEpochError",
    "NoSuchRun",
    "ServiceError",
    "TableError",
    "UnitError",
    "UnknownAccelerator",
    "UnknownLocation",
]


class CarbonTrackerError(Exception):
    """The base of all exceptions of the package."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Support pickling, as between the processes of a data loader, for any constructor."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class NoComponentsAvailableError(CarbonTrackerError):
    """No requested component can be measured."""

    def __init__(self, msg: str = "No component is available that could be measured.") -> None:
        super().__init__(msg)


class UnitError(CarbonTrackerError):
    """A quantity has another unit than expected."""

    def __init__(self, expected_unit: str, received_unit: str, message: str) -> None:
        super().__init__(message)
        self.expected_unit = expected_unit
        self.received_unit = received_unit
        self.message = message


class IntelRaplPermissionError(CarbonTrackerError):
    """RAPL counters exist but cannot be read."""

    def __init__(self, file_names: Sequence[str] = ()) -> None:
        super().__init__(f"not readable: {', '.join(file_names)}")
        self.file_names = list(file_names)


class GPUPowerUsageRetrievalError(CarbonTrackerError):
    """The power of a GPU cannot be read."""


class CarbonIntensityFetcherError(CarbonTrackerError):
    """No carbon intensity is available."""


class IPLocationError(CarbonTrackerError):
    """The location could not be looked up."""


class GPUError(CarbonTrackerError):
    """A GPU failed."""


class CPUError(CarbonTrackerError):
    """A processor failed."""


class ComponentNameError(CarbonTrackerError):
    """Unknown name of a component."""


class FetcherNameError(CarbonTrackerError):
    """Unknown name of an intensity provider."""


class MismatchedLogFilesError(CarbonTrackerError):
    """Log files do not belong together."""


class MismatchedEpochsError(CarbonTrackerError):
    """Log lines contradict each other."""


class BudgetExceeded(CarbonTrackerError):
    """A training has cost, or will cost, more than its budget. The record is written."""

    def __init__(self, limit: str, most: float, value: float, basis: str) -> None:
        super().__init__(f"{limit}={most:g} is exceeded: {value:.6g} {basis}")
        self.limit = limit
        """``max_kwh``, ``max_gco2eq`` or ``max_seconds``."""
        self.most = most
        """The budget."""
        self.value = value
        """The amount, in the same unit."""
        self.basis = basis
        """``measured`` so far, or ``predicted`` for the whole training."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the record."""
        return {name: getattr(self, name) for name in ("limit", "most", "value", "basis")}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BudgetExceeded:
        """Return the limit of such an object; what is missing or damaged is empty or NaN."""
        most, value = number(data.get("most")), number(data.get("value"))
        return cls(string(data.get("limit")), most, value, string(data.get("basis")))


class ServiceError(CarbonTrackerError):
    """A request to a service gave no answer that can be used; ``reason`` says why."""

    def __init__(
        self, reason: str, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        """The HTTP status of the answer, if the service answered."""
        self.retry_after_s = retry_after_s
        """How long the service asks to be left alone, s."""


class IntensityUnavailable(ServiceError, RuntimeError):
    """A provider has no figure; ``reason`` says why."""


class MissingExtra(CarbonTrackerError, ModuleNotFoundError, RuntimeError):
    """A feature needs a package that is not installed; the message has the command."""


class NoEpochError(CarbonTrackerError, RuntimeError):
    """An epoch ends that has not begun."""


class TableError(CarbonTrackerError, RuntimeError):
    """A table of the package is missing or damaged; one warning has named the first of them."""


class NoSuchRun(CarbonTrackerError, LookupError):
    """There is no record of that name."""


class UnknownAccelerator(CarbonTrackerError, ValueError):
    """The text names no accelerator of the table; the message gives the nearest ones."""


class UnknownLocation(CarbonTrackerError, ValueError):
    """The text names no zone of the table; the message gives the nearest ones."""
