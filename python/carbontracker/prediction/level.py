"""The mean level of what is still to come, by Bayesian averaging over simple explanations.

The log of a step's cost over time is a constant, plus an offset of the first epoch (a cold cache,
which only ever costs more), plus an exponential approach (warm-up, heating, throttling), plus one
change to a new level, plus noise that is alike for about an epoch, plus white noise. Each
combination is a linear model with normal coefficients, so that its evidence and its prediction are
closed forms (Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006, section 2.7). The
answer is their mean, weighted by evidence; where they disagree, that is in its error.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


class Noise(NamedTuple):
    """One idea of the noise; relative figures."""

    probability: float
    sigma: float
    """Standard deviation of what is alike for ``memory`` epochs."""
    memory: float = 1.5
    walk: float = 0.0
    """Standard deviation of a slow wandering, in the time of an epoch."""
    white: float = 0.0
    """Standard deviation of noise that is new at every point."""

    def between(self, a: Floats, b: Floats) -> Floats:
        """Return covariances of each of ``a`` with each of ``b``, without the white noise."""
        import numpy as np

        apart = np.abs(a[:, None] - b[None, :])
        common = np.minimum(a[:, None], b[None, :])
        return self.sigma**2 * np.exp(-apart / self.memory) + self.walk**2 * common


NOISES = (
    Noise(0.08, 0.002),
    Noise(0.15, 0.007),
    Noise(0.25, 0.017),
    Noise(0.15, 0.034),
    Noise(0.07, 0.07),
    Noise(0.08, 0.017, walk=0.006),
    Noise(0.07, 0.04, memory=0.15),
    Noise(0.06, 0.12, memory=0.15),
    Noise(0.04, 0.30, memory=0.15),
    Noise(0.05, 0.20, memory=0.7),
    Noise(0.05, 0.20),
)
"""Quiet machines, restless ones, and those shared with others, whose noise is short."""
SINGLE_NOISES = (*NOISES[:6], *NOISES[-2:], Noise(0.2, 0.017, white=0.1))
"""Where a point is an epoch, which may hold what comes every few of them."""
TAUS = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Time constants of an approach, epochs."""
APPROACH = 0.15
"""Its standard deviation, relative."""
APPROACH_PRIOR = 0.5
"""Probability that there is one."""
COLD = 0.3
"""Scale of an offset of the first epoch, relative: half a normal distribution."""
CHANGE = 0.4
"""Standard deviation of a change of level, relative."""
CHANGE_PRIOR = 0.001
"""Probability of a change at any one point."""
UNREST = 0.06
"""Noise from which on a machine counts as shared."""
TREND_IN_UNREST = -4.0
"""Log of how much less likely a trend or a first epoch apart is there."""
CONSTANT = 10.0
"""Standard deviation of the log of the level: nothing is known of it."""
COLD_COLUMN = 1
"""Place of the offset among the columns of a model."""
FEW_EPOCHS = 3
"""Fewer whole epochs show no trend: what lies between two may as well be a validation."""
POINTS_AHEAD = 12
MOST_POINTS = 24


@dataclass(frozen=True)
class Point:
    """Mean log cost of neighbouring steps."""

    at: float
    """Epochs from the beginning of the training."""
    log: float
    variance: float
    """Of the mean, white noise only."""
    cold: float
    """1 in the first epoch, else 0."""


@dataclass(frozen=True)
class Cold:
    """One idea of the first epoch."""

    probability: float
    """That it is unlike the others, if the idea is right; certain if the offset is known."""
    weight: float = 1.0
    """Probability of the idea."""
    offset: float = 0.0
    """Expected log of its cost over the others'."""
    sigma: float = COLD

    @property
    def known(self) -> bool:
        """Return whether the offset is known, and so may be less than nothing."""
        return self.probability >= 1


@dataclass(frozen=True)
class Level:
    """Log of the mean cost of a step still to come."""

    log: float
    sigma: float
    drift: float
    """Probability that the level approaches another one or has changed."""


class Models(NamedTuple):
    """Which columns each model has, their prior variances, and its log prior; one row a model."""

    columns: NDArray[np.int_]
    variances: Floats
    weights: Floats

    @property
    def trends(self) -> NDArray[np.bool_]:
        """Return which hold an approach or a change."""
        return (self.columns[:, 2] > 0) | (self.columns[:, 3] > 0)

    @property
    def offsets(self) -> NDArray[np.bool_]:
        """Return which hold an offset of the first epoch."""
        return self.columns[:, COLD_COLUMN] > 0


class Fit(NamedTuple):
    """What each model says, one row a model."""

    evidence: Floats
    """Log."""
    mean: Floats
    """Of the log of the level ahead."""
    variance: Floats
    offset: Floats
    """Of the first epoch: its mean, its covariance with the level ahead, and its variance."""


def level_ahead(
    points: Sequence[Point], ahead: tuple[float, float], ideas: Sequence[Cold], *, single: bool
) -> Level:
    """Return the mean level between two times ahead, in epochs.

    Args:
        points: what was seen, in order of time, not empty.
        ahead: from when to when.
        ideas: of the first epoch.
        single: a point is a whole epoch, so that approaches within one are out of question.
    """
    import numpy as np

    at = np.array([point.at for point in points])
    origin = points[-1].log
    logs = np.array([point.log - origin for point in points])
    white = np.array([point.variance for point in points])
    marks = np.array([point.cold for point in points])
    later = np.linspace(*ahead, POINTS_AHEAD)
    taus = [tau for tau in TAUS if not single or (tau >= 1.0 and len(points) >= FEW_EPOCHS)]
    changes = [(a.at + b.at) / 2 for a, b in itertools.pairwise(points)][1:-1]
    seen = _basis(at, marks, taus, changes)
    expected = _basis(later, np.zeros(len(later)), taus, changes).mean(axis=0)
    found = []
    for cold in ideas:
        models = _models(len(taus), len(changes), cold)
        observed = (at, logs - cold.offset * marks, white)
        for noise in SINGLE_NOISES if single else NOISES:
            fit = _fit(noise, observed, (seen, expected, later), models)
            fit = fit if cold.known else _only_dearer(fit)
            evidence = fit.evidence + _log_prior(noise, models, cold)
            found.append((evidence, fit.mean, fit.variance, models.trends))
    evidence, means, spreads, trends = (np.concatenate(part) for part in zip(*found, strict=True))
    share = np.exp(evidence - evidence.max())
    share /= share.sum()
    mean = float(share @ means)
    variance = float(share @ (spreads + (means - mean) ** 2))
    return Level(origin + mean, math.sqrt(max(0.0, variance)), float(share[trends].sum()))


def _log_prior(noise: Noise, models: Models, cold: Cold) -> Floats:
    """Return the log of how likely each model is beforehand under such noise."""
    prior = models.weights + math.log(noise.probability * cold.weight)
    if noise.sigma < UNREST:
        return prior
    # Where the noise itself wanders that far, a trend is rarely one.
    rare = models.trends if cold.known else models.trends | models.offsets
    return prior + TREND_IN_UNREST * rare


def _basis(at: Floats, cold: Floats, taus: Sequence[float], changes: Sequence[float]) -> Floats:
    """Return columns: nothing, constant, first epoch, approaches, changes; one row a time."""
    import numpy as np

    columns = [np.zeros_like(at), np.ones_like(at), cold]
    columns += [-np.exp(-at / tau) for tau in taus]
    columns += [(at < change).astype(float) for change in changes]
    return np.stack(columns, axis=1)


def _models(taus: int, changes: int, cold: Cold) -> Models:
    """Return all combinations of this idea with an approach or none and a change or none."""
    import numpy as np

    approach = [(0, 1 - APPROACH_PRIOR), *((3 + i, APPROACH_PRIOR / taus) for i in range(taus))]
    change = [(0, 1.0), *((3 + taus + i, CHANGE_PRIOR) for i in range(changes))]
    first = [(0, 1 - cold.probability), (2, cold.probability)]
    rows = [
        (1, c, a, s, p * q * r) for c, p in first for a, q in approach for s, r in change if p > 0
    ]
    columns = np.array([row[:4] for row in rows])
    sigmas = np.full(3 + taus + changes, CHANGE)
    sigmas[:3] = (1.0, CONSTANT, cold.sigma)
    sigmas[3 : 3 + taus] = APPROACH
    return Models(columns, sigmas[columns] ** 2, np.log([row[4] for row in rows]))


def _fit(
    noise: Noise,
    observed: tuple[Floats, Floats, Floats],
    bases: tuple[Floats, Floats, Floats],
    models: Models,
) -> Fit:
    """Return what the models say under one kind of noise."""
    import numpy as np

    at, logs, white = observed
    seen, expected, later = bases
    columns, variances, _ = models
    lower = np.linalg.cholesky(noise.between(at, at) + np.diag(white + noise.white**2))
    cross = noise.between(at, later).mean(axis=1)
    rest = np.linalg.solve(lower, np.column_stack([logs, cross, seen]))
    y, k, h = rest[:, 0], rest[:, 1], rest[:, 2:]
    gram, moment = h.T @ h, h.T @ y
    ahead = expected - h.T @ k
    pick = columns[:, :, None], columns[:, None, :]
    matrix = gram[pick] + np.eye(4) / variances[:, :, None]
    first = np.broadcast_to(np.eye(4)[COLD_COLUMN], columns.shape)
    right = np.stack([moment[columns], ahead[columns], first], axis=2)
    solved = np.linalg.solve(matrix, right)
    evidence = (
        -0.5 * (y @ y - np.einsum("mi,mi->m", moment[columns], solved[:, :, 0]))
        - 0.5 * np.linalg.slogdet(matrix)[1]
        - 0.5 * np.log(variances).sum(axis=1)
        - np.log(np.diag(lower)).sum()
    )
    mean = k @ y + np.einsum("mi,mi->m", ahead[columns], solved[:, :, 0])
    spread = noise.between(later, later).mean() - k @ k
    variance = spread + np.einsum("mi,mi->m", ahead[columns], solved[:, :, 1])
    return Fit(evidence, mean, np.maximum(variance, 0.0), solved[:, COLD_COLUMN])


def _only_dearer(fit: Fit) -> Fit:
    """Return the same if the first epoch can only be dearer than the others.

    Then the positive half of a normal prior is meant. The evidence changes by the share of the
    posterior that is positive, over one half, and where the most likely offset would be negative
    it is 0. Without an offset nothing changes.
    """
    import numpy as np

    offset, together, variance = fit.offset.T
    shares = [
        math.erfc(-mean / math.sqrt(2 * spread))
        for mean, spread in zip(offset.tolist(), variance.tolist(), strict=True)
    ]
    return fit._replace(
        evidence=fit.evidence + np.log(np.maximum(shares, 1e-300)),
        mean=fit.mean - np.minimum(offset, 0.0) * together / variance,
    )
