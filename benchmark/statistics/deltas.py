# SPDX-License-Identifier: Apache-2.0
"""What an ablation costs: paired differences of scores, with intervals over subjects, story blocks and training seeds.

Scores come as influence values (:mod:`voxelboard.benchmark.statistics.influence`), so that a difference of two scores is the
mean of a difference of tables, and everything that both share cancels.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import InvalidNumbers
from voxelboard.benchmark.statistics.intervals import MIN_RANDOM_SUBJECTS, Interval, t_interval

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def crossed_interval(
    z: FloatArray, random: Sequence[bool], *, df: float | None = None, confidence: float = 0.95
) -> Interval:
    """Interval of the mean of a table of crossed factors.

    The variance is that of multi-way clustering (Cameron, Gelbach & Miller 2011): clusters of one factor are added, those
    of pairs taken away, those of triples added; never less than the largest of the single factors. With two factors it is
    that of :func:`~voxelboard.benchmark.statistics.intervals.two_way_variance`.

    Parameters
    ----------
    z : one axis a factor, e.g. (n_subjects, n_blocks, n_seeds).
    random : for each axis whether new levels of it are meant; one that is fixed is averaged first.
    df : degrees of freedom from :func:`pooled_freedom`; default from this table alone, which with three seeds covers .92
        instead of .95.

    Raises
    ------
    InvalidNumbers
        for a random factor of fewer than two levels, and when none is random.
    """
    n = z.size
    z = _averaged(z, random)
    centred = z - z.mean()
    variance = 0.0
    for size in range(1, z.ndim + 1):
        for kept in combinations(range(z.ndim), size):
            variance -= (-1) ** size * _clustered_variance(centred, kept)
    single = _single_variances(z)
    variance = max(variance, float(single.max()))
    df = _satterthwaite(single, z.shape) if df is None else df
    return t_interval(float(z.mean()), float(np.sqrt(variance)), df, n, "multi-way clustered influence, t", confidence)


def pooled_freedom(tables: Sequence[FloatArray], random: Sequence[bool]) -> float:
    """Degrees of freedom by Satterthwaite from the single factors' variances, averaged over all tables of a study.

    Those of one table are too unstable with few levels (rule C of statistics.md 2.4). Tables as in :func:`crossed_interval`.
    """
    averaged = [_averaged(z, random) for z in tables]
    return _satterthwaite(np.mean([_single_variances(z) for z in averaged], axis=0), averaged[0].shape)


def _averaged(z: FloatArray, random: Sequence[bool]) -> FloatArray:
    if len(random) != z.ndim or not any(random):
        raise InvalidNumbers(f"an interval needs a random factor: {list(random)} for a table of {z.ndim} axes")
    averaged: FloatArray = z.mean(axis=tuple(axis for axis, is_random in enumerate(random) if not is_random))
    if min(averaged.shape) < 2:
        raise InvalidNumbers(f"a random factor needs two levels or more; the table has {averaged.shape}")
    return averaged


def _single_variances(z: FloatArray) -> FloatArray:
    centred = z - z.mean()
    return np.array([_clustered_variance(centred, (axis,)) for axis in range(z.ndim)])


def _satterthwaite(single: FloatArray, shape: tuple[int, ...]) -> float:
    spread = sum(v**2 / (n_levels - 1) for v, n_levels in zip(single.tolist(), shape, strict=True))
    return max(1.0, float(single.sum()) ** 2 / spread) if spread > 0 else float(min(shape) - 1)


def _clustered_variance(centred: FloatArray, kept: tuple[int, ...]) -> float:
    """Variance of the grand mean when all cells of one level of ``kept`` move together."""
    means = centred.mean(axis=tuple(axis for axis in range(centred.ndim) if axis not in kept))
    freedom = float(np.prod([n - 1 for n in means.shape]))
    # within the cells of several factors only what their single effects leave is a residual
    residual = _residual(means)
    return float((residual**2).sum() / freedom / means.size)


def _residual(means: FloatArray) -> FloatArray:
    """A table without the effects of its single factors and of all smaller sets of them."""
    residual = means
    for axis in range(means.ndim):
        residual = residual - residual.mean(axis=axis, keepdims=True)
    return residual


def delta_intervals(
    original: Sequence[FloatArray], ablated: Sequence[FloatArray], *, confidence: float = 0.95
) -> list[Interval]:
    """Score of the original minus that of the ablated, paired over subjects, blocks and seeds; one interval a pair.

    Parameters
    ----------
    original, ablated : tables (n_subjects, n_blocks, n_seeds) of influence values, of one shape. Fewer than five subjects
        are taken as they are; so is a single seed. Degrees of freedom are pooled over all pairs.

    Raises
    ------
    InvalidNumbers
        for tables of different shapes.
    """
    shapes = {table.shape for table in (*original, *ablated)}
    if len(shapes) != 1 or len(next(iter(shapes))) != 3:
        raise InvalidNumbers(f"tables of {sorted(shapes)}; expected one shape, three axes")
    n_subjects, _, n_seeds = next(iter(shapes))
    random = (n_subjects >= MIN_RANDOM_SUBJECTS, True, n_seeds > 1)
    deltas = [a - b for a, b in zip(original, ablated, strict=True)]
    df = pooled_freedom(deltas, random)
    return [crossed_interval(delta, random, df=df, confidence=confidence) for delta in deltas]


def describe_factors(n_subjects: int, n_seeds: int) -> str:
    """What such an interval generalises to."""
    subjects = "subjects" if n_subjects >= MIN_RANDOM_SUBJECTS else f"{n_subjects} fixed subjects"
    return f"{subjects} × story blocks" + (f" × {n_seeds} training seeds" if n_seeds > 1 else ", one training seed")


def specificity_index(semantics: FloatArray, syntax: FloatArray, limit: float = 4.0) -> FloatArray:
    """(n_units,) ``log10(max(semantics, 0) / max(syntax, 0))``, at most ``limit`` either way; NaN where both are not above 0.

    Parameters
    ----------
    semantics, syntax : (n_units,) what each model predicts beyond the baseline (Pasquiou et al. 2023).
    """
    above, below = np.maximum(semantics, 0.0), np.maximum(syntax, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log10(above / below)
    return np.where((above == 0) & (below == 0), np.nan, np.clip(ratio, -limit, limit))


def peak_regions(values: FloatArray, percentile: float = 90.0) -> BoolArray:
    """(n_units,) True above the percentile of all units; Pasquiou et al. 2023 take the 90th."""
    return np.asarray(values > np.percentile(values, percentile), dtype=np.bool_)


def jaccard(one: BoolArray, other: BoolArray) -> float:
    """Shared units over units of either set; 0 when both are empty."""
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 0.0
