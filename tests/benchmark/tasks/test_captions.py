# SPDX-License-Identifier: Apache-2.0
"""The task captions on simulated brains whose content is known: what must be seen is seen, what is planted is found."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.spatial
import torch

from voxelboard.benchmark.environment import Stopwatch
from voxelboard.benchmark.errors import DataError, InvalidNumbers, UserError
from voxelboard.benchmark.evaluate import evaluate
from voxelboard.benchmark.features.caption_embeddings import ImageEmbeddings, embed_images
from voxelboard.benchmark.features.store import FeatureStore
from voxelboard.benchmark.models.planted_captions import PlantedCaptionModel
from voxelboard.benchmark.models.simulated import planted_model
from voxelboard.benchmark.protocol import load_protocol
from voxelboard.benchmark.readers.base import facts_of
from voxelboard.benchmark.readers.captions_data import check_image_responses
from voxelboard.benchmark.readers.registry import open_dataset
from voxelboard.benchmark.readers.simulated_captions import ROI_SHARES, CaptionSimulation, SimulatedCaptions
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.statistics.scores import unit_scores
from voxelboard.benchmark.stimuli.captions import CaptionedImages
from voxelboard.benchmark.tasks import load_task
from voxelboard.benchmark.tasks.base import RunContext
from voxelboard.benchmark.tasks.caption_encoding import encode_captions, fit_layer, prepare_subject
from voxelboard.benchmark.tasks.caption_geometry import model_rsa, rsa_estimates, shared_geometry, subject_geometry
from voxelboard.benchmark.tasks.caption_scores import (
    encoding_statistics,
    held_out,
    noise_brain_r,
    retrieval_estimates,
    voxel_ceilings,
)

PROTOCOL = load_protocol("v1")
DATA = "simulated-captions:tiny"
ROIS = ("early", "ventral", "lateral", "parietal")
ROWS = ("constant", "confounds", "random-word-vectors", "static", "oracle", "context-noise")


@pytest.fixture(scope="module")
def data():
    return open_dataset(DATA, "captions")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return FeatureStore(tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELBOARD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def records(cache):
    return evaluate("planted-q0.9", "captions", DATA, ["sim01", "sim02"])


def facet(record, axis, value, roi=None):
    return next(f.scores for f in record.facets if (f.axis, f.value, f.roi) == (axis, value, roi))


def mean(records, axis, value, roi, score):
    return np.mean([facet(r, axis, value, roi)[score].estimate for r in records])


def test_a_cell_has_its_headline_ceiling_floor_twins_and_what_they_rest_on(records):
    for record in records:
        assert {"unique", "normalised", "floor", "ceiling", "twin_unique", "rsa", "rsa_unique", "raw_r"} <= set(
            record.scores
        )
        assert record.dataset.row_unit == "image"
        assert (record.dataset.n_train, record.dataset.n_test, record.dataset.n_repeats) == (120, 60, 3)
        assert set(record.by_roi) == set(record.layers) == set(ROIS)
        assert 0.8 < record.scores["ceiling"].estimate < 1
        assert abs(record.checks.noise_brain) < 0.02


def test_whole_captions_beat_every_control_where_they_are_planted(records):
    """Lateral and parietal regions carry what only whole captions say."""
    for roi in ("lateral", "parietal"):
        for control in PROTOCOL.captions.controls:
            assert mean(records, "control", control, roi, "caption_beyond") > 0.05, (roi, control)
        alone = mean(records, "control", "whole caption", roi, "normalised")
        assert alone > mean(records, "control", "word average", roi, "normalised") + 0.1


def test_whole_captions_tie_with_single_words_where_only_words_are_planted(records):
    for control in ("word average", "scrambled"):
        assert abs(mean(records, "control", control, "ventral", "caption_beyond")) < 0.12


def test_the_floor_says_what_the_picture_says(records):
    """The early region is the picture and its categories: nothing is left for a caption there."""
    for record in records:
        assert record.by_roi["early"]["floor"].estimate > 0.75
        assert record.by_roi["early"]["unique"].estimate < 0.1
        assert record.by_roi["lateral"]["unique"].estimate > 0.25


def test_an_untrained_twin_has_next_to_nothing(records):
    for record in records:
        assert record.scores["unique"].estimate > record.scores["twin_unique"].estimate + 0.15


def test_encoders_transfer_between_subjects_as_far_as_their_tuning_is_shared(records):
    """60 % of the tuning is shared: the correlation with another brain is lower than within, and far from 0."""
    for record in records:
        across = facet(record, "analysis", "transfer to other subjects")["raw_r"].estimate
        assert 0.4 * record.scores["raw_r"].estimate < across < record.scores["raw_r"].estimate


def test_one_fraction_for_all_voxels_is_no_better_than_one_for_each(records):
    for record in records:
        each = facet(record, "analysis", "fractional ridge, fraction per voxel")["normalised"].estimate
        one = facet(record, "analysis", "fractional ridge, one fraction")["normalised"].estimate
        assert one < each + 0.02
        assert each == pytest.approx(record.scores["normalised"].estimate, abs=0.08)


def test_captions_are_retrieved_from_the_brain(records):
    for record in records:
        found = facet(record, "analysis", "retrieval")
        assert found["retrieval"].low > 0.5
        assert found["top5"].estimate > 5 / 60 * 3
    assert 0 < facet(records[0], "analysis", "caption ceiling")["caption_r"].estimate < 1


def test_the_same_run_gives_the_same_record(records, cache):
    again = evaluate("planted-q0.9", "captions", DATA, ["sim02"])[0]
    assert again.digest == records[1].digest


def test_a_better_model_is_ranked_above_a_worse_one(records):
    worse = evaluate("planted-q0.3", "captions", DATA, ["sim01"])[0]
    assert worse.scores["unique"].estimate < records[0].scores["unique"].estimate - 0.1
    assert worse.scores["unique"].estimate > -0.05


@pytest.mark.parametrize("row", ROWS)
def test_every_mandatory_row_can_be_scored(row, data):
    rows = {r.label: r for r in load_task("captions").mandatory_rows(facts_of(data))}
    assert set(rows) == {f"voxelboard/{name}" for name in ROWS}
    record = evaluate(rows[f"voxelboard/{row}"], "captions", DATA, ["sim01"])[0]
    unique = record.scores["unique"].estimate
    if row in ("constant", "confounds"):
        assert abs(unique) < 0.06
    if row == "oracle":
        assert record.scores["normalised"].estimate > 0.6
    assert not any(f.axis == "control" for f in record.facets)


def test_places_on_a_surface_reach_the_record_and_change_no_score(data, store, monkeypatch):
    task = load_task("captions")
    row = next(r for r in task.mandatory_rows(facts_of(data)) if r.label == "voxelboard/random-word-vectors")
    context = RunContext(Settings(protocol=PROTOCOL), store, torch.device("cpu"), Stopwatch())
    plain = next(task.measure(row, data, ["sim01"], context)).result
    places = np.arange(data.n_voxels("sim01"), dtype=np.int32) - 1
    real = type(data).responses
    monkeypatch.setattr(type(data), "responses", lambda self, s: replace(real(self, s), vertices=places))
    drawn = next(task.measure(row, data, ["sim01"], context)).result
    assert drawn.scores == plain.scores
    assert "surface" not in plain.arrays
    assert str(drawn.arrays["surface"]) == "fsaverage5"
    assert np.array_equal(drawn.arrays["voxel_vertex"], places)
    chosen = {roi: float(drawn.layers[roi].chosen[0]) for roi in ROIS}
    layers = drawn.arrays["voxel_layer"]
    for roi, layer in zip(drawn.arrays["voxel_roi"], layers, strict=True):
        assert layer == chosen[roi] if roi in chosen else np.isnan(layer)


def prepared(data, subject="sim01"):
    responses = data.responses(subject)
    return prepare_subject(responses, data.images, PROTOCOL, "cpu", None)


def test_predictions_that_are_the_signal_have_a_score_of_one(data):
    """B1: the noise-free responses score 1, pooled over regions and subjects."""
    scores = []
    for subject in data.subjects:
        ready = prepared(data, subject)
        test = held_out(ready, ROIS)
        clean = data.signal(subject, data.test_ids) * data.ncsnr(subject)
        stats = encoding_statistics({"raw": clean.astype(np.float32)}, test, PROTOCOL)["raw"]
        scores.append(unit_scores(stats).values)
    assert np.mean(scores) == pytest.approx(1.0, abs=0.03)


def test_the_planted_content_of_each_region_is_recovered(data):
    """With the true latents of a space as features, that space explains its share of the region's signal."""
    ready = prepared(data)
    test = held_out(ready, ROIS)
    for number, space in enumerate(("low", "category", "word", "caption")):
        table = data.latents[space]
        predicted = fit_layer(table[ready.train_rows], table[ready.test_rows], ready, PROTOCOL, "cpu")
        stats = encoding_statistics({"raw": predicted}, test, PROTOCOL)["raw"]
        for roi, h in zip(ROIS, unit_scores(stats).values, strict=True):
            share = ROI_SHARES[roi][number]
            if share == 0:
                assert abs(h) < 0.2
            elif share >= 0.4:
                assert np.sqrt(share) - 0.3 < h < np.sqrt(share) + 0.15  # 120 training images do not reach it


def test_the_layer_of_a_region_is_chosen_on_training_images_alone(data, store):
    model = PlantedCaptionModel(planted_model("planted-q0.9-d48-l4-s1"))
    embeddings = embed_images(model, data.images.captions, store)
    ready = prepared(data)
    first = encode_captions(embeddings, ready, ROIS, PROTOCOL, "cpu")
    poisoned = replace(ready, test=np.random.default_rng(0).permutation(ready.test, axis=1) * 7)
    second = encode_captions(embeddings, poisoned, ROIS, PROTOCOL, "cpu")
    assert first.chosen == second.chosen
    assert first.overall == second.overall
    assert all(np.array_equal(first.predictions[row], second.predictions[row]) for row in first.predictions)


def test_a_leak_of_test_images_is_caught_by_the_noise_brain(data):
    ready = prepared(data)
    leak = np.concatenate([np.zeros((len(data.images.ids), 4)), np.zeros((len(data.images.ids), 0))], axis=1)
    encoding = encode_captions(
        ImageEmbeddings([np.random.default_rng(0).standard_normal((1, *leak.shape)).astype(np.float32)]),
        ready,
        ROIS,
        PROTOCOL,
        "cpu",
    )
    encoding.predictions["raw"] = ready.test.mean(axis=0)
    with pytest.raises(InvalidNumbers, match="brain of noise"):
        noise_brain_r(encoding, ready, PROTOCOL)


def test_a_noise_free_linear_brain_is_decoded_without_a_mistake_and_a_permuted_one_by_chance():
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((60, 12))
    found = retrieval_estimates(truth, truth, PROTOCOL)
    assert found["retrieval"].estimate == 1.0
    assert found["top1"].estimate == 1.0
    permuted = retrieval_estimates(rng.permutation(truth), truth, PROTOCOL)
    assert abs(permuted["retrieval"].estimate) < 4 * permuted["retrieval"].standard_error
    constant = retrieval_estimates(np.zeros_like(truth), truth, PROTOCOL)
    assert constant["retrieval"].estimate == pytest.approx(0.0)


def test_a_planted_contrast_is_recovered_in_the_brain(data, store):
    """Predicted food minus people against the noise-free responses to pictures of food and of people."""
    from voxelboard.benchmark.environment import Stopwatch
    from voxelboard.benchmark.settings import Settings
    from voxelboard.benchmark.stimuli.scenes import KINDS
    from voxelboard.benchmark.tasks.base import RunContext
    from voxelboard.benchmark.tasks.caption_controls import contrast_maps

    model = PlantedCaptionModel(planted_model("planted-q0.9-d48-l4-s1"))
    context = RunContext(Settings(PROTOCOL), store, "cpu", Stopwatch())
    ready = prepared(data)
    layer = embed_images(model, data.images.captions, store).layer(1)
    maps = contrast_maps(model, layer, 1, ready, context)
    groups = np.array([[any(KINDS[k][0] == g for k in s.kinds) for g in ("people", "food")] for s in data.scenes])
    everyone = data.signal("sim01", data.images.ids) * data.ncsnr("sim01")
    only = [everyone[groups[:, i] & ~groups[:, 1 - i]].mean(axis=0) for i in (0, 1)]
    ventral = ready.responses.rois == "ventral"
    assert np.corrcoef(maps["contrast__people-food"][ventral], (only[0] - only[1])[ventral])[0, 1] > 0.5


def small(**changes):
    return SimulatedCaptions(CaptionSimulation(n_subjects=3, n_test=60, n_train=120, voxels_per_roi=24, **changes))


def test_the_planted_noise_ceiling_is_found():
    """ncsnr from the repeats is the planted one (NSD's definition), and the null region has none."""
    from voxelboard.benchmark.statistics.ceilings import ncsnr

    world = small(ncsnr=1.0)
    responses = world.responses("sim01")
    _, signal = ncsnr(responses.test.transpose(1, 0, 2))
    planted = world.ncsnr("sim01") ** 2 / (1 + world.ncsnr("sim01") ** 2)
    for roi in ROI_SHARES:
        own = responses.rois == roi
        assert signal[own].mean() == pytest.approx(planted[own].mean(), abs=0.06)


def test_the_ceiling_of_each_voxel_is_its_planted_one_or_the_published(data):
    world = SimulatedCaptions(CaptionSimulation(n_subjects=1, n_test=400, n_train=60, voxels_per_roi=64, ncsnr=1.0))
    responses = world.responses("sim01")
    planted = world.ncsnr("sim01")
    truth = np.sqrt(planted**2 / (planted**2 + 1 / 3))
    alive = planted > 0
    found = voxel_ceilings(responses)
    assert np.abs(found - truth)[alive].mean() < 0.03  # standard error of one voxel from 400 images
    # the published definition clips: half of the voxels of noise have what noise of 400 images leaves, .33
    assert found[~alive].mean() == pytest.approx(0.165, abs=0.05)
    given = replace(responses, ncsnr=planted.astype(np.float32))
    assert voxel_ceilings(given) == pytest.approx(truth, abs=1e-6)


def test_the_ceiling_of_an_rdm_is_near_the_planted_one():
    """Own RDM against the mean of the others, as published; the true geometry scores 1 once it is corrected."""
    world = small(ncsnr=2.0)
    shared = shared_geometry(world, PROTOCOL.captions)
    own = subject_geometry(world.responses("sim01"), world.images, ROIS, PROTOCOL)
    truth = world.signal("sim02", world.images.ids)[:, world.rois == "lateral"].astype(np.float32)
    found = model_rsa(ImageEmbeddings([truth[None]]), own, shared)
    # 60 % of tuning is shared: RDMs of two subjects correlate, but less than a subject with itself
    assert 0.5 < unit_scores(found.raw).values[ROIS.index("lateral")] < 1.3


def test_the_published_ceiling_and_correction_of_an_rdm(data):
    """r of a subject's noisy RDM with the mean of the others', and the model's r over it, against plain numpy."""
    shared = shared_geometry(data, PROTOCOL.captions)
    own = subject_geometry(data.responses("sim01"), data.images, ROIS, PROTOCOL)
    table = data.latents["caption"].astype(np.float32)
    estimates = rsa_estimates(model_rsa(ImageEmbeddings([table[None]]), own, shared), ROIS, PROTOCOL)
    rows = data.images.rows(data.test_ids).reshape(-1, PROTOCOL.captions.rdm_block_images)
    lateral = {
        subject: [
            scipy.spatial.distance.pdist(block, "correlation")
            for block in data.responses(subject).test_mean[:, data.rois == "lateral"].reshape(*rows.shape, -1)
        ]
        for subject in data.subjects
    }
    models = [scipy.spatial.distance.pdist(table[block], "correlation") for block in rows]

    def agree(others):
        return np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(others, lateral["sim01"], strict=True)])

    ceiling, corrected = estimates["rsa_ceiling"]["lateral"], estimates["rsa_corrected"]["lateral"]
    assert ceiling.estimate == pytest.approx(agree(lateral["sim02"]), abs=1e-6)
    assert corrected.estimate == pytest.approx(agree(models) / agree(lateral["sim02"]), abs=1e-6)
    assert corrected.low < corrected.estimate < corrected.high


def test_few_test_images_have_no_corrected_rsa_and_say_why():
    world = SimulatedCaptions(CaptionSimulation(n_subjects=2, n_test=35, n_train=110, voxels_per_roi=8, ncsnr=2.0))
    own = subject_geometry(world.responses("sim01"), world.images, ROIS, PROTOCOL)
    table = world.latents["caption"].astype(np.float32)
    rsa = model_rsa(ImageEmbeddings([table[None]]), own, shared_geometry(world, PROTOCOL.captions))
    estimates = rsa_estimates(rsa, ROIS, PROTOCOL)
    for name in ("rsa", "rsa_unique", "rsa_floor", "rsa_ceiling", "rsa_corrected"):
        assert estimates[name][None].estimate is None, name
    assert "fewer than 40 test images" in estimates["rsa"][None].reason


def test_an_embedding_used_as_brain_gives_an_rsa_of_one(data):
    responses = data.responses("sim01")
    geometry = subject_geometry(responses, data.images, ROIS, PROTOCOL)
    patterns = np.zeros((data.images.n_images, int((responses.rois == "ventral").sum())), dtype=np.float32)
    own = responses.rois == "ventral"
    patterns[data.images.rows(responses.train_ids)] = responses.train[:, own]
    patterns[data.images.rows(responses.test_ids)] = responses.test_mean[:, own]
    found = model_rsa(ImageEmbeddings([patterns[None]]), geometry, shared_geometry(data, PROTOCOL.captions))
    assert found.by_set[ROIS.index("ventral")] == pytest.approx(1.0, abs=1e-6)


def test_sets_of_images_are_the_same_for_every_model_and_subjects_have_their_own(data):
    once, again = (subject_geometry(data.responses("sim01"), data.images, ROIS, PROTOCOL) for _ in range(2))
    assert np.array_equal(once.sets.ids, again.sets.ids)
    other = subject_geometry(data.responses("sim02"), data.images, ROIS, PROTOCOL)
    assert not np.intersect1d(once.sets.ids, other.sets.ids).size  # private training images


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda r: {"train": r.train[:, :-1]}, "shapes"),
        (lambda r: {"train_ids": np.r_[r.train_ids[:-1], r.test_ids[0]]}, "training and test"),
        (lambda r: {"train_ids": np.r_[r.train_ids[:-1], 10**6]}, "captioned"),
        (lambda r: {"train": np.where(np.arange(r.n_voxels) == 3, 0, r.train)}, "1 voxels are constant .* first is 3"),
        (lambda r: {"test_ids": r.test_ids[:20], "test": r.test[:, :20]}, "20 test images"),
    ],
)
def test_responses_that_cannot_be_scored_are_refused(data, change, match):
    responses = data.responses("sim01")
    with pytest.raises(DataError, match=match):
        check_image_responses(replace(responses, **change(responses)), data.images)


def test_a_planted_model_reads_simulated_captions_only(data):
    with pytest.raises(UserError, match="captions here"):
        PlantedCaptionModel(planted_model("planted-q0.9-d48-l4-s1")).states(type("S", (), {"name": "x"})(), None)
    with pytest.raises(UserError, match="of the task captions"):
        evaluate("planted-q0.9", "narrative", DATA)


def test_embeddings_do_not_depend_on_the_order_of_captions_or_images(store):
    model = PlantedCaptionModel(planted_model("planted-q0.9-d48-l4-s1"))
    images = [("A red dog chases a cat.", "Two birds are above a box."), ("A man holds a cake.",)]
    first = embed_images(model, images, store)
    second = embed_images(model, [images[1], images[0][::-1]], store)
    assert second.layer(2)[[1, 0]] == pytest.approx(first.layer(2), abs=1e-6)


def test_a_preset_and_a_seed_are_other_data():
    assert open_dataset("simulated-captions:tiny:1").name == "simulated-captions:tiny:1"
    assert isinstance(open_dataset("simulated-captions:tiny:1").images, CaptionedImages)
    with pytest.raises(UserError, match="unknown preset"):
        open_dataset("simulated-captions:huge")
    with pytest.raises(UserError, match="not a seed"):
        open_dataset("simulated-captions:tiny:x")


@pytest.mark.parametrize("row", ["confounds", "oracle", "static"])
def test_a_row_carries_the_revision_that_a_plan_expects(row, data):
    """A runner refuses a record of another revision than it asked for."""
    from voxelboard.benchmark.revision import resolved_revision

    rows = {r.label: r for r in load_task("captions").mandatory_rows(facts_of(data))}
    record = evaluate(rows[f"voxelboard/{row}"], "captions", DATA, ["sim02"])[0]
    assert record.model.revision == resolved_revision(rows[f"voxelboard/{row}"])


def test_scrambling_is_told_as_the_correlation_of_rdms(store):
    """``rdm_r`` against scipy, set by set; a rescaled copy of the captions has 1."""
    from scipy.spatial.distance import pdist

    from voxelboard.benchmark.environment import Stopwatch
    from voxelboard.benchmark.settings import Settings
    from voxelboard.benchmark.tasks.base import RunContext
    from voxelboard.benchmark.tasks.caption_controls import Controls, control_facets

    world = SimulatedCaptions(CaptionSimulation(n_subjects=1, n_test=60, n_train=200, voxels_per_roi=16))
    ready = prepare_subject(world.responses("sim01"), world.images, PROTOCOL, "cpu", None)
    geometry = subject_geometry(ready.responses, world.images, ROIS, PROTOCOL)
    captions = np.column_stack([world.latents["word"], world.latents["caption"]])
    scrambled = captions + 0.3 * np.random.default_rng(0).standard_normal(captions.shape)
    tables = {"rescaled": 3 * captions, "scrambled": scrambled}
    context = RunContext(Settings(PROTOCOL), store, "cpu", Stopwatch())
    found = control_facets(Controls({}, tables), captions, 0, ready, held_out(ready, ROIS), geometry, context)
    expected = [
        np.corrcoef(pdist(captions[rows], "correlation"), pdist(scrambled[rows], "correlation"))[0, 1]
        for rows in geometry.set_rows
    ]
    assert len(expected) == 2
    by_value = {(f.value, f.roi): f.scores for f in found}
    for roi in (None, *ROIS):
        assert by_value["rescaled", roi]["rdm_r"].estimate == pytest.approx(1.0, abs=1e-9)
        assert by_value["scrambled", roi]["rdm_r"].estimate == pytest.approx(np.mean(expected), abs=1e-9)
    assert 0.2 < np.mean(expected) < 0.9
