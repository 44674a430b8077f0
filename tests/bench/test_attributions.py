# SPDX-License-Identifier: Apache-2.0
"""Attributions of a story in batches against Captum and loops that explain one context at a time.

GPT-2 of 6 layers x 384 with its whole vocabulary (performance.md 6), random weights, one thread, contexts of ten words. The
peer reads the logits of every position, as its users' forward functions do, and has the same baseline, target and score.
Parity is asserted beside each pair; ``ms_per_word`` is in the extra info of every row.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_language
import torch

from voxelboard.benchmark.features.attribution_passes import erasure_pass, path_pass, plain_pass
from voxelboard.benchmark.models.contexts import ScoredContext, plan_contexts
from voxelboard.benchmark.models.language import LanguageModel
from voxelboard.benchmark.protocol import AttributionPolicy

captum = pytest.importorskip("captum.attr", reason="the bench extra installs captum")

N_WORDS = 22
PEER_WORDS = (12, 15, 18, 21)  # the peer explains a few words only and is divided by their number
N_STEPS = 33  # as many points as 16 panels have
POLICY = AttributionPolicy(path_panels=16, max_path_panels=16)

pytestmark = [
    pytest.mark.benchmark(group="attributions", min_rounds=2, max_time=2, warmup=False),
    pytest.mark.timeout(900),  # the peer takes seconds a word
]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    shape = {"vocab_size": 50257, "n_layer": 6, "n_embd": 384, "n_head": 6, "n_positions": 1024}
    folder: Path = tmp_path_factory.mktemp("gpt2")
    tiny_language.save_language_model(folder, "gpt2", initializer_range=0.02, **shape)
    return tiny_language.language_model(folder)


@pytest.fixture(scope="module")
def contexts(lm: LanguageModel) -> list[ScoredContext]:
    story = tiny_language.tale(tiny_language.TALE[:N_WORDS])
    return plan_contexts(story, POLICY.context_words, lm.tokenizer, None)


class Peer:
    """Captum and loops over one context, with the logits of every position."""

    def __init__(self, lm: LanguageModel, context: ScoredContext) -> None:
        self.module = lm._module
        self.ids = torch.from_numpy(context.ids)
        self.embedded = lm.embed(self.ids[None])
        self.scored = torch.from_numpy(context.scored)
        self.shares = torch.from_numpy(context.shares)
        self.on_path = self.shares.sum(0) > 0
        self.start = torch.where(self.on_path[None, :, None], lm.mean_embedding, self.embedded)

    def score(self, embedded: torch.Tensor) -> torch.Tensor:
        logits = self.module(inputs_embeds=embedded, use_cache=False).logits.log_softmax(-1)
        return logits[:, self.scored - 1, self.ids[self.scored]].sum(1)

    def gradient_norm(self) -> np.ndarray:
        gradient = captum.Saliency(self.score).attribute(self.embedded.clone().requires_grad_(True), abs=False)[0]
        return (self.shares @ gradient.abs().sum(-1)).numpy()

    def integrated_gradients(self) -> np.ndarray:
        peer = captum.IntegratedGradients(self.score)
        found = peer.attribute(self.embedded, self.start, n_steps=N_STEPS, method="gausslegendre")
        return (self.shares @ found[0].float().sum(-1)).detach().numpy()

    def conductance(self) -> tuple[np.ndarray, float]:
        """(n_blocks, n_features), and the greatest relative completeness error over blocks."""
        tables, worst = [], 0.0
        difference = float((self.score(self.embedded) - self.score(self.start)).detach())
        for block in self.module.transformer.h:
            peer = captum.LayerConductance(self.score, block)
            found = peer.attribute(self.embedded, self.start, n_steps=N_STEPS, method="riemann_middle")
            table = (found[0] if isinstance(found, tuple) else found)[0].sum(0).detach()
            worst = max(worst, abs(float(table.sum()) - difference) / max(abs(difference), 0.1))
            tables.append(table.numpy())
        return np.stack(tables), worst

    @torch.no_grad()
    def erasure(self) -> np.ndarray:
        """Deletion, word by word."""
        whole, values = float(self.score(self.embedded)), []
        for row in self.shares:
            kept = row == 0
            ids, moved = self.ids[kept][None], (kept.cumsum(0) - 1)[self.scored]
            logits = self.module(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
            values.append(whole - float(logits[moved - 1, self.ids[self.scored]].sum()))
        return np.array(values)


def report(benchmark: Any, n_words: int) -> None:
    if benchmark.stats is not None:  # None with --benchmark-disable
        benchmark.extra_info["ms_per_word"] = round(benchmark.stats.stats.median / n_words * 1e3, 2)


def ours(benchmark: Any, compute: Callable[..., Any], lm: LanguageModel, contexts: list[ScoredContext]) -> Any:
    tables = benchmark(compute, lm, contexts, POLICY)
    report(benchmark, len(contexts))
    return tables


@pytest.fixture(scope="module")
def peers(lm: LanguageModel, contexts: list[ScoredContext]) -> list[Peer]:
    return [Peer(lm, contexts[word]) for word in PEER_WORDS]


def test_plain_pass(benchmark: Any, lm: LanguageModel, contexts: list[ScoredContext], peers: list[Peer]) -> None:
    """Four gradient methods, attention and activations of every layer."""
    tables = ours(benchmark, plain_pass, lm, contexts)
    for word, peer in zip(PEER_WORDS, peers, strict=True):
        np.testing.assert_allclose(tables["gradient_norm"][0, word], peer.gradient_norm(), rtol=1e-3)


def test_captum_gradient_norm_alone(benchmark: Any, peers: list[Peer]) -> None:
    benchmark(lambda: [peer.gradient_norm() for peer in peers])
    report(benchmark, len(peers))


def test_path_pass(benchmark: Any, lm: LanguageModel, contexts: list[ScoredContext], peers: list[Peer]) -> None:
    """Integrated gradients and the conductance of all layers together."""
    tables = ours(benchmark, path_pass, lm, contexts)
    for word, peer in zip(PEER_WORDS, peers, strict=True):
        expected = peer.integrated_gradients()
        np.testing.assert_allclose(
            tables["integrated_gradients"][0, word], expected, atol=2e-3 * np.abs(expected).max()
        )
    conductance, worst = peers[0].conductance()
    found = tables["conductance"][1:-1, PEER_WORDS[0]]  # the last has passed the final norm, which no block is
    np.testing.assert_allclose(found, conductance[:-1], atol=0.1 * np.abs(conductance).max())
    benchmark.extra_info["completeness_error"] = float(np.abs(tables["completeness"][..., 0]).max())
    benchmark.extra_info["completeness_error_captum"] = worst
    assert np.abs(tables["completeness"][..., 0]).max() <= 1e-3


def test_captum_integrated_gradients_alone(benchmark: Any, peers: list[Peer]) -> None:
    benchmark(lambda: [peer.integrated_gradients() for peer in peers])
    report(benchmark, len(peers))


def test_captum_conductance_of_every_layer(benchmark: Any, peers: list[Peer]) -> None:
    benchmark.pedantic(peers[0].conductance, rounds=1, iterations=1)
    report(benchmark, 1)


def test_erasure_pass(benchmark: Any, lm: LanguageModel, contexts: list[ScoredContext], peers: list[Peer]) -> None:
    """Three kinds of erasure."""
    tables = ours(benchmark, erasure_pass, lm, contexts)
    for word, peer in zip(PEER_WORDS, peers, strict=True):
        np.testing.assert_allclose(tables["erasure_delete"][0, word], peer.erasure(), atol=1e-4)


def test_deletion_alone(benchmark: Any, lm: LanguageModel, contexts: list[ScoredContext]) -> None:
    benchmark(erasure_pass, lm, contexts, replace(POLICY, erasures=("delete",)))
    report(benchmark, len(contexts))


def test_loop_deletion_alone(benchmark: Any, peers: list[Peer]) -> None:
    benchmark(lambda: [peer.erasure() for peer in peers])
    report(benchmark, len(peers))
