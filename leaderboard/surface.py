# SPDX-License-Identifier: Apache-2.0
"""The flat map of fsaverage5 as a picture of vertex numbers, derived from the mesh that nilearn ships.

Only what is derived is published: per pixel the vertex that it shows, and how deep in a sulcus that vertex lies. Maps then
are one number per vertex, and the browser colours the picture.
"""

import base64
import importlib.util
import struct
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelboard.leaderboard.voxels import N_VERTICES, SurfaceMap

WIDTH = 460  # pixels of one hemisphere
OUTSIDE = 65_535
_HALF = N_VERTICES // 2
_GAP = 10
_LARGE = 12  # pixels
_LEVELS = 254  # 255 is missing


@dataclass(frozen=True, eq=False)
class FlatMap:
    """A picture of vertices.

    Attributes
    ----------
    vertices : (height, width) uint16 number of the vertex at each pixel, left hemisphere on the left, OUTSIDE elsewhere.
    sulci : (N_VERTICES,) uint8, 0 the crown of a gyrus, 255 the deepest sulcus.
    """

    vertices: NDArray[np.uint16]
    sulci: NDArray[np.uint8]

    def shipped(self) -> dict[str, Any]:
        """For the browser: deflated and in base64."""
        height, width = self.vertices.shape
        return {
            "width": width,
            "height": height,
            "vertices": _text(zlib.compress(self.vertices.astype("<u2").tobytes(), 9)),
            "sulci": _text(self.sulci.tobytes()),
        }


@cache
def flat_map() -> FlatMap | None:
    """The flat map, or None where nilearn or nibabel is not installed (``pip install voxelboard[data]``)."""
    home = importlib.util.find_spec("nilearn")
    if home is None or home.origin is None or importlib.util.find_spec("nibabel") is None:
        return None
    folder = Path(home.origin).parent / "datasets" / "data" / "fsaverage5"
    halves, sulci = [], []
    for index, side in enumerate(("left", "right")):
        points, faces = _read(folder / f"flat_{side}.gii.gz")
        halves.append(_rasterise(points[:, :2], faces, index * _HALF))
        depth = _read(folder / f"sulc_{side}.gii.gz")[0]
        sulci.append(depth)
    height = max(half.shape[0] for half in halves)
    padded = [np.pad(h, ((0, height - h.shape[0]), (0, 0)), constant_values=OUTSIDE) for h in halves]
    gap = np.full((height, _GAP), OUTSIDE, dtype=np.uint16)
    deep = np.concatenate(sulci)
    scaled = np.clip((deep + 1.0) / 2.0, 0, 1) * 255
    return FlatMap(np.concatenate([padded[0], gap, padded[1]], axis=1), scaled.astype(np.uint8))


def _read(path: Path) -> list[NDArray[Any]]:
    import nibabel

    return [np.asarray(array.data) for array in nibabel.load(path).darrays]


def _rasterise(points: NDArray[np.float64], faces: NDArray[np.int64], first: int) -> NDArray[np.uint16]:
    """(height, WIDTH) the nearest corner of the triangle at each pixel's centre, OUTSIDE where there is none."""
    low, high = points[np.unique(faces)].min(axis=0), points[np.unique(faces)].max(axis=0)
    scale = (WIDTH - 1) / (high[0] - low[0])
    height = int(np.ceil((high[1] - low[1]) * scale)) + 1
    xy = (points - low) * scale
    xy[:, 1] = (height - 1) - xy[:, 1]  # pictures grow downwards
    picture = np.full((height, WIDTH), OUTSIDE, dtype=np.uint16)
    corners = xy[faces]
    large = (np.ceil(corners.max(axis=1)) - np.floor(corners.min(axis=1))).max(axis=1) > _LARGE
    for kept in (large, ~large):  # a few triangles at the cuts are ten times as wide as the rest
        if kept.any():
            _paint(picture, corners[kept], faces[kept], first)
    return picture


def _paint(picture: NDArray[np.uint16], corners: NDArray[np.float64], faces: NDArray[np.int64], first: int) -> None:
    """Fill the pixels of triangles, all at once for each offset inside the widest; corners (n_faces, 3, 2)."""
    height = len(picture)
    start = np.floor(corners.min(axis=1)).astype(np.int64)
    span = (np.ceil(corners.max(axis=1)).astype(np.int64) - start).max(axis=0)
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    area = _cross(b - a, c - a)
    for dx in range(int(span[0]) + 1):
        for dy in range(int(span[1]) + 1):
            pixel = start + np.array([dx, dy])
            u, v = _cross(c - b, pixel - b) / area, _cross(a - c, pixel - c) / area
            inside = (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1 + 1e-9)
            inside &= (pixel >= 0).all(axis=1) & (pixel[:, 0] < WIDTH) & (pixel[:, 1] < height)
            weights = np.stack([u, v, 1 - u - v], axis=1)[inside]
            nearest = faces[inside][np.arange(len(weights)), weights.argmax(axis=1)]
            picture[pixel[inside, 1], pixel[inside, 0]] = nearest + first


def _cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    return found


def shipped_map(surface_map: SurfaceMap) -> dict[str, Any]:
    """A map for the browser: one byte per vertex between ``low`` and ``high``, 255 where there is nothing."""
    values = surface_map.values
    known = np.isfinite(values)
    if surface_map.labels:
        low, high = 0.0, float(_LEVELS)
    else:
        low, high = (float(values[known].min()), float(values[known].max())) if known.any() else (0.0, 1.0)
    width = (high - low) or 1.0
    codes = np.full(len(values), 255, dtype=np.uint8)
    codes[known] = np.round((values[known] - low) / width * _LEVELS).astype(np.uint8)
    return {"low": low, "high": high, "labels": list(surface_map.labels), "values": _text(codes.tobytes())}


def picture(flat: FlatMap, surface_map: SurfaceMap) -> str:
    """A PNG of a map as ``data:`` address, for readers without the script: grey brain, one hue, darkest is highest."""
    codes = np.full(N_VERTICES + 1, 0, dtype=np.uint8)  # 0: outside, 1-32 sulci, 33-255 values
    codes[:N_VERTICES] = 1 + (flat.sulci.astype(np.int64) * 31 // 255)
    values = surface_map.values
    top = float(np.nanmax(values)) if np.isfinite(values).any() else 0.0
    if top > 0:
        shown = np.isfinite(values) & (values > 0)
        codes[:N_VERTICES][shown] = 33 + np.round(np.clip(values[shown] / top, 0, 1) * 222).astype(np.uint8)
    index = np.where(flat.vertices == OUTSIDE, N_VERTICES, flat.vertices.astype(np.int64))
    return f"data:image/png;base64,{_text(_png(codes[index], _palette()))}"


def _palette() -> NDArray[np.uint8]:
    """(256, 3): see :func:`picture`."""
    colours = np.full((256, 3), 255, dtype=np.float64)
    grey = np.linspace(232, 196, 32)
    colours[1:33] = grey[:, None]
    share = np.linspace(0, 1, 223)[:, None]
    # from a pale to a deep teal: one hue, lightness falls steadily
    colours[33:] = np.array([214, 236, 234]) * (1 - share) + np.array([0, 62, 70]) * share
    return colours.round().astype(np.uint8)


def _png(indices: NDArray[np.uint8], palette: NDArray[np.uint8]) -> bytes:
    """An indexed PNG whose index 0 is transparent."""
    height, width = indices.shape
    rows = np.concatenate([np.zeros((height, 1), dtype=np.uint8), indices], axis=1).tobytes()
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", palette.tobytes()),
        (b"tRNS", b"\x00"),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    )
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return b"\x89PNG\r\n\x1a\n" + body


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
