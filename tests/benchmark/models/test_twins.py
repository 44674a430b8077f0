# SPDX-License-Identifier: Apache-2.0
"""The untrained twin: the same bytes for the same seed in every process, without a weights file."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from voxelboard.benchmark.models.load import load_model
from voxelboard.benchmark.models.spec import ModelSpec
from voxelboard.benchmark.protocol import ContextPolicy
from voxelboard.benchmark.stimuli.stories import Story

CONTEXT = ContextPolicy(stride_words=5)
HALF_AND_SINGLE = ("bfloat16", "float32")

IN_A_PROCESS = """
import hashlib, sys
from pathlib import Path
import numpy as np, torch
from voxelboard.benchmark.models.load import load_model
from voxelboard.benchmark.models.spec import ModelSpec
from voxelboard.benchmark.protocol import ContextPolicy
from voxelboard.benchmark.stimuli.stories import make_story
torch.manual_seed(int(sys.argv[2]))
spec = ModelSpec(loader="causal", source="local", path=Path(sys.argv[1]), weights="random", seed=7)
model = load_model(spec)
words = "the cat and the dog went to the sea".split()
story = make_story("s", words, np.arange(9.0), np.arange(9.0) + 0.5, n_trs=9, tr=1.0)
print(model.identity.weights_sha256, hashlib.sha256(model.states(story, ContextPolicy(3)).tobytes()).hexdigest())
"""


def twin(folder: Path, seed: int, loader: str = "causal") -> ModelSpec:
    return ModelSpec(loader=loader, source="local", path=folder, weights="random", seed=seed)


def test_two_processes_draw_the_same_bytes(checkpoints: Callable[[str], Path]) -> None:
    import os

    running = []
    for run in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": run, "OMP_NUM_THREADS": run}
        arguments = [sys.executable, "-c", IN_A_PROCESS, str(checkpoints("gpt2")), run]
        running.append(subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment))
    hashes = [process.communicate(timeout=100)[0] for process in running]
    assert hashes[0] == hashes[1]
    assert len(hashes[0].split()) == 2


@pytest.mark.parametrize("family", ["gpt2", "llama", "mamba", "bert", "t5", "bart"])
def test_twins_need_no_weights_and_differ_by_seed(
    family: str, new_checkpoint: Callable[..., Path], tale: Story
) -> None:
    loader = {"bert": "masked", "t5": "seq2seq", "bart": "seq2seq"}.get(family, "causal")
    folder = new_checkpoint(family)
    trained = load_model(ModelSpec(loader=loader, source="local", path=folder))
    (folder / "model.safetensors").unlink()
    one, same, other = (load_model(twin(folder, seed, loader)) for seed in (0, 0, 1))
    assert one.identity == same.identity
    assert one.identity.weights == "random"
    assert len({model.identity.weights_sha256 for model in (trained, one, other)}) == 3
    assert (one.n_layers, one.n_features) == (trained.n_layers, trained.n_features)
    assert one.identity.n_parameters == trained.identity.n_parameters
    np.testing.assert_array_equal(one.states(tale, CONTEXT), same.states(tale, CONTEXT))
    assert np.abs(one.states(tale, CONTEXT) - other.states(tale, CONTEXT)).max() > 0.01


def test_a_twin_has_the_spread_that_the_configuration_says(new_checkpoint: Callable[..., Path]) -> None:
    model = load_model(twin(new_checkpoint(initializer_range=0.3, n_embd=64), 3))
    embedding = model._backbone._module.get_input_embeddings().weight
    assert abs(embedding.std().item() - 0.3) < 0.01
    assert abs(embedding.mean().item()) < 0.01


def test_the_precision_that_a_checkpoint_was_saved_in_does_not_change_its_twin(
    new_checkpoint: Callable[..., Path],
) -> None:
    hashes = {load_model(twin(new_checkpoint(dtype=dtype), 5)).identity.weights_sha256 for dtype in HALF_AND_SINGLE}
    assert len(hashes) == 1


def test_the_same_twin_in_every_precision(checkpoints: Callable[[str], Path], tale: Story) -> None:
    single = load_model(twin(checkpoints("gpt2"), 5))
    half = load_model(twin(checkpoints("gpt2"), 5), dtype="bfloat16")
    assert single.identity.weights_sha256 == half.identity.weights_sha256
    exact = single.states(tale, CONTEXT)
    assert np.abs(half.states(tale, CONTEXT) - exact).max() < 0.05 * np.abs(exact).max()


def test_drawing_leaves_the_generator_where_it_was(checkpoints: Callable[[str], Path]) -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    load_model(twin(checkpoints("gpt2"), 5))
    assert torch.equal(torch.rand(3), expected)


def test_the_real_checkpoint_is_not_its_twin(shared_models: Path, tale: Story) -> None:
    folder = shared_models / "stories260K"
    trained = load_model(ModelSpec(loader="causal", source="local", path=folder)).states(tale, CONTEXT)
    drawn = load_model(twin(folder, 0)).states(tale, CONTEXT)
    assert trained.shape == drawn.shape == (6, tale.n_words, 64)
    assert np.abs(trained[-1] - drawn[-1]).max() > 1
