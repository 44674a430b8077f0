# SPDX-License-Identifier: Apache-2.0
"""Representational dissimilarity matrices over sets of images that are drawn once and used for every model.

Every model is compared with the brain on the same images, so that differences between models are paired. Sets are
disjoint: no image is in two of them. Source: Doerig et al. 2025 (100 images a set, 1 - Pearson's r).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.atomic import replace_file
from voxelboard.benchmark.errors import DataError, InvalidNumbers

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

SET_SIZE = 100
_SETS_FORMAT = 1


@dataclass(frozen=True, eq=False)
class ImageSets:
    """Disjoint sets of images of one subject.

    ids : (n_sets, set_size) image ids; every id once.
    seed : of the draw.
    """

    subject: str
    ids: IntArray
    seed: int

    def rows(self, image_ids: Sequence[int] | IntArray) -> IntArray:
        """(n_sets, set_size) the row of each image in ``image_ids``; raises DataError when one is missing."""
        place = {int(image): row for row, image in enumerate(np.asarray(image_ids).tolist())}
        missing = [int(image) for image in self.ids.ravel() if int(image) not in place]
        if missing:
            raise DataError(
                f"{len(missing)} images of the sets of {self.subject} are not there, the first is {missing[0]}",
                "the sets were drawn for other images: draw them again",
            )
        return np.array([[place[int(image)] for image in images] for images in self.ids], dtype=np.int64)

    def save(self, path: Path) -> None:
        """Write the sets as JSON, in one step."""
        content = {"format": _SETS_FORMAT, "subject": self.subject, "seed": self.seed, "sets": self.ids.tolist()}
        text = json.dumps(content, separators=(",", ":")) + "\n"
        replace_file(path, lambda file: file.write(text.encode()))


def load_image_sets(path: Path) -> ImageSets:
    """Sets that :meth:`ImageSets.save` wrote; raises DataError for anything else, and for sets that overlap."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _SETS_FORMAT:
            raise ValueError(f"format {content['format']}")
        ids = np.array(content["sets"], dtype=np.int64)
        sets = ImageSets(str(content["subject"]), ids, int(content["seed"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} does not hold image sets: {error}", "draw the sets again") from error
    if ids.ndim != 2 or len(np.unique(ids)) != ids.size:
        raise DataError(f"{path}: sets of different sizes, or images in two sets", "draw the sets again")
    return sets


def draw_image_sets(
    image_ids: Sequence[int] | IntArray, subject: str, *, seed: int, set_size: int = SET_SIZE
) -> ImageSets:
    """As many disjoint sets as the images allow, drawn without replacement; what is left over stays out.

    The draw depends on the subject's name, the seed and the images, not on their order.

    Raises
    ------
    DataError
        for fewer images than one set takes, and images that are listed twice.
    """
    ids = np.unique(np.asarray(image_ids, dtype=np.int64))
    if len(ids) != len(image_ids):
        raise DataError(f"{subject}: {len(image_ids) - len(ids)} images are listed twice")
    n_sets = len(ids) // set_size
    if n_sets == 0 or set_size < 3:
        raise DataError(
            f"{subject}: {len(ids)} images, fewer than the {set_size} of one set",
            "RSA needs 100 images or more, seen by this subject",
        )
    name = int.from_bytes(hashlib.sha256(subject.encode()).digest()[:8], "little")
    order = np.random.default_rng([seed, 41, name]).permutation(ids)
    return ImageSets(subject, np.sort(order[: n_sets * set_size].reshape(n_sets, set_size), axis=1), seed)


def correlation_distances(patterns: NDArray[Any], device: torch.device | str | None = None) -> FloatArray:
    """(..., n_pairs) ``1 - Pearson's r`` between the patterns of all pairs, in the order of ``scipy``'s ``pdist``.

    Parameters
    ----------
    patterns : (..., n_images, n_features), for example (n_sets, n_images, n_voxels). Computed in float64 on ``device``.

    Raises
    ------
    InvalidNumbers
        for patterns that are not finite, and for one that is constant over its features: it correlates with nothing.
    """
    values = torch.as_tensor(np.asarray(patterns), dtype=torch.float64, device=device)
    if values.ndim < 2 or values.shape[-1] < 2:
        raise DataError(f"patterns of shape {tuple(values.shape)}; expected (..., n_images, n_features of 2 or more)")
    if not bool(torch.isfinite(values).all()):
        raise InvalidNumbers("patterns hold NaN or infinite values")
    centred = values - values.mean(-1, keepdim=True)
    norm = centred.norm(dim=-1, keepdim=True)
    constant = norm <= 1e-12 * values.abs().amax(-1, keepdim=True)
    if bool(constant.any()):
        where = torch.nonzero(constant[..., 0])[0].tolist()
        raise InvalidNumbers(
            f"{int(constant.sum())} patterns are constant over their {values.shape[-1]} features, the first is "
            f"image {where[-1]}: its correlation with others is not defined"
        )
    unit = centred / norm
    square = 1 - unit @ unit.transpose(-1, -2)
    rows, columns = np.triu_indices(values.shape[-2], k=1)
    distances: FloatArray = square[..., torch.as_tensor(rows), torch.as_tensor(columns)].cpu().numpy()
    return distances


def unit_rdms(rdms: FloatArray) -> FloatArray:
    """RDMs (..., n_pairs), centred and of unit norm: their products are correlations. A constant one becomes 0."""
    centred = rdms - rdms.mean(axis=-1, keepdims=True)
    norm = np.sqrt((centred**2).sum(axis=-1, keepdims=True))
    scale = np.abs(rdms).max(axis=-1, keepdims=True, initial=1e-300)
    alive = norm > 1e-10 * scale
    unit: FloatArray = np.where(alive, centred / np.where(alive, norm, 1.0), 0.0)
    return unit


def rdm_correlations(first: FloatArray, second: FloatArray) -> FloatArray:
    """(...) Pearson's r between RDMs of equal shape (..., n_pairs); 0 where one is constant."""
    r: FloatArray = (unit_rdms(first) * unit_rdms(second)).sum(axis=-1)
    return r


def residual_rdms(rdms: FloatArray, floor: FloatArray) -> FloatArray:
    """RDMs without what a linear mixture of floor RDMs says, set by set (the semi-partial part of a model).

    Parameters
    ----------
    rdms : (n_sets, n_pairs); floor : (n_floor, n_sets, n_pairs). Only model RDMs enter, no responses.
    """
    residuals = np.empty_like(rdms)
    for i, rdm in enumerate(rdms):
        basis = np.column_stack([np.ones(rdms.shape[1]), *floor[:, i]])
        residuals[i] = rdm - basis @ np.linalg.lstsq(basis, rdm, rcond=1e-10)[0]
    return residuals
