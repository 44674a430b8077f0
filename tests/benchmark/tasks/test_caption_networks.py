# SPDX-License-Identifier: Apache-2.0
"""Networks from pictures into caption space, compared with simulated brains whose content is known."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from voxelboard.benchmark.models import image_training
from voxelboard.benchmark.models.image_nets import SIZES, NetSize
from voxelboard.benchmark.models.image_training import PRESETS
from voxelboard.benchmark.protocol import load_protocol
from voxelboard.benchmark.readers.simulated_captions import CaptionSimulation, SimulatedCaptions
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
    found = compare_networks(world, embedding, PROTOCOL, tmp_path, n_epochs=2)
    seen = {(a.network, a.layer, a.timestep, a.roi) for a in found.alignments}
    for network in NETWORKS:
        for layer in ("layer 0", "layer 1", "readout"):
            assert {(network, layer, time, roi) for time in (0, 1) for roi in world.scored_rois} <= seen
    assert found.r(EMBEDDING, "lateral") > found.r(EMBEDDING, "early")
    assert len(found.comparisons) == 6 * len(world.scored_rois)
    found.save(tmp_path)
    content = json.loads((tmp_path / "networks.json").read_text())
    assert len(content["alignments"]) == len(found.alignments)
    for picture in ("learning_curves.svg", "profiles.svg"):
        assert ET.parse(tmp_path / picture).getroot().tag.endswith("svg")
    again = compare_networks(world, embedding, PROTOCOL, tmp_path, n_epochs=2)  # resumes: nothing left to train
    assert again.alignments == found.alignments


@pytest.mark.slow
def test_a_caption_trained_network_is_nearer_to_whole_captions_than_the_others(tmp_path, monkeypatch):
    """On held-out pictures, in the region whose content only whole captions say; ten epochs of a very small network."""
    world = SimulatedCaptions(CaptionSimulation(n_subjects=3, n_test=200, n_train=300, voxels_per_roi=32, ncsnr=2.0))
    size = NetSize(image_px=16, channels=(24, 48), pooled=(1,), n_timesteps=2)
    monkeypatch.setitem(SIZES, "tiny", size)
    plan = replace(PRESETS["tiny"], learning_rate=5e-3, batch=16)
    monkeypatch.setattr(image_training, "PRESETS", {**PRESETS, "tiny": plan})
    embedding = np.column_stack([world.latents["word"], world.latents["caption"]])
    found = compare_networks(world, embedding, PROTOCOL, tmp_path, n_epochs=10)
    caption, category, untrained = (found.r(network, "lateral") for network in NETWORKS)
    assert caption > category + 0.01
    assert caption > untrained + 0.005
    curve = found.curves["caption-trained"].held_out_loss
    assert curve[-1] < curve[0] - 0.15
