# SPDX-License-Identifier: Apache-2.0
"""Betas of the Natural Scenes Dataset, session by session: percent signal change, z-scored, sorted by image.

One session is in memory at a time, and the running sums of the images; nothing is read twice.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError, MissingPrerequisite
from voxelboard.benchmark.readers.arrays import (
    damage_told,
    hdf5_shapes,
    read_hdf5_columns,
    read_responses,
    response_shape,
)
from voxelboard.benchmark.readers.captions_data import check_percent
from voxelboard.benchmark.readers.packages import load_package
from voxelboard.benchmark.readers.volumes import read_surface_map, read_volume

Float32Array = NDArray[np.float32]
IntArray = NDArray[np.int64]

INT16_SCALE = 300.0  # integer files hold 300 times the percent signal change
_KEY = "betas"
_HINT = "get the session again; `voxelboard data list` names the files"


@dataclass(frozen=True, eq=False)
class VolumeVoxels:
    """Which voxels of a volume to read: mask (x, y, z), in C order."""

    mask: NDArray[np.bool_]

    @property
    def positions(self) -> IntArray:
        return np.argwhere(self.mask).astype(np.int64)

    def reversed_indices(self) -> IntArray:
        """Index of each voxel where the axes are reversed: HDF5 files written by MATLAB have (z, y, x)."""
        x, y, z = self.positions.T
        nx, ny, _ = self.mask.shape
        return np.asarray((z * ny + y) * nx + x, dtype=np.int64)


def session_file(folder: Path, session: int) -> Path:
    """The betas of a session (1-based) in whichever format they are there; HDF5 before NIfTI.

    Raises
    ------
    MissingPrerequisite
        when there is none.
    """
    for suffix in (".hdf5", ".mat", ".nii.gz"):
        path = folder / f"betas_session{session:02d}{suffix}"
        if path.is_file():
            return path
    raise MissingPrerequisite(
        f"there is no betas_session{session:02d}.hdf5 (or .mat, .nii.gz) in {folder}",
        "without it images lack repeats; the access agreement of NSD covers the betas: naturalscenesdataset.org",
    )


def read_volume_session(path: Path, voxels: VolumeVoxels, n_trials: int) -> Float32Array:
    """(n_trials, n_voxels) percent signal change of one session in ``func1pt8mm``.

    Raises
    ------
    DataError
        for another grid or number of trials than expected, betas of another scale, and damaged files.
    """
    nifti = path.name.endswith(".nii.gz")
    shape = response_shape(path) if nifti else hdf5_shapes(path).get(_KEY, ())
    grid = shape[:3] if nifti else shape[:0:-1]
    if len(shape) != 4 or grid != voxels.mask.shape:
        raise DataError(
            f"{path.name}: a volume of {grid} voxels, the regions are of {voxels.mask.shape}",
            "the mask is of another grid: use the regions of the same subject in func1pt8mm",
        )
    if (shape[3] if nifti else shape[0]) != n_trials:
        raise DataError(f"{path.name}: shape {shape}, expected {n_trials} trials", _HINT)
    integer = _is_integer(path, nifti)
    if nifti:
        betas = read_responses(path, mask=voxels.mask)
    else:
        betas = read_hdf5_columns(path, _KEY, voxels.reversed_indices())
    if integer:
        betas /= np.float32(INT16_SCALE)
    check_percent(betas, path.name)
    return betas


def _is_integer(path: Path, nifti: bool) -> bool:
    with damage_told(path):
        if nifti:
            header = load_package("nibabel", "NIfTI files").load(path).header
            return bool(np.issubdtype(header.get_data_dtype(), np.integer))
        with load_package("h5py", "HDF5 files").File(path, "r") as file:
            return bool(np.issubdtype(file[_KEY].dtype, np.integer))


def read_surface_session(folder: Path, session: int, vertices: NDArray[np.bool_], n_trials: int) -> Float32Array:
    """(n_trials, n_vertices) percent signal change on fsaverage, left before right hemisphere; stored as percent.

    Parameters
    ----------
    vertices : (n_left + n_right,) which to keep.
    """
    parts = []
    for hemisphere in ("lh", "rh"):
        path = folder / f"{hemisphere}.betas_session{session:02d}.mgh"
        table = np.atleast_2d(read_surface_map(path, _HINT))
        if len(table) != n_trials:
            raise DataError(f"{path.name}: {len(table)} trials, expected {n_trials}", _HINT)
        parts.append(table)
    if sum(part.shape[1] for part in parts) != len(vertices):
        raise DataError(
            f"session {session}: {sum(part.shape[1] for part in parts)} vertices, the regions have {len(vertices)}",
            "the mask is of another grid: regions and betas must both be on fsaverage",
        )
    betas = np.concatenate(parts, axis=1)[:, vertices]
    check_percent(betas[:, np.isfinite(betas).all(axis=0)], f"{hemisphere}.betas_session{session:02d}.mgh")
    return betas


def read_ncsnr(folder: Path, mask: NDArray[np.bool_]) -> Float32Array | None:
    """(n_voxels,) the noise-ceiling signal-to-noise ratio that is released beside the betas, in C order of ``mask``; None without it.

    Parameters
    ----------
    mask : (x, y, z) of a volume, or (n_vertices,) of both hemispheres, left first.

    Raises
    ------
    DataError
        for one of another grid.
    """
    names = ("ncsnr.nii.gz",) if mask.ndim == 3 else ("lh.ncsnr.mgh", "rh.ncsnr.mgh")
    paths = [folder / name for name in names]
    if not all(path.is_file() for path in paths):
        return None
    if mask.ndim == 3:
        values = np.asarray(read_volume(paths[0], _HINT).values, dtype=np.float32)
    else:
        values = np.concatenate([read_surface_map(path, _HINT) for path in paths])
    if values.shape != mask.shape:
        raise DataError(
            f"{paths[0].name}: {values.shape}, the regions are of {mask.shape}",
            "the mask is of another grid: regions, betas and ncsnr must be of the same space",
        )
    return np.ascontiguousarray(values[mask])


@dataclass(frozen=True, eq=False)
class SortedBetas:
    """What is kept of all trials.

    train : (n_train, n_voxels) mean of three repeats; test : (3, n_test, n_voxels); kept : (n_voxels_read,) voxels that
    vary in every session and are finite.
    """

    train: Float32Array
    test: Float32Array
    kept: NDArray[np.bool_]


def sort_by_image(
    sessions: Iterator[Float32Array], shown: IntArray, train_ids: IntArray, test_ids: IntArray, n_repeats: int
) -> SortedBetas:
    """Z-score each session for each voxel, average the repeats of training images, keep those of test images.

    Parameters
    ----------
    sessions : (n_trials, n_voxels) each, in order; shown : image of each trial of all sessions.

    Raises
    ------
    DataError
        for a test or training image without exactly ``n_repeats`` trials.
    """
    place = _places(train_ids, test_ids, shown)
    seen = np.zeros(len(train_ids) + len(test_ids), dtype=np.int64)
    train: Float32Array | None = None
    first = 0
    for betas in sessions:
        mean, sd = betas.mean(axis=0, dtype=np.float64), betas.std(axis=0, dtype=np.float64)
        alive = np.isfinite(sd) & (sd > 1e-6)
        z = ((betas - mean.astype(np.float32)) / np.where(alive, sd, 1.0).astype(np.float32)).astype(np.float32)
        if train is None:
            train = np.zeros((len(train_ids), betas.shape[1]), dtype=np.float32)
            test = np.zeros((n_repeats, len(test_ids), betas.shape[1]), dtype=np.float32)
            kept = alive
        kept &= alive
        for row, trial in enumerate(range(first, first + len(betas))):
            where = place[trial]
            if where < 0:
                continue
            if seen[where] >= n_repeats:
                raise DataError(
                    f"image {int(shown[trial])} is shown more than {n_repeats} times: repeats are duplicated"
                )
            if where < len(train_ids):
                train[where] += z[row] / n_repeats
            else:
                test[seen[where], where - len(train_ids)] = z[row]
            seen[where] += 1
        first += len(betas)
    if train is None or (seen != n_repeats).any():
        ids = np.concatenate([train_ids, test_ids])
        short = np.flatnonzero(seen != n_repeats)
        raise DataError(
            f"{len(short)} images do not have {n_repeats} repeats, the first is image {int(ids[short[0]])} with {seen[short[0]]}",
            "sessions are missing: get all sessions of this subject",
        )
    return SortedBetas(train[:, kept], test[:, :, kept], kept)


def _places(train_ids: IntArray, test_ids: IntArray, shown: IntArray) -> IntArray:
    """(n_trials,) row among training, then test images; -1 for images that are not used."""
    row = {int(image): number for number, image in enumerate(np.concatenate([train_ids, test_ids]).tolist())}
    return np.array([row.get(int(image), -1) for image in shown], dtype=np.int64)


def trained_images(shown: IntArray, test_ids: Sequence[int] | IntArray, n_images: int, n_repeats: int) -> IntArray:
    """The images with exactly ``n_repeats`` trials that are not test images.


    Shared images that are no test images because another subject lacks repeats are training images, as published.
    """
    counts = np.bincount(shown, minlength=n_images)
    candidates = counts == n_repeats
    candidates[np.asarray(test_ids)] = False
    return np.flatnonzero(candidates).astype(np.int64)
