# SPDX-License-Identifier: Apache-2.0
"""Volumes and surface maps: masks, parcellations, and which label each voxel of a mask has."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.readers.arrays import damage_told, require_file
from voxelboard.benchmark.readers.packages import load_package


@dataclass(frozen=True, eq=False)
class Volume:
    """values : (x, y, z) as stored; affine : (4, 4) from voxel indices to millimetres."""

    values: NDArray[Any]
    affine: NDArray[np.float64]


def read_volume(path: Path, hint: str = "get the file again") -> Volume:
    """One volume of a NIfTI or MGH file, scaled as its header says, with trailing axes of length one dropped.

    Raises
    ------
    MissingPrerequisite
        when there is no such file.
    DataError
        for a file that is damaged or has not three axes.
    """
    require_file(path, hint)
    with damage_told(path):
        image = _load(path)
        values = np.asarray(image.dataobj)
        affine = np.asarray(image.affine, dtype=np.float64)
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim != 3:
        raise DataError(f"{path.name}: shape {values.shape}, expected one volume (x, y, z)", hint)
    return Volume(values, affine)


def read_grid(path: Path, hint: str = "get the file again") -> Volume:
    """The grid of a NIfTI file, without its numbers: values are zeros that take no memory; a fourth axis is dropped."""
    require_file(path, hint)
    with damage_told(path):
        image = _load(path)
        shape, affine = tuple(image.shape[:3]), np.asarray(image.affine, dtype=np.float64)
    if len(shape) != 3:
        raise DataError(f"{path.name}: shape {image.shape}, expected a volume", hint)
    return Volume(np.broadcast_to(np.int8(0), shape), affine)


def read_surface_map(path: Path, hint: str = "get the file again") -> NDArray[np.float32]:
    """(n_vertices,) or (n_maps, n_vertices) float32 of an MGH/MGZ surface file, which stores (n_vertices, 1, 1, n_maps)."""
    require_file(path, hint)
    with damage_told(path):
        values = np.asarray(_load(path).dataobj, dtype=np.float32)
    if values.ndim not in (3, 4) or values.shape[1:3] != (1, 1):
        raise DataError(f"{path.name}: shape {values.shape}, expected (n_vertices, 1, 1) and maps", hint)
    maps = values.reshape(values.shape[0], -1).T
    return maps[0] if len(maps) == 1 else np.ascontiguousarray(maps)


def _load(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # nibabel leaves the header of MGH files to the collector
        return load_package("nibabel", "NIfTI and MGH files").load(path)


def labels_at(parcellation: Volume, mask: Volume) -> NDArray[np.int64]:
    """(n_voxels,) the label number of each voxel of ``mask`` (C order): that of the nearest voxel, 0 outside.

    The two grids may differ; both affines must lead to the same space, which no file can prove.
    """
    kept = np.argwhere(mask.values != 0)
    to_parcels = np.linalg.inv(parcellation.affine) @ mask.affine
    places = np.rint(kept @ to_parcels[:3, :3].T + to_parcels[:3, 3]).astype(np.int64)
    inside = ((places >= 0) & (places < parcellation.values.shape)).all(axis=1)
    labels = np.zeros(len(kept), dtype=np.int64)
    labels[inside] = np.rint(parcellation.values[tuple(places[inside].T)]).astype(np.int64)
    return labels


def read_label_names(path: Path) -> dict[int, str]:
    """Label number -> name, from a text table as FreeSurfer (``.ctab``) and atlases write them: ``number name ...`` a line.

    Lines that are empty or start with ``#`` are skipped; what follows the name (colours) is not looked at.

    Raises
    ------
    DataError
        with the line, for one that does not start so, and a number that comes twice.
    """
    require_file(path, "a table of label numbers and names")
    names: dict[int, str] = {}
    for k, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        cells = line.replace(",", " ").replace("\t", " ").split()
        if not cells or cells[0].startswith("#"):
            continue
        if len(cells) < 2 or not cells[0].lstrip("-").isdecimal():
            raise DataError(f"{path.name}, line {k}: {line.strip()[:60]!r}, expected a number and a name")
        number = int(cells[0])
        if number in names:
            raise DataError(f"{path.name}, line {k}: the number {number} comes twice")
        names[number] = cells[1]
    return names
