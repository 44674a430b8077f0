# SPDX-License-Identifier: Apache-2.0
"""RSA in a sphere around every voxel, many spheres in one matrix product.

A sphere's correlation matrix of 100 images is one batched product of its normalised patterns; its agreement with all models
is a second product. Neither loops over pairs of images, and no RDM is kept. Source of radius and mask rule: Doerig et al.
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
_BATCH_BYTES = 192 * 2**20


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

    Memory: 192 MiB for a batch of spheres, whatever the size of the brain. Patterns in float32, correlations in float64.

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
    batch = max(1, _BATCH_BYTES // (4 * size * (members.shape[1] + 2 * size)))
    total = torch.zeros(models.shape[0], len(members), dtype=torch.float64, device=where)
    for i, rows in enumerate(sets):
        values = torch.as_tensor(np.asarray(patterns[rows], dtype=np.float32), device=where)
        if not bool(torch.isfinite(values).all()):
            raise InvalidNumbers("responses hold NaN or infinite values")
        padded = torch.cat([values.T, values.new_zeros(1, size)])  # (n_voxels + 1, set_size)
        for start in range(0, len(members), batch):
            part = members[start : start + batch]
            total[:, start : start + batch] += _correlate(padded[part], part < spheres.n_voxels, targets[i])
            if progress is not None:
                progress(i * len(members) + min(start + batch, len(members)), n_sets * len(members))
    found: FloatArray = (total / n_sets).cpu().numpy()
    return found


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


def _correlate(values: torch.Tensor, inside: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(n_models, n_spheres) float64 from (n_spheres, largest, size) patterns."""
    counts = inside.sum(1).to(values.dtype)[:, None, None]
    centred = (values - values.sum(1, keepdim=True) / counts) * inside[:, :, None]
    norm = centred.norm(dim=1, keepdim=True)
    if bool((norm <= 0).any()):
        raise InvalidNumbers("an image has the same response in all voxels of a sphere: its distances are not defined")
    unit = centred / norm
    similarity = torch.bmm(unit.transpose(1, 2), unit)  # (n_spheres, size, size) correlations
    size = similarity.shape[1]
    similarity.diagonal(dim1=1, dim2=2).zero_()
    flat = similarity.flatten(1)
    n_pairs = size * (size - 1)
    mean = flat.double().sum(1) / n_pairs
    variance = (flat.double() ** 2).sum(1) - n_pairs * mean**2
    products = (targets @ flat.T).double()
    return -products / (variance.clamp_min(1e-30) / 2).sqrt()
