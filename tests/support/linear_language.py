# SPDX-License-Identifier: Apache-2.0
"""A language model whose logits are linear in its embeddings, so that every attribution has a closed form.

``h_t = sum over s <= t, not hidden, of A_{t-s} x_s`` and ``logits = W h``. The weight of the embedding at position s in the
logit of token v at position t is ``A_{t-s}' W_v``.
"""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from voxelboard.benchmark.models.base import ModelIdentity

IDENTITY = ModelIdentity("causal", "linear", "0" * 40, "w", "t", "float32", 0, None)


class LinearLanguage(nn.Module):
    """Duck-typed like a Transformers causal language model without attention."""

    def __init__(self, n_vocabulary: int = 40, width: int = 6, n_lags: int = 40, seed: int = 0) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.embedding = nn.Embedding(n_vocabulary, width)
        self.head = nn.Linear(width, n_vocabulary, bias=False)
        self.lags = nn.Parameter(torch.randn(n_lags, width, width, generator=draw) / width)
        with torch.no_grad():
            self.embedding.weight.copy_(torch.randn(n_vocabulary, width, generator=draw))
            self.head.weight.copy_(torch.randn(n_vocabulary, width, generator=draw))
        self.requires_grad_(False)

    @property
    def base_model(self) -> nn.Module:
        return _Base(self)

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def forward(self, input_ids: Tensor, **_: Any) -> Any:
        return SimpleNamespace(logits=self.head(self.states(self.embedding(input_ids), None)))

    def states(self, embeddings: Tensor, mask: Tensor | None) -> Tensor:
        n = embeddings.shape[1]
        seen = embeddings if mask is None else embeddings * mask[..., None]
        lag = torch.arange(n)[:, None] - torch.arange(n)[None, :]
        mixing = self.lags[lag.clamp_min(0)] * (lag >= 0)[..., None, None]  # (n, n, width, width)
        return torch.einsum("tsij,bsj->bti", mixing, seen)

    def weight(self, position: int, scored_at: int, token: int) -> Tensor:
        """(width,) of the embedding at ``position`` in the logit of ``token``, read at ``scored_at``."""
        return self.lags[scored_at - position].T @ self.head.weight[token]


class _Base(nn.Module):
    def __init__(self, owner: LinearLanguage) -> None:
        super().__init__()
        self.owner = [owner]

    def forward(self, inputs_embeds: Tensor, attention_mask: Tensor | None = None, **_: Any) -> Any:
        states = self.owner[0].states(inputs_embeds, attention_mask)
        return SimpleNamespace(hidden_states=(inputs_embeds, states), last_hidden_state=states, attentions=None)
