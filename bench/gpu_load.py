"""Loads for `gpu_check`: square, bursts, and a real training loop, by PyTorch."""

from __future__ import annotations

import time
from typing import Any

SIZE = 4096
SIZE_ON_CPU = 256


class Load:
    """Work on one device; without PyTorch only idling is possible."""

    def __init__(self, pretend: bool) -> None:
        try:
            import torch
        except ImportError:
            self.torch: Any = None
            self.reason = "PyTorch is not installed"
            return
        self.torch = torch
        self.reason = ""
        self.cuda = torch.cuda.is_available()
        if not self.cuda and not pretend:
            self.torch = None
            self.reason = "PyTorch sees no CUDA device"
            return
        self.device = "cuda" if self.cuda else "cpu"
        if not self.cuda:
            torch.set_num_threads(1)
        size = SIZE if self.cuda else SIZE_ON_CPU
        dtype = torch.float16 if self.cuda else torch.float32
        self._matrix = torch.randn(size, size, device=self.device, dtype=dtype)
        self._model = torch.nn.Sequential(
            torch.nn.Linear(1024, 2048), torch.nn.ReLU(), torch.nn.Linear(2048, 1024)
        ).to(self.device)
        self._optimiser = torch.optim.AdamW(self._model.parameters())
        self._batch = torch.randn(256 if self.cuda else 16, 1024, device=self.device)

    def uuid(self) -> str:
        """Return the UUID of the CUDA device, or nothing where PyTorch does not report it."""
        if self.torch is None or not self.cuda:
            return ""
        return str(getattr(self.torch.cuda.get_device_properties(0), "uuid", ""))

    def wait(self) -> None:
        """Wait until the device has done everything."""
        if self.cuda:
            self.torch.cuda.synchronize()

    def busy(self, seconds: float) -> None:
        """Multiply matrices for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(4):
                self._matrix @ self._matrix
            self.wait()

    def pulse(self, seconds: float, period_s: float, on_s: float) -> None:
        """Be busy in the first part of each period, for so long."""
        end = time.monotonic() + seconds
        while (start := time.monotonic()) < end:
            self.busy(on_s)
            time.sleep(max(0.0, start + period_s - time.monotonic()))

    def train(self, steps: int) -> float:
        """Train for so many steps; return the seconds that they took."""
        self.wait()
        start = time.perf_counter()
        for _ in range(steps):
            self._optimiser.zero_grad()
            loss = (self._model(self._batch) - self._batch).square().mean()
            loss.backward()
            self._optimiser.step()
        self.wait()
        return time.perf_counter() - start
