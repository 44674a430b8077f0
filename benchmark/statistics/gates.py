# SPDX-License-Identifier: Apache-2.0
"""Which ROIs enter a score. The rule looks at responses only, so it is the same for every model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.statistics.scores import BlockStatistics, BoolArray, FloatArray


@dataclass(frozen=True, eq=False)
class Gated:
    """Block statistics of all subjects after the gate.

    Attributes
    ----------
    subjects : as given, with the signal power of pooled entries replaced (see :func:`gate_subjects`).
    scored : (n_subjects, n_rois) which entries enter the score.
    pooled : (n_subjects, n_rois) which of them are scored against the signal power pooled over subjects.
    """

    subjects: tuple[BlockStatistics, ...]
    scored: BoolArray
    pooled: BoolArray


def signal_gate(stats: BlockStatistics, n_standard_errors: float = 3.0) -> BoolArray:
    """(n_rois,) True where the summed signal power exceeds ``n_standard_errors`` of its block standard error."""
    return _above_noise(stats.s, n_standard_errors)


def _above_noise(power: FloatArray, n_standard_errors: float) -> BoolArray:
    n_blocks = len(power)
    if n_blocks < 2:
        raise DataError(
            f"the signal power of {n_blocks} block has no standard error",
            "the test segments are too short: at least two inference blocks are needed",
        )
    total = power.sum(axis=0)
    error = np.sqrt(n_blocks * power.var(axis=0, ddof=1))
    above: BoolArray = (total > n_standard_errors * error) & (total > 0)
    return above


def gate_subjects(
    subjects: Sequence[BlockStatistics], *, n_standard_errors: float = 3.0, n_voxels: FloatArray | None = None
) -> Gated:
    """Apply the gate to all subjects of a data set.

    Where every subject's own signal power of a ROI passes :func:`signal_gate`, each is scored against its own. Where one
    does not but the power summed over all subjects does, all are scored against that pooled power, scaled to their
    numbers of voxels (with two repeats and few voxels one subject's own power has a standard deviation of .25,
    statistics.md B1). Otherwise the ROI does not enter.

    All or none, other than statistics.md 2.2: those who pass by themselves do so in part by chance, so that their own power
    is too large, and those who fail are scored against a mean that is too large for them. For a model of true score .6,
    six subjects whose SNR varies by half, that rule is biased by -.027 (SNR .12, 20 voxels, 2 repeats) to -.056 (SNR .04),
    this one by -.009 to -.013, with a smaller spread (.025 against .033). Shrinking each power towards the mean is nearly
    unbiased and spreads up to twice as much.

    Parameters
    ----------
    subjects : one per subject, ROIs as units, blocks of the inference length.
    n_voxels : (n_subjects, n_rois) voxels behind each entry; None for equal numbers.

    Raises
    ------
    DataError
        when subjects have different test blocks or ROIs.
    """
    check_same_blocks(subjects)
    own = np.stack([signal_gate(stats, n_standard_errors) for stats in subjects])
    own[:] = own.all(axis=0)
    summed = np.sum([stats.s for stats in subjects], axis=0)
    pooled = ~own & _above_noise(summed, n_standard_errors)
    share = np.full(own.shape, 1 / len(subjects)) if n_voxels is None else n_voxels / n_voxels.sum(axis=0)
    gated = tuple(
        replace(stats, s=np.where(use, summed * part, stats.s))
        for stats, use, part in zip(subjects, pooled, share, strict=True)
    )
    return Gated(gated, own | pooled, pooled)


def check_same_blocks(subjects: Sequence[BlockStatistics]) -> None:
    """Raise DataError unless all have the same ROIs and the same blocks of the same segments."""
    if not subjects:
        raise ValueError("no subjects")
    first = subjects[0]
    for i, other in enumerate(subjects[1:], start=1):
        same = first.c.shape == other.c.shape and first.block_trs == other.block_trs
        if not (same and np.array_equal(first.block_segment, other.block_segment)):
            raise DataError(
                f"entries 0 and {i} have different test blocks: {first.c.shape} and {other.c.shape} "
                "(n_blocks, n_rois); intervals over subjects and stimuli need a shared test stimulus",
                "score these subjects in separate columns",
            )
