# SPDX-License-Identifier: Apache-2.0
"""Time to states: strided chunks against a pass for every word, with the same visible words and equal states.

GPT-2 of 6 layers x 384 (performance.md 6), random weights, one thread. The naive ways read a few words only and are
divided by their number; ``ms_per_word`` is in the extra info of every row. Rows with a ``ratio`` ran beside their peer, in
turns, CPU seconds of both.
"""

import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from bench_peers import huth_interpolation
from bench_text import save_tokenizer

from voxelboard.benchmark.features.extract import extract_features, resample_states
from voxelboard.benchmark.features.store import FeatureStore
from voxelboard.benchmark.models.load import load_model
from voxelboard.benchmark.models.quiet import quiet_transformers
from voxelboard.benchmark.models.spec import ModelSpec
from voxelboard.benchmark.models.transformer import TransformerModel
from voxelboard.benchmark.protocol import V1, ContextPolicy
from voxelboard.benchmark.stimuli.stories import Story, make_story

CONTEXT = ContextPolicy()
N_WORDS = 512
N_MASKED_WORDS = 160
NAIVE_WORDS = tuple(range(140, 152))  # 76 to 88 words of context; the mean over a story is 96
WIDE = ContextPolicy(stride_words=256)
WIDE_WORDS = tuple(range(638, 642))  # 382 to 385 words of context; the mean over a story is 384
N_GROWING = 384
LETTERS = np.array(list("etaoinshrdlu"))

pytestmark = pytest.mark.benchmark(group="extraction", min_rounds=3, max_time=2)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def story() -> Story:
    return _story(N_WORDS)


def _story(n_words: int) -> Story:
    rng = np.random.default_rng(0)
    lexicon = ["".join(rng.choice(LETTERS, size=n)) for n in rng.integers(2, 9, size=300)]
    words = rng.choice(lexicon, size=n_words).tolist()
    onsets = np.arange(n_words) * 0.4
    return make_story("bench", words, onsets, onsets + 0.3, n_trs=n_words, tr=2.0)


def _save(folder: Path, story: Story, config: Any) -> Path:
    save_tokenizer(folder, [story.text])
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.AutoModel.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory, story: Story) -> Path:
    config = transformers.GPT2Config(n_layer=6, n_embd=384, n_head=6, n_positions=2048)
    return _save(tmp_path_factory.mktemp("gpt2"), story, config)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory, story: Story) -> Path:
    config = transformers.BertConfig(
        num_hidden_layers=6, hidden_size=384, num_attention_heads=6, intermediate_size=1536
    )
    return _save(tmp_path_factory.mktemp("bert"), story, config)


def _naive(
    folder: Path,
    story: Story,
    architecture: type[Any],
    words: Sequence[int] = NAIVE_WORDS,
    context: ContextPolicy = CONTEXT,
) -> Callable[[], np.ndarray]:
    """A pass for each of a few words, one text at a time, token mean: (n_layers, n_words_read, n_features)."""
    with quiet_transformers():
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        model = architecture.from_pretrained(folder).eval()

    def read(word: int) -> torch.Tensor:
        begin, (start, stop) = story.spans[context.chunk_start(word)][0], story.spans[word]
        encoded = tokenizer(story.text[begin:stop], return_offsets_mapping=True, return_tensors="pt")
        tokens = [i for i, (_, b) in enumerate(encoded["offset_mapping"][0].tolist()) if b > start - begin]
        layers = model(input_ids=encoded["input_ids"], output_hidden_states=True).hidden_states
        return torch.stack([layer[0, tokens].mean(0) for layer in layers])

    @torch.inference_mode()
    def run() -> np.ndarray:
        return torch.stack([read(word) for word in words], dim=1).numpy()

    return run


def _report(benchmark: Any, n_words: int) -> None:
    if benchmark.stats is not None:  # None with --benchmark-disable
        benchmark.extra_info["ms_per_word"] = round(benchmark.stats.stats.median / n_words * 1e3, 3)


def _beside(benchmark: Any, ours: Callable[[], Any], peer: Callable[[], Any], share: float = 1.0) -> tuple[Any, Any]:
    """Results of both, three rounds in turns. ``ratio``: CPU seconds of the peer, by ``share`` of the work that it did, to ours."""
    seconds: list[float] = []
    kept: list[Any] = []

    def run_peer() -> None:
        start = time.process_time()
        kept[:] = [peer()]
        seconds.append(time.process_time() - start)

    found = benchmark.pedantic(ours, setup=run_peer, rounds=3)
    if benchmark.stats is not None:
        theirs, mine = float(np.median(seconds)) / share, benchmark.stats.stats.median
        benchmark.extra_info.update(ratio=theirs / mine, peer_s=theirs, ours_s=mine)
    return found, kept[0]


def _model(folder: Path, loader: Any, **options: Any) -> TransformerModel:
    model = load_model(ModelSpec(loader=loader, source="local", path=folder), **options)
    assert isinstance(model, TransformerModel)
    return model


@pytest.mark.parametrize("head", ["lm_head", "body"])
def test_naive_pass_for_every_word(benchmark: Any, gpt2: Path, story: Story, head: str) -> None:
    """Peers read a model with its language-model head; ``body`` leaves the logits out."""
    if head == "lm_head":  # the head is tied to the embeddings, so the checkpoint of the body has all weights
        architecture: type[Any] = transformers.GPT2LMHeadModel
    else:
        architecture = transformers.GPT2Model
    benchmark(_naive(gpt2, story, architecture))
    _report(benchmark, len(NAIVE_WORDS))


@pytest.mark.parametrize("batch_size", [1, 4, "auto"])
def test_strided_chunks(benchmark: Any, gpt2: Path, story: Story, batch_size: Any) -> None:
    model = _model(gpt2, "causal", batch_size=batch_size)
    states = benchmark(lambda: model.states(story, CONTEXT))
    _report(benchmark, story.n_words)
    expected = _naive(gpt2, story, transformers.GPT2Model)()
    np.testing.assert_allclose(states[:, list(NAIVE_WORDS)], expected, atol=2e-5, rtol=0)


def test_masked_naive(benchmark: Any, bert: Path, story: Story) -> None:
    benchmark(_naive(bert, story, transformers.BertModel))
    _report(benchmark, len(NAIVE_WORDS))


def test_masked_prefixes(benchmark: Any, bert: Path, story: Story) -> None:
    n = N_MASKED_WORDS
    part = make_story("part", story.words[:n], story.onsets[:n], story.offsets[:n], n_trs=n, tr=2.0)
    model = _model(bert, "masked")
    states = benchmark.pedantic(lambda: model.states(part, CONTEXT), rounds=3)
    _report(benchmark, part.n_words)
    expected = _naive(bert, part, transformers.BertModel)()
    np.testing.assert_allclose(states[:, list(NAIVE_WORDS)], expected, atol=2e-5, rtol=0)


@pytest.mark.benchmark(group="words in steps of 256, each after 256 to 511 others", timer=time.process_time)
def test_wide_chunks_beside_a_pass_with_logits_for_every_word(benchmark: Any, gpt2: Path) -> None:
    story, model = _story(1024), _model(gpt2, "causal")
    naive = _naive(gpt2, story, transformers.GPT2LMHeadModel, WIDE_WORDS, WIDE)
    states, expected = _beside(benchmark, lambda: model.states(story, WIDE), naive, len(WIDE_WORDS) / story.n_words)
    np.testing.assert_allclose(states[:, list(WIDE_WORDS)], expected, atol=2e-5, rtol=0)


@pytest.mark.benchmark(group=f"all words before it, {N_GROWING} words", timer=time.process_time)
def test_one_pass_beside_steps_with_a_cache(benchmark: Any, gpt2: Path) -> None:
    """The peer adds word after word to a key and value cache, without the head, and keeps the states of all layers."""
    story, model = _story(N_GROWING), _model(gpt2, "causal")
    with quiet_transformers():
        tokenizer = transformers.AutoTokenizer.from_pretrained(gpt2)
        module = transformers.GPT2Model.from_pretrained(gpt2).eval()
    encoded = tokenizer(story.text, return_offsets_mapping=True)
    ids, ends = torch.tensor([encoded["input_ids"]]), np.array(encoded["offset_mapping"])[:, 1]
    cuts = [0, *np.searchsorted(ends, [stop for _, stop in story.spans], side="right").tolist()]

    @torch.inference_mode()
    def steps() -> np.ndarray:
        cache, states = transformers.DynamicCache(), []
        for first, last in itertools.pairwise(cuts):
            output = module(ids[:, first:last], past_key_values=cache, use_cache=True, output_hidden_states=True)
            states.append(torch.stack([layer[0].mean(0) for layer in output.hidden_states]))
        return torch.stack(states, dim=1).numpy()

    # of a text shorter than twice the stride every word sees all words before it
    states, expected = _beside(benchmark, lambda: model.states(story, WIDE), steps)
    np.testing.assert_allclose(states, expected, atol=1e-5, rtol=0)


@pytest.mark.benchmark(group="exact prefixes of a bidirectional model", timer=time.process_time)
@pytest.mark.parametrize("peer", ["with its head", "body", "the same batches through the bare module"])
def test_prefixes_beside(benchmark: Any, bert: Path, story: Story, peer: str) -> None:
    """The last is the floor: nothing that runs each prefix whole can be faster than that."""
    n = max(NAIVE_WORDS) + 1
    part = make_story("part", story.words[:n], story.onsets[:n], story.offsets[:n], n_trs=n, tr=2.0)
    model = _model(bert, "masked")
    backbone: Any = model._backbone
    plan = model._plan(part, CONTEXT, model._tokenizer, model.identity.max_tokens)
    readings = [reading for reading in plan.readings if set(reading.words) & set(NAIVE_WORDS)]

    def ours() -> np.ndarray:
        kept: dict[int, torch.Tensor] = {}

        def step(batch: list[Any]) -> None:
            pooled = model._read(batch)
            kept.update(zip([word for reading in batch for word in reading.words], pooled.unbind(1), strict=True))

        model._batcher.run(readings, lambda reading: len(reading.tokens), step)
        return torch.stack([kept[word] for word in NAIVE_WORDS], dim=1).numpy()

    inputs: list[tuple[torch.Tensor, torch.Tensor]] = []
    hidden_states = backbone.hidden_states
    backbone.hidden_states = lambda ids, mask, last=None: (inputs.append((ids, mask)), hidden_states(ids, mask, last))[
        1
    ]
    ours()
    del backbone.hidden_states

    @torch.inference_mode()
    def bare() -> None:
        for ids, mask in inputs:
            backbone._module(input_ids=ids, attention_mask=mask, output_hidden_states=True)

    peers = {
        "with its head": _naive(bert, part, transformers.BertForMaskedLM),
        "body": _naive(bert, part, transformers.BertModel),
        "the same batches through the bare module": bare,
    }
    states, expected = _beside(benchmark, ours, peers[peer])
    if expected is not None:
        np.testing.assert_allclose(states, expected, atol=2e-5, rtol=0)


@pytest.mark.benchmark(group="up to a layer", timer=time.process_time)
@pytest.mark.parametrize("last_layer", [2, 4])
def test_stopping_at_the_last_layer_needed(benchmark: Any, gpt2: Path, story: Story, last_layer: int) -> None:
    """Of 6 blocks, 2 or 4: the ratio cannot be more than 3 or 1.5."""
    model = _model(gpt2, "causal")
    some = model.up_to(last_layer)
    states, whole = _beside(benchmark, lambda: some.states(story, CONTEXT), lambda: model.states(story, CONTEXT))
    assert states.tobytes() == np.ascontiguousarray(whole[: last_layer + 1]).tobytes()


@pytest.mark.benchmark(group="words to TRs, 13 layers of 768", timer=time.process_time)
@pytest.mark.parametrize("name", ["lanczos3", "tr_mean"])
def test_words_to_trs_beside(benchmark: Any, name: str) -> None:
    """Lanczos beside the Huth laboratory's ``lanczosinterp2D``, the mean of a TR beside ``numpy.add.at``, layer by layer."""
    n_words, n_trs = 1_600, 320
    onsets = np.sort(np.random.default_rng(0).uniform(0, 2.0 * n_trs - 1, n_words))
    story = make_story("told", ["word"] * n_words, onsets, onsets + 0.3, n_trs=n_trs, tr=2.0)
    states = np.random.default_rng(1).standard_normal((13, n_words, 768)).astype(np.float32)
    times, new_times = (story.onsets + story.offsets) / 2, (np.arange(n_trs) + 0.5) * story.tr
    counts = np.maximum(np.bincount(story.word_trs, minlength=n_trs), 1)[:, None]

    def added(layer: np.ndarray) -> np.ndarray:
        summed = np.zeros((n_trs, layer.shape[1]))
        np.add.at(summed, story.word_trs, layer)
        return summed / counts

    if name == "lanczos3":
        interpolate = huth_interpolation().lanczosinterp2D

        def peer(layer: np.ndarray) -> np.ndarray:
            return interpolate(layer, times, new_times)
    else:
        peer = added
    protocol = replace(V1, design=replace(V1.design, resampling=name))
    found, expected = _beside(
        benchmark, lambda: resample_states(states, story, protocol), lambda: np.stack([peer(layer) for layer in states])
    )
    np.testing.assert_allclose(found, expected, atol=1e-6 * float(np.abs(expected).max()), rtol=0)


@pytest.fixture(scope="module")
def told(shared_data: Path) -> Story:
    """A story as it was told, 2 s a TR."""
    texts = json.loads((shared_data / "lebel2023_pcs" / "texts_per_tr.json").read_text())["train__adollshouse"]
    words = [
        (word, 2.0 * tr + 2.0 * k / len(said))
        for tr, said in enumerate(map(str.split, texts))
        for k, word in enumerate(said)
    ]
    onsets = np.array([onset for _, onset in words])
    return make_story("told", [word for word, _ in words], onsets, onsets + 0.1, n_trs=len(texts), tr=2.0)


@pytest.mark.benchmark(group="time to features", timer=time.process_time)
@pytest.mark.parametrize("name", ["gpt2-shaped", "stories260K"])
def test_time_to_features_beside_the_forward_pass(
    benchmark: Any, request: pytest.FixtureRequest, told: Story, name: str, tmp_path: Path
) -> None:
    """Everything from words to stored features at TRs, beside the same batches through the bare module.

    ``share`` is the forward pass's part of the CPU seconds: 1 would be features for nothing.
    """
    if name == "stories260K":
        folder: Path = request.getfixturevalue("shared_models") / "stories260K"
    else:
        folder = request.getfixturevalue("gpt2")
    model = _model(folder, "causal")
    backbone: Any = model._backbone
    batches: list[Any] = []
    hidden_states = backbone.hidden_states

    def recorded(ids: torch.Tensor, mask: torch.Tensor, last_layer: int | None = None) -> Any:
        batches.append((ids, mask))
        return hidden_states(ids, mask, last_layer)

    backbone.hidden_states = recorded
    whole = model.states(told, CONTEXT)
    del backbone.hidden_states
    assert len(whole) == model.n_layers

    @torch.inference_mode()
    def forward() -> None:
        for ids, _ in batches:
            backbone._module(input_ids=ids)

    bare: list[float] = []

    def beside() -> tuple[tuple[int], dict[str, Any]]:
        start = time.process_time()
        forward()
        bare.append(time.process_time() - start)
        return (len(bare),), {}

    def features(n: int) -> Any:
        return extract_features(model, {"told": told}, V1, FeatureStore(tmp_path / str(n)))["told"]

    forward()
    found = benchmark.pedantic(features, setup=beside, rounds=5, warmup_rounds=1)
    assert found.shape == (model.n_layers, told.n_trs, model.n_features)
    if benchmark.stats is not None:
        median = float(np.median(bare[1:]))
        benchmark.extra_info.update(
            forward_s=round(median, 4),
            share=round(median / benchmark.stats.stats.median, 3),
            ms_per_word=round(benchmark.stats.stats.median / told.n_words * 1e3, 3),
            tokens=sum(int(mask.sum()) for _, mask in batches),
        )
