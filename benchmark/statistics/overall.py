# SPDX-License-Identifier: Apache-2.0
"""Ranks over several tasks: paired tests of a weighted mean of scores in absolute units (statistics.md 2.3, 2.4).

The mean is over absolute scores, never z-scores, win rates or ranks, so that another submission moves no score (P12).
Tasks have stimuli and subjects of their own, so their errors are independent: the variance of a weighted mean is the sum
of the tasks' variances times the squared weights, and its degrees of freedom follow Satterthwaite.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats as distributions

from voxelboard.benchmark.errors import InvalidNumbers
from voxelboard.benchmark.statistics.intervals import Interval, t_interval, two_way_interval
from voxelboard.benchmark.statistics.ranking import holm, pair_tests
from voxelboard.benchmark.statistics.scores import BoolArray, FloatArray


@dataclass(frozen=True, eq=False)
class OverallRanking:
    """Models in the order given; arrays (n_models,) and (n_models, n_models), row minus column.

    Attributes
    ----------
    scores : weighted mean over tasks with its interval.
    low, high : the ranks that the data allow, jointly at the stated confidence.
    difference, se, p_holm : of the weighted mean, paired.
    significant : Holm-adjusted p at most 1 - confidence.
    df : degrees of freedom of all pairs.
    weights : per task, normalised to sum 1.
    """

    scores: tuple[Interval, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]
    difference: FloatArray
    se: FloatArray
    p_holm: FloatArray
    significant: BoolArray
    df: float
    weights: tuple[float, ...]


def rank_overall(tasks: Sequence[FloatArray], weights: Sequence[float], *, confidence: float = 0.95) -> OverallRanking:
    """Rank models by a weighted mean of their task scores.

    Parameters
    ----------
    tasks : per task the influence values (n_models, n_subjects, n_blocks), the same models in the same order.
    weights : per task, not negative; one at least above 0. They are normalised to sum 1; tasks of weight 0 do not count.

    Raises
    ------
    InvalidNumbers
        when no weight is above 0, or one is negative or not finite.
    """
    total = float(np.sum(weights))
    if not all(np.isfinite(weight) and weight >= 0 for weight in weights) or total <= 0:
        raise InvalidNumbers(f"weights of tasks must be 0 or more and not all 0, got {list(weights)}")
    shares = tuple(float(weight) / total for weight in weights)
    used = [(z, share) for z, share in zip(tasks, shares, strict=True) if share > 0]
    n_models = len(used[0][0])
    tests = [pair_tests(z, alpha=1 - confidence) for z, _ in used]
    difference = np.sum([share * test.difference for (_, share), test in zip(used, tests, strict=True)], axis=0)
    variance = np.sum([share**2 * test.se**2 for (_, share), test in zip(used, tests, strict=True)], axis=0)
    upper = np.triu_indices(n_models, k=1)
    parts = [
        float((share**2 * t.se[upper] ** 2).mean()) if len(upper[0]) else 0.0
        for (_, share), t in zip(used, tests, strict=True)
    ]
    df = satterthwaite(parts, [test.df for test in tests])
    se: FloatArray = np.sqrt(variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(difference == 0, 0.0, difference / se)
    p = 2 * distributions.t.sf(np.abs(t), df)
    p_holm = np.ones_like(p)
    p_holm[upper] = holm(p[upper])
    p_holm.T[upper] = p_holm[upper]
    significant: BoolArray = np.asarray(p_holm <= 1 - confidence)
    return OverallRanking(
        scores=tuple(overall_score([z[i] for z, _ in used], [s for _, s in used], confidence) for i in range(n_models)),
        low=tuple(int(n) for n in 1 + (significant & (difference < 0)).sum(axis=1)),
        high=tuple(int(n) for n in n_models - (significant & (difference > 0)).sum(axis=1)),
        difference=difference,
        se=se,
        p_holm=p_holm,
        significant=significant,
        df=df,
        weights=shares,
    )


def overall_score(tables: Sequence[FloatArray], shares: Sequence[float], confidence: float = 0.95) -> Interval:
    """Weighted mean of one model's task scores; ``tables`` (n_subjects, n_blocks) per task, ``shares`` sum to 1.

    From its own tables only, so that no other submission moves it (independence of irrelevant alternatives).
    """
    intervals = [two_way_interval(table, confidence=confidence) for table in tables]
    if len(intervals) == 1:
        return intervals[0]
    estimate = sum(share * interval.estimate for share, interval in zip(shares, intervals, strict=True))
    parts = [(share * interval.se) ** 2 for share, interval in zip(shares, intervals, strict=True)]
    df = satterthwaite(parts, [interval.df for interval in intervals])
    n, what = sum(interval.n for interval in intervals), f"weighted mean of {len(intervals)} tasks, Satterthwaite"
    return t_interval(estimate, float(np.sqrt(sum(parts))), df, n, what, confidence)


def satterthwaite(variances: Sequence[float], dfs: Sequence[float]) -> float:
    """Degrees of freedom of a sum of independent variances (Satterthwaite 1946); the smallest where all are 0."""
    spread = sum(variance**2 / df for variance, df in zip(variances, dfs, strict=True))
    return float(sum(variances)) ** 2 / spread if spread > 0 else float(min(dfs))
