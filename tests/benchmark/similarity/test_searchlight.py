# SPDX-License-Identifier: Apache-2.0
"""The searchlight against a loop over spheres, rsatoolbox, and a planted sphere."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from voxelboard.benchmark.errors import DataError, InvalidNumbers
from voxelboard.benchmark.similarity.rdms import correlation_distances
from voxelboard.benchmark.similarity.searchlight import make_spheres, searchlight, sphere_offsets

RNG = np.random.default_rng(1)


def grid(shape):
    return np.argwhere(np.ones(shape, dtype=bool))


@pytest.mark.parametrize(("radius", "count"), [(1, 1), (1.1, 7), (2, 27), (6, 895)])
def test_a_sphere_holds_what_is_strictly_closer_than_its_radius(radius, count):
    steps = sphere_offsets(radius)
    brute = sum(
        x * x + y * y + z * z < radius * radius for x in range(-6, 7) for y in range(-6, 7) for z in range(-6, 7)
    )
    assert len(steps) == count == brute


def test_centres_have_half_of_their_sphere_in_the_mask():
    shape = (9, 8, 7)
    places = grid(shape)
    spheres = make_spheres(places, shape, radius=2)
    steps = sphere_offsets(2)
    for voxel, place in enumerate(places):
        around = place + steps
        inside = ((around >= 0) & (around < shape)).all(axis=1)
        where = np.flatnonzero(spheres.centres == voxel)
        assert (len(where) == 1) == (inside.sum() >= 0.5 * len(steps))
        if len(where):
            members = spheres.members[where[0], : spheres.sizes[where[0]]]
            assert {tuple(places[m]) for m in members} == {tuple(p) for p in around[inside]}


def test_values_are_those_of_a_loop_over_spheres():
    shape = (6, 6, 5)
    places = grid(shape)[RNG.permutation(180)[:150]]
    spheres = make_spheres(places, shape, radius=2.5)
    patterns = RNG.standard_normal((60, 150))
    sets = RNG.permutation(60).reshape(2, 30)
    models = np.stack([correlation_distances(RNG.standard_normal((60, 9))[sets]) for _ in range(3)])
    found = searchlight(patterns, models, sets, spheres)
    for s in range(len(spheres.centres)):
        members = spheres.members[s, : spheres.sizes[s]]
        rdms = [pdist(patterns[rows][:, members], "correlation") for rows in sets]
        for m, model in enumerate(models):
            expected = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(rdms, model, strict=True)])
            assert found[m, s] == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("baseline", [0.0, 3.0], ids=["of the halves", "and of each voxel"])
def test_large_mean_responses_cost_no_digits(baseline):
    """Halves of a brain with other means: inside a half a sphere's mean holds nearly all of its power."""
    shape = (12, 5, 5)
    places = grid(shape)
    spheres = make_spheres(places, shape, radius=2.5)
    half = places[:, 0] >= 6
    patterns = RNG.standard_normal((30, len(places))) + np.where(half, 1300, 1000) + baseline * RNG.random(len(places))
    sets, model = np.arange(30)[None], correlation_distances(RNG.standard_normal((1, 30, 4)))[None]
    found = searchlight(patterns, model, sets, spheres)[0]
    n_checked = 0
    for s in range(len(spheres.centres)):
        members = spheres.members[s, : spheres.sizes[s]]
        if half[members].all() or not half[members].any():
            rdm = pdist(patterns[:, members], "correlation")
            assert found[s] == pytest.approx(np.corrcoef(rdm, model[0, 0])[0, 1], abs=2e-5)
            n_checked += 1
    assert n_checked > 100


@pytest.mark.usefixtures("rsatoolbox")
def test_values_are_those_of_rsatoolbox():
    from rsatoolbox.util.searchlight import get_searchlight_RDMs

    shape = (5, 5, 5)
    spheres = make_spheres(grid(shape), shape, radius=2, min_share=0.99)
    patterns = RNG.standard_normal((20, 125))
    neighbours = [spheres.members[s, : spheres.sizes[s]] for s in range(len(spheres.centres))]
    theirs = get_searchlight_RDMs(patterns, spheres.centres, neighbours, np.arange(20), "correlation", verbose=False)
    model = correlation_distances(RNG.standard_normal((20, 4))[None])
    expected = [np.corrcoef(row, model[0])[0, 1] for row in theirs.dissimilarities]
    assert searchlight(patterns, model[None], np.arange(20)[None], spheres)[0] == pytest.approx(expected, abs=2e-6)


def test_only_the_planted_sphere_lights_up():
    shape, radius = (15, 15, 15), 3
    places = grid(shape)
    latent = RNG.standard_normal((100, 6))
    patterns = RNG.standard_normal((100, len(places)))
    distance = np.linalg.norm(places - 7, axis=1)
    planted = distance < radius
    patterns[:, planted] += 2 * latent @ RNG.standard_normal((6, planted.sum()))
    spheres = make_spheres(places, shape, radius=radius)
    model = correlation_distances(latent[None])
    found = searchlight(patterns, model[None], np.arange(100)[None], spheres)[0]
    from_centre = distance[spheres.centres]
    assert from_centre[found.argmax()] < radius
    assert found[from_centre == 0].item() > 0.8
    apart = from_centre >= 2 * radius  # spheres that share no voxel with the planted one
    assert np.abs(found[apart].mean()) < 0.01
    assert found[apart].max() < 0.15


def test_a_batch_does_not_change_the_result(monkeypatch):
    shape = (6, 6, 6)
    spheres = make_spheres(grid(shape), shape, radius=2)
    patterns, sets = RNG.standard_normal((20, 216)), np.arange(20)[None]
    model = correlation_distances(RNG.standard_normal((1, 20, 4)))[None]
    whole = searchlight(patterns, model, sets, spheres)
    monkeypatch.setattr("voxelboard.benchmark.similarity.searchlight._CPU_BATCH_BYTES", 1)
    seen = []
    one_by_one = searchlight(patterns, model, sets, spheres, progress=lambda done, total: seen.append((done, total)))
    assert one_by_one == pytest.approx(whole, abs=1e-6)
    assert seen[-1] == (216, 216) or seen[-1][0] == seen[-1][1]


def test_a_mask_of_another_grid_is_refused():
    with pytest.raises(DataError, match="another grid"):
        make_spheres(grid((5, 5, 5)), (4, 5, 5))
    with pytest.raises(DataError, match="same place"):
        make_spheres(np.zeros((2, 3), dtype=int), (4, 5, 5))
    spheres = make_spheres(grid((5, 5, 5)), (5, 5, 5), radius=2)
    model = correlation_distances(RNG.standard_normal((1, 20, 4)))[None]
    with pytest.raises(DataError, match="spheres of a mask of 125"):
        searchlight(RNG.standard_normal((20, 124)), model, np.arange(20)[None], spheres)
    with pytest.raises(DataError, match="smaller radius"):
        make_spheres(grid((3, 3, 3)), (3, 3, 3), radius=6)


def test_images_that_look_the_same_to_a_sphere_are_refused():
    spheres = make_spheres(grid((5, 5, 5)), (5, 5, 5), radius=2)
    patterns = RNG.standard_normal((20, 125))
    patterns[3] = 0
    model = correlation_distances(RNG.standard_normal((1, 20, 4)))[None]
    with pytest.raises(InvalidNumbers, match="same response in all voxels"):
        searchlight(patterns, model, np.arange(20)[None], spheres)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_map():
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    spheres = make_spheres(grid((6, 6, 6)), (6, 6, 6), radius=2)
    patterns, sets = RNG.standard_normal((20, 216)), np.arange(20)[None]
    model = correlation_distances(RNG.standard_normal((1, 20, 4)))[None]
    cpu, gpu = (searchlight(patterns, model, sets, spheres, device=device) for device in ("cpu", "cuda"))
    assert gpu == pytest.approx(cpu, abs=1e-5)
