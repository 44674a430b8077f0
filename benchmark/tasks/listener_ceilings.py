# SPDX-License-Identifier: Apache-2.0
"""Ceilings from other listeners as the literature reports them, for records: no score is divided by one of these.

``ceiling_leave_one_out``: the correlation with the mean of the others, two noisy series (Nastase et al. 2019).
``ceiling_extrapolated``: that with infinitely many others, by the published exponential law (Schrimpf et al. 2021; biased, see
:mod:`~voxelboard.benchmark.statistics.extrapolation`). Their kind is their name; the ceiling that scores are divided by is
``ceiling``.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.protocol import Protocol, ScorePolicy
from voxelboard.benchmark.records import Estimate
from voxelboard.benchmark.statistics.extrapolation import PoolScores, fit_saturation, pool_scores
from voxelboard.benchmark.statistics.intervals import jackknife_interval
from voxelboard.benchmark.tasks.preparation import Cohort
from voxelboard.benchmark.tasks.scoring import HeldOutResponses, correlation_influence, missing, summarise, to_estimate

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
Estimates = tuple[Estimate, dict[str, Estimate]]  # the mean over ROIs, and each ROI

_POOLS = 6  # of each size: 156 scores of a listener among 27
_VOXELS_AT_ONCE = 1024  # of 27 listeners and 1,500 rows: 170 MB


def leave_one_out_estimates(test: HeldOutResponses, policy: ScorePolicy) -> Estimates:
    """Mean voxelwise r of a subject with the mean of the others, by blocks of time; ``test.others`` must be there."""
    if test.others is None:
        raise ValueError("no other subjects' responses are at hand")
    means, _ = correlation_influence(np.concatenate(test.others), test, policy)
    estimator = f"leave-one-out ISC, mean voxelwise r, {policy.inference_block_trs}-TR block influence, t"
    return summarise(means, test.scored, estimator, "r", policy.confidence)


def extrapolated_estimates(
    cohort: Cohort, subjects: Sequence[str], scored: Sequence[str], protocol: Protocol
) -> dict[str, Estimates]:
    """Subject -> how well infinitely many of its cohort would predict it, mean over voxels.

    Each interval is for these listeners on other stimuli of this kind: tenths of the test rows left out in turn.
    """
    everybody = cohort.subjects
    if len(everybody) < 3:
        reason = f"an extrapolation over listeners needs three or more, these rows have {len(everybody)}"
        nothing = missing("isc_extrapolated", "r", reason)
        return {subject: (nothing, dict.fromkeys(scored, nothing)) for subject in subjects}
    wanted = [everybody.index(subject) for subject in subjects]
    labels = cohort.rois[everybody[0]]  # voxels are in correspondence
    pools = [_pools(cohort, np.flatnonzero(labels == roi), wanted, protocol.seed) for roi in scored]
    return {
        subject: _of_subject([own.of(number) for own in pools], scored)
        for subject, number in zip(subjects, wanted, strict=True)
    }


def _pools(cohort: Cohort, voxels: NDArray[np.intp], wanted: Sequence[int], seed: int) -> PoolScores:
    """Scores of pools, mean over some voxels, of which :data:`_VOXELS_AT_ONCE` of all listeners are in memory together."""

    def rows(subject: str, some: NDArray[np.intp]) -> Float32Array:
        runs = [run for fold in cohort.folds for run in fold.test_responses[subject]]
        return np.concatenate([run[:, :, some].mean(axis=0) for run in runs])

    def scored(some: NDArray[np.intp]) -> PoolScores:
        responses = np.stack([rows(subject, some) for subject in cohort.subjects])
        return pool_scores(responses, max_pools=_POOLS, seed=seed, held_out=wanted)

    parts = np.split(voxels, range(_VOXELS_AT_ONCE, len(voxels), _VOXELS_AT_ONCE))
    found = scored(parts[0])
    total = found.scores * len(parts[0])
    for part in parts[1:]:
        total += scored(part).scores * len(part)
    return replace(found, scores=total / len(voxels))


def _of_subject(pools: Sequence[PoolScores], scored: Sequence[str]) -> Estimates:
    n = pools[0].members.shape[1]
    estimator = f"isc_extrapolated from {n} listeners, biased: exponential law; jackknife over tenths of the time"
    # (1 + n_blocks, n_rois); NaN where a curve does not saturate
    fits = np.array([[_v0(own, scores) for scores in own.scores] for own in pools]).T
    usable = np.isfinite(fits).all(axis=0)

    def estimate(values: FloatArray) -> Estimate:
        return to_estimate(jackknife_interval(float(values[0]), values[1:], estimator), estimator, "r")

    def none() -> Estimate:
        return missing(estimator, "r", "the agreement does not level off with more listeners")

    by_roi = {roi: estimate(fits[:, i]) if usable[i] else none() for i, roi in enumerate(scored)}
    return (estimate(fits[:, usable].mean(axis=1)) if usable.any() else none()), by_roi


def _v0(own: PoolScores, scores: FloatArray) -> float:
    fit = fit_saturation(own.sizes, scores)
    return np.nan if fit is None else fit[0]
