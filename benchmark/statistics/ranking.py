# SPDX-License-Identifier: Apache-2.0
"""Ranks with their spread, from stored block statistics alone (statistics.md 2.4, rule C).

Paired two-way tests between all pairs of models, Holm over pairs, and ranks that only significant differences move.
Bootstrapped ranks are not used: under ties their intervals cover the defensible ranks with probability .00-.25.
Everything here is a function of its inputs, whatever their order: aggregating stored records again gives the same bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special
from scipy import stats as distributions

from voxelboard.benchmark.errors import InvalidNumbers
from voxelboard.benchmark.protocol import V1, ScorePolicy
from voxelboard.benchmark.statistics.gates import check_same_blocks, gate_subjects
from voxelboard.benchmark.statistics.influence import macro_influence
from voxelboard.benchmark.statistics.intervals import (
    Interval,
    Scope,
    TwoWayVariance,
    default_scope,
    describe_scope,
    pooled_degrees_of_freedom,
    t_interval,
    two_way_interval,
    two_way_variance,
)
from voxelboard.benchmark.statistics.scores import BlockStatistics, BoolArray, FloatArray, coarsen

# Scores are of order 1: a smaller difference is rounding, and such models (clones) are equal.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class RankedModel:
    """One row of the board.

    Attributes
    ----------
    rank : the display rank, ``1 + number of significantly better models``; equal to ``rank_low``.
    rank_low, rank_high : the rank interval; all intervals of a board cover jointly with the stated confidence.
    tie_group : names that share the display rank, best estimate first.
    """

    name: str
    score: Interval
    rank: int
    rank_low: int
    rank_high: int
    tie_group: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class PairTests:
    """Paired tests between all models; arrays (n_models, n_models), row minus column, models in board order.

    Attributes
    ----------
    difference, se : of the scores.
    p, p_holm : two-sided, before and after Holm over the distinct pairs; 1 on the diagonal.
    significant : Holm-adjusted p at most ``alpha``.
    probability_better : P(row beats column) from the t distribution of the difference.
    agreeing_subjects : subjects whose own difference has the sign of the mean difference.
    df : degrees of freedom, pooled over pairs.
    """

    difference: FloatArray
    se: FloatArray
    p: FloatArray
    p_holm: FloatArray
    significant: BoolArray
    probability_better: FloatArray
    agreeing_subjects: FloatArray
    df: float


@dataclass(frozen=True, eq=False)
class Ranking:
    """A ranked board of one task.

    Attributes
    ----------
    models : best estimate first, equal estimates by name.
    pairs : in the order of ``models``.
    unranked : name -> reason, for models that are incomplete.
    excluded_subjects : subjects without any ROI above the gate; the same for all models.
    scope : what intervals and ranks generalise to, as printed on the board.
    smallest_resolvable : score difference that the median pair would need to be significant when tested alone.
    smallest_resolvable_ranked : the same under Holm's first step, which is what separates two ranks here.
    """

    models: tuple[RankedModel, ...]
    pairs: PairTests
    unranked: Mapping[str, str]
    excluded_subjects: tuple[str, ...]
    scope: str
    n_subjects: int
    n_blocks: int
    smallest_resolvable: float | None
    smallest_resolvable_ranked: float | None

    def pair(self, first: str, second: str, confidence: float = 0.95) -> Interval:
        """Interval of the paired difference ``first - second``."""
        names = [model.name for model in self.models]
        i, j = names.index(first), names.index(second)
        n, what = self.n_subjects * self.n_blocks, f"paired two-way influence, rule C, {self.scope}"
        tests = self.pairs
        return t_interval(float(tests.difference[i, j]), float(tests.se[i, j]), tests.df, n, what, confidence)


@dataclass(frozen=True)
class Badge:
    """Whether a model beats a baseline, by the paired test."""

    baseline: str
    difference: Interval
    p: float
    beaten: bool


def rank_models(
    models: Mapping[str, Mapping[str, BlockStatistics]],
    subjects: Sequence[str],
    *,
    policy: ScorePolicy = V1.score,
    n_voxels: FloatArray | None = None,
    scope: Scope | None = None,
) -> Ranking:
    """Rank models that were scored on the same subjects, segments and ROIs.

    Parameters
    ----------
    models : name -> subject -> block statistics, ROIs as units, in the stored block length.
    subjects : all subjects of the task; a model without one of them is unranked.
    n_voxels : (n_subjects, n_rois), see :func:`~voxelboard.benchmark.statistics.gates.gate_subjects`.

    Raises
    ------
    DataError
        when subjects have different blocks.
    InvalidNumbers
        when models were scored against different responses, or no subject has a ROI above the gate.
    """
    complete, unranked = [], {}
    for name in sorted(models):
        missing = [subject for subject in subjects if subject not in models[name]]
        if missing:
            unranked[name] = f"{len(subjects) - len(missing)}/{len(subjects)} subjects, without {', '.join(missing)}"
        else:
            complete.append(name)
    if not complete:
        raise InvalidNumbers("no model is complete: there is nothing to rank")
    tables = [[coarsen(models[name][subject], policy.inference_block_trs) for subject in subjects] for name in complete]
    z, kept = influence_tables(tables, policy=policy, n_voxels=n_voxels)
    excluded = tuple(subject for subject, keep in zip(subjects, kept, strict=True) if not keep)
    return rank_influence(
        complete, z, confidence=policy.confidence, scope=scope, unranked=unranked, excluded_subjects=excluded
    )


def influence_tables(
    models: Sequence[Sequence[BlockStatistics]], *, policy: ScorePolicy = V1.score, n_voxels: FloatArray | None = None
) -> tuple[FloatArray, BoolArray]:
    """Influence values of the macro score, after the gate.

    Parameters
    ----------
    models : for each model one table per subject, blocks of the inference length.

    Returns
    -------
    z : (n_models, n_kept_subjects, n_blocks).
    kept : (n_subjects,) False for subjects without a ROI above the gate.
    """
    check_same_blocks([stats for model in models for stats in model])
    _check_same_responses(models)
    z: list[FloatArray] = []
    kept: BoolArray = np.zeros(0, dtype=np.bool_)
    for model in models:
        gated = gate_subjects(model, n_standard_errors=policy.gate_standard_errors, n_voxels=n_voxels)
        kept = np.asarray(gated.scored.any(axis=1))
        rows = [macro_influence(s, m) for s, m in zip(gated.subjects, gated.scored, strict=True) if m.any()]
        if not rows:
            raise InvalidNumbers("no subject has a ROI whose signal power is above the gate: nothing can be ranked")
        z.append(np.stack(rows))
    return np.stack(z), kept


def _check_same_responses(models: Sequence[Sequence[BlockStatistics]]) -> None:
    for model in models[1:]:
        for ours, theirs in zip(models[0], model, strict=True):
            scale = np.abs(ours.s).max(initial=0.0)
            if np.abs(ours.s - theirs.s).max(initial=0.0) > 1e-6 * scale:
                raise InvalidNumbers("models were scored against different responses: their signal power differs")


def rank_influence(
    names: Sequence[str],
    z: FloatArray,
    *,
    confidence: float = 0.95,
    scope: Scope | None = None,
    unranked: Mapping[str, str] | None = None,
    excluded_subjects: tuple[str, ...] = (),
) -> Ranking:
    """Rank models from their influence values ``z`` (n_models, n_subjects, n_blocks)."""
    n_models, n_subjects, n_blocks = z.shape
    if len(names) != n_models or len(set(names)) != n_models:
        raise ValueError(f"{len(names)} names ({len(set(names))} distinct) for {n_models} models")
    scope = scope or default_scope(n_subjects)
    estimates = [float(z[i].mean()) for i in range(n_models)]
    order = sorted(range(n_models), key=lambda i: (-estimates[i], names[i]))
    tests = pair_tests(z[order], alpha=1 - confidence, scope=scope)
    low = 1 + (tests.significant & (tests.difference < 0)).sum(axis=1)
    high = n_models - (tests.significant & (tests.difference > 0)).sum(axis=1)
    rows = tuple(
        RankedModel(
            name=names[i],
            # from its own table only, so that no other submission moves it (independence of irrelevant alternatives)
            score=two_way_interval(z[i], scope=scope, confidence=confidence),
            rank=int(low[k]),
            rank_low=int(low[k]),
            rank_high=int(high[k]),
            tie_group=tuple(names[j] for m, j in enumerate(order) if low[m] == low[k]),
        )
        for k, i in enumerate(order)
    )
    alone, ranked = _smallest_resolvable(tests, 1 - confidence)
    return Ranking(
        models=rows,
        pairs=tests,
        unranked=dict(sorted((unranked or {}).items())),
        excluded_subjects=excluded_subjects,
        scope=describe_scope(scope, n_subjects),
        n_subjects=n_subjects,
        n_blocks=n_blocks,
        smallest_resolvable=alone,
        smallest_resolvable_ranked=ranked,
    )


def pair_tests(z: FloatArray, *, alpha: float = 0.05, scope: Scope | None = None) -> PairTests:
    """Paired tests between all models of ``z`` (n_models, n_subjects, n_blocks), with Holm over the pairs."""
    n_models, n_subjects, n_blocks = z.shape
    if n_blocks < 2:
        raise InvalidNumbers(f"a paired test over blocks needs at least two blocks, got {n_blocks}")
    scope = scope or default_scope(n_subjects)
    rows, columns = np.triu_indices(n_models, k=1)
    variance, agree = _pair_variances(z, scope)
    if scope == "stimuli" or not len(rows):
        df = float(n_blocks - 1)
    else:
        df = pooled_degrees_of_freedom(variance, n_subjects, n_blocks)
    means = z.mean(axis=2).mean(axis=1)
    difference = means[:, None] - means[None, :]
    difference[np.abs(difference) <= _ROUNDING] = 0.0
    se = np.zeros((n_models, n_models))
    se[rows, columns] = se[columns, rows] = np.sqrt(variance.total)
    t = _t_values(difference, se)
    p = 2 * distributions.t.sf(np.abs(t), df)
    p_holm = np.ones_like(p)
    p_holm[rows, columns] = p_holm[columns, rows] = holm(p[rows, columns])
    agreeing = np.full(p.shape, float(n_subjects))
    agreeing[rows, columns] = agreeing[columns, rows] = agree
    significant: BoolArray = np.asarray(p_holm <= alpha)
    return PairTests(difference, se, p, p_holm, significant, distributions.t.cdf(t, df), agreeing, df)


def _pair_variances(z: FloatArray, scope: Scope) -> tuple[TwoWayVariance, FloatArray]:
    """Variance of each pair's difference, first model by first model: memory stays at one model's differences."""
    found: list[TwoWayVariance] = []
    agree: list[FloatArray] = []
    for i in range(len(z) - 1):
        differences = z[i] - z[i + 1 :]
        signs = np.sign(differences.mean(axis=2))
        agree.append((signs == np.sign(differences.mean(axis=(1, 2)))[:, None]).sum(axis=1).astype(np.float64))
        if scope == "stimuli":
            total = differences.mean(axis=1).var(axis=-1, ddof=1) / z.shape[2]
            found.append(TwoWayVariance(np.zeros_like(total), total, np.zeros_like(total), total))
        else:
            found.append(two_way_variance(differences))
    empty = [np.zeros(0)]
    subjects, blocks, residual, total = (
        np.concatenate([getattr(part, name) for part in found] or empty)
        for name in ("subjects", "blocks", "residual", "total")
    )
    return TwoWayVariance(subjects, blocks, residual, total), np.concatenate(agree or empty)


def _t_values(difference: FloatArray, se: FloatArray) -> FloatArray:
    """Difference over se; 0 for equal models, signed infinity for a difference without any spread."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(difference == 0, 0.0, difference / se)


def holm(p: FloatArray) -> FloatArray:
    """Holm-adjusted p values (Holm 1979); reject where they are at most alpha. Input (n_tests,)."""
    order = np.argsort(p, kind="stable")
    factors = len(p) - np.arange(len(p))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * p[order]))
    return adjusted


def _smallest_resolvable(tests: PairTests, alpha: float) -> tuple[float | None, float | None]:
    rows, columns = np.triu_indices(len(tests.se), k=1)
    if not len(rows):
        return None, None
    typical = float(np.median(tests.se[rows, columns]))
    alone = float(distributions.t.isf(alpha / 2, tests.df)) * typical
    return alone, float(distributions.t.isf(alpha / 2 / len(rows), tests.df)) * typical


def baseline_badges(
    z: FloatArray, baselines: Mapping[str, FloatArray], *, alpha: float = 0.05, scope: Scope | None = None
) -> tuple[Badge, ...]:
    """Paired tests of one model against its baselines, in the order given.

    Parameters
    ----------
    z : (n_subjects, n_blocks) influence values of the model.
    baselines : name -> (n_subjects, n_blocks). Degrees of freedom are pooled over these pairs only, so that other
        submissions never move a badge.
    """
    if not baselines:
        return ()
    n_subjects, n_blocks = z.shape
    scope = scope or default_scope(n_subjects)
    differences = np.stack([z - table for table in baselines.values()])
    df = None
    if scope == "subjects+stimuli":
        df = pooled_degrees_of_freedom(two_way_variance(differences), n_subjects, n_blocks)
    badges = []
    for name, table in zip(baselines, differences, strict=True):
        interval = two_way_interval(table, scope=scope, df=df, confidence=1 - alpha)
        difference = 0.0 if abs(interval.estimate) <= _ROUNDING else interval.estimate
        t = _t_values(np.array(difference), np.array(interval.se))
        p = float(2 * special.stdtr(interval.df, -abs(float(t))))  # t.sf without its checks
        badges.append(Badge(name, interval, p, difference > 0 and p <= alpha))
    return tuple(badges)
