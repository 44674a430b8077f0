# SPDX-License-Identifier: Apache-2.0
"""Time to states: strided chunks against a pass for every word, with the same visible words and equal states.

GPT-2 of 6 layers x 384 (performance.md 6), random weights, one thread. The naive ways read a few words only and are
divided by their number; ``ms_per_word`` is in the extra info of every row.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from voxelboard.benchmark.features.extract import extract_features
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
    rng = np.random.default_rng(0)
    lexicon = ["".join(rng.choice(LETTERS, size=n)) for n in rng.integers(2, 9, size=300)]
    words = rng.choice(lexicon, size=N_WORDS).tolist()
    onsets = np.arange(N_WORDS) * 0.4
    return make_story("bench", words, onsets, onsets + 0.3, n_trs=N_WORDS, tr=2.0)


def _save(folder: Path, story: Story, config: Any) -> Path:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator([story.text], trainer)
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.AutoModel.from_config(config).save_pretrained(folder)
        transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory, story: Story) -> Path:
    config = transformers.GPT2Config(n_layer=6, n_embd=384, n_head=6, n_positions=1024)
    return _save(tmp_path_factory.mktemp("gpt2"), story, config)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory, story: Story) -> Path:
    config = transformers.BertConfig(
        vocab_size=1000, num_hidden_layers=6, hidden_size=384, num_attention_heads=6, intermediate_size=1536
    )
    return _save(tmp_path_factory.mktemp("bert"), story, config)


def _naive(folder: Path, story: Story, architecture: type[Any]) -> Callable[[], np.ndarray]:
    """A pass for each of a few words, one text at a time, token mean: (n_layers, n_words_read, n_features)."""
    with quiet_transformers():
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        model = architecture.from_pretrained(folder).eval()

    def read(word: int) -> torch.Tensor:
        begin, (start, stop) = story.spans[CONTEXT.chunk_start(word)][0], story.spans[word]
        encoded = tokenizer(story.text[begin:stop], return_offsets_mapping=True, return_tensors="pt")
        tokens = [i for i, (_, b) in enumerate(encoded["offset_mapping"][0].tolist()) if b > start - begin]
        layers = model(input_ids=encoded["input_ids"], output_hidden_states=True).hidden_states
        return torch.stack([layer[0, tokens].mean(0) for layer in layers])

    @torch.inference_mode()
    def run() -> np.ndarray:
        return torch.stack([read(word) for word in NAIVE_WORDS], dim=1).numpy()

    return run


def _report(benchmark: Any, n_words: int) -> None:
    if benchmark.stats is not None:  # None with --benchmark-disable
        benchmark.extra_info["ms_per_word"] = round(benchmark.stats.stats.median / n_words * 1e3, 3)


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
