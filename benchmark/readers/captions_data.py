# SPDX-License-Identifier: Apache-2.0
"""What a data set of captioned images yields: images with captions, and what brains did when they saw them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.readers.base import CeilingKind, Dataset
from voxelboard.benchmark.stimuli.captions import CaptionedImages

Float32Array = NDArray[np.float32]
IntArray = NDArray[np.int64]

MIN_TEST_IMAGES = 30
MAX_SIGNAL_CHANGE = 100.0  # percent; larger betas are of another scale


@dataclass(frozen=True, eq=False)
class ImageResponses:
    """Responses of one subject, z-scored for each voxel over the trials of a session.

    Attributes
    ----------
    train_ids : (n_train,) images of the training rows, ascending; train : (n_train, n_voxels) mean over ``n_repeats``.
    test_ids : (n_test,) images of the test rows, ascending, the same for all subjects;
    test : (n_repeats, n_test, n_voxels) each presentation by itself.
    rois : (n_voxels,) label of each voxel.
    positions : (n_voxels, 3) place in the volume ``grid_shape``, or None on a surface.
    ncsnr : (n_voxels,) published noise-ceiling signal-to-noise ratio of one presentation, or None: it is then that of the test images.
    vertices : (n_voxels,) int32 place on fsaverage5, -1 for none, or None where responses lie on no shared surface. For maps
        only: it is no part of the hash.
    """

    subject: str
    train_ids: IntArray
    train: Float32Array
    test_ids: IntArray
    test: Float32Array
    rois: NDArray[np.str_]
    positions: IntArray | None = None
    grid_shape: tuple[int, int, int] | None = None
    vertices: NDArray[np.int32] | None = None
    ncsnr: Float32Array | None = None

    @property
    def n_voxels(self) -> int:
        return len(self.rois)

    @property
    def n_repeats(self) -> int:
        return len(self.test)

    @property
    def test_mean(self) -> Float32Array:
        """(n_test, n_voxels) mean over repeats, not z-scored again."""
        mean: Float32Array = self.test.mean(axis=0, dtype=np.float64).astype(np.float32)
        return mean

    def sha256(self) -> str:
        """Hash of every number, image and label."""
        digest = hashlib.sha256(self.subject.encode())
        for ids in (self.train_ids, self.test_ids):
            digest.update(np.ascontiguousarray(ids, dtype="<i8").tobytes())
        for table in (self.train, self.test):
            digest.update(np.ascontiguousarray(table, dtype="<f4").tobytes())
        digest.update("\n".join(self.rois.tolist()).encode())
        return digest.hexdigest()


class CaptionsData(Dataset, Protocol):
    """A data set of captioned images, opened. Responses and pictures are read when asked for."""

    test_ids: IntArray
    scored_rois: tuple[str, ...]
    ceiling_kind: CeilingKind
    in_correspondence: bool
    """Whether voxel k is the same place in all subjects (a common surface)."""

    n_repeats: int  # presentations of a test image

    @property
    def images(self) -> CaptionedImages:
        """All images that a subject saw, with their captions."""
        ...

    def train_ids(self, subject: str) -> IntArray:
        """The training images of a subject."""
        ...

    def n_voxels(self, subject: str) -> int:
        """Voxels of a subject, at most; reads no responses."""
        ...

    def n_words(self) -> int:
        """Words of all captions, about; reads no pictures."""
        ...

    def responses(self, subject: str) -> ImageResponses:
        """The responses of one subject; raises UserError for an unknown subject."""
        ...

    def pixels(self, ids: Sequence[int] | IntArray) -> NDArray[np.uint8]:
        """(n_ids, height, width, 3) RGB."""
        ...

    def responses_sha256(self, subject: str) -> str:
        """Hash of a subject's responses."""
        ...


def check_image_responses(responses: ImageResponses, images: CaptionedImages) -> None:
    """Refuse responses that cannot be scored.

    Raises
    ------
    DataError
        for tables that do not fit their ids, images on both sides of the split, too few test images, images without
        captions, and voxels that are constant or not finite.
    """
    r, where = responses, f"subject {responses.subject}"
    if r.train.shape != (len(r.train_ids), r.n_voxels) or r.test.shape[1:] != (len(r.test_ids), r.n_voxels):
        raise DataError(
            f"{where}: responses of shapes {r.train.shape} and {r.test.shape} for {len(r.train_ids)} training and "
            f"{len(r.test_ids)} test images of {r.n_voxels} voxels"
        )
    both = np.intersect1d(r.train_ids, r.test_ids)
    if len(both) or len(np.unique(r.train_ids)) != len(r.train_ids) or len(np.unique(r.test_ids)) != len(r.test_ids):
        raise DataError(f"{where}: {len(both)} images are in training and test, or images are listed twice")
    if len(r.test_ids) < MIN_TEST_IMAGES or len(r.train_ids) < 2 * MIN_TEST_IMAGES:
        raise DataError(
            f"{where}: {len(r.train_ids)} training and {len(r.test_ids)} test images; "
            f"{2 * MIN_TEST_IMAGES} and {MIN_TEST_IMAGES} or more are needed"
        )
    images.rows(np.concatenate([r.train_ids, r.test_ids]))
    for name, table in (("training", r.train), ("test", r.test.reshape(-1, r.n_voxels))):
        bad = ~np.isfinite(table).all(axis=0) | (table.max(axis=0) == table.min(axis=0))
        if bad.any():
            raise DataError(
                f"{where}: {int(bad.sum())} voxels are constant or not finite in the {name} responses, the first is "
                f"{int(np.argmax(bad))}",
                "leave these voxels out of the mask of this subject",
            )


def check_percent(betas: NDArray[np.floating], where: str) -> None:
    """Refuse betas that are no percent signal change: more than one in a thousand beyond 100 %.

    Raises
    ------
    DataError
        naming the file and what it looks like.
    """
    beyond = float((np.abs(betas) > MAX_SIGNAL_CHANGE).mean())
    if beyond > 0.001:
        typical = float(np.median(np.abs(betas)))
        raise DataError(
            f"{where}: {beyond:.1%} of the betas are beyond {MAX_SIGNAL_CHANGE:g} % signal change (median {typical:.0f})",
            "int16 files in func1pt8mm hold 300 times the percent signal change; use the files as they were released",
        )
