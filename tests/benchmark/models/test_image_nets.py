# SPDX-License-Identifier: Apache-2.0
"""The recurrent network: its connections, its training, its resumption, and vision models as they come from disk."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from voxelboard.benchmark.errors import DataError, InvalidNumbers, MissingPrerequisite, UserError
from voxelboard.benchmark.models.image_nets import (
    SIZES,
    NetSize,
    RecurrentNet,
    as_images,
    count_parameters,
    layer_names,
    net_features,
    net_loss,
)
from voxelboard.benchmark.models.image_training import PRESETS, train_net, training_plan
from voxelboard.benchmark.models.vision import load_vision_model

SMALL = NetSize(image_px=8, channels=(4, 5, 6), pooled=(1,), n_timesteps=3)


@pytest.fixture(autouse=True)
def small_size(monkeypatch):
    monkeypatch.setitem(SIZES, "tiny", SMALL)


def pictures(n=80, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)


def test_the_protocol_has_ten_layers_and_six_timesteps():
    size = SIZES["protocol"]
    assert (size.n_layers, size.n_timesteps, size.image_px) == (10, 6, 128)
    plan = PRESETS["protocol"]
    assert (plan.learning_rate, plan.adam_eps, plan.n_epochs, plan.batch, plan.warm_up) == (5e-2, 1e-1, 200, 96, 10)


def test_pictures_are_averaged_down_and_scaled():
    half = np.zeros((1, 4, 4, 3), dtype=np.uint8)
    half[:, :, 2:] = 255
    assert as_images(half, 2)[0, 0].tolist() == [[0.0, 1.0], [0.0, 1.0]]
    assert as_images(half, 1)[0, :, 0, 0].tolist() == [0.5, 0.5, 0.5]


def test_shapes_and_names_of_all_layers_and_timesteps():
    net = RecurrentNet(SMALL, 7, seed=0)
    assert net(as_images(pictures(3), 8)).shape == (3, 3, 7)
    features = net_features(net, pictures(3))
    assert set(features) == {(layer, time) for layer in range(4) for time in range(3)}
    assert [features[layer, 0].shape[1] for layer in range(4)] == [4, 5, 6, 7]
    assert layer_names(SMALL) == ("layer 0", "layer 1", "layer 2", "readout")
    assert count_parameters(net) > 0


def test_every_kind_of_connection_matters_and_acts_when_it_should():
    """Lateral and top-down weights act from the second timestep on; bottom-up at once."""
    images = as_images(pictures(2), 8)
    net = RecurrentNet(SMALL, 4, seed=0)
    with torch.no_grad():
        before = net(images)
        for group, first in ((net.lateral, 1), (net.top_down, 1), (net.bottom_up, 0)):
            kept = group[0].weight.clone()
            group[0].weight += 0.3
            after = net(images)
            group[0].weight.copy_(kept)
            changed = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
            assert changed == [time >= first for time in range(3)]


def test_the_seed_decides_the_weights_and_global_state_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second, other = (RecurrentNet(SMALL, 4, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first.readout.weight, second.readout.weight)
    assert not torch.equal(first.readout.weight, other.readout.weight)


def test_the_losses_are_cosine_distance_and_cross_entropy():
    outputs = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[-1.0, 0.0], [0.0, 2.0]]])
    targets = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert float(net_loss(outputs, targets, "caption")) == pytest.approx((0 + 1 + 2 + 1) / 4)
    expected = (
        np.log1p(np.exp(-np.abs(outputs.numpy()))) + np.maximum(outputs.numpy(), 0) - outputs.numpy() * targets.numpy()
    )
    assert float(net_loss(outputs, targets, "category")) == pytest.approx(expected.mean(), abs=1e-6)


def embedding(pixels):
    """Something that can be seen: mean colour and left-right contrast."""
    colour = pixels.mean(axis=(1, 2)) / 255
    contrast = (pixels[:, :, :8].mean(axis=(1, 2, 3)) - pixels[:, :, 8:].mean(axis=(1, 2, 3))) / 255
    table = np.column_stack([colour, contrast])
    return (table - table.mean(axis=0)) / table.std(axis=0)


def blobs(n=160, seed=0):
    rng = np.random.default_rng(seed)
    return np.clip(
        rng.normal(rng.uniform(40, 215, (n, 1, 2, 3)), 10).repeat(8, axis=2).repeat(16, axis=1), 0, 255
    ).astype(np.uint8)


def small_plan(seed, n_epochs):
    return replace(training_plan("tiny", "caption", seed, n_epochs), batch=16, held_out=0.1)


def test_the_cosine_distance_falls_on_pictures_that_were_not_trained_on(tmp_path):
    pixels = blobs()
    found = train_net(pixels, embedding(pixels), small_plan(0, 12), tmp_path)
    assert found.held_out_loss[-1] < 0.6 * found.held_out_loss[0]
    assert found.train_loss[-1] < found.train_loss[0] < 1.1
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, 13))


def test_a_run_that_stopped_goes_on_and_ends_as_one_that_did_not(tmp_path):
    pixels = blobs(80)
    plan = small_plan(3, 4)
    whole = train_net(pixels, embedding(pixels), plan, tmp_path / "whole")

    class Stop(Exception):
        pass

    def stop(epoch, total, train, held_out):
        if epoch == 2:
            raise Stop

    with pytest.raises(Stop):
        train_net(pixels, embedding(pixels), plan, tmp_path / "parts", progress=stop)
    seen = []
    parts = train_net(pixels, embedding(pixels), plan, tmp_path / "parts", progress=lambda *a: seen.append(a[0]))
    assert seen == [3, 4]
    assert parts.train_loss == whole.train_loss
    for a, b in zip(parts.net.parameters(), whole.net.parameters(), strict=True):
        assert torch.equal(a, b)
    assert (tmp_path / "parts/checkpoint.safetensors").read_bytes() == (
        tmp_path / "whole/checkpoint.safetensors"
    ).read_bytes()


def test_a_folder_of_another_plan_is_refused_and_fresh_starts_again(tmp_path):
    pixels = blobs(80)
    train_net(pixels, embedding(pixels), small_plan(0, 1), tmp_path)
    with pytest.raises(UserError, match="another plan"):
        train_net(pixels, embedding(pixels), small_plan(1, 1), tmp_path)
    with pytest.raises(UserError, match="other pictures or embeddings"):
        train_net(pixels, -embedding(pixels), small_plan(0, 1), tmp_path)
    again = train_net(pixels, embedding(pixels), small_plan(1, 1), tmp_path, fresh=True)
    assert len(again.train_loss) == 1


def test_what_cannot_be_trained_on_is_refused(tmp_path):
    plan = small_plan(0, 1)
    with pytest.raises(DataError, match="fewer than two batches"):
        train_net(blobs(20), embedding(blobs(20)), plan, tmp_path)
    with pytest.raises(DataError, match="expected"):
        train_net(blobs(80), embedding(blobs(70)), plan, tmp_path)
    with pytest.raises(InvalidNumbers, match="NaN"):
        train_net(blobs(80), np.full((80, 3), np.nan), plan, tmp_path)
    with pytest.raises(UserError, match="unknown preset"):
        training_plan("huge", "caption", 0)


def test_a_vision_transformer_is_read_from_its_checkpoint_layer_by_layer(tmp_path):
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=12, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8
    )
    ViTModel(config).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    read = load_vision_model(str(tmp_path), offline=True)
    pixels = pictures(5)
    found = read(pixels)
    assert list(found) == ["layer 0", "layer 1", "layer 2"]
    model = ViTModel.from_pretrained(tmp_path).eval()
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.inference_mode():
        expected = model(pixel_values=images, output_hidden_states=True).hidden_states
    for layer, state in zip(found.values(), expected, strict=True):
        assert layer == pytest.approx(state.mean(1).numpy(), abs=1e-5)


def test_a_text_model_or_nothing_is_no_vision_model(tmp_path):
    from transformers import BertConfig, BertModel

    BertModel(
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9)
    ).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="not pictures"):
        load_vision_model(str(tmp_path), offline=True)
    with pytest.raises(MissingPrerequisite):
        load_vision_model(str(tmp_path / "nothing"), offline=True)


def test_a_timm_that_cannot_be_imported_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingPrerequisite, match="timm cannot be imported"):
        load_vision_model("timm/resnet18")


@pytest.mark.gpu
def test_the_protocol_s_network_runs_on_a_gpu(tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    pixels = blobs(192)
    found = train_net(pixels, embedding(pixels), training_plan("protocol", "caption", 0, 1), tmp_path, device="cuda")
    assert np.isfinite(found.train_loss).all()
