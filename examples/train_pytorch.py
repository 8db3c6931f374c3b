"""A PyTorch training loop with energy per epoch and per part of a step.

Needs torch; runs on a GPU if there is one. The data are made up here, so nothing is downloaded.
"""

from __future__ import annotations

import argparse

import torch
from torch import nn

import carbontracker as ct
from carbontracker.tracker import CarbonTracker


def make_data(count: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images of a bright square, and in which quarter of the image it lies."""
    generator = torch.Generator().manual_seed(0)
    images = 0.3 * torch.randn(count, 1, 32, 32, generator=generator)
    labels = torch.randint(0, 4, (count,), generator=generator)
    for image, label in zip(images, labels.tolist(), strict=True):
        row, column = 16 * (label // 2), 16 * (label % 2)
        image[0, row + 4 : row + 12, column + 4 : column + 12] += 1.0
    return images.to(device), labels.to(device)


def main() -> None:
    """Train for some epochs and say what the forward and backward passes used."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--images", type=int, default=2048)
    arguments = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images, labels = make_data(arguments.images, device)
    network = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 8 * 8, 4),
    ).to(device)  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters())
    loss_function = nn.CrossEntropyLoss()
    windows: list[ct.Window] = []

    tracker = CarbonTracker(epochs=arguments.epochs)
    for epoch in tracker.epochs():
        for batch in torch.randperm(len(images)).split(128):
            with ct.measure("forward") as window:
                loss = loss_function(network(images[batch]), labels[batch])
            windows.append(window)
            with ct.measure("backward") as window:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            windows.append(window)
        print(f"epoch {epoch + 1}: loss {loss.item():.4f}", flush=True)

    for name in ("forward", "backward"):
        joules = sum(window.energy.joules for window in windows if window.name == name)
        print(f"{name}: {joules:.1f} J")


if __name__ == "__main__":
    main()
