# SPDX-License-Identifier: Apache-2.0
"""The LSTM language model against the recurrence written out, and as a submission's checkpoint."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.models.load import describe_model, load_model
from voxelboard.benchmark.models.quiet import quiet_transformers
from voxelboard.benchmark.models.recurrent import LSTMConfig, LSTMForCausalLM, LSTMModel, register
from voxelboard.benchmark.models.spec import ModelSpec
from voxelboard.benchmark.protocol import ContextPolicy
from voxelboard.benchmark.stimuli.stories import Story
from voxelboard.benchmark.submission import load_submission


def small(**changes: object) -> LSTMForCausalLM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LSTMForCausalLM(
            LSTMConfig(**({"vocab_size": 50, "hidden_size": 6, "num_hidden_layers": 2} | changes))
        ).eval()


def test_states_of_every_layer_are_those_of_the_recurrence() -> None:
    model = small()
    ids = torch.randint(0, 50, (3, 7), generator=torch.Generator().manual_seed(1))
    layers = model.lstm(ids, output_hidden_states=True).hidden_states
    x = model.lstm.embeddings(ids)
    assert torch.equal(layers[0], x)
    for number, layer in enumerate(model.lstm.layers, start=1):
        h, c = torch.zeros(3, 6), torch.zeros(3, 6)
        states = []
        for t in range(7):
            gates = x[:, t] @ layer.weight_ih_l0.T + layer.bias_ih_l0 + h @ layer.weight_hh_l0.T + layer.bias_hh_l0
            i, f, g, o = gates.chunk(4, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            states.append(h)
        x = torch.stack(states, dim=1)
        torch.testing.assert_close(layers[number], x, atol=1e-6, rtol=0)


def test_loss_is_the_mean_surprisal_of_the_next_token() -> None:
    model = small()
    ids = torch.arange(8)[None]
    output = model(ids, labels=ids)
    surprisal = -torch.log_softmax(output.logits[0, :-1], dim=-1)[range(7), ids[0, 1:]]
    torch.testing.assert_close(output.loss, surprisal.mean())
    assert float(output.loss.detach()) == pytest.approx(np.log(50), abs=0.2)  # untrained: next to uniform


def test_output_shares_the_embeddings_and_forget_gates_start_open() -> None:
    model = small()
    assert model.head.weight is model.lstm.embeddings.weight
    bias = model.lstm.layers[0].bias_ih_l0
    assert bias[6:12].tolist() == [1.0] * 6
    assert bias[:6].tolist() == [0.0] * 6


def test_a_checkpoint_round_trips(tmp_path: Path) -> None:
    register()
    model = small()
    with quiet_transformers():
        model.save_pretrained(tmp_path)
        again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.arange(9)[None]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert torch.equal(again(ids).logits, model(ids).logits)


def test_a_checkpoint_folder_is_a_submission_with_the_loader_recurrent(
    checkpoints: Callable[[str], Path], tale: Story
) -> None:
    folder = checkpoints("lstm")
    assert load_submission(folder).model.loader == "recurrent"
    spec = ModelSpec(loader="recurrent", source="local", path=folder)
    described, model = describe_model(spec), load_model(spec)
    assert (described.n_layers, described.n_features) == (model.n_layers, model.n_features) == (3, 16)
    assert described.n_parameters == model.identity.n_parameters == 330 * 16 + 2 * (8 * 16 * 16 + 8 * 16)
    twin = load_model(ModelSpec(loader="recurrent", source="local", path=folder, weights="random", seed=3))
    assert not np.allclose(twin.states(tale, ContextPolicy()), model.states(tale, ContextPolicy()))
    assert isinstance(model._backbone._module, LSTMModel)


def test_loaders_and_architectures_that_do_not_belong_together(checkpoints: Callable[[str], Path]) -> None:
    with pytest.raises(UserError, match=r"loader causal cannot read .*voxelboard-lstm.*\n.*loader: recurrent"):
        load_model(ModelSpec(loader="causal", source="local", path=checkpoints("lstm")))
    with pytest.raises(UserError, match="loader recurrent cannot read a model of the type 'gpt2'"):
        load_model(ModelSpec(loader="recurrent", source="local", path=checkpoints("gpt2")))
