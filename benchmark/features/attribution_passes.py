# SPDX-License-Identifier: Apache-2.0
"""The three batched computations behind all attribution methods of a story.

``plain``: one forward and one backward pass of each context give gradient norm, gradient x input, attention and
activations. ``path``: points between the baseline and the input give integrated gradients and the conductance of every
layer together. ``erasure``: every preceding word of a context taken away, in one batch.

Definitions, with f the score of a word, x_i the embeddings of preceding word i (its tokens side by side), x' the baseline:
gradient norm ``|df/dx_i|_1``; gradient x input ``|x_i * df/dx_i|_2``, ``x_i . df/dx_i`` and its absolute value (Rahimi et al.
2025; Yin & Neubig 2022); integrated gradients ``(x_i - x'_i) . int df/dx_i(x' + a(x - x')) da`` (Sundararajan et al. 2017);
conductance of unit y ``int df/dy dy/da da``, summed over positions (Dhamdhere et al. 2018); erasure ``f(x) - f(x without i)``.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxelboard.benchmark.errors import InvalidNumbers
from voxelboard.benchmark.models.base import Progress
from voxelboard.benchmark.models.contexts import ContextBatch, ScoredContext, collate
from voxelboard.benchmark.models.language import LanguageModel
from voxelboard.benchmark.protocol import AttributionPolicy

Array = NDArray[np.float32]
Tables = dict[str, Array]  # method -> (n_layers, n_words, n_features)

# Panels of a path that are in memory together: 2 * 8 + 1 points of each context.
_PANELS_AT_ONCE = 8


def argmax_targets(
    lm: LanguageModel, contexts: Sequence[ScoredContext], progress: Progress | None = None
) -> list[ScoredContext]:
    """The contexts with the model's most probable next token as target, instead of the word that was heard."""
    found = list(contexts)

    def step(batch: list[ScoredContext]) -> None:
        """One batch."""
        held = [context for context in batch if len(context.scored)]
        if held:
            padded = collate(held, lm.pad_id, lm.device)
            first = torch.tensor([int(context.scored[0]) for context in held], device=lm.device)
            with torch.inference_mode():
                read = lm.read(lm.embed(padded.ids))
                best = lm.logits(read, torch.arange(len(held), device=lm.device), first - 1).argmax(-1)
            for context, token in zip(held, best.tolist(), strict=True):
                found[context.word] = replace(context, scored=context.scored[:1], targets=np.array([token]))

    _run(lm, contexts, step, len, progress, gradients=False)
    return found


def plain_pass(
    lm: LanguageModel, contexts: Sequence[ScoredContext], policy: AttributionPolicy, progress: Progress | None = None
) -> Tables:
    """Gradient norm, gradient x input (three reductions), activations, and attention where the model gives it."""
    n_words, n_context = len(contexts), policy.context_words
    tables = {name: np.zeros((1, n_words, n_context), dtype=np.float32) for name in _FROM_GRADIENT}
    tables["activations"] = np.zeros((lm.n_layers, n_words, lm.n_features), dtype=np.float32)
    if lm.n_attention_layers:
        width = lm.n_heads * n_context
        tables["attention"] = np.zeros((lm.n_attention_layers, n_words, width), dtype=np.float32)

    def step(batch: list[ScoredContext]) -> None:
        """One batch."""
        padded = collate(batch, lm.pad_id, lm.device)
        words = [context.word for context in batch]
        embedded = lm.embed(padded.ids).requires_grad_(True)
        read = lm.read(embedded, attention=bool(lm.n_attention_layers))
        score = lm.score(read, padded, policy.score)
        gradient = torch.autograd.grad(score.sum(), embedded)[0] if score.requires_grad else torch.zeros_like(embedded)
        for name, reduce in _FROM_GRADIENT.items():
            tables[name][0, words] = reduce(gradient, embedded.detach(), padded.shares).cpu().numpy()
        with torch.no_grad():
            for layer, states in enumerate(read.hidden):
                pooled = torch.einsum("bt,btd->bd", padded.own, states)
                tables["activations"][layer, words] = pooled.cpu().numpy()
            for layer, weights in enumerate(read.attention):
                tables["attention"][layer, words] = _attention(weights, padded).flatten(1).cpu().numpy()

    _run(lm, contexts, step, len, progress, gradients=True)
    return _finite(tables)


def _gradient_norm(gradient: Tensor, _embedded: Tensor, shares: Tensor) -> Tensor:
    return torch.einsum("bst,bt->bs", shares, gradient.abs().sum(-1))


def _l2(gradient: Tensor, embedded: Tensor, shares: Tensor) -> Tensor:
    return torch.einsum("bst,bt->bs", shares, (gradient * embedded).pow(2).sum(-1)).sqrt()


def _signed(gradient: Tensor, embedded: Tensor, shares: Tensor) -> Tensor:
    return torch.einsum("bst,bt->bs", shares, (gradient * embedded).sum(-1))


def _absolute(gradient: Tensor, embedded: Tensor, shares: Tensor) -> Tensor:
    return _signed(gradient, embedded, shares).abs()


# Each takes (n_contexts, n_tokens, n_features) gradients and embeddings and the shares of the words.
_FROM_GRADIENT: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "gradient_norm": _gradient_norm,
    "gradient_x_input_l2": _l2,
    "gradient_x_input_signed": _signed,
    "gradient_x_input_absolute": _absolute,
}


def _attention(weights: Tensor, batch: ContextBatch) -> Tensor:
    """(n_contexts, n_heads, n_context_words): mean over the predicting positions, sum over the tokens of each word."""
    counts = torch.bincount(batch.rows, minlength=len(batch)).clamp_min(1)
    queries = weights[batch.rows, :, batch.positions - 1]  # (n_scored, n_heads, n_tokens)
    mean = torch.zeros(len(batch), *queries.shape[1:], device=weights.device)
    mean = mean.index_add(0, batch.rows, queries) / counts[:, None, None]
    return torch.einsum("bst,bht->bhs", batch.shares, mean)


@dataclass(frozen=True)
class _Piece:
    """Some panels of the path of one context: points ``first / n_panels`` to ``(first + n) / n_panels``."""

    context: ScoredContext
    first: int
    n: int
    n_panels: int

    def __len__(self) -> int:
        return len(self.context) * (2 * self.n + 1)


@dataclass(eq=False)
class _Sums:
    """What the pieces of all words add up to; float64 on the host.

    words : (n_words, n_context_words) integrated gradients; units : (n_layers, n_words, n_features) conductance.
    low, high : (n_words,) f at the baseline and at the input.
    """

    words: NDArray[np.float64]
    units: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def errors(self, which: Sequence[int], floor: float) -> NDArray[np.float64]:
        """(1 + n_layers, n_words asked) completeness error of integrated gradients and of each layer, relative."""
        difference = (self.high - self.low)[list(which)]
        totals = np.stack([self.words[list(which)].sum(1), *self.units[:, list(which)].sum(2)])
        relative: NDArray[np.float64] = (totals - difference) / np.maximum(np.abs(difference), floor)
        return relative


def path_pass(
    lm: LanguageModel, contexts: Sequence[ScoredContext], policy: AttributionPolicy, progress: Progress | None = None
) -> Tables:
    """Integrated gradients, conductance, and ``completeness`` (1 + n_layers, n_words, 3): error, f(x) - f(x'), magnitude.

    The error is relative (see ``AttributionPolicy``), row 0 that of integrated gradients, row 1 + k that of layer k; the
    magnitude is the sum of absolute conductances over units (row 0: of absolute attributions over words). All layers
    come from one sweep: with f and every hidden state h at points a, m, b of a panel, Simpson's rule in Stieltjes form,
    ``[g_a (-3 h_a + 4 h_m - h_b) + 4 g_m (h_b - h_a) + g_b (h_a - 4 h_m + 3 h_b)] / 6`` with g = df/dh, fourth order in
    the panel and exact to the order where h is linear, as for the embeddings. Words that miss the tolerance are
    integrated again on more panels, up to the protocol's most.
    """
    n_words = len(contexts)
    sums = _Sums(
        np.zeros((n_words, policy.context_words)),
        np.zeros((lm.n_layers, n_words, lm.n_features)),
        np.zeros(n_words),
        np.zeros(n_words),
    )
    baseline = lm.mean_embedding if policy.baseline == "mean" else torch.zeros_like(lm.mean_embedding)
    waiting = [(context, policy.path_panels) for context in contexts if context.shares.any() and len(context.scored)]
    done, asked = n_words - len(waiting), n_words  # integrations, those of words that need another one among them
    while waiting:
        n_panels = min(panels for _, panels in waiting)
        now = [context for context, panels in waiting if panels == n_panels]
        later = [(context, panels) for context, panels in waiting if panels > n_panels]

        def report(share: float, done: int = done, asked: int = asked, n: int = len(now)) -> None:
            """A share of the words of this round."""
            if progress is not None:
                progress(done + int(share * n), asked)

        _integrate(lm, now, n_panels, baseline, policy, sums, report)
        worst = np.abs(sums.errors([context.word for context in now], policy.completeness_floor)).max(axis=0)
        more = [_next_panels(n_panels, float(error), policy) for error in worst]
        waiting = [*later, *((context, panels) for context, panels in zip(now, more, strict=True) if panels)]
        done, asked = done + len(now), asked + len(now) - more.count(0)
    every = range(n_words)
    magnitude = np.stack([np.abs(sums.words).sum(1), *np.abs(sums.units).sum(2)])
    difference = np.broadcast_to(sums.high - sums.low, magnitude.shape)
    completeness = np.stack([sums.errors(every, policy.completeness_floor), difference, magnitude], axis=-1)
    return _finite(
        {
            "integrated_gradients": sums.words[None].astype(np.float32),
            "conductance": sums.units.astype(np.float32),
            "completeness": completeness.astype(np.float32),
        }
    )


def _next_panels(n_panels: int, error: float, policy: AttributionPolicy) -> int:
    """Panels for a word that missed the tolerance, as many as a fourth-order rule needs; 0 when it is done."""
    if error <= policy.completeness_tolerance or n_panels >= policy.max_path_panels:
        return 0
    doublings = max(1, math.ceil(math.log(error / policy.completeness_tolerance, 16)))
    return int(min(n_panels * 2**doublings, policy.max_path_panels))


def _integrate(
    lm: LanguageModel,
    contexts: Sequence[ScoredContext],
    n_panels: int,
    baseline: Tensor,
    policy: AttributionPolicy,
    sums: _Sums,
    report: Callable[[float], None],
) -> None:
    """Write the path sums of the words of ``contexts`` on ``n_panels`` panels; ``report`` the share that is done."""
    for context in contexts:
        sums.words[context.word] = sums.units[:, context.word] = 0.0
    size = min(_PANELS_AT_ONCE, n_panels)
    pieces = [_Piece(context, first, size, n_panels) for context in contexts for first in range(0, n_panels, size)]

    done = 0

    def step(batch: list[_Piece]) -> None:
        """One batch."""
        nonlocal done
        _add_pieces(lm, batch, baseline, policy, sums)
        done += len(batch)
        report(done / len(pieces))

    lm.batcher(gradients=True).run(pieces, len, step)


def _add_pieces(
    lm: LanguageModel, pieces: Sequence[_Piece], baseline: Tensor, policy: AttributionPolicy, sums: _Sums
) -> None:
    n_points = 2 * pieces[0].n + 1
    padded = collate([piece.context for piece in pieces], lm.pad_id, lm.device)
    on_path = padded.shares.sum(1) > 0  # (n_pieces, n_tokens)
    alphas = torch.tensor(
        [[(piece.first + k / 2) / piece.n_panels for k in range(n_points)] for piece in pieces], device=lm.device
    )
    embedded = lm.embed(padded.ids)
    away = torch.where(on_path[..., None], embedded - baseline, torch.zeros_like(embedded))
    points = embedded[:, None] - (1 - alphas)[..., None, None] * away[:, None]  # (n_pieces, n_points, n_tokens, width)
    points = points.flatten(0, 1).requires_grad_(True)
    read = lm.read(points)
    score = lm.score(read, padded.repeat(n_points), policy.score)
    inputs = [points, *read.hidden]
    # zeros for layers that the score does not depend on
    gradients = torch.autograd.grad(score.sum(), inputs, materialize_grads=True)
    with torch.no_grad():
        shape = (len(pieces), n_points, *points.shape[1:])
        along = [_simpson(h.reshape(shape), g.reshape(shape)) for h, g in zip(inputs, gradients, strict=True)]
        words = torch.einsum("bst,bt->bs", padded.shares, along[0].sum(-1)).cpu().double().numpy()
        conductance = torch.stack([layer.sum(1).cpu() for layer in along[1:]]).double().numpy()
        ends = score.reshape(len(pieces), n_points)[:, [0, -1]].cpu().double().numpy()
    for row, piece in enumerate(pieces):
        word = piece.context.word
        sums.words[word] += words[row]
        sums.units[:, word] += conductance[:, row]
        if piece.first == 0:
            sums.low[word] = ends[row, 0]
        if piece.first + piece.n == piece.n_panels:
            sums.high[word] = ends[row, 1]


def _simpson(states: Tensor, gradients: Tensor) -> Tensor:
    """(n_pieces, n_tokens, n_features) int g dh over the panels of (n_pieces, n_points, n_tokens, n_features)."""
    h_a, h_m, h_b = states[:, 0:-1:2], states[:, 1::2], states[:, 2::2]
    g_a, g_m, g_b = gradients[:, 0:-1:2], gradients[:, 1::2], gradients[:, 2::2]
    edges = g_a * (4 * h_m - 3 * h_a - h_b) + g_b * (h_a - 4 * h_m + 3 * h_b)
    return ((edges + 4 * g_m * (h_b - h_a)) / 6).sum(1)


@dataclass(frozen=True)
class _Erasure:
    """A context from which one preceding word is taken; ``text`` is what is read then."""

    context: ScoredContext
    word: int  # row of ``context.shares``
    kind: str
    text: ScoredContext


def _erasures(contexts: Sequence[ScoredContext], policy: AttributionPolicy) -> list[_Erasure]:
    """All erasures of some contexts. Words that do not exist, or without which nothing predicts, are left out: 0."""
    found = []
    for context in contexts:
        for word in np.flatnonzero(context.shares.any(axis=1) & (len(context.scored) > 0)).tolist():
            for kind in policy.erasures:
                text = context.without(word) if kind == "delete" else context
                if text is not None:
                    found.append(_Erasure(context, word, kind, text))
    return found


def erasure_pass(
    lm: LanguageModel, contexts: Sequence[ScoredContext], policy: AttributionPolicy, progress: Progress | None = None
) -> Tables:
    """``f(x) - f(x without word i)`` for each preceding word: its attention masked, its tokens deleted, its vectors 0."""
    shape = (1, len(contexts), policy.context_words)
    tables = {f"erasure_{kind}": np.zeros(shape, dtype=np.float32) for kind in policy.erasures}
    n_rows = 1 + len(policy.erasures) * policy.context_words

    def step(batch: list[ScoredContext]) -> None:
        """One batch."""
        erasures = _erasures(batch, policy)
        scores = _erased_scores(lm, batch, erasures, policy)
        whole = {context.word: scores[row] for row, context in enumerate(batch)}
        for erasure, score in zip(erasures, scores[len(batch) :], strict=True):
            explained = erasure.context.word
            tables[f"erasure_{erasure.kind}"][0, explained, erasure.word] = whole[explained] - score

    _run(lm, contexts, step, lambda context: len(context) * n_rows, progress, gradients=False)
    return _finite(tables)


@torch.inference_mode()
def _erased_scores(
    lm: LanguageModel, contexts: Sequence[ScoredContext], erasures: Sequence[_Erasure], policy: AttributionPolicy
) -> NDArray[np.float64]:
    """(n_contexts + n_erasures,) f of the whole contexts, then of those without a word."""
    padded = collate([*contexts, *(erasure.text for erasure in erasures)], lm.pad_id, lm.device)
    hidden = np.zeros((2, *padded.ids.shape), dtype=bool)  # of "mask", of "zero"
    for row, erasure in enumerate(erasures, start=len(contexts)):
        if erasure.kind != "delete":
            tokens = erasure.context.shares[erasure.word] > 0
            hidden[int(erasure.kind == "zero"), row, : len(tokens)] = tokens
    masked, zeroed = torch.from_numpy(hidden).to(lm.device)
    embedded = lm.embed(padded.ids).masked_fill(zeroed[..., None], 0.0)
    scores = lm.score(lm.read(embedded, (~masked).long()), padded, policy.score)
    return scores.cpu().double().numpy()


def _run(
    lm: LanguageModel,
    contexts: Sequence[ScoredContext],
    step: Callable[[list[ScoredContext]], None],
    length: Callable[[ScoredContext], int],
    progress: Progress | None,
    *,
    gradients: bool,
) -> None:
    """Contexts in batches that fit the memory, reported after each."""
    done = 0

    def counted(batch: list[ScoredContext]) -> None:
        """One batch, then how many are done."""
        nonlocal done
        step(batch)
        done += len(batch)
        if progress is not None:
            progress(done, len(contexts))

    lm.batcher(gradients=gradients).run(contexts, length, counted)


def _finite(tables: Tables) -> Tables:
    for name, table in tables.items():
        if not np.isfinite(table).all():
            word = int(np.nonzero(~np.isfinite(table))[1][0])
            raise InvalidNumbers(f"{name} of word {word} is NaN or infinite")
    return tables
