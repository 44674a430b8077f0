# SPDX-License-Identifier: Apache-2.0
"""Noise ceilings: how well the best possible model could do, each of a labelled kind and with an interval.

Power is pooled before any ratio or root and never clipped: with two repeats, clipping per voxel inflates the pooled
power by 3 % and gives voxels without signal a ceiling of .13-.15 (statistics.md B3). Kinds are different quantities
and never share a column (B7).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError, InvalidNumbers
from voxelboard.benchmark.statistics.influence import unit_influence
from voxelboard.benchmark.statistics.intervals import Interval, jackknife_interval, t_interval, two_way_interval
from voxelboard.benchmark.statistics.scores import (
    BlockStatistics,
    FloatArray,
    Scores,
    concatenate,
    segment_statistics,
    voxel_correlation,
)

CeilingLabel = Literal[
    "repeats", "inter_subject", "leave_one_out_isc", "isc_extrapolated", "nsd_ncsnr", "rdm_lower", "rdm_upper"
]


@dataclass(frozen=True)
class Ceiling:
    """A noise ceiling in units of a correlation.

    Attributes
    ----------
    kind : which estimator; ceilings of different kinds are never compared.
    estimate : None when the ceiling is not above zero (``isc_extrapolated``, which nothing is divided by: when its curve does
        not level off); may exceed 1 by estimation error, never clipped.
    interval : None exactly when ``estimate`` is None or one unit alone was there to estimate from.
    n : repeats, subjects or trials behind it, as ``unit`` says.
    """

    kind: CeilingLabel
    estimate: float | None
    interval: Interval | None
    n: int
    unit: str
    note: str = ""


def explainable_variance(responses: NDArray[Any]) -> FloatArray:
    """(n_voxels,) share of variance that repeats have in common, bias-corrected, unclipped.

    ``EV = [R var(mean of repeats) / mean(var of repeats) - 1] / (R - 1)``: Sahani & Linden 2003's signal power over
    total power; with z-scored repeats equal to the bias-corrected explainable variance of Gallant-lab tutorials.

    Parameters
    ----------
    responses : (n_repeats, n_trs, n_voxels), one segment.
    """
    _require_repeats(responses)
    n_repeats = len(responses)
    repeats = np.asarray(responses, dtype=np.float64)
    total = repeats.var(axis=1).mean(axis=0)
    shared = repeats.mean(axis=0).var(axis=0)
    if not (total > 0).all():
        raise InvalidNumbers(f"{int((total <= 0).sum())} voxels are constant in all repeats")
    share: FloatArray = (n_repeats * shared / total - 1) / (n_repeats - 1)
    return share


def voxel_cc_max(responses: NDArray[Any]) -> Scores:
    """CCmax of each voxel (Schoppe et al. 2016, eq. 9; Hsu et al. 2004): greatest correlation with the mean of repeats.

    For maps and reports. A score never divides by it voxel by voxel; undefined where the signal power is not above 0.
    """
    _require_repeats(responses)
    n_repeats = len(responses)
    repeats = np.asarray(responses, dtype=np.float64)
    mean_power = repeats.mean(axis=0).var(axis=0)
    signal = (n_repeats * mean_power - repeats.var(axis=1).mean(axis=0)) / (n_repeats - 1)
    defined = (signal > 0) & (mean_power > 0)
    return Scores(np.sqrt(np.where(defined, signal / np.where(defined, mean_power, 1.0), 0.0)), defined)


def repeat_ceiling(segments: Sequence[NDArray[Any]], *, block_trs: int = 15, confidence: float = 0.95) -> Ceiling:
    """CCmax pooled over voxels and segments, ``sqrt(sum of signal power / sum of the mean response's power)``.

    Parameters
    ----------
    segments : each (n_repeats, n_trs, n_voxels); filtered, z-scored each repeat. The interval is a jackknife over
        blocks of ``block_trs`` TRs.
    """
    parts = [segment_statistics(run.mean(axis=0), run, kind="repeats", block_trs=block_trs) for run in segments]
    return _pooled_ceiling(concatenate(parts), "repeats", min(len(run) for run in segments), "repeats", confidence)


def inter_subject_ceiling(
    segments: Sequence[NDArray[Any]], subject: int, *, block_trs: int = 15, confidence: float = 0.95
) -> Ceiling:
    """Root of the share of a subject's variance that the other subjects' mean has too.

    Unbiased for the signal that all share with equal gain; a subject's own repeats explain more (statistics.md B7).

    Parameters
    ----------
    segments : each (n_subjects, n_trs, n_voxels), voxels in correspondence.
    subject : row of the subject.
    """
    parts = []
    for run in segments:
        own, others = run[subject], np.delete(run, subject, axis=0).mean(axis=0)
        parts.append(segment_statistics(own, own[None], kind="inter_subject", others=others, block_trs=block_trs))
    return _pooled_ceiling(concatenate(parts), "inter_subject", len(segments[0]), "subjects", confidence)


def _pooled_ceiling(stats: BlockStatistics, kind: CeilingLabel, n: int, unit: str, confidence: float) -> Ceiling:
    """``sqrt(S / Q)`` of statistics whose prediction is the response itself."""
    power, signal = stats.q.sum(axis=1), stats.s.sum(axis=1)
    without_power, without_signal = power.sum() - power, signal.sum() - signal
    if signal.sum() <= 0 or (len(signal) > 1 and without_signal.min() <= 0):
        return Ceiling(kind, None, None, n, unit, "signal power is not reliably above zero")
    estimate = float(np.sqrt(signal.sum() / power.sum()))
    if len(signal) < 2:
        return Ceiling(kind, estimate, None, n, unit, "one block: no interval")
    left_out = np.sqrt(without_signal / without_power)
    interval = jackknife_interval(estimate, left_out, "jackknife over blocks", confidence=confidence)
    return Ceiling(kind, estimate, interval, n, unit)


def leave_one_out_isc(responses: NDArray[Any]) -> FloatArray:
    """(n_subjects, n_voxels) correlation of each subject with the mean of the others (Nastase et al. 2019).

    Parameters
    ----------
    responses : (n_subjects, n_trs, n_voxels), voxels in correspondence.
    """
    _require_subjects(responses)
    others = _others_mean(responses)
    return np.stack([voxel_correlation(other, own) for own, other in zip(responses, others, strict=True)])


def isc_ceiling(segments: Sequence[NDArray[Any]], *, block_trs: int = 15, confidence: float = 0.95) -> Ceiling:
    """Leave-one-out ISC pooled over voxels, mean over subjects, with its two-way interval.

    A correlation between two noisy series: lower than the ceiling of a noise-free predictor. Subjects share the means
    that they are compared with, so the interval's subject part is approximate.

    Parameters
    ----------
    segments : each (n_subjects, n_trs, n_voxels).
    """
    tables = []
    for own in range(len(segments[0])):
        parts = []
        for run in segments:
            _require_subjects(run)
            others = np.delete(run, own, axis=0).mean(axis=0)
            parts.append(segment_statistics(others, run[own][None], kind="none", block_trs=block_trs))
        stats = concatenate(parts)
        c, q, s = (table.sum(axis=1, keepdims=True) for table in (stats.c, stats.q, stats.s))
        pooled = BlockStatistics(c, q, s, stats.block_segment, stats.block_trs)
        tables.append(unit_influence(pooled)[:, 0])
    interval = two_way_interval(np.stack(tables), confidence=confidence)
    return Ceiling("leave_one_out_isc", interval.estimate, interval, len(tables), "subjects", "a lower bound")


def _others_mean(responses: NDArray[Any]) -> FloatArray:
    values = np.asarray(responses, dtype=np.float64)
    others: FloatArray = (values.sum(axis=0, keepdims=True) - values) / (len(values) - 1)
    return others


def ncsnr(betas: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """Noise-ceiling signal-to-noise ratio of NSD (Allen et al. 2022), and the unclipped signal variance behind it.

    Parameters
    ----------
    betas : (n_images, n_trials, n_voxels), z-scored for each voxel and session, images with all trials.

    Returns
    -------
    ncsnr : (n_voxels,) ``sqrt(max(0, 1 - v)) / sqrt(v)``, v the mean over images of the variance over trials. The
        clip is part of the published definition; pool ``signal`` instead.
    signal : (n_voxels,) ``1 - v``.
    """
    noise = _trial_variance(betas).mean(axis=0)
    if not (noise > 0).all():
        raise InvalidNumbers(f"{int((noise <= 0).sum())} voxels do not vary between trials")
    signal: FloatArray = 1 - noise
    ratio: FloatArray = np.sqrt(np.maximum(0.0, signal) / noise)
    return ratio, signal


def ncsnr_noise_ceiling(ratio: FloatArray, n_averaged: float) -> FloatArray:
    """Share of variance ``ncsnr^2 / (ncsnr^2 + 1/n)`` that is explainable when n trials are averaged; root it for r."""
    ceiling: FloatArray = ratio**2 / (ratio**2 + 1 / n_averaged)
    return ceiling


def nsd_ceiling(betas: NDArray[Any], n_averaged: float, *, confidence: float = 0.95) -> Ceiling:
    """NSD's noise ceiling as a correlation, pooled over voxels without clipping, with a jackknife over images."""
    trial_variance = _trial_variance(betas)
    n_images, n_voxels = trial_variance.shape
    by_image = trial_variance.sum(axis=1)
    noise = np.append((by_image.sum() - by_image) / (n_images - 1), by_image.mean())
    signal = n_voxels - noise
    n_trials = betas.shape[1]
    if signal.min() <= 0:
        return Ceiling("nsd_ncsnr", None, None, n_trials, "trials", "signal variance is not reliably above zero")
    ceilings = np.sqrt(signal / (signal + noise / n_averaged))
    interval = jackknife_interval(float(ceilings[-1]), ceilings[:-1], "jackknife over images", confidence=confidence)
    return Ceiling("nsd_ncsnr", float(ceilings[-1]), interval, n_trials, "trials")


def _trial_variance(betas: NDArray[Any]) -> FloatArray:
    if betas.ndim != 3 or betas.shape[0] < 2 or betas.shape[1] < 2:
        raise DataError(f"betas {betas.shape}: expected (n_images, n_trials, n_voxels) with two or more of each")
    variance: FloatArray = np.asarray(betas, dtype=np.float64).var(axis=1, ddof=1)
    return variance


def rdm_ceilings(rdms: NDArray[Any], *, confidence: float = 0.95) -> tuple[Ceiling, Ceiling]:
    """Lower and upper ceiling of an RDM correlation (Nili et al. 2014), each with a jackknife over subjects.

    Parameters
    ----------
    rdms : (n_subjects, n_pairs) dissimilarities; pass ranks for Spearman's correlation.

    Returns
    -------
    (lower, upper) : each subject's RDM against the mean of the others, and against the mean of all.
    """
    _require_subjects(rdms)
    n = len(rdms)
    if n < 3:
        raise DataError(f"RDM ceilings with an interval need at least three subjects, got {n}")
    values = np.asarray(rdms, dtype=np.float64)
    full = _rdm_bounds(values)
    left_out = np.array([_rdm_bounds(np.delete(values, i, axis=0)) for i in range(n)])
    lower, upper = (
        jackknife_interval(full[k], left_out[:, k], "jackknife over subjects", confidence=confidence) for k in (0, 1)
    )
    return Ceiling("rdm_lower", full[0], lower, n, "subjects"), Ceiling("rdm_upper", full[1], upper, n, "subjects")


def _rdm_bounds(rdms: FloatArray) -> tuple[float, float]:
    mean = np.broadcast_to(rdms.mean(axis=0), rdms.shape)
    lower = voxel_correlation(rdms.T, _others_mean(rdms).T)
    upper = voxel_correlation(rdms.T, mean.T)
    return float(lower.mean()), float(upper.mean())


def normalised(score: Interval, ceiling: Ceiling) -> Interval | None:
    """A raw correlation over its ceiling, with the uncertainty of both (delta method); never clipped.

    Takes the two as independent, which is conservative for blocks that both share. Scores with block statistics do not
    need it: their influence values carry the ceiling's part exactly. None when the ceiling is not above zero or has no
    interval.
    """
    if ceiling.estimate is None or ceiling.interval is None or ceiling.estimate <= 0:
        return None
    ratio = score.estimate / ceiling.estimate
    se = float(np.hypot(score.se, ratio * ceiling.interval.se)) / ceiling.estimate
    df = min(score.df, ceiling.interval.df)
    return t_interval(ratio, se, df, score.n, f"{score.estimator}; over {ceiling.kind} ceiling, delta method")


def _require_repeats(responses: NDArray[Any]) -> None:
    if responses.ndim != 3 or len(responses) < 2:
        raise DataError(f"responses {responses.shape}: expected (n_repeats, n_trs, n_voxels) with two or more repeats")


def _require_subjects(values: NDArray[Any]) -> None:
    if len(values) < 2:
        raise DataError(f"an inter-subject ceiling needs at least two subjects, got {len(values)}")
