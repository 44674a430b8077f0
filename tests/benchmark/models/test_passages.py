# SPDX-License-Identifier: Apache-2.0
"""What is read in one pass: every word once, with exactly the words that the protocol lets it see."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from voxelboard.benchmark.errors import DataError, InvalidNumbers, MissingPrerequisite, UserError
from voxelboard.benchmark.models.alignment import FastTokenizer, Tokens
from voxelboard.benchmark.models.base import ModelIdentity
from voxelboard.benchmark.models.passages import Planner, chunks, plan_causal, plan_prefixes, prefixes
from voxelboard.benchmark.models.pooling import pool_words
from voxelboard.benchmark.models.transformer import TransformerModel
from voxelboard.benchmark.protocol import ContextPolicy
from voxelboard.benchmark.stimuli.stories import Story, make_story

N_FEATURES = 5
PLANNERS: dict[str, Planner] = {"chunks": plan_causal, "prefixes": plan_prefixes}


class PieceTokenizer:
    """Cuts every word into ``n_pieces`` tokens. Ids: 1 for the first piece of a word, 2 for the others, 0 around."""

    def __init__(self, n_pieces: int, specials: bool = False) -> None:
        self.name = f"stub of {n_pieces} pieces"
        self._n_pieces = n_pieces
        self._specials = specials

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        return [self._encode(text) for text in texts]

    def _encode(self, text: str) -> Tokens:
        ids, offsets, start = [], [], 0
        for word in text.split(" "):
            cuts = np.linspace(start, start + len(word), self._n_pieces + 1).round().astype(int)
            ids += [1] + [2] * (self._n_pieces - 1)
            offsets += list(pairwise(cuts))
            start += len(word) + 1
        if self._specials:
            ids, offsets = [0, *ids, 0], [(0, 0), *offsets, (0, 0)]
        return Tokens(np.array(ids), np.array(offsets), np.array(ids) == 0, np.zeros(len(ids), dtype=bool))


class CountingBackbone:
    """The state of a token is the number of words up to it, in every feature; layer 1 is a nonlinear code of it."""

    device = torch.device("cpu")
    dtype = torch.float32
    n_layers = 2
    n_features = N_FEATURES
    n_vocabulary = 3
    pad_id = 0

    def __init__(self, largest_batch: int = 10**9, poison: int | None = None) -> None:
        self.batches: list[int] = []
        self._largest_batch = largest_batch
        self._poison = poison

    def hidden_states(self, ids: Tensor, mask: Tensor, last_layer: int | None = None) -> Sequence[Tensor]:
        self.batches.append(len(ids))
        if len(ids) > self._largest_batch:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        visible = (ids == 1).cumsum(1).float()[..., None].repeat(1, 1, N_FEATURES)
        coded = torch.sin(visible * torch.arange(1, N_FEATURES + 1) * 0.7)
        if self._poison is not None:
            coded[visible == self._poison] = torch.nan
        return visible, coded * mask[..., None]


def numbered_words(n_words: int, text_starts: Sequence[int] = (0,)) -> Story:
    times = np.arange(n_words, dtype=np.float64)
    words = [f"word{k}" for k in range(n_words)]
    return make_story("numbers", words, times, times, n_trs=n_words, tr=1.0, text_starts=text_starts)


def counting_model(plan: Planner, tokenizer: PieceTokenizer, max_tokens: int | None = None, **options: object):
    backbone = options.pop("backbone", None) or CountingBackbone()
    identity = ModelIdentity("causal", "stub", "", "", "", "float32", 0, max_tokens)
    return TransformerModel(backbone, tokenizer, identity, plan, pool_words, **options)


@pytest.mark.parametrize("stride", [1, 2, 7, 64])
@pytest.mark.parametrize("n_words", [1, 2, 13, 129, 200])
def test_chunks_keep_each_word_once_with_its_own_first_word(stride: int, n_words: int) -> None:
    context = ContextPolicy(stride)
    story = numbered_words(n_words)
    passages = chunks(story, context)
    kept = [(word, passage.first) for passage in passages for word in passage.kept]
    assert kept == [(word, context.chunk_start(word)) for word in range(n_words)]
    assert max(passage.last - passage.first + 1 for passage in passages) <= 2 * stride
    assert prefixes(story, range(n_words), context)[-1].kept == range(n_words - 1, n_words)


@pytest.mark.parametrize("plan", PLANNERS)
@pytest.mark.parametrize("n_pieces", [1, 2, 3])
@pytest.mark.parametrize("specials", [False, True])
def test_every_tokenizer_sees_the_same_words(
    plan: str, n_pieces: int, specials: bool, make_words: Callable[..., Story]
) -> None:
    story, context = make_words(["sometimes"] * 50), ContextPolicy(8)
    model = counting_model(PLANNERS[plan], PieceTokenizer(n_pieces, specials))
    visible = model.states(story, context)[0, :, 0]
    expected = [word - context.chunk_start(word) + 1 for word in range(50)]
    np.testing.assert_array_equal(visible, expected)


@pytest.mark.parametrize("plan", PLANNERS)
def test_a_word_sees_its_own_text_and_no_other(plan: str) -> None:
    starts, context = (0, 3, 4, 30), ContextPolicy(8)
    story = numbered_words(50, starts)
    visible = counting_model(PLANNERS[plan], PieceTokenizer(2)).states(story, context)[0, :, 0]
    own = np.concatenate([np.arange(stop - start) for start, stop in pairwise([*starts, 50])])
    np.testing.assert_array_equal(visible, [word - context.chunk_start(word) + 1 for word in own])


@pytest.mark.parametrize("plan", PLANNERS)
def test_cutting_words_into_pieces_of_equal_states_changes_nothing(plan: str, make_words: Callable[..., Story]) -> None:
    story, context = make_words(["sometimes"] * 50), ContextPolicy(8)
    one, two, three = (counting_model(PLANNERS[plan], PieceTokenizer(n)).states(story, context) for n in (1, 2, 3))
    np.testing.assert_array_equal(two, one)
    np.testing.assert_allclose(three, one, atol=2e-7, rtol=0)


@pytest.mark.parametrize("plan", PLANNERS)
def test_context_is_shortened_word_by_word_and_counted(plan: str, make_words: Callable[..., Story]) -> None:
    """2 tokens a word and 2 around: 21 tokens take 9 words."""
    story, context = make_words(["tea"] * 40), ContextPolicy(8)
    model = counting_model(PLANNERS[plan], PieceTokenizer(2, specials=True), max_tokens=21)
    visible = model.states(story, context)[0, :, 0]
    policy = np.array([word - context.chunk_start(word) + 1 for word in range(40)])
    np.testing.assert_array_equal(visible, np.minimum(policy, 9))
    assert model.report.n_shortened == int((policy > 9).sum()) > 0
    assert model.context_shortened == model.report.n_shortened / 40


@pytest.mark.parametrize("plan", PLANNERS)
def test_a_word_that_does_not_fit_is_named(plan: str, make_words: Callable[..., Story]) -> None:
    model = counting_model(PLANNERS[plan], PieceTokenizer(7), max_tokens=6)
    with pytest.raises(DataError, match=r"word 0 'sometimes' alone has 7 tokens, more than the 6"):
        model.states(make_words(["sometimes"] * 3), ContextPolicy(8))


def test_the_plan_of_a_long_real_text_keeps_each_word_once(
    tokenizers: dict[str, transformers.PreTrainedTokenizerFast], tale: Story
) -> None:
    context = ContextPolicy(9)
    texts = [tale.text[tale.spans[context.chunk_start(w)][0] : tale.spans[w][1]] for w in range(tale.n_words)]
    for kind, tokenizer in tokenizers.items():
        lengths = np.array([len(tokens) for tokens in FastTokenizer(tokenizer, kind).encode(texts)])
        for limit in (None, 60, 31):
            plan = plan_causal(tale, context, FastTokenizer(tokenizer, kind), limit)
            words = sorted(word for reading in plan.readings for word in reading.words)
            assert words == list(range(tale.n_words))
            assert max(len(reading.tokens) for reading in plan.readings) <= (limit or 10**9)
            assert plan.n_shortened == (lengths > (limit or 10**9)).sum()


@pytest.mark.parametrize("batch_size", ["auto", 32])
def test_out_of_memory_halves_the_batch_and_remembers(batch_size: int | str, make_words: Callable[..., Story]) -> None:
    backbone = CountingBackbone(largest_batch=5)
    model = counting_model(plan_prefixes, PieceTokenizer(1), backbone=backbone, batch_size=batch_size)
    story, context = make_words(["tea"] * 40), ContextPolicy(8)
    states = model.states(story, context)
    free = counting_model(plan_prefixes, PieceTokenizer(1)).states(story, context)
    np.testing.assert_array_equal(states, free)
    failed = [n for n in backbone.batches if n > 5]
    assert failed == sorted(failed, reverse=True)
    assert all(later == earlier // 2 for earlier, later in pairwise(failed))
    assert model.report.largest_batch == failed[-1] // 2
    backbone.batches.clear()
    model.states(story, context)
    assert max(backbone.batches) <= 5


def test_out_of_memory_with_one_text_is_a_missing_prerequisite(make_words: Callable[..., Story]) -> None:
    model = counting_model(plan_prefixes, PieceTokenizer(1), backbone=CountingBackbone(largest_batch=0))
    with pytest.raises(MissingPrerequisite, match=r"a single text of 16 tokens \(CUDA out of memory"):
        model.states(make_words(["tea"] * 40), ContextPolicy(8))


def test_memory_that_a_library_of_cuda_lacks_halves_the_batch_too(make_words: Callable[..., Story]) -> None:
    class Cublas(CountingBackbone):
        def hidden_states(self, ids: Tensor, mask: Tensor, last_layer: int | None = None) -> Sequence[Tensor]:
            if len(ids) > 5:
                raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
            return super().hidden_states(ids, mask, last_layer)

    model = counting_model(plan_prefixes, PieceTokenizer(1), backbone=Cublas())
    assert np.isfinite(model.states(make_words(["tea"] * 40), ContextPolicy(8))).all()
    assert model.report.largest_batch == 5


def test_other_errors_of_the_forward_pass_are_not_taken_for_memory(make_words: Callable[..., Story]) -> None:
    class Broken(CountingBackbone):
        def hidden_states(self, ids: Tensor, mask: Tensor, last_layer: int | None = None) -> Sequence[Tensor]:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    model = counting_model(plan_prefixes, PieceTokenizer(1), backbone=Broken())
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        model.states(make_words(["tea"] * 4), ContextPolicy(8))


@pytest.mark.parametrize("batch_size", [0, -3])
def test_batch_sizes_below_one_are_refused(batch_size: int) -> None:
    with pytest.raises(UserError, match="allowed are auto and whole numbers from 1"):
        counting_model(plan_prefixes, PieceTokenizer(1), batch_size=batch_size)


def test_nan_states_name_layer_and_word(make_words: Callable[..., Story]) -> None:
    words = [f"w{i}" for i in range(20)]
    model = counting_model(plan_causal, PieceTokenizer(2), backbone=CountingBackbone(poison=12))
    with pytest.raises(InvalidNumbers, match=r"word 11 'w11' of story 'tale' in layer 1 is NaN"):
        model.states(make_words(words), ContextPolicy(8))


def test_a_tokenizer_of_another_model_is_named(make_words: Callable[..., Story]) -> None:
    backbone = CountingBackbone()
    backbone.n_vocabulary = 2
    model = counting_model(plan_causal, PieceTokenizer(2), backbone=backbone)
    with pytest.raises(UserError, match="gives token 2, the model stub knows 2"):
        model.states(make_words(["tea"] * 4), ContextPolicy(8))
