# SPDX-License-Identifier: Apache-2.0
"""Networks from pictures into caption space, compared with simulated brains whose content is known."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from voxelboard.benchmark.caption_tables import AnalysisStamp, read_analysis
from voxelboard.benchmark.models.image_nets import SIZES, NetSize
from voxelboard.benchmark.protocol import load_protocol
from voxelboard.benchmark.readers.simulated_captions import ROI_SHARES, CaptionSimulation, SimulatedCaptions
from voxelboard.benchmark.tasks.caption_networks import (
    EMBEDDING,
    NETWORKS,
    align,
    caption_space_readout,
    compare_networks,
    vision_places,
)

PROTOCOL = load_protocol("v1")


@pytest.fixture(scope="module")
def world():
    return SimulatedCaptions(CaptionSimulation(n_subjects=3, n_test=100, n_train=250, voxels_per_roi=32, ncsnr=2.0))


def test_the_latents_align_perfectly_with_a_brain_made_of_them(world):
    truth = world.signal("sim01", world.test_ids)[:, world.rois == "lateral"]
    found = {a.roi: a for a in align({("truth", "readout", 0): truth}, world, PROTOCOL)}
    assert found["lateral"].by_subject[0] > 0.9  # noise is small here
    assert found["lateral"].r > found["early"].r + 0.2
    assert len(found["lateral"].by_subject) == 3


def test_a_linear_readout_finds_a_linear_embedding_and_nothing_in_noise():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((300, 12))
    embedding = features @ rng.standard_normal((12, 5))
    read = caption_space_readout(features[:200], embedding[:200], features[200:], PROTOCOL)
    scaled = (embedding[200:] - embedding[:200].mean(axis=0)) / embedding[:200].std(axis=0)
    assert read == pytest.approx(scaled, abs=0.05)
    noise = caption_space_readout(
        rng.standard_normal((200, 12)), embedding[:200], rng.standard_normal((100, 12)), PROTOCOL
    )
    assert abs(np.corrcoef(noise.ravel(), scaled.ravel())[0, 1]) < 0.2


def test_a_vision_model_is_compared_as_it_is_and_read_out(world):
    def model(pixels):
        return {"layer 0": pixels.reshape(len(pixels), -1)[:, ::97].astype(np.float32)}

    embedding = world.latents["caption"]
    places = vision_places("toy", model, world, embedding, PROTOCOL)
    assert set(places) == {("toy", "layer 0", 0), ("toy, read out", "layer 0", 0)}
    assert places["toy, read out", "layer 0", 0].shape == (100, embedding.shape[1])


def test_networks_are_compared_layer_by_layer_and_timestep_by_timestep(world, tmp_path, monkeypatch):
    monkeypatch.setitem(SIZES, "tiny", NetSize(image_px=16, channels=(6, 8), pooled=(1,), n_timesteps=2))
    embedding = np.column_stack([world.latents["word"], world.latents["caption"]])
    found = compare_networks(world, embedding, PROTOCOL, tmp_path, n_epochs=2, n_draws=20)
    seen = {(a.network, a.layer, a.timestep, a.roi) for a in found.alignments}
    for network in NETWORKS:
        for layer in ("layer 0", "layer 1", "readout"):
            assert {(network, layer, time, roi) for time in (0, 1) for roi in world.scored_rois} <= seen
    assert found.r(EMBEDDING, "lateral") > found.r(EMBEDDING, "early")
    assert len(found.comparisons) == 6 * len(world.scored_rois)
    stamp = AnalysisStamp(
        "networks", "org/one", "public", 0, world.name, "1", "simulated", "v1", "0", world.subjects, 100, {}
    )
    found.save(tmp_path, stamp)
    tables = read_analysis(tmp_path / "networks.json")
    assert (tables.stamp, tables.alignments) == (stamp, found.alignments)
    assert (tables.differences, tables.comparisons) == (found.differences, found.comparisons)
    assert [len(one.held_out) for one in tables.losses] == [2, 2]
    for picture in ("learning_curves.svg", "profiles.svg"):
        assert ET.parse(tmp_path / picture).getroot().tag.endswith("svg")
    again = compare_networks(
        world, embedding, PROTOCOL, tmp_path, n_epochs=2, n_draws=20
    )  # resumes: nothing left to train
    assert again.alignments == found.alignments


def test_every_seed_has_its_networks_and_differences_their_intervals(world, tmp_path, monkeypatch):
    monkeypatch.setitem(SIZES, "tiny", NetSize(image_px=16, channels=(4,), pooled=(), n_timesteps=1))
    embedding = np.column_stack([world.latents["word"], world.latents["caption"]])
    found = compare_networks(world, embedding, PROTOCOL, tmp_path, n_epochs=1, seeds=(0, 1), n_draws=50)
    assert set(found.curves) == {(name, seed) for name in NETWORKS[:2] for seed in (0, 1)}
    assert {a.seed for a in found.alignments if a.network == "untrained"} == {0, 1}
    assert len(found.differences) == 6 * len(world.scored_rois)
    one = found.difference("caption-trained", EMBEDDING, "lateral")
    assert one.difference == pytest.approx(np.mean(one.by_seed))
    assert one.low < one.difference < one.high < 0  # one epoch of four channels is far below what the brain is made of
    assert found.difference("category-trained", EMBEDDING, "lateral").high < 0


@pytest.mark.slow
def test_a_caption_trained_network_is_nearer_to_the_brain_than_the_others(tmp_path):
    """On held-out pictures, in the two regions half of whose variance only whole captions say; the shipped small network."""
    world = SimulatedCaptions(CaptionSimulation(n_subjects=3, n_test=200, n_train=1200, voxels_per_roi=32, ncsnr=2.0))
    embedding = np.column_stack([world.latents["category"], world.latents["word"], world.latents["caption"]])
    found = compare_networks(world, embedding, PROTOCOL, tmp_path, n_epochs=6, n_draws=200)
    for roi in ("lateral", "parietal"):
        assert ROI_SHARES[roi][3] == 0.5
        assert found.difference("caption-trained", "category-trained", roi).low > 0
    # in the parietal region the picture itself has three times the share, and an untrained network is as near
    assert found.difference("caption-trained", "untrained", "lateral").low > 0
    curve = found.curves["caption-trained", 0].held_out_loss
    assert curve[-1] < curve[0] - 0.03
