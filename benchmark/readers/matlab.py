# SPDX-License-Identifier: Apache-2.0
"""MATLAB files of every version, in MATLAB's own axis order: up to 7 through scipy, 7.3 (which is HDF5) through h5py."""

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.readers.arrays import damage_told, require_file
from voxelboard.benchmark.readers.packages import load_package

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HEADER = 512  # a version 7.3 file is HDF5 after a header of so many bytes


def read_matlab(path: Path, *names: str, hint: str = "get the file again") -> dict[str, Any]:
    """The named variables of a MATLAB file, without axes of length one; all of them without names.

    Numbers and logicals are arrays with MATLAB's axes, text is ``str``, a cell array is an array of objects, a struct of
    version 7 or older is what scipy makes of it (``item.field``). Of version 7.3, structs are not read: its large
    arrays are better read in stretches, with :func:`voxelboard.benchmark.readers.arrays.read_hdf5_columns`.

    Raises
    ------
    MissingPrerequisite
        when there is no such file, or no package that reads it.
    DataError
        for a file that is damaged, no MATLAB file, or lacks a variable.
    """
    require_file(path, hint)
    with damage_told(path):
        if is_hdf5(path):
            return _read_hdf5(path, names, hint)
        try:
            stored = scipy.io.loadmat(path, variable_names=names or None, squeeze_me=True, struct_as_record=False)
        except (TypeError, NotImplementedError, IndexError, MemoryError) as error:  # what scipy raises on damage
            raise DataError(f"{path.name} is truncated or damaged: {error}", hint) from error
        found = {name: value for name, value in stored.items() if not name.startswith("__")}
        missing = [name for name in names if name not in found]
        if missing:
            there = ", ".join(name for name, _, _ in scipy.io.whosmat(path)) or "nothing"
            raise DataError(f"{path.name} has no variable {', '.join(missing)}, it holds {there}", hint)
        return found


def is_hdf5(path: Path) -> bool:
    """Whether a MATLAB file is of version 7.3."""
    with path.open("rb") as file:
        start = file.read(_HEADER + len(_HDF5_SIGNATURE))
    return start.startswith(_HDF5_SIGNATURE) or start[_HEADER:] == _HDF5_SIGNATURE


def _read_hdf5(path: Path, names: tuple[str, ...], hint: str) -> dict[str, Any]:
    h5py = load_package("h5py", "MATLAB 7.3 files")
    with h5py.File(path, "r") as file:
        there = [name for name in file if not name.startswith("#")]
        missing = [name for name in names if name not in there]
        if missing:
            raise DataError(
                f"{path.name} has no variable {', '.join(missing)}, it holds {', '.join(there) or 'nothing'}", hint
            )
        return {name: _value(file, file[name], path) for name in names or there}


def _value(file: Any, item: Any, path: Path) -> Any:
    """One variable of a version 7.3 file."""
    kind = item.attrs.get("MATLAB_class", b"").decode()
    if not hasattr(item, "shape"):
        raise DataError(f"{path.name}, {item.name.lstrip('/')!r} is a struct", "name the arrays that are wanted")
    if item.attrs.get("MATLAB_empty", 0):
        return "" if kind == "char" else np.empty(0)
    array: NDArray[Any] = np.asarray(item[()]).T.squeeze()
    if kind == "char":
        return "".join(chr(code) for code in np.atleast_1d(array).T.ravel())
    if kind == "cell":
        cells = np.empty(array.shape, dtype=object)
        for place in np.ndindex(array.shape):
            cells[place] = _value(file, file[array[place]], path)
        return cells
    if kind == "logical":
        return array.astype(np.bool_)
    return array
