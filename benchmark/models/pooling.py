# SPDX-License-Identifier: Apache-2.0
"""From token states to word states, on the device where the model runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from voxelboard.benchmark.models.passages import Reading

TokenPooling = Literal["mean", "last"]
SentenceMode = Literal["mean", "cls", "max", "lasttoken", "mean_sqrt_len_tokens", "weightedmean"]


class Pooling(Protocol):
    """States of a batch of readings, layer by layer, pooled over tokens."""

    def __call__(self, layers: Sequence[Tensor], readings: Sequence[Reading]) -> Tensor:
        """(n_layers, n_kept_words, n_features) float32 from n_layers x (n_readings, n_tokens, n_features)."""
        ...


def pool_words(layers: Sequence[Tensor], readings: Sequence[Reading]) -> Tensor:
    """Mean over the tokens of each kept word, summed in float32; sums would leak word length (statistics.md F7)."""
    width = layers[0].shape[1]
    indices = np.concatenate([reading.alignment.indices + row * width for row, reading in enumerate(readings)])
    counts = np.concatenate([np.diff(reading.alignment.starts) for reading in readings])
    device = layers[0].device
    tokens = torch.from_numpy(indices).to(device)
    bags = torch.from_numpy(np.cumsum(counts) - counts).to(device)
    every = torch.arange(len(indices), device=device)
    return torch.stack(
        [
            functional.embedding_bag(every, layer.flatten(0, 1).index_select(0, tokens).float(), bags, mode="mean")
            for layer in layers
        ]
    )


def pool_last_tokens(layers: Sequence[Tensor], readings: Sequence[Reading]) -> Tensor:
    """The last token of each kept word: the only one of a causal model that has seen the whole word."""
    width = layers[0].shape[1]
    last = np.concatenate(
        [
            reading.alignment.indices[reading.alignment.starts[1:] - 1] + row * width
            for row, reading in enumerate(readings)
        ]
    )
    tokens = torch.from_numpy(last).to(layers[0].device)
    return torch.stack([layer.flatten(0, 1).index_select(0, tokens).float() for layer in layers])


POOLINGS: dict[TokenPooling, Pooling] = {"mean": pool_words, "last": pool_last_tokens}


@dataclass(frozen=True)
class PoolSentences:
    """One vector for each text, as a sentence model makes it, from every layer.

    ``normalise`` scales the last layer to unit length: that is what the model's last module does; the layers before it
    were never normalised.
    """

    mode: SentenceMode = "mean"
    normalise: bool = False

    def __call__(self, layers: Sequence[Tensor], readings: Sequence[Reading]) -> Tensor:
        lengths = torch.tensor([len(reading.tokens) for reading in readings], device=layers[0].device)
        mask = torch.arange(layers[0].shape[1], device=lengths.device)[None, :] < lengths[:, None]
        pooled = [_SENTENCE_MODES[self.mode](layer.float(), mask) for layer in layers]
        if self.normalise:
            pooled[-1] = functional.normalize(pooled[-1], dim=-1)
        return torch.stack(pooled)


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def _mean_sqrt_length(states: Tensor, mask: Tensor) -> Tensor:
    return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).sqrt()


def _weighted_mean(states: Tensor, mask: Tensor) -> Tensor:
    weights = torch.arange(1, states.shape[1] + 1, device=states.device) * mask  # SGPT: weight = position
    return (states * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)


def _cls(states: Tensor, _mask: Tensor) -> Tensor:
    return states[:, 0]


def _maximum(states: Tensor, mask: Tensor) -> Tensor:
    return states.masked_fill(~mask[..., None], -torch.inf).amax(1)


def _last_token(states: Tensor, mask: Tensor) -> Tensor:
    return states[torch.arange(len(states), device=states.device), mask.sum(1) - 1]


_SENTENCE_MODES: dict[SentenceMode, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_length,
    "weightedmean": _weighted_mean,
    "cls": _cls,
    "max": _maximum,
    "lasttoken": _last_token,
}
SENTENCE_MODES = tuple(_SENTENCE_MODES)
