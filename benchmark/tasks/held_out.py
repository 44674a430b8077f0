# SPDX-License-Identifier: Apache-2.0
"""The part of a cohort's test responses and predictions that belongs to one subject."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.readers.base import NarrativeData
from voxelboard.benchmark.tasks.preparation import NOISE_BRAIN, Cohort
from voxelboard.benchmark.tasks.scoring import HeldOutResponses

Float32Array = NDArray[np.float32]


def held_out_responses(
    data: NarrativeData, cohort: Cohort, subject: str, fold_numbers: Sequence[int] | None = None
) -> HeldOutResponses:
    """The test responses of a subject, with the mean of the other subjects where that is the ceiling; default all folds."""
    folds = [cohort.folds[f] for f in (range(len(cohort.folds)) if fold_numbers is None else fold_numbers)]
    segments = tuple(run for fold in folds for run in fold.test_responses[subject])
    others = None
    if data.ceiling_kind == "inter_subject":
        rest = [other for other in cohort.subjects if other != subject]
        others = tuple(
            _mean_response([fold.test_responses[other][i] for other in rest])
            for fold in folds
            for i in range(len(fold.test))
        )
    places = cohort.vertices.get(subject)
    return HeldOutResponses(segments, others, cohort.rois[subject], tuple(data.scored_rois), data.ceiling_kind, places)


def _mean_response(runs: Sequence[Float32Array]) -> Float32Array:
    """(n_rows, n_voxels) mean over subjects of the mean over repeats; each run is (n_repeats, n_rows, n_voxels)."""
    mean: Float32Array = np.mean([run.mean(axis=0, dtype=np.float64) for run in runs], axis=0).astype(np.float32)
    return mean


def noise_test(cohort: Cohort) -> HeldOutResponses:
    """The test responses of the noise brain."""
    segments = tuple(run for fold in cohort.folds for run in fold.test_responses[NOISE_BRAIN])
    return HeldOutResponses(segments, None, cohort.rois[NOISE_BRAIN], (NOISE_BRAIN,), "none")


def columns_of(cohort: Cohort, subject: str, folds: Sequence[Float32Array]) -> list[Float32Array]:
    """One (n_test_rows, n_voxels of the subject) array a fold."""
    return [fold[:, cohort.columns[subject]] for fold in folds]
