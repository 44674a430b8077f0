# SPDX-License-Identifier: Apache-2.0
"""Models against models, pair by pair over subjects, and encoders of one subject on the brain of another."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.caption_tables import PairedComparison
from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.similarity.rsa import group_test
from voxelboard.benchmark.statistics.fdr import benjamini_hochberg
from voxelboard.benchmark.statistics.scores import FloatArray, voxel_correlation


def paired_comparisons(scores: Mapping[str, NDArray[Any]], rois: Sequence[str]) -> tuple[PairedComparison, ...]:
    """All pairs of models in all regions, each a paired test, corrected together.

    Parameters
    ----------
    scores : model -> (n_subjects, n_rois), the same subjects in the same order for all models.
    """
    shapes = {np.shape(table) for table in scores.values()}
    if len(scores) < 2 or len(shapes) != 1 or next(iter(shapes))[1:] != (len(rois),):
        raise DataError(f"scores of shapes {sorted(shapes)}; expected (n_subjects, {len(rois)}) of two models or more")
    pairs = list(combinations(scores, 2))
    tests = [group_test(np.asarray(scores[a]) - np.asarray(scores[b])) for a, b in pairs]
    p = np.concatenate([test.p for test in tests])
    _, adjusted = benjamini_hochberg(p)
    table = adjusted.reshape(len(pairs), len(rois))
    return tuple(
        PairedComparison(a, b, roi, float(test.mean[r]), float(test.t[r]), float(test.p[r]), float(table[i, r]))
        for i, ((a, b), test) in enumerate(zip(pairs, tests, strict=True))
        for r, roi in enumerate(rois)
    )


def transfer_table(
    predictions: Sequence[NDArray[Any]], responses: Sequence[NDArray[Any]]
) -> tuple[FloatArray, FloatArray]:
    """Encoders of every subject on the test responses of every subject: (n_from, n_to) mean r, and r within subjects.

    Parameters
    ----------
    predictions : per subject (n_test, n_voxels), from an encoder fitted to that subject's own training images.
    responses : per subject (n_test, n_voxels), mean over repeats, of the same test images; voxels in correspondence.
    """
    if len(predictions) != len(responses) or len({np.shape(x) for x in (*predictions, *responses)}) != 1:
        raise DataError(
            "transfer between subjects needs the same test images and voxels in correspondence for all of them",
            "use a common surface (fsaverage) or the simulated data",
        )
    table = np.array([[voxel_correlation(p, y).mean() for y in responses] for p in predictions])
    return table, np.diag(table).copy()
