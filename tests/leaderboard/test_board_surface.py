# SPDX-License-Identifier: Apache-2.0
"""Maps on the flattened cortex: the right vertex at each pixel, the right number at each vertex."""

import base64
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voxelboard.benchmark.errors import DataError
from voxelboard.leaderboard.surface import OUTSIDE, flat_map, picture, shipped_map
from voxelboard.leaderboard.voxels import N_VERTICES, SurfaceMap, add_densities, density, mean_maps, surface_maps


def test_densities_count_each_voxel_once_and_only_whole_ones() -> None:
    x, y = np.array([0.1, 0.3, np.nan, 5.0]), np.array([0.2, 0.1, 0.1, -5.0])
    found = density(x, y)
    assert found is not None
    assert (found.total, found.above) == (3, 1)
    both = add_densities([found, found])
    assert both is not None
    assert both.total == 6
    assert add_densities([found, None]) is None
    assert density(np.array([np.nan]), np.array([1.0])) is None


def test_voxels_of_a_vertex_are_averaged_and_the_best_level_wins() -> None:
    arrays: dict[str, Any] = {
        "surface": np.array("fsaverage5"),
        "voxel_vertex": np.array([7, 7, 20_483]),
        "voxel_r__unique": np.array([0.1, 0.3, 0.5]),
        "voxel_layer": np.array([0, 0, 12]),
        "voxel_level__speech": np.array([0.2, 0.2, -0.1]),
        "voxel_level__story": np.array([0.1, 0.1, -0.2]),
    }
    maps = surface_maps(Path("x.json"), arrays, 13)
    assert maps["unique"].values[[7, 20_483]] == pytest.approx([0.2, 0.5])
    assert np.isfinite(maps["unique"].values).sum() == 2
    assert maps["layer"].values[20_483] == 1.0
    assert maps["level"].labels[int(maps["level"].values[7])] == "speech"
    assert np.isnan(maps["level"].values[20_483])  # no level is above 0 there
    mean = mean_maps([maps, {"unique": SurfaceMap("unique", np.full(N_VERTICES, 0.4, dtype=np.float32))}])
    assert mean["unique"].values[7] == pytest.approx(0.3)
    assert mean["unique"].values[8] == pytest.approx(0.4)  # covered by one subject


def test_voxels_between_the_vertices_are_not_drawn() -> None:
    arrays: dict[str, Any] = {
        "surface": np.array("fsaverage5"),
        "voxel_vertex": np.array([-1, 3, -1]),
        "voxel_r__unique": np.array([0.9, 0.3, 0.9]),
        "voxel_roi": np.array(["A", "B", "A"]),
        "voxel_layer": np.array([1.0, np.nan, 1.0]),
    }
    maps = surface_maps(Path("x.json"), arrays, 3)
    assert np.flatnonzero(np.isfinite(maps["unique"].values)).tolist() == [3]
    assert maps["region"].labels[int(maps["region"].values[3])] == "B"
    assert np.isnan(maps["layer"].values).all()  # no layer was chosen for an unscored region


@pytest.mark.parametrize("change", [{"surface": np.array("other")}, {"voxel_vertex": np.array([N_VERTICES])}])
def test_vertices_of_another_surface_are_refused(change: dict[str, Any]) -> None:
    arrays = {"surface": np.array("fsaverage5"), "voxel_vertex": np.array([1]), "voxel_r__unique": np.array([0.1])}
    with pytest.raises(DataError, match="vertices 0 to 20483 of fsaverage5"):
        surface_maps(Path("x.json"), {**arrays, **change}, 3)


def test_each_pixel_shows_the_nearest_vertex_of_its_own_hemisphere() -> None:
    nibabel = pytest.importorskip("nibabel", reason="needs nibabel: pip install 'voxelboard[data]'")
    nilearn = pytest.importorskip("nilearn", reason="needs nilearn: pip install 'voxelboard[data]'")
    from scipy.spatial import cKDTree

    flat = flat_map()
    assert flat is not None
    half = flat.vertices[:, :460].astype(np.int64)
    folder = Path(nilearn.__file__).parent / "datasets" / "data" / "fsaverage5"
    points, faces = (np.asarray(a.data) for a in nibabel.load(folder / "flat_left.gii.gz").darrays)
    used = np.unique(faces)
    assert set(np.unique(half)) - {OUTSIDE} <= set(used.tolist())
    xy = points[:, :2]
    low, high = xy[used].min(axis=0), xy[used].max(axis=0)
    scale = 459 / (high[0] - low[0])
    rows, columns = np.nonzero(half != OUTSIDE)
    height = int(np.ceil((high[1] - low[1]) * scale)) + 1
    at = np.stack([columns / scale + low[0], ((height - 1) - rows) / scale + low[1]], axis=1)
    _, nearest = cKDTree(xy[used]).query(at)
    shown = half[rows, columns]
    # the nearest corner of the triangle by weight is the nearest vertex nearly everywhere; never is it far
    assert (used[nearest] == shown).mean() > 0.85
    assert np.linalg.norm(xy[shown] - at, axis=1).max() < 25
    assert (flat.vertices[:, 470:][flat.vertices[:, 470:] != OUTSIDE] >= N_VERTICES // 2).all()


def test_what_is_shipped_can_be_read_again() -> None:
    values = np.full(N_VERTICES, np.nan, dtype=np.float32)
    values[:100] = np.linspace(-0.2, 0.6, 100)
    shipped = shipped_map(SurfaceMap("unique", values))
    codes = np.frombuffer(base64.b64decode(shipped["values"]), dtype=np.uint8)
    assert (codes == 255).sum() == N_VERTICES - 100
    back = shipped["low"] + codes[:100] / 254 * (shipped["high"] - shipped["low"])
    np.testing.assert_allclose(back, values[:100], atol=0.8 / 254)
    pytest.importorskip("nilearn", reason="needs nilearn: pip install 'voxelboard[data]'")
    flat = flat_map()
    assert flat is not None
    text = flat.shipped()
    pixels = np.frombuffer(zlib.decompress(base64.b64decode(text["vertices"])), dtype="<u2")
    np.testing.assert_array_equal(pixels.reshape(flat.vertices.shape), flat.vertices)
    assert len(text["vertices"]) < 220_000
    png = base64.b64decode(picture(flat, SurfaceMap("unique", values)).partition(",")[2])
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
