# SPDX-License-Identifier: Apache-2.0
"""States of words: equal to reading each prefix by itself, whatever the batch; never a look at a future word."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.models.load import load_model
from voxelboard.benchmark.models.spec import ModelSpec
from voxelboard.benchmark.models.transformer import TransformerModel
from voxelboard.benchmark.protocol import ContextPolicy
from voxelboard.benchmark.stimuli.stories import Story

CONTEXT = ContextPolicy(stride_words=5)
LOADERS = {
    "gpt2": "causal",
    "gpt2_untrimmed": "causal",
    "llama": "causal",
    "llama_across": "causal",
    "qwen2": "causal",
    "mamba": "causal",
    "lstm": "recurrent",
    "bert": "masked",
    "roberta": "masked",
    "t5": "seq2seq",
    "bart": "seq2seq",
}
Checkpoints = Callable[[str], Path]


def load(folder: Path, loader: str, **options: object) -> TransformerModel:
    model = load_model(ModelSpec(loader=loader, source="local", path=folder), **options)
    assert isinstance(model, TransformerModel)
    return model


@pytest.mark.parametrize("family", LOADERS)
def test_states_equal_reading_each_prefix_by_itself(
    family: str, checkpoints: Checkpoints, naive: Callable[..., np.ndarray], tale: Story
) -> None:
    model = load(checkpoints(family), LOADERS[family])
    states = model.states(tale, CONTEXT)
    expected = naive(checkpoints(family), tale, CONTEXT)
    assert states.dtype == np.float32
    assert states.shape == expected.shape == (model.n_layers, tale.n_words, model.n_features)
    np.testing.assert_allclose(states, expected, atol=1e-5, rtol=0)
    assert model.context_shortened == 0


@pytest.mark.parametrize("family", ["gpt2", "llama", "roberta"])
def test_the_last_token_of_a_word_can_be_read_alone(family: str, checkpoints: Checkpoints, tale: Story) -> None:
    """Against a pass over each prefix with Transformers: the state of its last token (of the text, not the padding)."""
    folder = checkpoints(family)
    last = load(folder, LOADERS[family], token_pooling="last").states(tale, CONTEXT)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    module = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    differs = False
    for word, (start, stop) in enumerate(tale.spans):
        begin = tale.spans[CONTEXT.chunk_start(word)][0]
        encoded = tokenizer(tale.text[begin:stop], return_offsets_mapping=True, return_tensors="pt")
        inside = [i for i, (a, b) in enumerate(encoded["offset_mapping"][0].tolist()) if max(a, start - begin) < b]
        with torch.no_grad():
            layers = module(input_ids=encoded["input_ids"], output_hidden_states=True).hidden_states
        for layer, states in enumerate(layers):
            np.testing.assert_allclose(last[layer, word], states[0, inside[-1]].numpy(), atol=1e-5)
        differs |= len(inside) > 1
    assert differs  # there are words of several tokens
    assert np.abs(last - load(folder, LOADERS[family]).states(tale, CONTEXT)).max() > 1e-3


def test_a_real_checkpoint_equals_reading_each_prefix_by_itself(
    shared_models: Path, naive: Callable[..., np.ndarray], tale: Story
) -> None:
    folder = shared_models / "stories260K"
    model = load(folder, "causal")
    states = model.states(tale, CONTEXT)
    scale = np.abs(states).max()  # states of this model reach 40
    np.testing.assert_allclose(states, naive(folder, tale, CONTEXT), atol=1e-6 * scale, rtol=0)


@pytest.mark.parametrize("family", LOADERS)
def test_a_state_does_not_depend_on_its_batch_mates(family: str, checkpoints: Checkpoints, tale: Story) -> None:
    alone = load(checkpoints(family), LOADERS[family], batch_size=1).states(tale, CONTEXT)
    for batch_size in (3, 64, "auto"):
        model = load(checkpoints(family), LOADERS[family], batch_size=batch_size)
        np.testing.assert_allclose(model.states(tale, CONTEXT), alone, atol=1e-5, rtol=0)
        assert model.report is not None
        assert model.report.largest_batch > 1


@pytest.mark.parametrize("family", LOADERS)
def test_later_words_do_not_change_earlier_states(
    family: str, checkpoints: Checkpoints, tale: Story, make_words: Callable[..., Story]
) -> None:
    model = load(checkpoints(family), LOADERS[family])
    states = model.states(tale, CONTEXT)
    for last in (0, 3, 9, 10, 21):
        changed = make_words([*tale.words[: last + 1], *("the" for _ in tale.words[last + 1 :])])
        np.testing.assert_allclose(
            model.states(changed, CONTEXT)[:, : last + 1], states[:, : last + 1], atol=2e-6, rtol=0
        )


@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_words_before_the_context_do_not_matter_and_those_in_it_do(
    family: str, checkpoints: Checkpoints, tale: Story, make_words: Callable[..., Story]
) -> None:
    model = load(checkpoints(family), LOADERS[family])
    states = model.states(tale, CONTEXT)[-1]
    word = 20
    first = CONTEXT.chunk_start(word)
    before = make_words(["sea" if i < first else w for i, w in enumerate(tale.words)])
    within = make_words(["sea" if i <= first else w for i, w in enumerate(tale.words)])
    np.testing.assert_allclose(model.states(before, CONTEXT)[-1][word], states[word], atol=2e-6, rtol=0)
    assert np.abs(model.states(within, CONTEXT)[-1][word] - states[word]).max() > 1e-4


def test_a_token_over_two_words_is_counted_and_shows_no_future_word(checkpoints: Checkpoints, tale: Story) -> None:
    model = load(checkpoints("llama_across"), "causal")
    model.states(tale, CONTEXT)
    assert model.report is not None
    assert model.report.n_reaching_on > 0  # that nothing leaks is what the tests above show for this family
    ordinary = load(checkpoints("llama"), "causal")
    ordinary.states(tale, CONTEXT)
    assert ordinary.report is not None
    assert ordinary.report.n_reaching_on == 0


def test_progress_ends_with_all_words(checkpoints: Checkpoints, tale: Story) -> None:
    calls: list[tuple[int, int]] = []
    load(checkpoints("bert"), "masked", batch_size=7).states(tale, CONTEXT, lambda *call: calls.append(call))
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert len(calls) == -(-tale.n_words // 7)
    assert calls[-1] == (tale.n_words, tale.n_words)


def test_half_precision_on_a_cpu_only_when_asked(checkpoints: Checkpoints, tale: Story) -> None:
    spec = ModelSpec(loader="causal", source="local", path=checkpoints("gpt2"), dtype="bfloat16")
    single, half = load_model(spec), load_model(spec, dtype="bfloat16")
    assert (single.identity.dtype, half.identity.dtype) == ("float32", "bfloat16")
    exact, rounded = single.states(tale, CONTEXT), half.states(tale, CONTEXT)
    assert rounded.dtype == np.float32
    assert 1e-6 < np.abs(rounded - exact).max() < 0.05 * np.abs(exact).max()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("family", LOADERS)
def test_gpu_parity(family: str, checkpoints: Checkpoints, tale: Story) -> None:
    on_cpu = load(checkpoints(family), LOADERS[family]).states(tale, CONTEXT)
    on_gpu = load(checkpoints(family), LOADERS[family], device="cuda", dtype="float32").states(tale, CONTEXT)
    np.testing.assert_allclose(on_gpu, on_cpu, atol=1e-3 * np.abs(on_cpu).max(), rtol=0)
    half = load(checkpoints(family), LOADERS[family], device="cuda", dtype="bfloat16").states(tale, CONTEXT)
    correlation = np.corrcoef(half[-1].ravel(), on_cpu[-1].ravel())[0, 1]
    assert correlation > 0.999


@pytest.mark.parametrize("family", LOADERS)
def test_reading_to_a_layer_gives_the_same_bytes(family: str, checkpoints: Checkpoints, tale: Story) -> None:
    model = load(checkpoints(family), LOADERS[family])
    whole = model.states(tale, CONTEXT)
    for last in range(model.n_layers):
        part = model.up_to(last)
        assert part.n_layers == last + 1
        assert part.states(tale, CONTEXT).tobytes() == whole[: last + 1].tobytes()
    assert model.n_layers == len(whole)


@pytest.mark.parametrize(("family", "blocks"), [("gpt2", "h"), ("llama", "layers"), ("bert", "encoder.layer")])
def test_later_blocks_do_not_run(family: str, blocks: str, checkpoints: Checkpoints, tale: Story) -> None:
    model = load(checkpoints(family), LOADERS[family])
    ran: list[int] = []
    for i, block in enumerate(model._backbone._module.get_submodule(blocks)):
        block.register_forward_hook(lambda *_, i=i: ran.append(i))
    model.up_to(1).states(tale, CONTEXT)
    assert set(ran) == {0}


@pytest.mark.parametrize("last", [-1, 99])
def test_a_layer_that_is_not_there_is_refused(last: int, checkpoints: Checkpoints) -> None:
    with pytest.raises(UserError, match=f"no layer {last}; allowed: 0 to"):
        load(checkpoints("gpt2"), "causal").up_to(last)
