# SPDX-License-Identifier: Apache-2.0
"""Intervals from influence values: over blocks for one subject, over subjects and blocks for a board (rule C).

A stimulus shared by all subjects is a random effect of its own: with subjects as the only one, false positives reach
.30-.43 at a nominal .05 (statistics.md P10). The two-way variance is that of crossed random effects; the degrees of
freedom follow Satterthwaite, from variance ratios pooled over all pairs because those of one pair are unstable.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from voxelboard.benchmark.errors import InvalidNumbers
from voxelboard.benchmark.statistics.scores import FloatArray

Scope = Literal["subjects+stimuli", "stimuli"]

# Below it a variance over subjects is too poor to generalise from: the subjects are then fixed.
MIN_RANDOM_SUBJECTS = 5


@dataclass(frozen=True)
class Interval:
    """An estimate with its uncertainty. There is no score without one.

    Attributes
    ----------
    estimate, se, low, high : in the unit of the score; never clipped.
    df : degrees of freedom of the t distribution behind ``low`` and ``high``.
    n : influence values (or resampled units) that entered.
    estimator : how it was computed, in words.
    """

    estimate: float
    se: float
    low: float
    high: float
    df: float
    n: int
    estimator: str


@dataclass(frozen=True, eq=False)
class TwoWayVariance:
    """Variance components of means over a table (n_subjects, n_blocks); arrays of the leading shape of the tables.

    subjects, blocks : variance of the mean due to subjects and to blocks, each with the residual's part in it.
    residual : variance of the mean due to the residual.
    total : ``max(subjects + blocks - residual, subjects, blocks)``.
    """

    subjects: FloatArray
    blocks: FloatArray
    residual: FloatArray
    total: FloatArray


def t_interval(estimate: float, se: float, df: float, n: int, estimator: str, confidence: float = 0.95) -> Interval:
    """A symmetric t interval."""
    half = float(special.stdtrit(df, (1 + confidence) / 2)) * se  # the distribution's ppf, without its 0.2 ms of checks
    return Interval(float(estimate), float(se), float(estimate - half), float(estimate + half), float(df), n, estimator)


def single_subject_interval(z: FloatArray, *, confidence: float = 0.95) -> Interval:
    """Interval of one subject's score over blocks: new segments of the same kind of stimulus, this subject.

    Parameters
    ----------
    z : (n_blocks,) influence values.

    Raises
    ------
    InvalidNumbers
        for fewer than two blocks.
    """
    n_blocks = len(z)
    _require_blocks(n_blocks)
    se = float(np.sqrt(z.var(ddof=1) / n_blocks))
    return t_interval(float(z.mean()), se, n_blocks - 1, n_blocks, "block influence, t", confidence)


def two_way_variance(z: FloatArray) -> TwoWayVariance:
    """Variance components of the mean of tables ``z`` (..., n_subjects, n_blocks), two or more of each."""
    n_subjects, n_blocks = z.shape[-2:]
    rows = z.mean(axis=-1, keepdims=True)
    columns = z.mean(axis=-2, keepdims=True)
    rest = z - rows - columns + z.mean(axis=(-2, -1), keepdims=True)
    subjects = rows[..., 0].var(axis=-1, ddof=1) / n_subjects
    blocks = columns[..., 0, :].var(axis=-1, ddof=1) / n_blocks
    residual = (rest**2).sum(axis=(-2, -1)) / ((n_subjects - 1) * (n_blocks - 1)) / (n_subjects * n_blocks)
    total = np.maximum(subjects + blocks - residual, np.maximum(subjects, blocks))
    return TwoWayVariance(subjects, blocks, residual, total)


def pooled_degrees_of_freedom(variance: TwoWayVariance, n_subjects: int, n_blocks: int) -> float:
    """Satterthwaite degrees of freedom from components averaged over all tables (rule C of statistics.md 2.4)."""
    subjects, blocks, residual, total = (
        float(np.mean(part)) for part in (variance.subjects, variance.blocks, variance.residual, variance.total)
    )
    spread = (
        subjects**2 / (n_subjects - 1) + blocks**2 / (n_blocks - 1) + residual**2 / ((n_subjects - 1) * (n_blocks - 1))
    )
    if spread == 0:  # all tables are constant: any df gives the same, empty interval
        return float(min(n_subjects, n_blocks) - 1)
    return max(1.0, total**2 / spread)


def default_scope(n_subjects: int) -> Scope:
    """Subjects are a random effect from five of them on."""
    return "subjects+stimuli" if n_subjects >= MIN_RANDOM_SUBJECTS else "stimuli"


def describe_scope(scope: Scope, n_subjects: int) -> str:
    """What an interval generalises to, as printed on the board."""
    return scope if scope == "subjects+stimuli" else f"stimuli only (N={n_subjects} fixed subjects)"


def two_way_interval(
    z: FloatArray, *, scope: Scope | None = None, df: float | None = None, confidence: float = 0.95
) -> Interval:
    """Interval of a mean score, or of a paired difference, over subjects and blocks.

    Parameters
    ----------
    z : (n_subjects, n_blocks) influence values of a model, or their difference between two models.
    scope : "subjects+stimuli" or, with the subjects as they are, "stimuli"; default by the number of subjects.
    df : degrees of freedom pooled over pairs; default from this table alone.

    Raises
    ------
    InvalidNumbers
        for fewer than two blocks.
    """
    n_subjects, n_blocks = z.shape
    _require_blocks(n_blocks)
    scope = scope or default_scope(n_subjects)
    if scope == "stimuli":
        means = z.mean(axis=0)
        se = float(np.sqrt(means.var(ddof=1) / n_blocks))
        estimator = f"block influence, {describe_scope(scope, n_subjects)}"
        return t_interval(float(z.mean()), se, n_blocks - 1, z.size, estimator, confidence)
    if n_subjects < 2:
        raise InvalidNumbers("an interval over subjects needs at least two subjects")
    variance = two_way_variance(z)
    df = pooled_degrees_of_freedom(variance, n_subjects, n_blocks) if df is None else df
    estimator = f"two-way influence, {describe_scope(scope, n_subjects)}"
    return t_interval(float(z.mean()), float(np.sqrt(variance.total)), df, z.size, estimator, confidence)


def two_way_intervals(z: FloatArray, *, confidence: float = 0.95) -> list[Interval]:
    """:func:`two_way_interval` of many tables (n_tables, n_subjects, n_blocks) at once, each from its own table alone."""
    n_tables, n_subjects, n_blocks = z.shape
    scope = default_scope(n_subjects)
    if scope == "stimuli" or not n_tables:
        return [two_way_interval(table, scope=scope, confidence=confidence) for table in z]
    _require_blocks(n_blocks)
    variance = two_way_variance(z)
    subjects, blocks, residual, total = variance.subjects, variance.blocks, variance.residual, variance.total
    spread = (
        subjects**2 / (n_subjects - 1) + blocks**2 / (n_blocks - 1) + residual**2 / ((n_subjects - 1) * (n_blocks - 1))
    )
    constant = float(min(n_subjects, n_blocks) - 1)  # as in pooled_degrees_of_freedom
    df = np.maximum(1.0, np.divide(total**2, spread, out=np.full(n_tables, constant), where=spread > 0))
    half = special.stdtrit(df, (1 + confidence) / 2) * np.sqrt(total)
    what, n = f"two-way influence, {describe_scope(scope, n_subjects)}", n_subjects * n_blocks
    columns = (z.mean(axis=(1, 2)), np.sqrt(total), half, df)
    return [
        Interval(mean, se, mean - width, mean + width, own_df, n, what)
        for mean, se, width, own_df in zip(*(column.tolist() for column in columns), strict=True)
    ]


def sign_agreement(z: FloatArray) -> int:
    """Subjects whose own mean has the sign of the mean over all; ``z`` (n_subjects, n_blocks)."""
    return int((np.sign(z.mean(axis=1)) == np.sign(z.mean())).sum())


def _require_blocks(n_blocks: int) -> None:
    if n_blocks < 2:
        raise InvalidNumbers(f"an interval over blocks needs at least two blocks, got {n_blocks}")


def jackknife_interval(
    estimate: float, leave_one_out: FloatArray, estimator: str, *, confidence: float = 0.95
) -> Interval:
    """Interval from the delete-one jackknife (Efron & Stein 1981).

    Parameters
    ----------
    estimate : from all units.
    leave_one_out : (n_units,) the estimate without each unit.

    Raises
    ------
    InvalidNumbers
        for fewer than two units.
    """
    n = len(leave_one_out)
    if n < 2:
        raise InvalidNumbers(f"a jackknife needs at least two units, got {n}")
    se = float(np.sqrt((n - 1) * leave_one_out.var()))
    return t_interval(estimate, se, n - 1, n, estimator, confidence)
