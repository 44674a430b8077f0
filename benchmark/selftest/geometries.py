# SPDX-License-Identifier: Apache-2.0
"""Letter A, captions: geometries and retrievals that hold nothing are found to hold nothing."""

import numpy as np
from numpy.typing import NDArray
from scipy import stats as distributions
from scipy.spatial.distance import pdist

from voxelboard.benchmark.selftest.findings import Figure, Measurement, share_error
from voxelboard.benchmark.selftest.worlds import Workbench
from voxelboard.benchmark.statistics import geometry

FloatArray = NDArray[np.float64]

LEVEL = 0.05


def null_geometries(bench: Workbench) -> Measurement:
    """A6: unrelated clustered geometries, by permuted conditions and by the entry-wise test that is often used."""
    n_worlds, n_conditions = bench.pick(150, 800), 50
    rng = bench.rng(1, 6)
    naive, proper = np.empty(n_worlds), np.empty(n_worlds)
    for k in range(n_worlds):
        groups = rng.integers(5, size=n_conditions)
        model, brain = (
            rng.standard_normal((5, 6))[labels] + rng.standard_normal((n_conditions, 6))
            for labels in (groups, rng.permutation(groups))
        )
        a, b = pdist(model), pdist(brain)
        proper[k] = geometry.condition_permutation_test(a, b, n_draws=99, seed=bench.seed + k).p[0]
        naive[k] = distributions.pearsonr(a, b, alternative="greater").pvalue
    error = share_error(LEVEL, n_worlds)
    return Measurement(
        (
            Figure("false positives, permuted conditions", float((proper <= LEVEL).mean()), high=0.08, error=error),
            Figure("false positives, entry by entry (teeth)", float((naive <= LEVEL).mean()), low=0.08),
        ),
        f"{n_worlds} pairs of geometries, {n_conditions} conditions",
    )


def biased_distances(bench: Workbench) -> Measurement:
    """A7: no condition differs, but noise grows with a property of the conditions: what do distances say of it?"""
    n_worlds, n, n_voxels = bench.pick(6, 40), 80, 100
    rng = bench.rng(1, 7)
    plain, crossed = [], []
    for _ in range(n_worlds):
        size = rng.uniform(0.5, 2.0, n)  # such as the length of a caption
        confound = pdist(size[:, None], lambda a, b: float(a[0] ** 2 + b[0] ** 2))
        patterns = rng.standard_normal((2, n, n_voxels)) * size[:, None]
        plain.append(distributions.pearsonr(pdist(patterns.mean(axis=0), "sqeuclidean"), confound).statistic)
        crossed.append(distributions.pearsonr(geometry.crossvalidated_distances(patterns), confound).statistic)
    return Measurement(
        (
            Figure("r of cross-validated distances with the confound", float(np.mean(crossed)), -0.15, 0.15),
            Figure("r of plain distances (teeth)", float(np.mean(plain)), low=0.8),
        ),
        f"{n_worlds} brains without signal, {n} conditions",
    )


def null_retrieval(bench: Workbench) -> Measurement:
    """A8: captions without information, decoded across images, across trials of the same images, and as constants."""
    n_images, n_trials, width = bench.pick(300, 1000), 3, 20
    rng = bench.rng(1, 8)
    captions = rng.standard_normal((n_images, width))
    # what repeats of an image share and captions do not know: a decoder must not learn it
    nuisance = rng.standard_normal((n_images, 40))
    trials = nuisance[:, None] + rng.standard_normal((n_images, n_trials, 40))
    half = n_images // 2
    by_image = _normalised_rank(trials[:half].mean(1), captions[:half], trials[half:].mean(1), captions[half:])
    by_trial = _normalised_rank(trials[:, :2].mean(1), captions, trials[:, 2], captions)
    constant = geometry.normalised_ranks(np.zeros((half, half)))
    return Measurement(
        (
            Figure("normalised rank, images left out", by_image, 0.48, 0.52, 3 * 0.29 / float(np.sqrt(half))),
            Figure("normalised rank, trials left out (teeth)", by_trial, low=0.56),
            Figure("normalised rank of a constant", float(constant.mean()), 0.5, 0.5),
            Figure("top-1 of a constant", float(geometry.top_k(np.zeros((half, half)), 1).mean()), high=2 / half),
        ),
        f"{n_images} images, {n_trials} trials",
    )


def _normalised_rank(brain: FloatArray, captions: FloatArray, test_brain: FloatArray, gallery: FloatArray) -> float:
    """Mean normalised rank of ridge-decoded captions in the gallery."""
    weights = np.linalg.solve(brain.T @ brain + 10 * np.eye(brain.shape[1]), brain.T @ captions)
    decoded = test_brain @ weights
    decoded /= np.linalg.norm(decoded, axis=1, keepdims=True)
    similarity = decoded @ (gallery / np.linalg.norm(gallery, axis=1, keepdims=True)).T
    return float(geometry.normalised_ranks(similarity).mean())
