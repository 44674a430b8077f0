# SPDX-License-Identifier: Apache-2.0
"""How sure is the RSA of a model, and of two models apart, for other images and other seeds of a network?

Images are drawn with replacement; a pair of images counts as often as both are drawn, an image with itself never does. All
draws of all models and brains are a few matrix products.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.similarity.rdms import FloatArray, IntArray

_CHUNK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class BootstrapInterval:
    """A value on the images themselves, and percentiles over draws of images (and seeds)."""

    estimate: float
    low: float
    high: float


def image_counts(n_images: int, n_draws: int, seed: int) -> IntArray:
    """(n_draws, n_images) how often each image is in each draw; the first row is the images themselves, once each."""
    if n_images < 4 or n_draws < 1:
        raise DataError(f"{n_draws} draws of {n_images} images; a bootstrap needs one draw and four images or more")
    counts = np.ones((n_draws, n_images), dtype=np.int64)
    drawn = np.random.default_rng([seed, 81]).integers(n_images, size=(n_draws - 1, n_images))
    for row, images in zip(counts[1:], drawn, strict=True):
        row[:] = np.bincount(images, minlength=n_images)
    return counts


def bootstrap_correlations(models: NDArray[Any], brains: NDArray[Any], counts: IntArray) -> FloatArray:
    """(n_draws, n_models, n_brains) Pearson's r of RDM entries, weighted by how often a pair is drawn; float64.

    Memory: 64 MiB of weights at a time beside the RDMs and their products.

    Parameters
    ----------
    models : (n_models, n_pairs); brains : (n_brains, n_pairs) dissimilarities in ``pdist`` order of the same images.
    counts : (n_draws, n_images) of :func:`image_counts`.
    """
    n_images = counts.shape[1]
    n_pairs = n_images * (n_images - 1) // 2
    if models.shape[1:] != (n_pairs,) or brains.shape[1:] != (n_pairs,):
        raise DataError(f"RDMs of {models.shape[1:]} and {brains.shape[1:]} entries; {n_images} images have {n_pairs}")
    # centred first: sums of squares far from 0 would lose digits
    x, y = (np.asarray(t, dtype=np.float64) - np.mean(t, axis=1, keepdims=True) for t in (models, brains))
    products = (x[:, None] * y[None]).reshape(-1, n_pairs)
    columns = np.concatenate([x, y, x**2, y**2, products]).T
    n_x, n_y = len(x), len(y)
    stops = np.cumsum([n_x, n_y, n_x, n_y])
    found = []
    for weights in _pair_weights(counts):
        sums = weights @ columns / weights.sum(axis=1, keepdims=True)
        mean_x, mean_y, square_x, square_y, cross = np.split(sums, stops, axis=1)
        covariance = cross.reshape(-1, n_x, n_y) - mean_x[:, :, None] * mean_y[:, None]
        power = (square_x - mean_x**2)[:, :, None] * (square_y - mean_y**2)[:, None]
        found.append(covariance / np.sqrt(np.maximum(power, 1e-300)))
    return np.concatenate(found)


def _pair_weights(counts: IntArray) -> Iterator[FloatArray]:
    """(some draws, n_pairs) at a time."""
    rows, columns = np.triu_indices(counts.shape[1], k=1)
    size = max(1, _CHUNK_BYTES // (8 * len(rows)))
    for start in range(0, len(counts), size):
        part = counts[start : start + size].astype(np.float64)
        yield part[:, rows] * part[:, columns]


def seeded_difference(
    first: FloatArray, second: FloatArray, *, seed: int, confidence: float = 0.95
) -> BootstrapInterval:
    """Interval of the mean over seeds of ``first - second``, images and seeds drawn together.

    Parameters
    ----------
    first, second : (n_draws, n_seeds), row 0 of the images themselves; the same draws of images and the same seeds.
    """
    difference = np.asarray(first, dtype=np.float64) - second
    n_draws, n_seeds = difference.shape
    seeds = np.random.default_rng([seed, 82]).integers(n_seeds, size=(n_draws - 1, n_seeds))
    means = np.take_along_axis(difference[1:], seeds, axis=1).mean(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return BootstrapInterval(float(difference[0].mean()), float(low), float(high))
