# SPDX-License-Identifier: Apache-2.0
"""Brain-Score's assemblies: netCDF-4 files (which are HDF5) of a table (presentation, neuroid) and its coordinates."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.readers.arrays import damage_told, require_file
from voxelboard.benchmark.readers.packages import load_package

_AXES = ("presentation", "neuroid")


@dataclass(frozen=True, eq=False)
class Assembly:
    """values : (n_presentations, n_neuroids) float32; presentation, neuroid : name -> one entry a row, or column."""

    values: NDArray[np.float32]
    presentation: Mapping[str, NDArray[Any]]
    neuroid: Mapping[str, NDArray[Any]]

    def coordinate(self, axis: str, *names: str) -> NDArray[Any]:
        """The first of these coordinates that the assembly has; raises DataError when it has none."""
        table = self.presentation if axis == "presentation" else self.neuroid
        for name in names:
            if name in table:
                return table[name]
        raise DataError(
            f"the assembly has no {axis} coordinate {' or '.join(names)}, it has {', '.join(sorted(table)) or 'none'}",
            "get the file again, or check the release",
        )


def read_assembly(path: Path, hint: str) -> Assembly:
    """Read an assembly; a third axis of length one (time) is dropped.

    Raises
    ------
    MissingPrerequisite
        when there is no such file.
    DataError
        for a file that is damaged, no netCDF-4, or has no table of presentations and neuroids.
    """
    h5py = load_package("h5py", "Brain-Score assemblies")
    require_file(path, hint)
    with damage_told(path), h5py.File(path, "r") as file:
        table = _table(path, file, h5py)
        values = np.empty(table.shape, dtype=np.float32)
        table.read_direct(values)
        axes = [_axis_name(table, k) for k in range(table.ndim)]
        columns = {axis: _coordinates(file, axis, h5py) for axis in _AXES}
    for k in reversed(range(values.ndim)):
        if axes[k] not in _AXES and values.shape[k] == 1:
            values = values.squeeze(k)
            axes.pop(k)
    if sorted(axes) != sorted(_AXES):
        raise DataError(f"{path.name}: a table of {', '.join(axes)}, expected {' and '.join(_AXES)}", hint)
    values = np.ascontiguousarray(values if axes[0] == _AXES[0] else values.T)
    for axis, length in zip(_AXES, values.shape, strict=True):
        for name, entries in columns[axis].items():
            if len(entries) != length:
                raise DataError(f"{path.name}: {len(entries)} entries of {name}, {length} of {axis}", hint)
    return Assembly(values, columns["presentation"], columns["neuroid"])


def _table(path: Path, file: Any, h5py: Any) -> Any:
    """The only array of numbers with two axes or more."""
    tables = [
        item for item in file.values() if isinstance(item, h5py.Dataset) and item.ndim >= 2 and item.dtype.kind in "fiu"
    ]
    if len(tables) != 1:
        raise DataError(f"{path.name} holds {len(tables)} tables, expected one", "get the file again")
    return tables[0]


def _axis_name(table: Any, axis: int) -> str:
    """The dimension that an axis belongs to, through the scale that netCDF attaches."""
    scales = table.dims[axis]
    return str(scales[0].name).lstrip("/") if len(scales) else f"axis {axis}"


def _coordinates(file: Any, axis: str, h5py: Any) -> dict[str, NDArray[Any]]:
    found = {}
    for name, item in file.items():
        if isinstance(item, h5py.Dataset) and item.ndim == 1 and (name == axis or _axis_name(item, 0) == axis):
            if item.dtype.kind in {"O", "S"}:
                found[name] = np.array([_text(entry) for entry in item[()]])
            elif item.dtype.kind in "fiub" and not item.attrs.get("NAME", b"").startswith(
                b"This is a netCDF dimension"
            ):
                found[name] = np.asarray(item[()])
    return found


def _text(entry: Any) -> str:
    return entry.decode("utf-8") if isinstance(entry, bytes) else str(entry)
