# SPDX-License-Identifier: Apache-2.0
"""Training from scratch: it learns what is there to learn, resumes to the same weights, and stops at nonsense."""

import math
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from voxelboard.benchmark.errors import DataError, InvalidNumbers, UserError
from voxelboard.benchmark.models.load import load_model
from voxelboard.benchmark.models.spec import ModelSpec
from voxelboard.benchmark.protocol import ContextPolicy
from voxelboard.benchmark.stimuli.ablations import Counts, tag_vocabulary
from voxelboard.benchmark.stimuli.corpora import MANIFEST, Manifest
from voxelboard.benchmark.stimuli.stories import make_story
from voxelboard.benchmark.training.ngrams import DISCOUNT, fit_ngrams
from voxelboard.benchmark.training.presets import ARCHITECTURES, PRESETS, Shape, load_preset
from voxelboard.benchmark.training.tokens import token_file, train_tokenizer, windows
from voxelboard.benchmark.training.trainer import last_checkpoint, read_result, train_model

WORDS = ["dog", "cat", "house", "tree", "boat", "hand", "stone", "bird"]
PRESET = PRESETS["tiny"]

pytestmark = pytest.mark.timeout(300)


def write_corpus(folder: Path, passages: list[str]) -> Path:
    """A version of a corpus as ``prepare_corpus`` leaves it, from sentences of one's own."""
    import json
    from dataclasses import asdict

    folder.mkdir(parents=True)
    held_out = passages[:: len(passages) // 20]
    (folder / "00000-0.train.txt").write_text("\n".join(passages) + "\n")
    (folder / "00000-0.validation.txt").write_text("\n".join(held_out) + "\n")
    manifest = Manifest(
        folder.name, "", "by hand", 0, True, 1.0, 1, (), len(passages), 0, Counts(), folder.name, ("00000-0.train.txt",)
    )
    (folder / MANIFEST).write_text(json.dumps(asdict(manifest)))
    return folder


def chain(n: int, successors: int, seed: int) -> list[str]:
    """Passages of a Markov chain in which each word has ``successors`` equally likely ones: its entropy is their log."""
    rng = np.random.default_rng(seed)
    passages = []
    for _ in range(n):
        at, words = int(rng.integers(len(WORDS))), []
        for _ in range(12):
            words.append(WORDS[at])
            at = (at + 1 + int(rng.integers(successors))) % len(WORDS)
        passages.append(" ".join(words))
    return passages


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("corpora")
    return {
        "ordered": write_corpus(folder / "ordered", chain(400, 1, 0)),
        "free": write_corpus(folder / "free", chain(400, 8, 1)),
    }


@pytest.fixture(scope="module")
def tokenizer(corpora: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return train_tokenizer([*chain(50, 8, 2), "a NNOUN ran"], 300, tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def train(corpora: dict[str, Path], tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    folder = tmp_path_factory.mktemp("models")

    def run(architecture: str, name: str, seed: int = 0, output: Path | None = None, **changes: Any) -> Any:
        output = output or folder / f"{architecture}-{name}-{seed}"
        return output, train_model(
            replace(PRESET, **changes),
            architecture,
            corpora[name],
            tokenizer,
            seed,
            output,
            tokens_folder=folder / "tokens",
        )

    return run


@pytest.mark.parametrize("architecture", ["gpt2", "lstm"])
def test_loss_is_lower_where_words_can_be_predicted_by_the_planted_information(
    train: Callable[..., Any], architecture: str
) -> None:
    """ordered: after the first word of 12 nothing is uncertain; free: log 8 nats a word."""
    start = {"gpt2": 0.1, "lstm": 0.5}[architecture]  # states of an LSTM are small, and so are its logits
    shapes = {architecture: replace(PRESET.shapes[architecture], initializer=start)}
    _, ordered = train(architecture, "ordered", tokens=32 * 8 * 100, shapes=shapes)
    _, free = train(architecture, "free", tokens=32 * 8 * 100, shapes=shapes)
    planted = math.log(8) * 11 / 13  # per token: 12 words and the end
    assert free.validation_loss - ordered.validation_loss == pytest.approx(planted, rel=0.25)
    assert ordered.curve[0][1] > ordered.curve[-1][1]
    assert ordered.perplexity == pytest.approx(math.exp(ordered.validation_loss))
    # the trigram model knows what is to know of such a chain
    assert free.ngram_loss - ordered.ngram_loss == pytest.approx(planted, rel=0.1)


def test_the_same_seed_gives_the_same_weights_and_another_others(train: Callable[..., Any], tmp_path: Path) -> None:
    folder, first = train("gpt2", "ordered", seed=1)
    again, second = train("gpt2", "ordered", seed=1, output=tmp_path / "again")
    other, _ = train("gpt2", "ordered", seed=2)
    weights = [load_file(f / "model.safetensors")["transformer.wte.weight"] for f in (folder, again, other)]
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])
    assert first == second


def test_accumulated_passes_make_the_step_of_the_whole_batch(train: Callable[..., Any], tmp_path: Path) -> None:
    weights = []
    for batch, accumulation in ((8, 1), (4, 2), (2, 4)):
        folder, _ = train(
            "gpt2",
            "ordered",
            seed=4,
            output=tmp_path / str(batch),
            batch=batch,
            accumulation=accumulation,
            tokens=32 * 8 * 6,
        )
        weights.append(load_file(folder / "model.safetensors")["transformer.wte.weight"])
    for other in weights[1:]:
        np.testing.assert_allclose(other, weights[0], atol=2e-4)


@pytest.mark.skipif("__import__('torch').cuda.is_available()", reason="a GPU trains this preset in bfloat16")
def test_a_preset_of_mixed_precision_trains_in_float32_where_there_is_no_gpu(
    train: Callable[..., Any], tmp_path: Path
) -> None:
    whole, _ = train("gpt2", "ordered", seed=5, output=tmp_path / "float32")
    mixed, _ = train("gpt2", "ordered", seed=5, output=tmp_path / "bfloat16", precision="bfloat16")
    one, other = (load_file(folder / "model.safetensors")["transformer.wte.weight"] for folder in (whole, mixed))
    assert one.equal(other)


def test_training_that_was_interrupted_ends_with_the_same_weights(train: Callable[..., Any], tmp_path: Path) -> None:
    folder, whole = train("lstm", "ordered", seed=3)
    with pytest.MonkeyPatch.context() as patch:
        import transformers

        step = transformers.Trainer.training_step
        calls = Counter()

        def interrupt(self: Any, *args: Any, **kwargs: Any) -> Any:
            calls["steps"] += 1
            if calls["steps"] > 2 * PRESET.steps // 3:
                raise KeyboardInterrupt
            return step(self, *args, **kwargs)

        patch.setattr(transformers.Trainer, "training_step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train("lstm", "ordered", seed=3, output=tmp_path / "again")
    checkpoint = last_checkpoint(tmp_path / "again" / "checkpoints")
    assert checkpoint is not None
    again, resumed = train("lstm", "ordered", seed=3, output=tmp_path / "again")
    weights = [load_file(f / "model.safetensors") for f in (folder, again)]
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])
    assert resumed.validation_loss == whole.validation_loss
    assert not (again / "checkpoints").exists()


def test_a_torn_checkpoint_is_passed_over(tmp_path: Path) -> None:
    for step, text in ((10, '{"global_step": 10}'), (20, '{"global_st')):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(text)
    (tmp_path / "checkpoint-30").mkdir()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
    assert not (tmp_path / "checkpoint-20").exists()
    assert last_checkpoint(tmp_path / "none") is None


def test_a_loss_gone_nan_stops_the_training_and_says_what_to_do(train: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(InvalidNumbers, match="Lower the learning rate"):
        train("gpt2", "ordered", output=tmp_path / "wild", shapes={"gpt2": Shape(16, 1, 1e30, 0.1, heads=2)})
    with pytest.raises(DataError, match="no finished training"):
        read_result(tmp_path / "wild")


def test_a_trained_model_is_a_checkpoint_that_a_submission_names(train: Callable[..., Any]) -> None:
    for architecture, loader in (("gpt2", "causal"), ("lstm", "recurrent")):
        folder, _ = train(architecture, "ordered", seed=1)
        model = load_model(ModelSpec(loader=loader, source="local", path=folder))
        words = ["a", "dog", "NNOUN", "NNOUN's", "cat"]
        story = make_story("s", words, range(5), range(1, 6), n_trs=6, tr=1.0)
        states = model.states(story, ContextPolicy())
        assert states.shape == (2, 5, 16)
        # a tag is one token: the state of the embedding layer is the same wherever it stands
        pieces = model._tokenizer.encode(["a NNOUN b"])[0]
        assert len(pieces) == 3


def test_a_finished_training_is_only_read(train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    train("gpt2", "ordered", seed=1)
    monkeypatch.setattr(transformers.Trainer, "train", lambda *_, **__: pytest.fail("trained again"))
    _, again = train("gpt2", "ordered", seed=1)
    assert again.seed == 1


def test_every_tag_is_one_token_and_text_is_lower_case(tokenizer: Any) -> None:
    for tag in tag_vocabulary():
        assert len(tokenizer(f"a {tag} b")["input_ids"]) == 3
        assert len(tokenizer(f"{tag} b")["input_ids"]) == 2
    assert tokenizer("A DOG")["input_ids"] == tokenizer("a dog")["input_ids"]


def test_tokens_are_the_passages_divided_by_the_end(corpora: dict[str, Path], tokenizer: Any, tmp_path: Path) -> None:
    ids = token_file(corpora["ordered"], "train", tokenizer, tmp_path)
    assert int((ids == tokenizer.eos_token_id).sum()) == 400
    assert ids.dtype == np.uint16
    text = tokenizer.decode(ids.tolist()).replace("<|endoftext|>", "\n").split("\n")
    assert [line.strip() for line in text[:400]] == chain(400, 1, 0)
    assert windows(ids, 32).shape == (len(ids) // 32, 32)
    assert windows(ids[:5], 32).shape == (1, 32)
    with pytest.raises(DataError, match="at least 2"):
        windows(ids[:1], 32)


def test_ngram_probabilities_sum_to_one_and_equal_the_formula() -> None:
    ids = np.array([0, 1, 2, 0, 1, 3, 0, 1, 2, 4])
    model = fit_ngrams(ids, 6)
    for context in ((), (0,), (0, 1), (3, 0), (5, 5), (1, 2)):
        assert sum(model.probability(context, token) for token in range(6)) == pytest.approx(1.0)
    # the unigram counts left contexts among the trigrams' bigrams: {1: 2 (01, after 2 and 3: once each as bigram), ...}
    d = DISCOUNT
    bigrams = Counter(zip(ids[1:].tolist(), ids[2:].tolist(), strict=False))
    lower = Counter(pair[1] for pair in {(a, b) for (a, b) in bigrams})
    unigram = {w: (max(lower[w] - d, 0) + d * len(lower) / 6) / sum(lower.values()) for w in range(6)}
    assert model.probability((), 2) == pytest.approx(unigram[2])


def test_a_bigram_model_reads_one_token_and_a_unigram_model_none() -> None:
    ids = np.array([0, 1, 2, 0, 1, 3, 0, 1, 2, 4])
    d = DISCOUNT
    unigrams, bigrams = fit_ngrams(ids, 6, 1), fit_ngrams(ids, 6, 2)
    for model in (unigrams, bigrams):
        assert sum(model.probability((3, 1), token) for token in range(6)) == pytest.approx(1.0)
    # frequencies: 0 stands there 3 times of 10, five kinds of six were seen
    assert unigrams.probability((2, 1), 0) == pytest.approx((3 - d + d * 5 / 6) / 10)
    # after 1: twice 2 and once 3; below stand the left contexts: six pairs that end in five kinds of tokens
    below = (1 - d) / 6 + d * 5 / 6 / 6
    assert bigrams.probability((0, 1), 2) == pytest.approx((2 - d + d * 2 * below) / 3)
    assert bigrams.probability((4, 1), 2) == bigrams.probability((1,), 2)
    assert unigrams.mean_loss(ids[None]) > bigrams.mean_loss(ids[None]) > fit_ngrams(ids, 6).mean_loss(ids[None])


def test_presets() -> None:
    with pytest.raises(UserError, match="Did you mean 'small'"):
        load_preset("smalll")
    full = load_preset("full")
    gpt2 = full.shapes["gpt2"]
    assert (gpt2.width, gpt2.layers, gpt2.heads) == (768, 12, 12)  # GPT-2-small
    assert set(full.shapes) == set(load_preset("small").shapes) == set(ARCHITECTURES)
    assert full.tokens_per_step == 65536


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_process_resumes(corpora: dict[str, Path], tokenizer: Any, tmp_path: Path) -> None:
    """SIGKILL in the middle, then the same call: the weights of an uninterrupted run."""
    tokenizer.save_pretrained(tmp_path / "tok")
    code = f"""
import sys; from pathlib import Path; from dataclasses import replace
from transformers import AutoTokenizer
from voxelboard.benchmark.training.presets import PRESETS
from voxelboard.benchmark.training.trainer import train_model
train_model(replace(PRESETS["tiny"], tokens=32 * 8 * 90, checkpoints=9), "gpt2", Path({str(corpora["ordered"])!r}),
            AutoTokenizer.from_pretrained({str(tmp_path / "tok")!r}), 5, Path(sys.argv[1]), tokens_folder=Path({str(tmp_path)!r}))
"""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([sys.executable, "-c", code, str(whole)], check=True, timeout=120)
    process = subprocess.Popen([sys.executable, "-c", code, str(killed)])
    for _ in range(1200):
        if any((killed / "checkpoints").glob("checkpoint-*/trainer_state.json")):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "training.json").exists()
    subprocess.run([sys.executable, "-c", code, str(killed)], check=True, timeout=120)
    weights = [load_file(f / "model.safetensors") for f in (whole, killed)]
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])
