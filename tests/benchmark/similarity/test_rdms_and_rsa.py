# SPDX-License-Identifier: Apache-2.0
"""RDMs and RSA against scipy and rsatoolbox, closed forms and planted geometries."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import false_discovery_control, ttest_1samp, ttest_rel

from voxelboard.benchmark.errors import DataError, InvalidNumbers
from voxelboard.benchmark.similarity.comparisons import paired_comparisons, transfer_table
from voxelboard.benchmark.similarity.rdms import (
    correlation_distances,
    draw_image_sets,
    load_image_sets,
    rdm_correlations,
    residual_rdms,
)
from voxelboard.benchmark.similarity.rsa import (
    best_of_layers,
    crossvalidated_roi_rdms,
    group_test,
    mean_of_others,
    rdm_statistics,
    roi_rdms,
    set_correlations,
)
from voxelboard.benchmark.statistics.scores import unit_scores

RNG = np.random.default_rng(0)


def test_distances_are_those_of_scipy_set_by_set():
    patterns = RNG.standard_normal((3, 40, 25))
    expected = np.stack([pdist(x, "correlation") for x in patterns])
    assert correlation_distances(patterns) == pytest.approx(expected, abs=1e-13)


def test_distances_are_those_of_rsatoolbox(rsatoolbox):
    patterns = RNG.standard_normal((30, 20))
    theirs = rsatoolbox.rdm.calc_rdm(rsatoolbox.data.Dataset(patterns), method="correlation").dissimilarities[0]
    assert correlation_distances(patterns) == pytest.approx(theirs, abs=1e-12)


def test_a_constant_or_infinite_pattern_is_refused_with_its_image():
    patterns = RNG.standard_normal((2, 10, 5))
    patterns[1, 7] = 3.0
    with pytest.raises(InvalidNumbers, match="image 7"):
        correlation_distances(patterns)
    patterns[0, 0, 0] = np.nan
    with pytest.raises(InvalidNumbers, match="NaN"):
        correlation_distances(patterns)


def test_sets_are_disjoint_whole_and_the_same_whatever_the_order_of_images():
    ids = RNG.permutation(1000)[:731]
    sets = draw_image_sets(ids, "subj01", seed=3)
    assert sets.ids.shape == (7, 100)
    assert len(np.unique(sets.ids)) == 700
    assert set(sets.ids.ravel()) <= set(ids)
    assert np.array_equal(sets.ids, draw_image_sets(np.sort(ids), "subj01", seed=3).ids)
    assert not np.array_equal(sets.ids, draw_image_sets(ids, "subj02", seed=3).ids)
    assert np.array_equal(ids[sets.rows(ids)], sets.ids)


def test_sets_are_saved_once_and_read_back(tmp_path):
    sets = draw_image_sets(range(250), "subj01", seed=0)
    sets.save(tmp_path / "sets.json")
    again = load_image_sets(tmp_path / "sets.json")
    assert np.array_equal(again.ids, sets.ids)
    assert (again.subject, again.seed) == ("subj01", 0)
    (tmp_path / "sets.json").write_text('{"format": 1, "subject": "s", "seed": 0, "sets": [[1, 2], [2, 3]]}')
    with pytest.raises(DataError, match="two sets"):
        load_image_sets(tmp_path / "sets.json")
    with pytest.raises(DataError, match="not there"):
        sets.rows(range(1, 200))


def test_fewer_than_100_images_are_refused():
    with pytest.raises(DataError, match="99 images, fewer than the 100"):
        draw_image_sets(range(99), "subj01", seed=0)
    with pytest.raises(DataError, match="listed twice"):
        draw_image_sets([*range(120), 5], "subj01", seed=0)


def test_an_embedding_used_as_brain_gives_an_rsa_of_one():
    embedding = RNG.standard_normal((300, 32))
    sets = draw_image_sets(range(300), "s", seed=0).ids
    model = correlation_distances(embedding[sets])
    brain = roi_rdms(embedding, np.repeat(["all"], 32), ["all"], sets)
    assert set_correlations(model, brain) == pytest.approx(1.0, abs=1e-12)
    unrelated = correlation_distances(RNG.standard_normal((300, 32))[sets])
    assert abs(set_correlations(unrelated, brain).mean()) < 0.05


def test_the_noise_corrected_score_of_the_true_geometry_is_one_and_half_of_it_half():
    """Planted: subjects share a geometry, each repeat has noise of its own that is as strong as the signal."""
    n, n_voxels, n_repeats = 240, 150, 3
    signal = RNG.standard_normal((n, 12))
    other = RNG.standard_normal((n, 12))
    sets = np.arange(n).reshape(8, 30)
    rdms = {}
    for subject in range(6):
        clean = signal @ RNG.standard_normal((12, n_voxels)) / np.sqrt(12)
        repeats = clean + RNG.standard_normal((n_repeats, n, n_voxels))
        rdms[f"s{subject}"] = crossvalidated_roi_rdms(repeats, np.repeat(["r"], n_voxels), ["r"], sets)
    truth = np.stack([pdist(signal[rows], "sqeuclidean") for rows in sets])
    null = np.stack([pdist(other[rows], "sqeuclidean") for rows in sets])
    # equal power of truth and an unrelated geometry: correlation 1/sqrt(2) with the truth
    mixed = truth / truth.std() + null / null.std()

    def score(model):
        return np.mean([unit_scores(rdm_statistics(model, rdms[s], mean_of_others(rdms, s))).values for s in rdms])

    assert score(truth) == pytest.approx(1.0, abs=0.03)
    assert score(mixed) == pytest.approx(np.sqrt(0.5), abs=0.04)
    assert abs(score(null)) < 0.04


def test_a_subject_alone_has_no_ceiling_from_others():
    brain = roi_rdms(RNG.standard_normal((100, 5)), np.repeat(["r"], 5), ["r"], np.arange(100)[None])
    with pytest.raises(DataError, match="alone"):
        mean_of_others({"s": brain}, "s")


def test_regions_without_voxels_are_refused():
    with pytest.raises(DataError, match="region 'FFA' has 0 voxels"):
        roi_rdms(RNG.standard_normal((100, 5)), np.repeat(["r"], 5), ["FFA"], np.arange(100)[None])


def test_residual_rdms_say_nothing_of_the_floor():
    floor = RNG.standard_normal((2, 3, 190))
    model = RNG.standard_normal((3, 190)) + 2 * floor[0] - floor[1]
    left = residual_rdms(model, floor)
    for one in floor:
        assert rdm_correlations(left, one) == pytest.approx(0.0, abs=1e-10)
    assert residual_rdms(floor[0] * 3 + 1, floor) == pytest.approx(0.0, abs=1e-9)


def test_the_layer_is_chosen_on_the_sets_that_are_named_only():
    sets = np.arange(200).reshape(2, 100)
    brain = roi_rdms(RNG.standard_normal((200, 8)), np.repeat(["r"], 8), ["r"], sets)
    good = brain.rdms[0]
    noise = correlation_distances(RNG.standard_normal((200, 8))[sets])
    layers = np.stack([np.stack([good[0], noise[1]]), np.stack([noise[0], good[1]])])
    assert best_of_layers(layers, brain, np.array([True, False])).tolist() == [0]
    assert best_of_layers(layers, brain, np.array([False, True])).tolist() == [1]


def test_group_tests_are_those_of_scipy():
    values = RNG.standard_normal((8, 5)) + 0.5
    found, expected = group_test(values), ttest_1samp(values, 0)
    assert found.t == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(expected.pvalue)
    assert group_test(np.zeros((8, 1))).p == pytest.approx(1.0)


def test_comparisons_of_models_are_paired_and_corrected_over_all_of_them():
    subject = RNG.standard_normal((8, 1)) * 3  # far larger than the difference: an unpaired test sees nothing
    scores = {
        name: subject + shift + 0.1 * RNG.standard_normal((8, 2))
        for name, shift in (("a", 0.5), ("b", 0.0), ("c", 0.0))
    }
    found = paired_comparisons(scores, ["early", "ventral"])
    assert [(x.first, x.second, x.roi) for x in found][:3] == [
        ("a", "b", "early"),
        ("a", "b", "ventral"),
        ("a", "c", "early"),
    ]
    expected = np.array(
        [ttest_rel(scores[x.first], scores[x.second]).pvalue[["early", "ventral"].index(x.roi)] for x in found]
    )
    assert [x.p for x in found] == pytest.approx(expected)
    assert [x.adjusted for x in found] == pytest.approx(false_discovery_control(expected))
    assert all(x.adjusted < 0.01 for x in found if x.first == "a")
    with pytest.raises(DataError, match="two models"):
        paired_comparisons({"a": scores["a"]}, ["early", "ventral"])


def test_transfer_equals_within_for_shared_tuning_and_is_nothing_for_independent_tuning():
    latent = RNG.standard_normal((400, 10))
    shared = RNG.standard_normal((10, 40))
    own = [RNG.standard_normal((10, 40)) for _ in range(3)]
    noise = lambda: 0.5 * RNG.standard_normal((400, 40))  # noqa: E731
    table, within = transfer_table([latent @ shared] * 3, [latent @ shared + noise() for _ in range(3)])
    assert table == pytest.approx(np.tile(within, (3, 1)), abs=1e-12)
    assert within.min() > 0.9
    table, within = transfer_table([latent @ w for w in own], [latent @ w + noise() for w in own])
    assert within.min() > 0.9
    assert np.abs(table[~np.eye(3, dtype=bool)]).max() < 0.2  # mean over 40 voxels of r between 10-d random tunings
    with pytest.raises(DataError, match="correspondence"):
        transfer_table([latent @ shared], [latent])
