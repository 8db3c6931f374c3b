"""The component names of the drop-in (``gpu``, ``cpu``, ``all``) and their kinds of channel."""

from __future__ import annotations

import math
from numbers import Real

from carbontracker.energy.config import SimulatedDevice
from carbontracker.exceptions import ComponentNameError

NODE = "node"
"""Kind of a meter of the whole machine: a controller, a battery, the input of a board."""

KINDS_BY_COMPONENT = {
    "gpu": ("gpu",),
    "cpu": ("cpu", "dram", "core", "uncore", "platform", NODE, "other"),
}
"""Kinds of channel of each component, in the order of ``all``."""

DEFAULT_UTILISATION = 0.5
"""Share of its power that a simulated device draws: the default of carbontracker 2.4."""


def parse_components(text: str) -> tuple[str, ...]:
    """Return ``gpu`` and/or ``cpu`` in the given order, without repetition; both for ``all``.

    Raises:
        ComponentNameError: a component does not exist.
    """
    names = str(text).lower().replace(" ", "").split(",")
    if names == ["all"]:
        return tuple(KINDS_BY_COMPONENT)
    for name in names:
        if name not in KINDS_BY_COMPONENT:
            message = f"No component named {name!r}: choose from all, gpu, cpu"
            raise ComponentNameError(message)
    return tuple(dict.fromkeys(names))


def kinds_of(components: tuple[str, ...]) -> tuple[str, ...]:
    """Return the kinds of channel of these components; empty, which means all, for all of them."""
    if set(components) == set(KINDS_BY_COMPONENT):
        return ()
    return tuple(kind for name in components for kind in KINDS_BY_COMPONENT[name])


def simulated_device(
    component: str, name: object, max_watts: object, utilisation: object = None
) -> SimulatedDevice:
    """Return a device that draws a constant share of its power.

    Args:
        component: ``gpu`` or ``cpu``.
        name: of the device.
        max_watts: power at full load, W.
        utilisation: the share, 0 to 1; 0.5 if None.

    Raises:
        ValueError: a name, power or utilisation is not valid.
    """
    label = component.upper()
    if not isinstance(name, str) or not name.strip():
        message = f"{label} name must be a non-empty string."
        raise ValueError(message)
    name = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    if not isinstance(max_watts, Real) or not 0.0 <= float(max_watts) < math.inf:
        figure = {"gpu": "GPU watts", "cpu": "CPU TDP"}[component]
        message = f"{figure} must be a non-negative number."
        raise ValueError(message)
    share = DEFAULT_UTILISATION if utilisation is None else utilisation
    if not isinstance(share, Real) or not 0.0 <= float(share) <= 1.0:
        message = f"{label} utilization must be between 0.0 and 1.0."
        raise ValueError(message)
    # float() first: the repr of numbers of other libraries differs.
    return SimulatedDevice(component, name, f"constant:{float(max_watts) * float(share)!r}")
