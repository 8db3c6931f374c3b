"""What is slowed down: a loop of numpy, one of pure Python, and training steps of PyTorch."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def _python(iterations: int) -> int:
    number = 0
    for i in range(iterations * 1000):
        number = (number * 31 + i) & 0xFFFF
    return number


@functools.cache
def _arrays() -> tuple[Any, Any, Any]:
    import numpy as np

    draw = np.random.default_rng(1)
    return draw.random(20_000), draw.random(20_000), np.empty(20_000)


def _numpy(iterations: int) -> float:
    # Into an array that stays where it is: fresh ones lay better or worse in the caches by what
    # else a tool had allocated, which was up to a fifth of the time either way.
    import numpy as np

    a, b, result = _arrays()
    total = 0.0
    for _ in range(iterations):
        np.multiply(a, b, out=result)
        np.add(result, a, out=result)
        total += float(result.sum())
    return total


@functools.cache
def _network() -> tuple[Any, Any, Any, Any]:
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(1)
    layers = torch.nn.Sequential(
        torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
    )
    optimiser = torch.optim.SGD(layers.parameters(), lr=0.01)
    return layers, optimiser, torch.randn(64, 64), torch.randint(0, 10, (64,))


def _torch(iterations: int) -> None:
    import torch

    layers, optimiser, inputs, labels = _network()
    for _ in range(iterations):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(layers(inputs), labels).backward()
        optimiser.step()


KINDS: dict[str, Callable[[int], object]] = {"numpy": _numpy, "python": _python, "torch": _torch}


def run(kind: str, iterations: int) -> float:
    """Do `iterations` pieces of work of a kind; return the seconds that they took."""
    start = time.perf_counter()
    KINDS[kind](iterations)
    return time.perf_counter() - start
