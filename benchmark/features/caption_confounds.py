# SPDX-License-Identifier: Apache-2.0
"""The control floor of the task captions: what a brain can follow of a picture without any of what a caption says of it.

Low-level numbers of the picture, which object categories it shows and how many, and how long its captions are. What
models say beyond it is their unique score; single words, category strings and scrambled captions are controls that each
model embeds itself (:mod:`voxelboard.benchmark.stimuli.caption_controls`).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.protocol import CaptionsPolicy
from voxelboard.benchmark.stimuli.captions import CaptionedImages

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def caption_lengths(images: CaptionedImages) -> FloatArray:
    """(n_images,) mean number of words of the captions."""
    return np.array([np.mean([len(caption.split()) for caption in captions]) for captions in images.captions])


def image_confounds(
    images: CaptionedImages, train: IntArray, test: IntArray, policy: CaptionsPolicy
) -> tuple[FloatArray, FloatArray]:
    """(n_train, n_confounds), (n_test, n_confounds): standardised and bounded by the training images alone.

    Parameters
    ----------
    train, test : rows of ``images``.
    """
    columns = [_one_hot(caption_lengths(images), train, policy.n_bins)]
    if images.categories.any():
        columns += [images.categories.astype(np.float64), _one_hot(images.categories.sum(axis=1), train, policy.n_bins)]
    if images.low_level is not None:
        columns.append(
            np.clip(images.low_level, images.low_level[train].min(axis=0), images.low_level[train].max(axis=0))
        )
    table = np.concatenate(columns, axis=1)
    mean, sd = table[train].mean(axis=0), table[train].std(axis=0)
    kept = sd > 1e-8
    scaled = (table[:, kept] - mean[kept]) / sd[kept]
    return scaled[train], scaled[test]


def floor_rdms(images: CaptionedImages, sets: IntArray) -> FloatArray:
    """(n_floor, n_sets, n_pairs) squared distances of the floor: low-level, categories, caption length.

    Parameters
    ----------
    sets : (n_sets, set_size) rows of ``images``.
    """
    tables = [caption_lengths(images)[:, None]]
    if images.categories.any():
        tables.append(images.categories.astype(np.float64))
    if images.low_level is not None:
        sd = images.low_level.std(axis=0)
        tables.append((images.low_level - images.low_level.mean(axis=0)) / np.where(sd > 0, sd, 1.0))
    return np.stack([_squared_distances(table[sets]) for table in tables])


def _squared_distances(patterns: FloatArray) -> FloatArray:
    """(n_sets, n_pairs) from (n_sets, n_images, n_features)."""
    power = (patterns**2).sum(axis=-1)
    square = power[:, :, None] + power[:, None, :] - 2 * patterns @ patterns.transpose(0, 2, 1)
    rows, columns = np.triu_indices(patterns.shape[1], k=1)
    distances: FloatArray = square[:, rows, columns]
    return distances


def _one_hot(values: Sequence[float] | NDArray[np.generic], train: IntArray, n_bins: int) -> FloatArray:
    numbers = np.asarray(values, dtype=np.float64)
    edges = np.unique(np.quantile(numbers[train], np.linspace(0, 1, n_bins + 1)[1:-1]))
    bins = np.digitize(numbers, edges)
    return np.asarray(bins[:, None] == np.arange(len(edges) + 1), dtype=np.float64)
