# SPDX-License-Identifier: Apache-2.0
"""A text model that turns a story into one state per word and layer."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxelboard.benchmark.errors import InvalidNumbers, UserError
from voxelboard.benchmark.models.alignment import Tokenizer
from voxelboard.benchmark.models.base import ModelIdentity, Progress
from voxelboard.benchmark.models.batching import Batcher, BatchSize, token_budget
from voxelboard.benchmark.models.passages import Plan, Planner, Reading, plan_texts
from voxelboard.benchmark.models.pooling import Pooling, PoolSentences, pool_words
from voxelboard.benchmark.models.report import ExtractionReport
from voxelboard.benchmark.protocol import ContextPolicy
from voxelboard.benchmark.stimuli.stories import Story


class Backbone(Protocol):
    """The part of a model that is read: token ids in, the states of all layers out.

    ``pad_id`` fills short rows on the right; ``n_vocabulary`` is the number of rows of the embedding.
    """

    device: torch.device
    dtype: torch.dtype
    n_layers: int
    n_features: int
    n_vocabulary: int
    pad_id: int

    def hidden_states(self, ids: Tensor, mask: Tensor, last_layer: int | None = None) -> Sequence[Tensor]:
        """n_layers x (n_texts, n_tokens, n_features) on the device, for (n_texts, n_tokens) ids and mask.

        With ``last_layer`` those of layers 0 .. ``last_layer``.
        """
        ...


class TransformerModel:
    """A backbone, its tokenizer, how passages are cut, and how token states become word states.

    Layer ``k`` is what Transformers returns as ``hidden_states[k]``: 0 the embeddings, ``k`` the output of block ``k``,
    where for most families the last has passed the final norm as well.

    ``report`` tells, after :meth:`states`, what happened to the last story.
    """

    def __init__(
        self,
        backbone: Backbone,
        tokenizer: Tokenizer,
        identity: ModelIdentity,
        plan: Planner,
        pool: Pooling = pool_words,
        batch_size: BatchSize = "auto",
        last_layer: int | None = None,
    ) -> None:
        self.identity = identity
        self.n_layers = backbone.n_layers if last_layer is None else last_layer + 1
        self.n_features = backbone.n_features
        self.report: ExtractionReport | None = None
        self._last_layer = last_layer
        self._batch_size = batch_size
        self._backbone = backbone
        self._tokenizer = tokenizer
        self._plan = plan
        self._pool = pool
        budget = token_budget(backbone.device, backbone.n_layers, backbone.n_features, backbone.dtype)
        self._batcher = Batcher(batch_size, budget)

    def up_to(self, last_layer: int) -> "TransformerModel":
        """The same model read to ``last_layer`` and no further: equal states, and later blocks do not run.

        It shares the weights. Layers are those of the whole model, so the last block's final norm is never met early.

        Raises
        ------
        UserError
            for a layer that the model does not have.
        """
        if not 0 <= last_layer < self.n_layers:
            raise UserError(f"{self.identity.model_id} has no layer {last_layer}; allowed: 0 to {self.n_layers - 1}")
        pool = self._pool
        if isinstance(pool, PoolSentences) and last_layer < self.n_layers - 1:
            pool = replace(pool, normalise=False)  # only the last layer of the whole model is
        return TransformerModel(
            self._backbone, self._tokenizer, self.identity, self._plan, pool, self._batch_size, last_layer
        )

    @property
    def context_shortened(self) -> float:
        """Share of the last story's words that saw less context than the policy says; 0 before the first story."""
        return 0.0 if self.report is None else self.report.context_shortened

    def count_shortened(self, story: Story, context: ContextPolicy) -> int:
        """Words that see less context than the policy says, because the model's input is shorter; reads no weights."""
        return self._plan(story, context, self._tokenizer, self.identity.max_tokens).n_shortened

    def count_cut_texts(self, texts: Sequence[str]) -> int:
        """Texts that are longer than the model's input, so that :meth:`read_texts` cuts them; reads no weights."""
        return plan_texts(texts, self._tokenizer, self.identity.max_tokens).n_shortened

    def states(self, story: Story, context: ContextPolicy, progress: Progress | None = None) -> NDArray[np.float32]:
        """(n_layers, n_words, n_features) float32 on the host; word ``i`` saw the words ``chunk_start(i) .. i``.

        Raises
        ------
        InvalidNumbers
            for a state that is NaN or infinite.
        DataError
            for a word without a token, or one with more tokens than the model accepts.
        MissingPrerequisite
            when memory does not hold a single text.
        """
        plan = self._plan(story, context, self._tokenizer, self.identity.max_tokens)
        self._check_ids(plan)
        states = np.full((self.n_layers, story.n_words, self.n_features), np.nan, dtype=np.float32)
        words_done = 0

        def step(batch: list[Reading]) -> None:
            nonlocal words_done
            words = [word for reading in batch for word in reading.words]
            pooled = self._read(batch)
            _check_finite(pooled, words, story, self.identity)
            states[:, words] = _to_host(pooled)
            words_done += len(words)
            if progress is not None:
                progress(words_done, story.n_words)

        largest = self._batcher.run(plan.readings, lambda reading: len(reading.tokens), step)
        self.report = ExtractionReport(
            story.name, story.n_words, plan.n_shortened, plan.n_reaching_on, largest_batch=largest
        )
        return states

    def read_texts(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """(n_layers, n_texts, n_features) float32 on the host: each text read by itself, whole.

        The state of a text is the mean over its tokens, special tokens left out; a sentence model pools as it was made
        to. A text that is longer than the model's input is cut at its end; ``report`` counts those. A bidirectional
        model sees the whole text at once.

        Raises
        ------
        InvalidNumbers, MissingPrerequisite
            as :meth:`states`.
        DataError
            for a text without a token.
        """
        plan = plan_texts(texts, self._tokenizer, self.identity.max_tokens)
        self._check_ids(plan)
        states = np.full((self.n_layers, len(texts), self.n_features), np.nan, dtype=np.float32)
        done = 0

        def step(batch: list[Reading]) -> None:
            nonlocal done
            rows = [reading.words[0] for reading in batch]
            pooled = self._read(batch)
            if not torch.isfinite(pooled).all():
                first = next(row for row, text in zip(rows, pooled.unbind(1), strict=True) if not text.isfinite().all())
                raise InvalidNumbers(
                    f"{self.identity.model_id}: the state of text {texts[first][:60]!r} is NaN or infinite"
                )
            states[:, rows] = _to_host(pooled)
            done += len(rows)
            if progress is not None:
                progress(done, len(texts))

        largest = self._batcher.run(plan.readings, lambda reading: len(reading.tokens), step)
        self.report = ExtractionReport("texts", len(texts), plan.n_shortened, largest_batch=largest)
        return states

    @torch.inference_mode()
    def _read(self, batch: Sequence[Reading]) -> Tensor:
        """(n_layers, n_kept_words, n_features) float32 on the device."""
        ids, mask = _pad(batch, self._backbone.pad_id)
        device = self._backbone.device
        states = self._backbone.hidden_states(_to(ids, device), _to(mask, device), self._last_layer)
        return self._pool(states, batch)

    def _check_ids(self, plan: Plan) -> None:
        largest = max(int(reading.tokens.ids.max()) for reading in plan.readings)
        if largest >= self._backbone.n_vocabulary:
            raise UserError(
                f"{self._tokenizer.name}: the tokenizer gives token {largest}, "
                f"the model {self.identity.model_id} knows {self._backbone.n_vocabulary}",
                "the tokenizer belongs to another model: correct model.tokenizer",
            )


def _pad(batch: Sequence[Reading], pad_id: int) -> tuple[Tensor, Tensor]:
    """Ids and mask, (n_texts, longest). On the right: positions count from the first token, recurrences start there."""
    longest = max(len(reading.tokens) for reading in batch)
    ids = np.full((len(batch), longest), pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, reading in enumerate(batch):
        ids[row, : len(reading.tokens)] = reading.tokens.ids
        mask[row, : len(reading.tokens)] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


def _to(tensor: Tensor, device: torch.device) -> Tensor:
    """On the device; to a GPU from pinned memory, so that the copy runs beside the kernels before it."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def _to_host(pooled: Tensor) -> NDArray[np.float32]:
    """On the host, from a GPU through pinned memory: a pageable copy runs at a third of the bus."""
    if pooled.device.type != "cuda":
        return pooled.numpy()
    return torch.empty(pooled.shape, dtype=pooled.dtype, pin_memory=True).copy_(pooled).numpy()


def _check_finite(pooled: Tensor, words: Sequence[int], story: Story, identity: ModelIdentity) -> None:
    finite = torch.isfinite(pooled).all(dim=2)  # (n_layers, n_kept_words)
    if finite.all():
        return
    layer, row = (int(index) for index in torch.nonzero(~finite)[0])
    word = words[row]
    cause = " (float16 overflows easily: use bfloat16)" if identity.dtype == "float16" else ""
    raise InvalidNumbers(
        f"{identity.model_id}: the state of word {word} {story.words[word]!r} of story {story.name!r} "
        f"in layer {layer} is NaN or infinite{cause}"
    )
