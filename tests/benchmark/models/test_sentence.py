# SPDX-License-Identifier: Apache-2.0
"""Sentence models: the vector of each prefix, pooled as the model's own files say."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.models.load import describe_model, load_model
from voxelboard.benchmark.models.spec import ModelSpec
from voxelboard.benchmark.models.transformer import TransformerModel
from voxelboard.benchmark.protocol import ContextPolicy
from voxelboard.benchmark.stimuli.stories import Story

CONTEXT = ContextPolicy(stride_words=5)
PACKAGE = "sentence_transformers.models."
# what each mode does to the states (n_tokens, n_features) of one text without padding
MODES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "cls_token": lambda states: states[0],
    "max_tokens": lambda states: states.max(0).values,
    "mean_tokens": lambda states: states.mean(0),
    "mean_sqrt_len_tokens": lambda states: states.sum(0) / len(states) ** 0.5,
    "weightedmean_tokens": lambda states: sum((i + 1) * s for i, s in enumerate(states)) / (len(states) * (len(states) + 1) / 2),
    "lasttoken": lambda states: states[-1],
}  # fmt: skip


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def layout(checkpoints: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """A sentence model as its package saves it, the transformer in a folder of its own if ``inner`` is given."""

    def build(
        pooling: dict[str, Any], normalise: bool = False, inner: str = "", family: str = "bert", **settings: Any
    ) -> Path:
        folder = tmp_path / "sentence"
        shutil.copytree(checkpoints(family), folder / inner, dirs_exist_ok=True)
        modules = [("Transformer", inner), ("Pooling", "1_Pooling")] + [("Normalize", "2_Normalize")] * normalise
        write(folder / "modules.json", [{"type": PACKAGE + kind, "path": path} for kind, path in modules])
        write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 16} | pooling)
        if settings:
            write(folder / inner / "sentence_bert_config.json", settings)
        return folder

    return build


def spec(folder: Path, **options: Any) -> ModelSpec:
    return ModelSpec(loader="sentence", source="local", path=folder, **options)


def naive_layers(folder: Path, text: str) -> list[torch.Tensor]:
    """n_layers x (n_tokens, n_features) of one text, special tokens included."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    with torch.no_grad():
        output = model(input_ids=tokenizer(text, return_tensors="pt")["input_ids"], output_hidden_states=True)
    return [layer[0] for layer in output.hidden_states]


def prefix(story: Story, word: int) -> str:
    return story.text[story.spans[CONTEXT.chunk_start(word)][0] : story.spans[word][1]]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("normalise", [False, True])
def test_each_mode_pools_every_layer_and_normalises_the_last(
    mode: str, normalise: bool, layout: Callable[..., Path], tale: Story
) -> None:
    folder = layout({f"pooling_mode_{mode}": True}, normalise)
    states = load_model(spec(folder)).states(tale, CONTEXT)
    for word in (0, 12, 37):
        layers = [MODES[mode](layer) for layer in naive_layers(folder, prefix(tale, word))]
        if normalise:
            layers[-1] = layers[-1] / layers[-1].norm()
        np.testing.assert_allclose(states[:, word], torch.stack(layers), atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["bart", "t5", "gpt2"])
def test_other_families_without_modules_are_averaged(
    family: str, checkpoints: Callable[[str], Path], tale: Story
) -> None:
    folder = checkpoints(family)
    states = load_model(spec(folder)).states(tale, CONTEXT)
    for word in (0, 20):
        expected = torch.stack([layer.mean(0) for layer in naive_layers(folder, prefix(tale, word))])
        np.testing.assert_allclose(states[:, word], expected, atol=1e-5, rtol=0)


def test_the_transformer_may_lie_in_a_folder_of_its_own(layout: Callable[..., Path], tale: Story) -> None:
    folder = layout({"pooling_mode": "mean"}, inner="0_Transformer")
    model = load_model(spec(folder))
    expected = naive_layers(folder / "0_Transformer", prefix(tale, 7))[-1].mean(0)
    np.testing.assert_allclose(model.states(tale, CONTEXT)[-1, 7], expected, atol=1e-5, rtol=0)
    assert describe_model(spec(folder)).n_parameters == model.identity.n_parameters


def test_a_vector_does_not_depend_on_its_batch_mates(layout: Callable[..., Path], tale: Story) -> None:
    folder = layout({"pooling_mode": "max"})
    alone = load_model(spec(folder), batch_size=1).states(tale, CONTEXT)
    np.testing.assert_allclose(load_model(spec(folder)).states(tale, CONTEXT), alone, atol=1e-5, rtol=0)


def test_the_longest_input_of_the_sentence_model_is_kept(layout: Callable[..., Path], tale: Story) -> None:
    model = load_model(spec(layout({"pooling_mode": "cls"}, max_seq_length=16)))
    model.states(tale, CONTEXT)
    assert model.identity.max_tokens == 16
    assert model.context_shortened > 0


def test_lower_case_is_kept(layout: Callable[..., Path], make_words: Callable[..., Story]) -> None:
    model = load_model(spec(layout({"pooling_mode": "mean"}, family="gpt2", do_lower_case=True)))
    upper, lower = make_words(["THE", "Cat"]), make_words(["the", "cat"])
    np.testing.assert_array_equal(model.states(upper, CONTEXT), model.states(lower, CONTEXT))


def test_the_twin_pools_alike(layout: Callable[..., Path], tale: Story) -> None:
    folder = layout({"pooling_mode": "mean"}, normalise=True)
    (folder / "model.safetensors").unlink()
    states = load_model(spec(folder, weights="random", seed=2)).states(tale, CONTEXT)
    np.testing.assert_allclose(np.linalg.norm(states[-1], axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("pooling", "message"),
    [
        ({}, "asks for no pooling"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, r"asks for \['cls', 'mean'\]"),
        ({"pooling_mode": "median"}, "asks for .*median"),
    ],
)
def test_poolings_that_are_not_one_known_mode(
    pooling: dict[str, Any], message: str, layout: Callable[..., Path]
) -> None:
    with pytest.raises(UserError, match=message):
        load_model(spec(layout(pooling)))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ({"type": PACKAGE + "Dense", "path": "2_Dense"}, "a module 'Dense'; allowed: Transformer, Pooling, Normalize"),
        ({"type": PACKAGE + "Pooling", "path": "../elsewhere"}, "leads out of the checkpoint's folder"),
    ],
)
def test_modules_that_are_refused(module: dict[str, str], message: str, layout: Callable[..., Path]) -> None:
    folder = layout({"pooling_mode": "mean"})
    modules = json.loads((folder / "modules.json").read_text())
    write(folder / "modules.json", [*modules, module])
    with pytest.raises(UserError, match=message):
        load_model(spec(folder))


def test_reading_to_a_layer_never_normalises_it(layout: Callable[..., Path], tale: Story) -> None:
    model = load_model(spec(layout({"pooling_mode_mean_tokens": True}, normalise=True)))
    assert isinstance(model, TransformerModel)
    whole = model.states(tale, CONTEXT)
    for last in range(model.n_layers):
        assert model.up_to(last).states(tale, CONTEXT).tobytes() == whole[: last + 1].tobytes()
