# SPDX-License-Identifier: Apache-2.0
"""RSA in a sphere around every voxel, many spheres in one matrix product.

A sphere's correlation matrix of 100 images comes from one batched product of its patterns with themselves, its agreement with
all models from a second. Patterns are read once and never normalised: sums over the sphere are one more column of the
product. Neither loops over pairs of images, and no RDM is kept. Source of radius and mask rule: Doerig et al.
2025 (voxels closer than 6, centres with half of their sphere or more inside the mask).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError, InvalidNumbers
from voxelboard.benchmark.similarity.rdms import FloatArray, IntArray, unit_rdms

RADIUS_VOXELS = 6.0
MIN_SHARE = 0.5
# Patterns of a batch of spheres: what stays in a processor's cache, and what keeps a GPU busy.
_CPU_BATCH_BYTES, _GPU_BATCH_BYTES = 2 * 2**20, 192 * 2**20
# A sphere whose mean response holds more of an image's power than this is centred before the product, as digits would be lost.
_MOST_MEAN_POWER = 0.9


@dataclass(frozen=True, eq=False)
class Spheres:
    """Searchlights of one brain.

    Attributes
    ----------
    centres : (n_spheres,) voxel at the centre of each.
    members : (n_spheres, largest) voxels of each, filled up with ``n_voxels``; sizes : (n_spheres,) how many there are.
    n_voxels : in the mask.
    """

    centres: IntArray
    members: IntArray
    sizes: IntArray
    n_voxels: int


def sphere_offsets(radius: float = RADIUS_VOXELS) -> IntArray:
    """(n_offsets, 3) grid steps closer than ``radius`` to the centre, strictly; 895 for a radius of 6."""
    reach = int(np.ceil(radius))
    steps = np.mgrid[-reach : reach + 1, -reach : reach + 1, -reach : reach + 1].reshape(3, -1).T
    return np.asarray(steps[(steps**2).sum(axis=1) < radius**2], dtype=np.int64)


def make_spheres(
    positions: NDArray[np.integer],
    grid_shape: tuple[int, int, int],
    *,
    radius: float = RADIUS_VOXELS,
    min_share: float = MIN_SHARE,
) -> Spheres:
    """Searchlights around voxels of which ``min_share`` of the sphere or more lies in the mask.

    Parameters
    ----------
    positions : (n_voxels, 3) grid positions of the voxels of the mask.

    Raises
    ------
    DataError
        for positions outside the grid or twice the same (a mask of another grid), and when no sphere is left.
    """
    places = np.asarray(positions, dtype=np.int64)
    shape = np.array(grid_shape)
    if places.ndim != 2 or places.shape[1] != 3 or ((places < 0) | (places >= shape)).any():
        raise DataError(
            f"voxel positions {places.shape} do not lie in the grid {grid_shape}", "the mask is of another grid"
        )
    reach = int(np.ceil(radius))
    padded = shape + 2 * reach
    n_voxels = len(places)
    volume = np.full(int(padded.prod()), n_voxels, dtype=np.int64)  # what is outside the mask
    flat = np.ravel_multi_index(tuple((places + reach).T), tuple(padded))
    if len(np.unique(flat)) != n_voxels:
        raise DataError("two voxels of the mask lie at the same place", "the mask is of another grid")
    volume[flat] = np.arange(n_voxels)
    steps = sphere_offsets(radius)
    strides = np.array([padded[1] * padded[2], padded[2], 1])
    found = np.sort(volume[flat[:, None] + (steps @ strides)[None, :]], axis=1)  # members first, fillers last
    sizes = (found < n_voxels).sum(axis=1)
    kept = np.flatnonzero(sizes >= min_share * len(steps))
    if not len(kept):
        raise DataError(
            f"no sphere of radius {radius:g} has {min_share:.0%} of its voxels in this mask of {n_voxels} voxels",
            "use a smaller radius or a larger mask",
        )
    return Spheres(kept, found[kept][:, : int(sizes[kept].max())], sizes[kept], n_voxels)


def searchlight(
    patterns: NDArray[Any],
    models: NDArray[Any],
    sets: IntArray,
    spheres: Spheres,
    *,
    device: torch.device | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FloatArray:
    """(n_models, n_spheres) RSA of every model in every sphere, mean over the sets.

    Memory: a batch of spheres has 2 MiB of patterns on a CPU and 192 MiB on a GPU, whatever the size of the brain; beside it
    lies one set of images in float32. Patterns and correlations in float32, the means over sets in float64.

    Parameters
    ----------
    patterns : (n_images, n_voxels) responses, averaged over repeats.
    models : (n_models, n_sets, n_pairs) dissimilarities of the models on the sets.
    sets : (n_sets, set_size) rows of ``patterns``.

    Raises
    ------
    InvalidNumbers
        for responses that are not finite, and for images that look the same to all voxels of a sphere.
    """
    if patterns.shape[1] != spheres.n_voxels:
        raise DataError(
            f"responses of {patterns.shape[1]} voxels, spheres of a mask of {spheres.n_voxels}",
            "the mask is of another grid or another subject",
        )
    n_sets, size = sets.shape
    where = torch.device("cpu" if device is None else device)
    targets = _square_targets(models, size, where)
    members = torch.as_tensor(spheres.members, device=where)
    batches = _batches(spheres, size, _CPU_BATCH_BYTES if where.type == "cpu" else _GPU_BATCH_BYTES)
    total = torch.zeros(models.shape[0], len(members), dtype=torch.float64, device=where)
    done = 0
    for i, rows in enumerate(sets):
        values = _with_ones(np.asarray(patterns[rows]), where)
        for batch in batches:
            mine = torch.as_tensor(batch, device=where)
            voxels = members[mine, : int(spheres.sizes[batch].max())]
            total[:, mine] += _correlate(values[voxels], targets[i])
            done += len(batch)
            if progress is not None:
                progress(done, n_sets * len(members))
    found: FloatArray = (total / n_sets).cpu().numpy()
    return found


def _batches(spheres: Spheres, size: int, n_bytes: int) -> list[IntArray]:
    """Spheres that go together: of similar size, so that hardly a filler is multiplied, otherwise in order."""
    order = np.argsort(-spheres.sizes, kind="stable")
    batches, first = [], 0
    while first < len(order):
        one = 4 * (size + 1) * (int(spheres.sizes[order[first]]) + size)
        last = first + max(1, n_bytes // one)
        batches.append(order[first:last])
        first = last
    return batches


def _with_ones(patterns: NDArray[Any], device: torch.device) -> torch.Tensor:
    """(n_voxels + 1, set_size + 1) float32: images without their mean over the brain, and a column of ones; zeros for fillers.

    A correlation over voxels does not see what is added to all of them, and digits are kept.
    """
    values = torch.as_tensor(np.asarray(patterns, dtype=np.float64), device=device)
    if not bool(torch.isfinite(values).all()):
        raise InvalidNumbers("responses hold NaN or infinite values")
    size, n_voxels = values.shape
    table = torch.zeros(n_voxels + 1, size + 1, device=device)
    table[:n_voxels, :size] = (values - values.mean(1, keepdim=True)).T
    table[:n_voxels, size] = 1
    return table


def _square_targets(models: NDArray[Any], size: int, device: torch.device) -> torch.Tensor:
    """(n_sets, n_models, size * size): unit RDMs, half of each entry on either side of the diagonal."""
    n_models, n_sets, n_pairs = models.shape
    if n_pairs != size * (size - 1) // 2:
        raise DataError(f"models have {n_pairs} dissimilarities, sets of {size} images have {size * (size - 1) // 2}")
    square = np.zeros((n_sets, n_models, size, size))
    rows, columns = np.triu_indices(size, k=1)
    square[:, :, rows, columns] = unit_rdms(np.asarray(models, dtype=np.float64)).transpose(1, 0, 2) / 2
    square += square.transpose(0, 1, 3, 2)
    return torch.as_tensor(square.reshape(n_sets, n_models, -1), dtype=torch.float32, device=device)


def _correlate(values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(n_models, n_spheres) from (n_spheres, largest, size + 1) patterns with a last column that is 1 inside the sphere."""
    size = values.shape[2] - 1
    covariance, power = _covariance(values)
    if bool((covariance.diagonal(dim1=1, dim2=2) < (1 - _MOST_MEAN_POWER) * power).any()):
        inside = values[:, :, size:]
        values[:, :, :size] -= values[:, :, :size].sum(1, keepdim=True) / inside.sum(1, keepdim=True) * inside
        covariance, _ = _covariance(values)
    norm = covariance.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
    if bool((norm <= 0).any()):
        raise InvalidNumbers("an image has the same response in all voxels of a sphere: its distances are not defined")
    similarity = covariance / norm[:, :, None] / norm[:, None, :]
    similarity.diagonal(dim1=1, dim2=2).zero_()
    n_pairs = size * (size - 1)
    mean = similarity.sum((1, 2), keepdim=True) / n_pairs
    deviations = similarity.sub_(mean)
    deviations.diagonal(dim1=1, dim2=2).zero_()
    flat = deviations.flatten(1)
    variance = flat.square().sum(1).clamp_min(1e-30) / 2
    return -(targets @ flat.T) / variance.sqrt()


def _covariance(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(n_spheres, size, size) sums of products of centred patterns, and (n_spheres, size) of squares as they are."""
    products = torch.bmm(values.transpose(1, 2), values)
    sums, counts = products[:, :-1, -1], products[:, -1, -1]
    raw = products[:, :-1, :-1]
    power = raw.diagonal(dim1=1, dim2=2).clone()
    return raw - sums[:, :, None] * (sums / counts[:, None])[:, None, :], power
