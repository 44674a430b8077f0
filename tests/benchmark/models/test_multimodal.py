# SPDX-License-Identifier: Apache-2.0
"""Models that see and hear, built tiny from configurations in their real format, on generated frames and sound."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from pictures import require_picture_reading

from voxelboard.benchmark.errors import MissingPrerequisite, UserError
from voxelboard.benchmark.models.multimodal import load_media_model
from voxelboard.benchmark.models.quiet import quiet_transformers
from voxelboard.benchmark.models.spec import ModelSpec
from voxelboard.benchmark.stimuli.media import Frames, Sound

FPS, SECONDS, RATE = 6, 5, 16_000
VISION = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
PATCHES = {"image_size": 32, "patch_size": 16}
TEXT = VISION | {"vocab_size": 330, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2}
_PIXELS = {"do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_resize": True, "do_rescale": True}
SQUARE = _PIXELS | {"size": {"height": 32, "width": 32}, "rescale_factor": 1 / 255, "resample": 2}
# model -> (configuration class, its arguments, image processor, its settings)
SEEING: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "vit": ("ViTConfig", VISION | PATCHES, "ViTImageProcessor", SQUARE),
    "deit": ("DeiTConfig", VISION | PATCHES, "ViTImageProcessor", SQUARE),
    "clip": (
        "CLIPConfig",
        {"vision_config": VISION | PATCHES, "text_config": VISION | {"vocab_size": 50, "eos_token_id": 1}},
        "CLIPImageProcessor",
        SQUARE | {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "do_center_crop": True},
    ),
    "resnet": (
        "ResNetConfig",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
        "ConvNextImageProcessor",
        _PIXELS | {"size": {"shortest_edge": 32}, "crop_pct": 0.875, "resample": 3, "rescale_factor": 1 / 255},
    ),
    "git": (
        "GitConfig",
        TEXT | {"vision_config": VISION | PATCHES, "pad_token_id": 0},
        "CLIPImageProcessor",
        SQUARE | {"crop_size": {"height": 32, "width": 32}, "do_center_crop": True},
    ),
    "bridgetower": (
        "BridgeTowerConfig",
        VISION
        | {
            "hidden_size": 32,
            "text_config": TEXT | {"hidden_size": 32, "num_hidden_layers": 3, "pad_token_id": 0},
            "vision_config": {"hidden_size": 64, "num_hidden_layers": 3, **PATCHES},
        },
        "ViTImageProcessor",
        SQUARE,
    ),
    "llava": (
        "LlavaConfig",
        {
            "vision_config": {"model_type": "clip_vision_model", **VISION, **PATCHES, "num_hidden_layers": 3},
            "text_config": {"model_type": "llama", **TEXT},
            "image_token_index": 329,
        },
        "CLIPImageProcessor",
        SQUARE | {"crop_size": {"height": 32, "width": 32}, "do_center_crop": True},
    ),
}


@pytest.fixture(scope="session")
def seeing(
    tmp_path_factory: pytest.TempPathFactory, tokenizers: dict[str, transformers.PreTrainedTokenizerFast]
) -> Callable[[str], Path]:
    """The folder of a tiny checkpoint that sees; the same each time."""
    require_picture_reading()
    folders: dict[str, Path] = {}

    def build(name: str) -> Path:
        if name not in folders:
            folder = tmp_path_factory.mktemp(name)
            config_class, arguments, processor, settings = SEEING[name]
            with torch.random.fork_rng(devices=[]), quiet_transformers():
                torch.manual_seed(3)
                config = getattr(transformers, config_class)(**arguments)
                transformers.AutoModel.from_config(config).save_pretrained(folder)
            (folder / "preprocessor_config.json").write_text(
                json.dumps({"image_processor_type": processor, **settings})
            )
            tokenizers["roberta_level"].save_pretrained(folder)
            folders[name] = folder
        return folders[name]

    return build


@pytest.fixture(scope="module")
def film() -> Frames:
    return Frames(np.random.default_rng(0).integers(0, 256, (FPS * SECONDS, 40, 48, 3), dtype=np.uint8), FPS)


def _load(folder: Path, **options: Any) -> Any:
    return load_media_model(ModelSpec(loader="masked", source="local", path=folder), offline=True, **options)


def _pixels(model: Any, frames: list[np.ndarray]) -> torch.Tensor:
    return model.processor(images=frames, return_tensors="pt")["pixel_values"]


@pytest.mark.parametrize("name", ["vit", "deit", "clip", "resnet"])
def test_vision_states_are_the_mean_of_two_frames(name: str, seeing: Callable[[str], Path], film: Frames) -> None:
    model = _load(seeing(name), batch_size=2)
    layers = model.read_frames(film.pairs(SECONDS))
    with torch.inference_mode():
        for second in (0, SECONDS - 1):
            first, middle = film.source[second * FPS], film.source[second * FPS + FPS // 2]
            alone = [model.module(pixel_values=_pixels(model, [f]), output_hidden_states=True) for f in (first, middle)]
            for number, layer in enumerate(layers):
                expected = torch.stack([one.hidden_states[number].flatten() for one in alone]).mean(0).numpy()
                np.testing.assert_allclose(layer[second], expected, atol=1e-5)
    widths = [layer.shape[1] for layer in layers]
    assert widths == ([512, 512, 256] if name == "resnet" else [widths[0]] * 3)
    pooled = _load(seeing(name), pooling="mean").read_frames(film.pairs(2))
    assert [layer.shape for layer in pooled] == [(2, n) for n in ([8, 8, 16] if name == "resnet" else [16] * 3)]


def _hearing(folder: Path, kind: str) -> Path:
    if kind == "ast":
        config = transformers.ASTConfig(**VISION, max_length=64, num_mel_bins=32)
        processor: Any = transformers.ASTFeatureExtractor(num_mel_bins=32, max_length=64)
    else:
        config = transformers.Wav2Vec2Config(
            **VISION, conv_dim=[8] * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4
        )
        processor = transformers.Wav2Vec2FeatureExtractor()
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(4)
        transformers.AutoModel.from_config(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["ast", "wav2vec2"])
def test_sound_is_heard_up_to_each_second_and_no_further(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    model = _load(_hearing(tmp_path / kind, kind), batch_size=2)
    sound = Sound((0.1 * rng.standard_normal(RATE * SECONDS)).astype(np.float32), RATE)
    layers = model.read_sound(sound, SECONDS)
    assert [len(layer) for layer in layers] == [SECONDS] * 3
    window = sound.samples[2 * RATE : 3 * RATE]
    values = model.processor([window], sampling_rate=RATE, return_tensors="pt")["input_values"]
    with torch.inference_mode():
        expected = model.module(values, output_hidden_states=True).hidden_states[-1].flatten().numpy()
    np.testing.assert_allclose(layers[-1][3], expected, atol=1e-4)
    np.testing.assert_allclose(layers[-1][0], layers[-1][1], atol=1e-5)  # the first second is repeated
    later = sound.samples.copy()
    later[3 * RATE :] = 0
    changed = model.read_sound(Sound(later, RATE), SECONDS)
    np.testing.assert_array_equal(changed[-1][:4], layers[-1][:4])
    assert not np.array_equal(changed[-1][4], layers[-1][4])


@pytest.mark.parametrize(("name", "n_layers", "width"), [("git", 3, 32), ("bridgetower", 2, 64), ("llava", 3, 32)])
def test_picture_and_text_states_side_by_side(
    name: str, n_layers: int, width: int, seeing: Callable[[str], Path], film: Frames
) -> None:
    model = _load(seeing(name))
    texts = [["a little girl", "", "the dog", "the dog", "cat"], ["", "", "a cat went to the sea", "", "the cat"]]
    layers = model.read_frames_and_texts(film.pairs(SECONDS), texts)
    assert [layer.shape for layer in layers] == [(SECONDS, width)] * n_layers
    assert all((layer[1] == 0).all() for layer in layers)  # nobody wrote
    # second 2 is the mean of its two annotators, read by themselves
    alone = [model.read_frames_and_texts([film.pair(2)], [[text]]) for text in ("the dog", "a cat went to the sea")]
    for number, layer in enumerate(layers):
        np.testing.assert_allclose(layer[2], (alone[0][number][0] + alone[1][number][0]) / 2, atol=1e-5)
    # another picture changes the picture's half; another text the text's
    other = model.read_frames_and_texts([film.pair(3)], [["the dog"]])[-1][0]
    same = alone[0][-1][0]
    assert np.abs(other - same)[width // 2 :].max() > 1e-4
    said = model.read_frames_and_texts([film.pair(2)], [["a little girl"]])[-1][0]
    assert np.abs(said - same)[: width // 2].max() > 1e-4


def test_llava_states_are_those_of_transformers(seeing: Callable[[str], Path], film: Frames) -> None:
    model = _load(seeing("llava"))
    found = model.read_frames_and_texts([film.pair(1)], [["the dog"]])
    encoded = model.tokenizer("the dog", return_special_tokens_mask=True)
    ids = torch.tensor([[329] * 4 + encoded["input_ids"]])
    own = [4 + i for i, special in enumerate(encoded["special_tokens_mask"]) if not special]
    states = []
    with torch.inference_mode():
        for frame in film.pair(1):
            out = model.module(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=_pixels(model, [frame]),
                output_hidden_states=True,
            ).hidden_states[-1][0]
            states.append(torch.cat([out[own].mean(0), out[:4].mean(0)]))
    np.testing.assert_allclose(found[-1][0], torch.stack(states).mean(0).numpy(), atol=1e-5)


def test_wrong_kinds_and_files_are_refused(
    seeing: Callable[[str], Path], checkpoints: Callable[[str], Path], film: Frames, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="not known to see or hear"):
        _load(checkpoints("gpt2"))
    with pytest.raises(UserError, match="of kind vision, not audio"):
        _load(seeing("vit")).read_sound(Sound(np.zeros(RATE, dtype=np.float32), RATE), 1)
    with pytest.raises(UserError, match="allowed: flatten, mean"):
        _load(seeing("vit"), pooling="max")
    with pytest.raises(UserError, match="no second has a text"):
        _load(seeing("git")).read_frames_and_texts(film.pairs(2), [["", ""]])
    with pytest.raises(MissingPrerequisite):
        _load(tmp_path / "nowhere")
    bare = tmp_path / "bare"
    with quiet_transformers():
        transformers.AutoModel.from_config(transformers.ViTConfig(**VISION, **PATCHES)).save_pretrained(bare)
    with pytest.raises(UserError, match="preprocessing files cannot be read"):
        _load(bare)


def test_a_transformers_that_wants_torchvision_is_told(
    seeing: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ImportError("AutoImageProcessor requires the Torchvision library")

    monkeypatch.setattr(transformers.AutoImageProcessor, "from_pretrained", refuse)
    with pytest.raises(MissingPrerequisite, match="cannot read pictures without torchvision") as error:
        _load(seeing("vit"))
    assert "transformers>=5.18" in error.value.hint


def test_a_random_twin_differs_and_comes_back(seeing: Callable[[str], Path], film: Frames) -> None:
    def twin(seed: int) -> Any:
        spec = ModelSpec(loader="masked", source="local", path=seeing("vit"), weights="random", seed=seed)
        return load_media_model(spec, offline=True)

    first, again, other = twin(1), twin(1), twin(2)
    assert first.weights_sha256 == again.weights_sha256 != other.weights_sha256
    np.testing.assert_array_equal(first.read_frames(film.pairs(1))[-1], again.read_frames(film.pairs(1))[-1])
