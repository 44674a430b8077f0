# SPDX-License-Identifier: Apache-2.0
"""Captioned images: what people wrote of each picture, and which object categories it shows."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]

MIN_IMAGES = 100  # one set of the protocol's RSA


@dataclass(frozen=True, eq=False)
class CaptionedImages:
    """Images with their captions, in ascending order of their ids. Build it with :func:`captioned_images`.

    Attributes
    ----------
    ids : (n_images,) unique.
    captions : (n_images,) tuples of one or more captions; their embeddings are averaged.
    categories : (n_images, n_categories) True where an image shows an object of the category.
    category_names : (n_categories,).
    low_level : (n_images, n_columns) numbers of the picture alone (luminance, contrast, colour), or None.
    """

    ids: IntArray
    captions: tuple[tuple[str, ...], ...]
    categories: BoolArray
    category_names: tuple[str, ...]
    low_level: FloatArray | None = None

    @property
    def n_images(self) -> int:
        return len(self.ids)

    def rows(self, ids: Sequence[int] | IntArray) -> IntArray:
        """(n_ids,) the row of each id; raises DataError for an id that is not here."""
        wanted = np.asarray(ids, dtype=np.int64)
        rows = np.minimum(np.searchsorted(self.ids, wanted), self.n_images - 1)
        unknown = self.ids[rows] != wanted
        if unknown.any():
            raise DataError(
                f"{int(unknown.sum())} of {len(wanted)} images are not among the {self.n_images} captioned ones, the "
                f"first is image {int(wanted[unknown][0])}",
                "captions and responses must come from the same release",
            )
        return rows

    def subset(self, ids: Sequence[int] | IntArray) -> "CaptionedImages":
        """These images only, in ascending order of their ids."""
        rows = self.rows(np.unique(np.asarray(ids, dtype=np.int64)))
        return CaptionedImages(
            self.ids[rows],
            tuple(self.captions[row] for row in rows),
            self.categories[rows],
            self.category_names,
            None if self.low_level is None else self.low_level[rows],
        )

    def sha256(self) -> str:
        """Hash of all that a model or a control can see."""
        digest = hashlib.sha256(np.ascontiguousarray(self.ids, dtype="<i8").tobytes())
        for captions in self.captions:
            digest.update("\n".join(captions).encode() + b"\0")
        digest.update("\n".join(self.category_names).encode())
        digest.update(np.ascontiguousarray(self.categories).tobytes())
        if self.low_level is not None:
            digest.update(np.ascontiguousarray(self.low_level, dtype="<f8").tobytes())
        return digest.hexdigest()


def captioned_images(
    ids: Sequence[int] | IntArray,
    captions: Sequence[Sequence[str]],
    categories: NDArray[np.generic],
    category_names: Sequence[str],
    low_level: FloatArray | None = None,
) -> CaptionedImages:
    """Check and sort captioned images.

    Raises
    ------
    DataError
        for images without captions or with an empty one, fewer than 100 images, ids that occur twice, and tables of
        another length.
    """
    numbers = np.asarray(ids, dtype=np.int64)
    table = np.asarray(categories, dtype=bool)
    if len(captions) != len(numbers) or table.shape != (len(numbers), len(category_names)):
        raise DataError(
            f"{len(numbers)} images, captions of {len(captions)}, a category table of shape {table.shape} for "
            f"{len(category_names)} categories"
        )
    if low_level is not None and (len(low_level) != len(numbers) or not np.isfinite(low_level).all()):
        raise DataError(f"low-level numbers of {len(low_level)} images for {len(numbers)} images, or not all finite")
    without = [
        int(image)
        for image, said in zip(numbers, captions, strict=True)
        if not said or not all(c.strip() for c in said)
    ]
    if without:
        raise DataError(
            f"{len(without)} images without captions or with an empty one, the first is image {without[0]}",
            "leave these images out, or add their captions",
        )
    if len(numbers) < MIN_IMAGES:
        raise DataError(
            f"{len(numbers)} images; the task needs {MIN_IMAGES} or more, one set of its RSA",
            "score more images of this data set",
        )
    order = np.argsort(numbers, kind="stable")
    if (np.diff(numbers[order]) == 0).any():
        raise DataError(f"image {int(numbers[order][:-1][np.diff(numbers[order]) == 0][0])} is listed twice")
    return CaptionedImages(
        numbers[order],
        tuple(tuple(captions[row]) for row in order),
        table[order],
        tuple(category_names),
        None if low_level is None else np.asarray(low_level, dtype=np.float64)[order],
    )


def picture_statistics(pixels: NDArray[np.uint8]) -> FloatArray:
    """(n_images, 22): mean and SD of the luminance, mean of each colour, edge energy, and a 4 x 4 grid of luminance.

    Parameters
    ----------
    pixels : (n_images, height, width, 3) uint8 RGB; height and width 8 or more.
    """
    weights = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32) / 255  # of Rec. 709
    parts = []
    for start in range(0, len(pixels), 256):
        values = pixels[start : start + 256].astype(np.float32)
        luminance = values @ weights
        edges = sum(np.abs(np.diff(luminance, axis=axis)).mean(axis=(1, 2), dtype=np.float64) for axis in (1, 2))
        cells = [
            cell.mean(axis=(1, 2), dtype=np.float64)
            for band in np.array_split(luminance, 4, axis=1)
            for cell in np.array_split(band, 4, axis=2)
        ]
        colours = values.mean(axis=(1, 2), dtype=np.float64).T / 255
        mean, sd = (f(luminance.astype(np.float64), axis=(1, 2)) for f in (np.mean, np.std))
        parts.append(np.stack([mean, sd, *colours, edges, *cells], axis=1))
    return np.concatenate(parts)
