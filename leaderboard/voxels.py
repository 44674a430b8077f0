# SPDX-License-Identifier: Apache-2.0
"""What a board keeps of a cell's voxels: counts over a grid of correlations, and maps on a shared surface.

Voxels themselves are too many to keep for a board of hundreds of models: 8 subjects of 50,000 voxels are 3 MB a row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError

N_VERTICES = 20_484  # fsaverage5: 10,242 a hemisphere, left then right
SURFACES = ("fsaverage5",)
NOWHERE = -1  # the vertex of a voxel that has no place on the surface
# r of -0.5 to 1 in steps of 0.02: what lies outside is counted in the outermost bin
GRID_LOW, GRID_STEP, GRID_BINS = -0.5, 0.02, 75
LEVEL_PREFIX = "voxel_level__"
_MAX_LABELS = 250


@dataclass(frozen=True, eq=False)
class Density:
    """Voxels over a grid of two numbers in units of r.

    Attributes
    ----------
    counts : (GRID_BINS, GRID_BINS) voxels, x (ceiling or baseline) by y (model).
    above : voxels whose y is above their x.
    """

    counts: NDArray[np.int32]
    above: int

    @property
    def total(self) -> int:
        """All voxels."""
        return int(self.counts.sum())


@dataclass(frozen=True, eq=False)
class SurfaceMap:
    """One number per vertex of a shared surface, NaN where nothing was measured.

    Attributes
    ----------
    name : what is mapped: ``unique`` or ``raw`` (r), ``layer`` (chosen layer over the last), ``level`` (index of the winner),
        ``region`` (index of the region).
    values : (N_VERTICES,) float32.
    labels : names of the indices of ``level`` and ``region``, else empty.
    """

    name: str
    values: NDArray[np.float32]
    labels: tuple[str, ...] = ()


def density(x: NDArray[Any], y: NDArray[Any]) -> Density | None:
    """Count voxels by two numbers; voxels without one of them are left out, None when none is left."""
    known = np.isfinite(x) & np.isfinite(y)
    if not known.any():
        return None
    x, y = x[known], y[known]
    i, j = (np.minimum(np.maximum(((v - GRID_LOW) / GRID_STEP).astype(np.int64), 0), GRID_BINS - 1) for v in (x, y))
    counts = np.bincount(i * GRID_BINS + j, minlength=GRID_BINS**2).astype(np.int32).reshape(GRID_BINS, GRID_BINS)
    return Density(counts, int(np.count_nonzero(y > x)))


def add_densities(parts: Sequence[Density | None]) -> Density | None:
    """All voxels together; None when a part is missing, because a part of the subjects would mislead."""
    held = [part for part in parts if part is not None]
    if not held or len(held) < len(parts):
        return None
    counts: NDArray[np.int32] = np.sum([part.counts for part in held], axis=0, dtype=np.int32)
    return Density(counts, sum(part.above for part in held))


def surface_maps(path: Path, arrays: Mapping[str, NDArray[Any]], n_layers: int) -> dict[str, SurfaceMap]:
    """The maps of one cell, where its statistics say at which vertex each voxel lies (``surface``, ``voxel_vertex``).

    Raises
    ------
    DataError
        for a surface that is not known, or vertices outside of it.
    """
    if "voxel_vertex" not in arrays:
        return {}
    surface = str(arrays.get("surface", np.array("")))
    places = np.asarray(arrays["voxel_vertex"], dtype=np.int64)
    if surface not in SURFACES or places.min(initial=0) < NOWHERE or places.max(initial=0) >= N_VERTICES:
        raise DataError(
            f"{path.with_suffix('.npz')}: voxel_vertex must hold vertices 0 to {N_VERTICES - 1} of {SURFACES[0]}, got "
            f"surface {surface!r} and {places.min(initial=0)} to {places.max(initial=0)}",
            "run its cell with --fresh",
        )
    drawn = places != NOWHERE
    vertices = places[drawn]

    def on_surface(name: str) -> NDArray[np.float32]:
        return _on_surface(vertices, np.asarray(arrays[name])[drawn])

    maps = {}
    for row in ("unique", "raw"):
        if f"voxel_r__{row}" in arrays:
            maps[row] = SurfaceMap(row, on_surface(f"voxel_r__{row}"))
    if "voxel_roi" in arrays:
        names = sorted({str(name) for name in arrays["voxel_roi"]})
        if len(names) <= _MAX_LABELS:
            labels = np.searchsorted(np.array(names), np.asarray(arrays["voxel_roi"]).astype(str)[drawn])
            region = np.full(N_VERTICES, np.nan, dtype=np.float32)
            region[vertices] = labels
            maps["region"] = SurfaceMap("region", region, tuple(names))
    if "voxel_layer" in arrays:
        maps["layer"] = SurfaceMap("layer", on_surface("voxel_layer") / np.float32(max(n_layers - 1, 1)))
    levels = sorted(name for name in arrays if name.startswith(LEVEL_PREFIX))
    if levels:
        scores = np.stack([on_surface(name) for name in levels])
        maps["level"] = _winner(scores, tuple(name.removeprefix(LEVEL_PREFIX) for name in levels))
    return maps


def mean_maps(listed: Sequence[Mapping[str, SurfaceMap]]) -> dict[str, SurfaceMap]:
    """Mean over the subjects that cover a vertex; the winning level is the one that most subjects have, lower at a tie."""
    found: dict[str, SurfaceMap] = {}
    for name in dict.fromkeys(key for maps in listed for key in maps):
        parts = [maps[name] for maps in listed if name in maps]
        stacked = np.stack([part.values for part in parts])
        if name in ("level", "region"):
            if len({part.labels for part in parts}) > 1:
                continue  # subjects with other levels cannot be counted together
            found[name] = SurfaceMap(name, _most_frequent(stacked, len(parts[0].labels)), parts[0].labels)
        else:
            covered = np.isfinite(stacked).sum(axis=0)
            total = np.nansum(stacked, axis=0)
            mean = np.divide(total, covered, out=np.full(N_VERTICES, np.nan, dtype=np.float32), where=covered > 0)
            found[name] = SurfaceMap(name, mean.astype(np.float32))
    return found


def _on_surface(vertices: NDArray[np.int64], values: NDArray[Any]) -> NDArray[np.float32]:
    """Mean of the voxels of each vertex."""
    known = np.isfinite(values)
    weight = np.bincount(vertices[known], minlength=N_VERTICES)
    total = np.bincount(vertices[known], weights=np.asarray(values, dtype=np.float64)[known], minlength=N_VERTICES)
    mean: NDArray[np.float32] = np.divide(total, weight, out=np.full(N_VERTICES, np.nan), where=weight > 0).astype(
        np.float32
    )
    return mean


def _winner(scores: NDArray[np.float32], labels: tuple[str, ...]) -> SurfaceMap:
    """Level with the highest score of each vertex, where one is above 0."""
    best = np.where(np.isfinite(scores), scores, -np.inf)
    index = best.argmax(axis=0).astype(np.float32)
    return SurfaceMap("level", np.where(best.max(axis=0) > 0, index, np.float32(np.nan)).astype(np.float32), labels)


def _most_frequent(indices: NDArray[np.float32], n_labels: int) -> NDArray[np.float32]:
    counts = np.stack([(indices == label).sum(axis=0) for label in range(n_labels)])
    return np.where(counts.max(axis=0) > 0, counts.argmax(axis=0), np.nan).astype(np.float32)
