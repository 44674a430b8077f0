# SPDX-License-Identifier: Apache-2.0
"""The exposure probe tells a model that knows a text by heart from one that does not."""

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from voxelboard.benchmark.models.control_texts import CONTROL_TEXTS
from voxelboard.benchmark.models.exposure import (
    WINDOW_WORDS,
    CausalHead,
    exchanged,
    load_head,
    probe,
    summarise_exposure,
    written_like,
)
from voxelboard.benchmark.models.spec import ModelSpec
from voxelboard.benchmark.stimuli.stories import Story, make_story


class FourgramHead:
    """A four-gram model of some texts: cheap where it knows what comes next, ten bits a word elsewhere."""

    def __init__(self, *texts: str) -> None:
        self.after: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for text in texts:
            words = text.split()
            for k in range(3, len(words)):
                self.after[tuple(words[k - 3 : k])][words[k]] += 1

    def bits(self, text: str) -> float:
        words = text.split()
        known = [words[k] in self.after[tuple(words[k - 3 : k])] for k in range(3, len(words))]
        return float(np.where(known, 0.5, 10.0).sum())

    def go_on(self, text: str, n_tokens: int) -> str:
        words = text.split()
        start = len(words)
        for _ in range(n_tokens):
            known = self.after[tuple(words[-3:])]
            words.append(known.most_common(1)[0][0] if known else "nothing")
        return " ".join(words[start:])


def story_of(words: list[str]) -> Story:
    onsets = np.arange(len(words)) * 0.4
    return make_story("tale", words, onsets, onsets + 0.3, n_trs=len(words), tr=2.0)


@pytest.fixture(scope="module")
def tale() -> Story:
    rng = np.random.default_rng(0)
    vocabulary = ["".join(rng.choice(list("aeioubcdfg"), rng.integers(2, 8))) for _ in range(200)]
    return story_of([vocabulary[i] for i in rng.integers(200, size=10 * WINDOW_WORDS)])


def test_a_text_known_by_heart_is_told(tale: Story) -> None:
    found = probe(FourgramHead(tale.text), {"tale": tale}, seed=0)  # type: ignore[arg-type]
    summary = summarise_exposure(found)
    assert summary.loss < summary.control_loss
    assert summary.excess.low is not None
    assert summary.excess.low > 1
    assert summary.verbatim_share == 1.0
    assert summary.control_verbatim_share == 0.0
    assert summary.longest_verbatim_words == 12


def test_a_model_that_has_seen_neither_is_not_accused(tale: Story) -> None:
    summary = summarise_exposure(probe(FourgramHead("some other text it is"), {"tale": tale}, seed=0))  # type: ignore[arg-type]
    assert summary.verbatim_share == 0.0
    assert summary.excess.estimate is None or abs(summary.excess.estimate) < 0.5


def test_a_model_that_has_seen_the_controls_shows_as_such(tale: Story) -> None:
    own = [" ".join(written_like(text.split(), [list(tale.words)])) for text in CONTROL_TEXTS]
    summary = summarise_exposure(probe(FourgramHead(*own), {"tale": tale}, seed=0))  # type: ignore[arg-type]
    assert summary.excess.high is not None
    assert summary.excess.high < -1
    assert summary.control_verbatim_share >= 0.7  # three words that recur lead a four-gram astray


def test_exchanged_words_are_others_of_the_same_text() -> None:
    words = CONTROL_TEXTS[0].split()[:WINDOW_WORDS]
    changed = exchanged(words, np.random.default_rng(1))
    different = [k for k in range(len(words)) if words[k] != changed[k]]
    assert len(different) == round(0.15 * WINDOW_WORDS)
    assert set(changed) <= set(words)
    assert np.mean([abs(len(words[k]) - len(changed[k])) for k in different]) < 1


def test_controls_are_written_as_the_stimuli_are() -> None:
    assert written_like(["Don't", "go,", "Radu."], [["so", "then", "i"]]) == ["don't", "go", "radu"]
    assert written_like(["Don't", "go,"], [["So,", "then.", "I"]]) == ["Don't", "go,"]


def test_losses_are_those_of_transformers(shared_models: Path, tale: Story) -> None:
    folder = shared_models / "stories260K"
    head = load_head(
        ModelSpec("causal", "local", path=folder),
        device=torch.device("cpu"),
        offline=True,
        allow_remote_code=False,
        max_tokens=512,
    )
    assert isinstance(head, CausalHead)
    module = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    text = "Once upon a time there was a little girl"
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        loss = float(module(input_ids=ids, labels=ids).loss)
        continued = module.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]
    assert head.bits(text) == pytest.approx(loss * (ids.shape[1] - 1) / np.log(2), rel=1e-4)
    assert head.go_on(text, 8) == tokenizer.decode(continued, skip_special_tokens=True)


def test_models_without_a_head_say_so(checkpoints: Callable[[str], Path]) -> None:
    options = {"device": torch.device("cpu"), "offline": True, "allow_remote_code": False, "max_tokens": 64}
    bert = load_head(ModelSpec("masked", "local", path=checkpoints("bert")), **options)  # type: ignore[arg-type]
    assert bert == "only pretrained causal language models have a loss on a text"
    llama = load_head(ModelSpec("causal", "local", path=checkpoints("llama")), **options)  # type: ignore[arg-type]
    assert isinstance(llama, str)  # this checkpoint was saved without its head
    assert "no language-model head" in llama
