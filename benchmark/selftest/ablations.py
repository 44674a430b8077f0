# SPDX-License-Identifier: Apache-2.0
"""Letter G: what taking a subspace away costs is what the brain used it for, and nothing else.

A subspace is taken away by putting a surrogate of the same width and spectrum in its place. Leaving the columns out makes
a useless subspace look harmful, and degrading all features makes a useless one look needed.
"""

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.designs import primal_problem
from voxelboard.benchmark.encoding.ridge import fit_ridge
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.selftest.findings import Figure, Measurement
from voxelboard.benchmark.selftest.worlds import Workbench
from voxelboard.benchmark.statistics import surrogates
from voxelboard.benchmark.statistics.scores import segment_statistics
from voxelboard.benchmark.stimuli.simulated import ar1

FloatArray = NDArray[np.float64]

N_TRAIN, N_TEST, N_VOXELS, N_REPEATS = 2400, 600, 60, 4
N_FEATURES = 48
SYNTAX, OTHER, JUNK = slice(0, 8), slice(8, 24), slice(24, 48)
SNR = 0.4


class _Brain:
    """Features of three subspaces and responses that use the first with share ``s`` of their signal, the third not."""

    def __init__(self, share: float, rng: np.random.Generator) -> None:
        n = N_TRAIN + N_TEST
        self.features = ar1(n, N_FEATURES, 0.5, rng)
        weights = rng.standard_normal((24, N_VOXELS))
        parts = [self.features[:, part] @ weights[part] for part in (SYNTAX, OTHER)]
        signal = np.sqrt(share) * parts[0] / parts[0].std(axis=0) + np.sqrt(1 - share) * parts[1] / parts[1].std(axis=0)
        noise = np.stack([ar1(n, N_VOXELS, 0.5, rng) for _ in range(N_REPEATS)])
        self.clean = signal[N_TRAIN:]
        responses = np.sqrt(SNR) * signal + noise
        self.train = responses[0, :N_TRAIN].astype(np.float32)
        self.test = responses[:, N_TRAIN:]

    def explained(self, features: FloatArray) -> tuple[float, float]:
        """Explained fraction of the responses, and of the noise-free signal."""
        problem = primal_problem(features[:N_TRAIN], features[N_TRAIN:])
        folds = np.arange(N_TRAIN) * 5 // N_TRAIN
        predictions = fit_ridge(problem, self.train, folds, V1.encoding.relative_alphas).test_predictions
        found = []
        for responses, kind in ((self.test, "repeats"), (np.sqrt(SNR) * self.clean[None], "none")):
            c, q, s = segment_statistics(predictions, responses, kind=kind).totals()  # type: ignore[arg-type]
            found.append(float((2 * c - q).sum() / s.sum()))
        return found[0], found[1]


def without(features: FloatArray, part: slice, seed: int) -> FloatArray:
    """The features with a surrogate of equal width and spectrum in place of a subspace."""
    replaced = features.copy()
    for rows in (slice(0, N_TRAIN), slice(N_TRAIN, len(features))):
        replaced[rows, part] = surrogates.phase_randomised(features[rows, part], seed=seed)
    return replaced


def _deltas(bench: Workbench, share: float, part: slice, k: int) -> tuple[float, float]:
    """What taking ``part`` away costs, measured and on the noise-free signal."""
    brain = _Brain(share, bench.rng(7, 1, k, int(10 * share)))
    full, less = brain.explained(brain.features), brain.explained(without(brain.features, part, bench.seed + k))
    return full[0] - less[0], full[1] - less[1]


def removed_subspace(bench: Workbench) -> Measurement:
    """G1: a subspace with a planted share of the signal is taken away."""
    n, figures = bench.pick(2, 10), []
    for share in (0.0, 0.1, 0.3, 0.5):
        found = np.array([_deltas(bench, share, SYNTAX, k) for k in range(n)])
        bias = float((found[:, 0] - found[:, 1]).mean())
        allowed = 0.008 if share == 0 else 0.02
        if share == 0:
            figures.append(Figure("delta at share 0", float(found[:, 0].mean()), -allowed, allowed, 0.01 / np.sqrt(n)))
        else:
            figures.append(
                Figure(f"delta - attainable at share {share:g}", bias, -allowed, allowed, float(0.03 / np.sqrt(n)))
            )
            figures.append(
                Figure(f"delta at share {share:g}", float(found[:, 0].mean()), low=share - 0.08, high=share + 0.08)
            )
    return Measurement(tuple(figures), f"{n} brains of {N_VOXELS} voxels, SNR {SNR:g}")


def dropped_columns(bench: Workbench) -> Measurement:
    """G2: useless columns left out raise a score; with a surrogate in their place they do not."""
    n, dropped, refilled = bench.pick(2, 10), [], []
    for k in range(n):
        brain = _Brain(0.0, bench.rng(7, 2, k))
        full = brain.explained(brain.features)[0]
        dropped.append(full - brain.explained(brain.features[:, OTHER])[0])
        refilled.append(full - brain.explained(without(brain.features, JUNK, k))[0])
    return Measurement(
        (
            Figure("delta of useless columns, refilled", float(np.mean(refilled)), -0.008, 0.008, 0.01 / np.sqrt(n)),
            Figure("delta of useless columns, left out (teeth)", float(np.mean(dropped)), high=-0.002),
        ),
        f"{n} brains",
    )


def global_degradation(bench: Workbench) -> Measurement:
    """G3: noise on all features costs as much as a needed subspace although syntax has no share; a surrogate does not."""
    n, degraded, matched = bench.pick(2, 10), [], []
    for k in range(n):
        rng = bench.rng(7, 3, k)
        brain = _Brain(0.0, rng)
        full = brain.explained(brain.features)[0]
        noisy = np.sqrt(0.7) * brain.features + np.sqrt(0.3) * ar1(len(brain.features), N_FEATURES, 0.5, rng)
        degraded.append(full - brain.explained(noisy)[0])
        matched.append(full - brain.explained(without(brain.features, SYNTAX, k))[0])
    return Measurement(
        (
            Figure("delta of 30 % noise on everything, share 0 (teeth)", float(np.mean(degraded)), low=0.1),
            Figure("delta of the subspace alone, share 0", float(np.mean(matched)), -0.008, 0.008, 0.01 / np.sqrt(n)),
        ),
        f"{n} brains",
    )


def irrelevant_subspace(bench: Workbench) -> Measurement:
    """G4: the control ablation, a subspace that no voxel uses."""
    n = bench.pick(2, 10)
    found = [_deltas(bench, 0.3, JUNK, 50 + k)[0] for k in range(n)]
    return Measurement(
        (Figure("delta of the control", float(np.mean(found)), -0.01, 0.01, 0.01 / float(np.sqrt(n))),), f"{n} brains"
    )
