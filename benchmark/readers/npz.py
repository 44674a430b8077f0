# SPDX-License-Identifier: Apache-2.0
"""Reading single arrays of an .npz file, with damage reported as damage."""

import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError, MissingPrerequisite
from voxelboard.benchmark.unfolding import check_npz


@contextmanager
def open_npz(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an .npz file. An array is decompressed when it is read, alone.

    Raises
    ------
    MissingPrerequisite
        when there is no such file.
    DataError
        for a file that is truncated, damaged or no .npz, also when that shows while it is read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            check_npz(archive, path.name)
            yield archive
    except FileNotFoundError:
        raise MissingPrerequisite(f"there is no file {path}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
        raise DataError(
            f"{path.name} is truncated or damaged ({type(error).__name__}: {error})", "get the file again"
        ) from error


def array_names(archive: zipfile.ZipFile) -> tuple[str, ...]:
    """The names of the arrays, without reading them."""
    return tuple(name.removesuffix(".npy") for name in archive.namelist())


def read_array(archive: zipfile.ZipFile, name: str) -> NDArray[np.float32]:
    """One array as float32, any float type on disk. Pickled arrays are refused.

    Raises
    ------
    DataError
        for a name that the file lacks, and for what is not an array of floats.
    """
    where = f"{Path(archive.filename or '').name}, {name}"
    if name not in array_names(archive):
        raise DataError(f"{where}: there is no such array")
    # all of it before numpy looks at it: zipfile then has compared the checksum
    data = io.BytesIO(archive.read(f"{name}.npy"))
    try:
        array = np.lib.format.read_array(data, allow_pickle=False)
    except ValueError as error:
        raise DataError(f"{where}: {error}", "get the file again") from error
    if array.dtype.kind != "f":
        raise DataError(f"{where}: {array.dtype} numbers, expected floats")
    return np.asarray(array, dtype=np.float32)
