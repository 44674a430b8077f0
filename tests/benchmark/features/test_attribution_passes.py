# SPDX-License-Identifier: Apache-2.0
"""Attributions against closed forms, against Captum, against themselves in other batches, and their completeness."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import linear_language
import numpy as np
import pytest
import tiny_language
import torch

from voxelboard.benchmark.features.attribution_passes import argmax_targets, erasure_pass, path_pass, plain_pass
from voxelboard.benchmark.models.alignment import FastTokenizer
from voxelboard.benchmark.models.contexts import ScoredContext, collate, plan_contexts
from voxelboard.benchmark.models.language import LanguageModel
from voxelboard.benchmark.protocol import AttributionPolicy

POLICY = AttributionPolicy()
STORY = tiny_language.tale(tiny_language.TALE[:17])
PASSES = (plain_pass, path_pass, erasure_pass)
Build = Callable[..., LanguageModel]
Computed = Callable[[str], dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A tiny model of a family."""
    folders: dict[str, Path] = {}

    def load(family: str, **options: object) -> LanguageModel:
        if family not in folders:
            folders[family] = tiny_language.save_language_model(tmp_path_factory.mktemp(family), family)
        return tiny_language.language_model(folders[family], **options)

    return load


@pytest.fixture(scope="module")
def computed(build: Build) -> Callable[[str], dict[str, np.ndarray]]:
    """All tables of a family, computed once."""
    return lru_cache(lambda family: all_tables(build(family)))


@pytest.fixture(scope="module")
def linear() -> tuple[linear_language.LinearLanguage, LanguageModel, list[ScoredContext]]:
    """A linear model that reads single letters: one token a word, no start token."""
    tokenizer = FastTokenizer(tiny_language.byte_tokenizer(" ".join("abcdefghijklmnop"), start=False), "letters")
    module = linear_language.LinearLanguage(n_vocabulary=290)
    lm = LanguageModel(module, tokenizer, linear_language.IDENTITY, torch.device("cpu"), 0)
    story = tiny_language.tale([*"abcdefghijklmnop"])
    contexts = plan_contexts(story, 10, tokenizer, None)
    assert all(len(context.scored) == 1 for context in contexts[1:])
    return module, lm, contexts


def all_tables(lm: LanguageModel, policy: AttributionPolicy = POLICY) -> dict[str, np.ndarray]:
    contexts = plan_contexts(STORY, policy.context_words, lm.tokenizer, lm.identity.max_tokens)
    return {name: table for compute in PASSES for name, table in compute(lm, contexts, policy).items()}


# --- closed forms


def closed_form(
    module: linear_language.LinearLanguage, context: ScoredContext, baseline: torch.Tensor
) -> dict[str, np.ndarray]:
    """f = sum over s of w_s . x_s: what each method must give for the words of one context."""
    scored = int(context.scored[0]) - 1
    token = int(context.targets[0])
    rows: dict[str, np.ndarray] = {}
    words = np.flatnonzero(context.shares.any(axis=1))
    at = {int(word): int(np.flatnonzero(context.shares[word])[0]) for word in words}
    x = {word: module.embedding.weight[context.ids[position]] for word, position in at.items()}
    w = {word: module.weight(position, scored, token) for word, position in at.items()}

    def row(value: Callable[[int], torch.Tensor | float]) -> np.ndarray:
        values = np.zeros(len(context.shares))
        for word in at:
            values[word] = float(value(word))
        return values

    def deleted(word: int) -> float:
        """w_i . x_i, and what the words before it gain or lose by coming one position closer."""
        if scored == 0:
            return 0.0  # no start token: without the only word nothing predicts the next one
        change = w[word] @ x[word]
        for other, position in at.items():
            if position < at[word]:
                change = change + (w[other] - module.weight(position + 1, scored, token)) @ x[other]
        return float(change)

    rows["gradient_norm"] = row(lambda i: w[i].abs().sum())
    rows["gradient_x_input_l2"] = row(lambda i: (w[i] * x[i]).norm())
    rows["gradient_x_input_signed"] = row(lambda i: w[i] @ x[i])
    rows["gradient_x_input_absolute"] = row(lambda i: (w[i] @ x[i]).abs())
    rows["integrated_gradients"] = row(lambda i: w[i] @ (x[i] - baseline))
    rows["erasure_zero"] = row(lambda i: w[i] @ x[i])
    rows["erasure_mask"] = row(lambda i: w[i] @ x[i])
    rows["erasure_delete"] = row(deleted)
    moved = sum((module.lags[scored - at[i]] @ (x[i] - baseline) for i in at), torch.zeros_like(baseline))
    rows["conductance_1"] = (module.head.weight[token] * moved).numpy()
    rows["conductance_0"] = sum((w[i] * (x[i] - baseline) for i in at), torch.zeros_like(baseline)).numpy()
    return rows


@pytest.mark.parametrize("baseline", ["mean", "zero"])
def test_a_linear_model_gives_the_closed_forms(linear: tuple, baseline: str) -> None:
    module, lm, contexts = linear
    policy = replace(POLICY, score="logit", baseline=baseline)
    tables = {name: table for compute in PASSES for name, table in compute(lm, contexts, policy).items()}
    start = module.embedding.weight.mean(0) if baseline == "mean" else torch.zeros(6)
    for context in contexts[1:]:
        expected = closed_form(module, context, start)
        for name, values in expected.items():
            method, _, layer = name.partition("_") if name.startswith("conductance") else (name, "", "0")
            np.testing.assert_allclose(
                tables[method][int(layer), context.word], values, atol=2e-5, rtol=1e-5, err_msg=name
            )


def test_the_log_probability_of_a_linear_model_takes_the_mean_of_the_vocabulary_off(linear: tuple) -> None:
    module, lm, contexts = linear
    tables = plain_pass(lm, contexts, POLICY)
    context = contexts[12]
    scored, token = int(context.scored[0]) - 1, int(context.targets[0])
    x = module.embedding.weight[context.ids]
    h = sum(module.lags[scored - s] @ x[s] for s in range(scored + 1))
    p = (module.head.weight @ h).softmax(0)
    for word in range(10):
        position = int(np.flatnonzero(context.shares[word])[0])
        w = module.lags[scored - position].T @ (module.head.weight[token] - p @ module.head.weight)
        np.testing.assert_allclose(tables["gradient_norm"][0, 12, word], float(w.abs().sum()), rtol=1e-4)
        np.testing.assert_allclose(
            tables["gradient_x_input_signed"][0, 12, word], float(w @ x[position]), rtol=1e-3, atol=1e-5
        )


# --- completeness


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_attributions_of_the_path_add_up_in_every_layer(build: Build, computed: Computed, family: str) -> None:
    lm, tables = build(family), computed(family)
    error, difference, magnitude = np.moveaxis(tables["completeness"], -1, 0)
    assert error.shape == (1 + lm.n_layers, STORY.n_words)
    assert np.abs(error).max() <= POLICY.completeness_tolerance
    assert np.abs(difference[0, 1:]).min() > 0
    scale = np.maximum(np.abs(difference[0]), POLICY.completeness_floor)
    sums = tables["integrated_gradients"][0].sum(1)
    np.testing.assert_allclose((sums - difference[0]) / scale, error[0], atol=2e-5)
    for layer in range(lm.n_layers):
        units = tables["conductance"][layer].sum(1)
        np.testing.assert_allclose((units - difference[0]) / scale, error[1 + layer], atol=2e-5)
        np.testing.assert_allclose(magnitude[1 + layer], np.abs(tables["conductance"][layer]).sum(1), rtol=1e-5)


def test_the_error_that_few_panels_leave_is_stored_not_hidden(build: Build) -> None:
    lm = build("llama")
    contexts = plan_contexts(STORY, 10, lm.tokenizer, None)
    rough = path_pass(lm, contexts, replace(POLICY, path_panels=1, max_path_panels=1))
    assert np.abs(rough["completeness"][..., 0]).max() > POLICY.completeness_tolerance


# --- Captum as oracle


def _context_forward(lm: LanguageModel, context: ScoredContext) -> Callable[[torch.Tensor], torch.Tensor]:
    padded = collate([context], 0, lm.device)

    def forward(embedded: torch.Tensor) -> torch.Tensor:
        return lm.score(lm.read(embedded), padded.repeat(len(embedded)), "log_probability")

    return forward


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_gradients_and_paths_equal_captum(build: Build, computed: Computed, family: str) -> None:
    captum = pytest.importorskip("captum.attr", reason="the test extra installs captum")
    lm, tables = build(family), computed(family)
    contexts = plan_contexts(STORY, 10, lm.tokenizer, None)
    mean = lm.mean_embedding
    for context in (contexts[3], contexts[16]):
        embedded = lm.embed(torch.from_numpy(context.ids)[None])
        forward = _context_forward(lm, context)
        shares = torch.from_numpy(context.shares)
        gradient = captum.Saliency(forward).attribute(embedded.clone().requires_grad_(True), abs=False)[0]
        on_path = torch.from_numpy(context.shares.any(axis=0))
        start = torch.where(on_path[None, :, None], mean, embedded)
        found = {name: table[0, context.word] for name, table in tables.items()}
        np.testing.assert_allclose(found["gradient_norm"], shares @ gradient.abs().sum(-1), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            found["gradient_x_input_signed"], shares @ (gradient * embedded[0]).sum(-1), rtol=1e-3, atol=1e-5
        )
        ig = captum.IntegratedGradients(forward).attribute(embedded, start, n_steps=100, method="gausslegendre")
        expected = (shares @ ig[0].float().sum(-1)).detach().numpy()
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found["integrated_gradients"], expected, atol=2e-3 * scale)


@pytest.mark.parametrize("layer", [1, 2])
def test_conductance_equals_captum_on_many_steps(build: Build, computed: Computed, layer: int) -> None:
    captum = pytest.importorskip("captum.attr", reason="the test extra installs captum")
    lm, tables = build("gpt2"), computed("gpt2")
    context = plan_contexts(STORY, 10, lm.tokenizer, None)[16]
    embedded = lm.embed(torch.from_numpy(context.ids)[None])
    on_path = torch.from_numpy(context.shares.any(axis=0))
    start = torch.where(on_path[None, :, None], lm.mean_embedding, embedded)
    block = lm._base.h[layer - 1]
    peer = captum.LayerConductance(_context_forward(lm, context), block)
    found = peer.attribute(embedded, start, n_steps=250, method="riemann_middle")
    found = found[0] if isinstance(found, tuple) else found
    expected = found[0].sum(0).detach().numpy()
    np.testing.assert_allclose(tables["conductance"][layer, 16], expected, atol=2e-2 * np.abs(expected).max())


# --- loops, one context and one word at a time


@pytest.mark.parametrize("family", ["gpt2", "mamba"])
def test_erasure_equals_one_pass_for_every_erased_word(build: Build, family: str) -> None:
    lm = build(family)
    contexts = plan_contexts(STORY, 10, lm.tokenizer, None)
    tables = erasure_pass(lm, contexts, POLICY)

    def log_probability(ids: list[int], hidden: list[int] = (), zero: list[int] = (), n: int = 1) -> float:
        embedded = lm._embedding(torch.tensor([ids]))
        embedded[0, list(zero)] = 0.0
        mask = torch.ones(1, len(ids), dtype=torch.long)
        mask[0, list(hidden)] = 0
        logits = lm._module(inputs_embeds=embedded, attention_mask=mask, use_cache=False).logits[0].log_softmax(-1)
        return float(sum(logits[i - 1, ids[i]] for i in range(len(ids) - n, len(ids))))

    for context in (contexts[2], contexts[16]):
        ids, n = context.ids.tolist(), len(context.scored)
        whole = log_probability(ids, n=n)
        for word in np.flatnonzero(context.shares.any(axis=1)):
            tokens = np.flatnonzero(context.shares[word]).tolist()
            left = [token for i, token in enumerate(ids) if i not in tokens]
            expected = {
                "erasure_mask": whole - log_probability(ids, hidden=tokens, n=n),
                "erasure_zero": whole - log_probability(ids, zero=tokens, n=n),
                "erasure_delete": whole - log_probability(left, n=n),
            }
            for name, value in expected.items():
                np.testing.assert_allclose(tables[name][0, context.word, word], value, atol=2e-5, err_msg=name)


def test_attention_and_activations_are_those_of_the_model(build: Build) -> None:
    lm = build("llama")
    contexts = plan_contexts(STORY, 10, lm.tokenizer, None)
    tables = plain_pass(lm, contexts, POLICY)
    context = contexts[16]
    output = lm._base(
        input_ids=torch.from_numpy(context.ids)[None],
        output_attentions=True,
        output_hidden_states=True,
        use_cache=False,
    )
    own = np.flatnonzero(context.own)
    assert len(own) > 1  # a word of several tokens
    for layer, states in enumerate(output.hidden_states):
        np.testing.assert_allclose(tables["activations"][layer, 16], states[0, own].mean(0), atol=1e-5)
    for layer, weights in enumerate(output.attentions):
        rows = weights[0][:, context.scored - 1].mean(1)  # (n_heads, n_tokens)
        expected = torch.einsum("ht,st->hs", rows, torch.from_numpy(context.shares))
        np.testing.assert_allclose(tables["attention"][layer, 16].reshape(2, 10), expected, atol=1e-6)
    totals = tables["attention"].reshape(3, STORY.n_words, 2, 10).sum(-1)
    assert totals.max() <= 1 + 1e-5  # the rest goes to the start token and the word's own first tokens
    np.testing.assert_array_equal(tables["attention"][:, 3].reshape(3, 2, 10)[..., :7], 0)  # words before the story


# --- invariances


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_no_attribution_depends_on_its_batch_mates(build: Build, computed: Computed, family: str) -> None:
    alone = computed(family)
    for together in (all_tables(build(family, batch_size=1)), all_tables(build(family, batch_size=7))):
        for name, table in alone.items():
            np.testing.assert_allclose(together[name], table, atol=2e-5 * max(1.0, np.abs(table).max()), err_msg=name)


def test_words_outside_the_context_and_after_the_word_change_nothing(build: Build, computed: Computed) -> None:
    lm, tables = build("gpt2"), computed("gpt2")
    word, words = 14, list(STORY.words)
    changed = ["sea" if i < word - 10 or i > word else w for i, w in enumerate(words)]
    contexts = plan_contexts(tiny_language.tale(changed), 10, lm.tokenizer, None)
    for compute in PASSES:
        for name, table in compute(lm, contexts, POLICY).items():
            np.testing.assert_allclose(table[:, word], tables[name][:, word], atol=1e-4, err_msg=name)
    assert np.abs(plain_pass(lm, contexts, POLICY)["gradient_norm"][0, 3] - tables["gradient_norm"][0, 3]).max() > 1e-3


def test_missing_words_at_the_start_are_columns_of_zeros_on_the_left(computed: Computed) -> None:
    tables = computed("llama")
    for name, table in tables.items():
        if table.shape[-1] != 10:
            continue
        np.testing.assert_array_equal(table[0, 0], 0, err_msg=name)
        for word in range(1, 10):
            np.testing.assert_array_equal(table[0, word, : 10 - word], 0, err_msg=name)
            assert np.abs(table[0, word, 10 - word :]).min() > 0, name
    assert np.abs(tables["activations"][:, 0]).max() > 0  # the first word has a state, though nothing to explain


# --- the target


def test_the_favourite_word_of_the_model_as_target(build: Build) -> None:
    lm = build("gpt2")
    contexts = plan_contexts(STORY, 10, lm.tokenizer, None)
    favourites = argmax_targets(lm, contexts)
    for context, favourite in zip(contexts, favourites, strict=True):
        logits = lm._module(input_ids=torch.from_numpy(context.ids)[None]).logits[0]
        assert favourite.targets.tolist() == [int(logits[int(context.scored[0]) - 1].argmax())]
        assert favourite.scored.tolist() == context.scored[:1].tolist()
    gold = plain_pass(lm, contexts, POLICY)["gradient_norm"]
    assert np.abs(plain_pass(lm, favourites, POLICY)["gradient_norm"] - gold).max() > 1e-3


def test_a_score_is_the_log_probability_of_all_tokens_of_the_word(build: Build) -> None:
    for family in ("llama", "gemma2"):  # gemma2 caps its logits after the head
        lm = build(family)
        contexts = plan_contexts(STORY, 10, lm.tokenizer, None)
        padded = collate(contexts, 0, lm.device)
        with torch.inference_mode():
            scores = lm.score(lm.read(lm.embed(padded.ids)), padded, "log_probability")
        for context, score in zip(contexts, scores.tolist(), strict=True):
            logits = lm._module(input_ids=torch.from_numpy(context.ids)[None]).logits[0].log_softmax(-1)
            expected = sum(float(logits[p - 1, context.ids[p]]) for p in context.scored)
            assert score == pytest.approx(expected, abs=1e-4)
    assert max(len(context.scored) for context in contexts) > 1
