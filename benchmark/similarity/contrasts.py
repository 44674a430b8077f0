# SPDX-License-Identifier: Apache-2.0
"""From text to brain: which voxels an encoder expects to prefer one group of sentences to another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError, InvalidNumbers
from voxelboard.benchmark.similarity.rsa import GroupTest, group_test
from voxelboard.benchmark.statistics.fdr import benjamini_hochberg
from voxelboard.benchmark.statistics.scores import BoolArray, FloatArray

# Sentences of the three groups, written for this project.
PROBES: Mapping[str, tuple[str, ...]] = {
    "people": (
        "A man talking to a woman.",
        "Two children laughing together.",
        "A dancer waving to a friend.",
        "A woman holding the hand of a child.",
        "Three men standing side by side.",
    ),
    "places": (
        "An empty beach by the sea.",
        "A quiet street with tall houses.",
        "A wide field under the sky.",
        "A park with a path between trees.",
        "A kitchen with a large window.",
    ),
    "food": (
        "A plate with a slice of pizza.",
        "A cake on a table.",
        "A bowl of apples and bananas.",
        "A sandwich with cheese.",
        "Fresh bread and butter.",
    ),
}


@dataclass(frozen=True, eq=False)
class Contrast:
    """A predicted contrast over subjects.

    maps : (n_subjects, n_voxels) predicted difference. test : over subjects, two-sided. significant, adjusted : (n_voxels,)
    after Benjamini-Hochberg; the published maps are uncorrected, which is ``test.p < .05``.
    """

    maps: FloatArray
    test: GroupTest
    significant: BoolArray
    adjusted: FloatArray


def predicted_contrast(weights: NDArray[Any], first: NDArray[Any], second: NDArray[Any]) -> FloatArray:
    """(n_voxels,) ``W (mean of first - mean of second)``: the intercept cancels.

    Parameters
    ----------
    weights : (n_features, n_voxels) of a linear encoder on embeddings as they are given here.
    first, second : (n_sentences, n_features).
    """
    if first.shape[1] != len(weights) or second.shape[1] != len(weights):
        raise DataError(
            f"embeddings of {first.shape[1]} and {second.shape[1]} features, weights of {len(weights)}",
            "embed the sentences with the model, layer and scaling that the encoder was fitted with",
        )
    difference = first.mean(axis=0, dtype=np.float64) - second.mean(axis=0, dtype=np.float64)
    contrast: FloatArray = difference @ np.asarray(weights, dtype=np.float64)
    if not np.isfinite(contrast).all():
        raise InvalidNumbers("the predicted contrast is not finite")
    return contrast


def contrast_over_subjects(
    weights: Sequence[NDArray[Any]], first: NDArray[Any], second: NDArray[Any], q: float = 0.05
) -> Contrast:
    """Contrast maps of all subjects, voxels in correspondence, tested over subjects."""
    maps = np.stack([predicted_contrast(subject, first, second) for subject in weights])
    test = group_test(maps)
    significant, adjusted = benjamini_hochberg(test.p, q)
    return Contrast(maps, test, significant, adjusted)
