"""Records real trainings on this machine's processor for ``bench.prediction``.

Needs torch and scikit-learn. In five kinds the epochs ask for the same work: a convolutional
network on digits, the same with images that the first epoch reads from files, a loop with
validation and checkpoints, a small transformer on sequences of mixed length, and gradient boosting.
In two they do not, which cannot be foreseen: ``growing`` has longer sequences in its second half,
and ``warmstart`` grows an ensemble all of which is looked at for every new tree. Seconds are real.
Joules are those of the package for a simulated processor of 60 W, so that other programs on the
machine do not count; that it draws as much when it waits is not so.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.tree import DecisionTreeRegressor
from torch import nn

from bench.training_traces import RECORDED
from carbontracker.energy.config import Config, SimulatedDevice
from carbontracker.energy.session import acquire, release

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from carbontracker.energy.session import Mark, Session


WATTS = 60.0


class Recorder:
    """Marks at the ends of the parts of epochs, and of the epochs."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.parts: list[tuple[int, str, Mark, Mark]] = []
        self.epochs: list[tuple[Mark, Mark]] = []

    @contextmanager
    def part(self, kind: str) -> Iterator[None]:
        """Mark a part of the epoch that is open."""
        start = self.session.mark()
        yield
        self.parts.append((len(self.epochs) + 1, kind, start, self.session.mark()))

    @contextmanager
    def epoch(self) -> Iterator[None]:
        """Mark the next epoch."""
        start = self.session.mark()
        yield
        self.epochs.append((start, self.session.mark()))

    def cost(self, start: Mark, end: Mark) -> tuple[float, float]:
        """Return seconds and joules between two marks."""
        return (end.t_ns - start.t_ns) / 1e9, self.session.energy(start, end).joules

    def write(self, path: Path) -> None:
        """Write what every part took, and the rest of every epoch."""
        self.session.await_final(self.epochs[-1][1], timeout_s=5.0)
        rows: list[tuple[int, str, str, str]] = []
        for number, epoch in enumerate(self.epochs, 1):
            beside = list(self.cost(*epoch))
            for of, kind, *marks in self.parts:
                if of == number:
                    cost = self.cost(*marks)
                    beside = [whole - part for whole, part in zip(beside, cost, strict=True)]
                    rows.append((number, kind, f"{cost[0]:.5f}", f"{cost[1]:.4f}"))
            rest = [max(0.0, value) for value in beside]
            rows.append((number, "rest", f"{rest[0]:.5f}", f"{rest[1]:.4f}"))
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            gzip.GzipFile(path, "wb", mtime=0) as file,
            io.TextIOWrapper(file, encoding="utf-8", newline="") as text,
        ):
            writer = csv.writer(text)
            writer.writerow(("epoch", "kind", "seconds", "joules"))
            writer.writerows(rows)
        print(f"{path.name}: {len(rows)} rows, {path.stat().st_size} B", flush=True)


def train_step(
    network: nn.Module, rule: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor
) -> None:
    """Take one step."""
    rule.zero_grad()
    nn.functional.cross_entropy(network(x), y).backward()
    rule.step()


def small_cnn(width: int) -> nn.Module:
    """Return a convolutional network for images of 8 x 8."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128 * width, 10),
    )


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Return images (n, 1, 8, 8) and labels (n,) of scikit-learn."""
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 16.0, dtype=torch.float32).reshape(-1, 1, 8, 8), torch.tensor(
        labels
    )


def cnn(recorder: Recorder, epochs: int) -> None:
    """Train a convolutional network, nothing else."""
    images, labels = digits()
    network = small_cnn(64)
    rule = torch.optim.Adam(network.parameters())
    for _ in range(epochs):
        with recorder.epoch():
            for batch in torch.randperm(len(images)).split(64):
                with recorder.part("step"):
                    train_step(network, rule, images[batch], labels[batch])


def cached(recorder: Recorder, epochs: int) -> None:
    """Train on images that are read and enlarged in the first epoch, and kept for the others."""
    images, labels = digits()
    network = small_cnn(32)
    rule = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9)
    kept: dict[int, torch.Tensor] = {}
    with tempfile.TemporaryDirectory() as folder:
        for index, image in enumerate(images):
            np.savez_compressed(Path(folder) / f"{index}.npz", image.repeat(1, 8, 8).numpy())

        def read(index: int) -> torch.Tensor:
            if index not in kept:
                with np.load(Path(folder) / f"{index}.npz") as file:
                    large = torch.from_numpy(file["arr_0"])
                kept[index] = nn.functional.interpolate(large[None], size=(8, 8))[0]
            return kept[index]

        for _ in range(epochs):
            with recorder.epoch():
                for batch in torch.randperm(len(images)).split(64):
                    with recorder.part("step"):
                        x = torch.stack([read(int(index)) for index in batch])
                        train_step(network, rule, x, labels[batch])


def loop(recorder: Recorder, epochs: int) -> None:
    """Train with validation after every epoch and a checkpoint every third, all on a real disk."""
    images, labels = digits()
    network = small_cnn(48)
    rule = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9)
    with tempfile.TemporaryDirectory() as folder:
        for epoch in range(1, epochs + 1):
            with recorder.epoch():
                for batch in torch.randperm(1200).split(32):
                    with recorder.part("step"):
                        train_step(network, rule, images[batch], labels[batch])
                with recorder.part("validation"), torch.no_grad():
                    for _ in range(4):
                        network(images[1200:])
                if epoch % 3 == 0:
                    for copy in range(20):
                        torch.save(network.state_dict(), Path(folder) / f"{copy}.pt")
                    time.sleep(0.1)  # as for a slow store


class Transformer(nn.Module):
    """Two layers over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(64, 64)
        layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2)
        self.out = nn.Linear(64, 64)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return logits of each token."""
        logits: torch.Tensor = self.out(self.layers(self.embed(tokens)))
        return logits.transpose(1, 2)


def sequences(recorder: Recorder, longest_of: Sequence[int]) -> None:
    """Train on sequences whose lengths differ from batch to batch, up to so much in each epoch."""
    network = Transformer()
    rule = torch.optim.AdamW(network.parameters())
    draw = np.random.default_rng(1)
    for longest in longest_of:
        with recorder.epoch():
            for _ in range(40):
                length = int(draw.integers(longest // 2, longest))
                tokens = torch.tensor(draw.integers(0, 64, (16, length)))
                with recorder.part("step"):
                    train_step(network, rule, tokens, tokens.roll(1, 1))


def transformer(recorder: Recorder, epochs: int) -> None:
    """Train on sequences of mixed length, alike in all epochs."""
    sequences(recorder, [64] * epochs)


def growing(recorder: Recorder, epochs: int) -> None:
    """Train on sequences that become longer half-way."""
    sequences(recorder, [48] * (epochs // 2) + [64] * (epochs - epochs // 2))


def boosting(recorder: Recorder, epochs: int) -> None:
    """Fit twelve trees of equal depth an epoch to what those before left over."""
    draw = np.random.default_rng(2)
    x = draw.normal(size=(3000, 20))
    left = x[:, 0] * x[:, 1] + np.sin(3 * x[:, 2]) + draw.normal(size=len(x))
    for _ in range(epochs):
        with recorder.epoch():
            for _ in range(12):
                with recorder.part("step"):
                    chosen = draw.choice(len(x), 1500, replace=False)
                    tree = DecisionTreeRegressor(max_depth=4).fit(x[chosen], left[chosen])
                    left -= 0.05 * tree.predict(x)
            with recorder.part("validation"):
                float(np.square(left).mean())


def warmstart(recorder: Recorder, epochs: int) -> None:
    """Add a tree a step to an ensemble; every step looks at all of it."""
    images, labels = load_digits(return_X_y=True)
    model = GradientBoostingClassifier(
        n_estimators=1, max_depth=3, subsample=0.5, warm_start=True, random_state=0
    )
    for _ in range(epochs):
        with recorder.epoch():
            for _ in range(8):
                with recorder.part("step"):
                    model.fit(images[:1200], labels[:1200])
                    model.n_estimators += 1
            with recorder.part("validation"):
                model.score(images[1200:], labels[1200:])


KINDS: dict[str, tuple[Callable[[Recorder, int], None], int]] = {
    "boosting": (boosting, 60),
    "cached": (cached, 40),
    "cnn": (cnn, 50),
    "loop": (loop, 60),
    "transformer": (transformer, 50),
    "growing": (growing, 40),
    "warmstart": (warmstart, 24),
}


def main() -> None:
    """Record all kinds, or those named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", choices=[[], *KINDS], default=[])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.kinds or KINDS:
        train, epochs = KINDS[name]
        session = acquire(
            Config(
                kinds=("cpu",), simulated=(SimulatedDevice("cpu", "model", f"constant:{WATTS}"),)
            )
        )
        recorder = Recorder(session)
        train(recorder, epochs)
        recorder.write(RECORDED / f"{name}.csv.gz")
        release(session)


if __name__ == "__main__":
    main()
