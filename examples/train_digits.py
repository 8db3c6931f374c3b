"""Train a small neural network on handwritten digits and see what it costs.

Run it as ``carbontracker python examples/train_digits.py`` to measure the whole program, too.
Needs scikit-learn; the data come with it.
"""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from carbontracker.tracker import CarbonTracker

BATCH_SIZE = 64


def main() -> None:
    """Train for some epochs, with prediction after the first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--passes", type=int, default=6, help="passes over the data in an epoch")
    arguments = parser.parse_args()

    images, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        images / 16.0, labels, test_size=0.25, random_state=0
    )
    network = MLPClassifier(hidden_layer_sizes=(128, 64), random_state=0)
    order = np.random.default_rng(0)

    tracker = CarbonTracker(epochs=arguments.epochs)
    for epoch in tracker.epochs():
        for _ in range(arguments.passes):
            for batch in np.array_split(
                order.permutation(len(train_x)), len(train_x) // BATCH_SIZE
            ):
                network.partial_fit(train_x[batch], train_y[batch], classes=np.arange(10))
        print(f"epoch {epoch + 1}: accuracy {network.score(test_x, test_y):.3f}", flush=True)
    tracker.stop()


if __name__ == "__main__":
    main()
