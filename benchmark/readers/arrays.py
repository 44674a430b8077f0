# SPDX-License-Identifier: Apache-2.0
"""Response files as laboratories write them: npy, HDF5, NIfTI with a mask, GIfTI. Rows are TRs (or images, sentences).

Numbers come as float32 whatever is stored. Files of which only some voxels are wanted are read in stretches of
``BLOCK_BYTES``: the whole file never lies in memory. What a file cannot be is told with its name.
"""

import lzma
import math
import xml.parsers.expat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError, MissingPrerequisite
from voxelboard.benchmark.readers.packages import load_package
from voxelboard.benchmark.unfolding import check_unfolding

FloatArray = NDArray[np.float32]

HDF5 = (".h5", ".hdf5", ".hf5")
NIFTI = (".nii", ".nii.gz")
GIFTI = (".gii",)
SUFFIXES = (".npy", *HDF5, *NIFTI, *GIFTI)

BLOCK_BYTES = 64 << 20  # of a file that are in memory at a time while voxels are picked


def has_suffix(path: Path | str, suffixes: Sequence[str]) -> bool:
    """Whether a file is called like one of these formats."""
    return str(path).lower().endswith(tuple(suffixes))


def require_file(path: Path, hint: str) -> Path:
    """The path, if there is a file behind it.

    Raises
    ------
    MissingPrerequisite
        when there is none, and for a link of git-annex whose content was not fetched.
    """
    if path.is_file():
        return path
    if path.is_symlink():
        raise MissingPrerequisite(f"{path} is a link to content that is not here", f"datalad get {path}")
    raise MissingPrerequisite(f"there is no file {path}", hint)


def response_shape(path: Path, key: str = "data") -> tuple[int, ...]:
    """The shape of what is stored: (n_trs, n_voxels) or (n_repeats, n_trs, n_voxels); (x, y, z, n_trs) for NIfTI.

    Only GIfTI is read for it. Raises as :func:`read_responses`.
    """
    with damage_told(path):
        if has_suffix(path, HDF5):
            with _hdf5_dataset(path, key) as dataset:
                return tuple(dataset.shape)
        if has_suffix(path, NIFTI):
            return tuple(load_package("nibabel", "NIfTI files").load(path).shape)
        if has_suffix(path, GIFTI):
            return read_gifti(path).shape
        return tuple(np.load(path, mmap_mode="r", allow_pickle=False).shape)


def read_responses(path: Path, key: str = "data", mask: NDArray[np.bool_] | None = None) -> FloatArray:
    """(n_trs, n_voxels) or (n_repeats, n_trs, n_voxels) float32 of one file, by its suffix.

    ``key`` names the array of an HDF5 file, ``mask`` (x, y, z) the voxels of a NIfTI file, in C order.

    Raises
    ------
    MissingPrerequisite
        for a package that is not installed.
    DataError
        for a file that is truncated, damaged or not of its format, that lacks the key, holds no real numbers, or does
        not fit the mask.
    """
    with damage_told(path):
        if has_suffix(path, HDF5):
            return read_hdf5(path, key)
        if has_suffix(path, NIFTI):
            return _read_nifti(path, mask)
        if has_suffix(path, GIFTI):
            return read_gifti(path)
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        _require_numbers(path, array.dtype)
        return np.array(array, dtype=np.float32)


def read_hdf5(path: Path, key: str) -> FloatArray:
    """One array of an HDF5 file, converted while it is read: no float64 copy lies in memory."""
    with damage_told(path), _hdf5_dataset(path, key) as dataset:
        _require_numbers(path, dataset.dtype)
        target = np.empty(dataset.shape, dtype=np.float32)
        dataset.read_direct(target)
        return target


def read_hdf5_columns(
    path: Path, key: str, columns: NDArray[np.integer] | NDArray[np.bool_], rows: slice | None = None
) -> FloatArray:
    """(n_rows, n_columns) float32: some rows and voxels of an array whose first axis is that of the rows.

    Parameters
    ----------
    columns : a mask of the shape of the other axes, as the file has them, or indices into these axes in C order; numbers
        come in C order for a mask, in the order given for indices. Mind that MATLAB's axes are reversed in HDF5.
    rows : default all.

    Raises
    ------
    DataError
        as :func:`read_responses`, and for columns that the array does not have.
    """
    with damage_told(path), _hdf5_dataset(path, key) as dataset:
        _require_numbers(path, dataset.dtype)
        shape = tuple(dataset.shape)
        wanted = _column_indices(path, key, columns, shape[1:])
        first, last, step = (rows or slice(None)).indices(shape[0])
        if step != 1:
            raise ValueError(f"rows are read in stretches, got a step of {step}")
        target = np.empty((max(last - first, 0), len(wanted)), dtype=np.float32)
        n_block = rows_at_once(shape, dataset.dtype.itemsize, (dataset.chunks or (1,))[0])
        for start in range(first, last, n_block):
            stop = min(start + n_block, last)
            target[start - first : stop - first] = dataset[start:stop].reshape(stop - start, -1)[:, wanted]
        return target


def rows_at_once(shape: tuple[int, ...], itemsize: int, multiple_of: int = 1) -> int:
    """How many rows (first axis) make a stretch of ``BLOCK_BYTES``, at least one chunk of the file."""
    fit = BLOCK_BYTES // max(itemsize * math.prod(shape[1:]), 1)
    return max(fit // multiple_of, 1) * multiple_of


def _column_indices(
    path: Path, key: str, columns: NDArray[np.integer] | NDArray[np.bool_], shape: tuple[int, ...]
) -> NDArray[np.intp]:
    if columns.dtype == np.bool_:
        if columns.shape != shape:
            raise DataError(
                f"{path.name}, {key!r}: a mask of shape {columns.shape} for rows of shape {shape}",
                "the mask is of another space, or its axes are in another order",
            )
        return np.flatnonzero(columns)
    indices = columns.astype(np.intp)
    if len(indices) and not 0 <= indices.min() <= indices.max() < math.prod(shape):
        raise DataError(f"{path.name}, {key!r}: voxels {indices.min()} to {indices.max()} of {math.prod(shape)}")
    return indices


def hdf5_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The arrays at the top of an HDF5 file, without reading them."""
    h5py = load_package("h5py", "HDF5 files")
    with damage_told(path), h5py.File(path, "r") as file:
        return {str(name): tuple(item.shape) for name, item in file.items() if isinstance(item, h5py.Dataset)}


def read_gifti(path: Path) -> FloatArray:
    """(n_trs, n_vertices) float32: a functional GIfTI holds one array a TR."""
    nibabel = load_package("nibabel", "GIfTI files")
    with damage_told(path):
        arrays = [np.asarray(item.data) for item in nibabel.load(path).darrays]
        if not arrays or any(array.ndim != 1 or len(array) != len(arrays[0]) for array in arrays):
            raise DataError(
                f"{path.name}: arrays of the shapes {sorted({array.shape for array in arrays})}, "
                "expected one (n_vertices,) array a TR",
                "write the time series as a functional GIfTI (.func.gii)",
            )
        _require_numbers(path, arrays[0].dtype)
        return np.stack(arrays).astype(np.float32)


def read_mask(path: Path) -> NDArray[np.bool_]:
    """(x, y, z): where a NIfTI mask is not zero."""
    with damage_told(path):
        volume = np.asarray(load_package("nibabel", "NIfTI files").load(path).dataobj)
    if volume.ndim != 3 or not (volume != 0).any():
        raise DataError(f"{path.name}: a mask has three axes and some voxel that is not zero, got {volume.shape}")
    mask: NDArray[np.bool_] = np.asarray(volume != 0)
    return mask


def _read_nifti(path: Path, mask: NDArray[np.bool_] | None) -> FloatArray:
    # kept open: a compressed file is then unpacked once, not once a stretch
    image = load_package("nibabel", "NIfTI files").load(path, keep_file_open=True)
    if mask is None:
        raise DataError(f"{path.name} is a volume, and no mask says which voxels are meant", "give mask: FILE.nii.gz")
    if image.ndim != 4 or image.shape[:3] != mask.shape:
        raise DataError(f"{path.name}: shape {image.shape}, expected {mask.shape} of the mask and time")
    n_trs = image.shape[3]
    target = np.empty((n_trs, int(mask.sum())), dtype=np.float32)
    n_block = rows_at_once((n_trs, *mask.shape), 8)  # scaled volumes come as float64
    for start in range(0, n_trs, n_block):
        block = np.asarray(image.dataobj[..., start : start + n_block])  # (x, y, z, n_trs of the stretch)
        _require_numbers(path, block.dtype)
        target[start : start + n_block] = block[mask].T
    return target


@contextmanager
def _hdf5_dataset(path: Path, key: str) -> Iterator[Any]:
    h5py = load_package("h5py", "HDF5 files")
    with h5py.File(path, "r") as file:
        if key not in file or not isinstance(file[key], h5py.Dataset):
            names = ", ".join(sorted(file)) or "nothing"
            raise DataError(
                f"{path.name} has no array {key!r}, it holds {names}", "check the key, or get the file again"
            )
        dataset = file[key]
        check_unfolding(f"{path.name}, {key}", dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size())
        yield dataset


@contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """Turn what libraries raise on a damaged file into one message."""
    try:
        yield
    except FileNotFoundError:
        raise MissingPrerequisite(f"there is no file {path}") from None
    except (OSError, EOFError, ValueError, KeyError, zlib.error, lzma.LZMAError, xml.parsers.expat.ExpatError) as error:
        raise DataError(f"{path.name} is truncated or damaged: {error}", "get the file again") from error
    except Exception as error:
        # nibabel's own class is known only once nibabel is imported
        if type(error).__module__.startswith("nibabel."):
            raise DataError(f"{path.name} is truncated or damaged: {error}", "get the file again") from error
        raise


def _require_numbers(path: Path, dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "fiu":
        raise DataError(f"{path.name} holds {dtype} entries, expected real numbers")
