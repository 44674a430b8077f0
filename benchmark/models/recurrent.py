# SPDX-License-Identifier: Apache-2.0
"""LSTM language models, in the form of a Transformers checkpoint: ``config.json``, ``model.safetensors``, a tokenizer.

The architecture is the usual word-level one (Merity et al. 2018 without its tricks): embeddings, a stack of LSTM layers of one
width, and an output that shares the embeddings' weights. Layer 0 is the embedding, layer ``k`` the output of LSTM layer ``k``.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput

from voxelboard.benchmark.models.backbone import LSTM_TYPE


class LSTMConfig(PretrainedConfig):  # type: ignore[misc]
    """What ``config.json`` says of an LSTM language model.

    Parameters
    ----------
    vocab_size, hidden_size, num_hidden_layers : sizes; embeddings are as wide as the states.
    dropout : between layers and around them, in training.
    initializer_range : standard deviation of the embeddings at the start.
    """

    model_type = LSTM_TYPE

    def __init__(
        self,
        vocab_size: int = 50257,
        hidden_size: int = 768,
        num_hidden_layers: int = 2,
        dropout: float = 0.1,
        initializer_range: float = 0.02,
        tie_word_embeddings: bool = True,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.dropout = dropout
        self.initializer_range = initializer_range
        super().__init__(tie_word_embeddings=tie_word_embeddings, **kwargs)


class _LSTMPreTrained(PreTrainedModel):  # type: ignore[misc]
    config_class = LSTMConfig
    base_model_prefix = "lstm"

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        elif isinstance(module, nn.LSTM):
            bound = module.hidden_size**-0.5
            for name, weight in module.named_parameters():
                nn.init.uniform_(weight, -bound, bound)
                if name.startswith("bias_hh"):
                    weight.zero_()
                elif name.startswith("bias_ih"):
                    weight.zero_()
                    weight[module.hidden_size : 2 * module.hidden_size] = 1.0  # forget gates open (Gers et al. 2000)


class LSTMModel(_LSTMPreTrained):
    """The stack without its output layer."""

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        # one module a layer: the states of every layer are wanted
        self.layers = nn.ModuleList(
            nn.LSTM(config.hidden_size, config.hidden_size, batch_first=True) for _ in range(config.num_hidden_layers)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.embeddings = value

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,  # noqa: ARG002 - rows are padded on the right, which no state before it sees
        output_hidden_states: bool | None = None,
        **_: Any,
    ) -> BaseModelOutput:
        """States of (n_texts, n_tokens) ids: the last layer's (n_texts, n_tokens, n_features), on request all layers'."""
        states = self.embeddings(input_ids)
        layers = [states]
        for layer in self.layers:
            states, _final = layer(self.dropout(states))
            layers.append(states)
        return BaseModelOutput(last_hidden_state=states, hidden_states=tuple(layers) if output_hidden_states else None)


class LSTMForCausalLM(_LSTMPreTrained):
    """The language model: next-token logits and, with labels, the mean cross-entropy in nats."""

    _tied_weights_keys = {"head.weight": "lstm.embeddings.weight"}  # noqa: RUF012 - read by Transformers

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__(config)
        self.lstm = LSTMModel(config)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def set_output_embeddings(self, value: nn.Linear) -> None:
        self.head = value

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **_: Any
    ) -> CausalLMOutput:
        """Logits (n_texts, n_tokens, vocab_size); labels are the ids themselves, shifted here."""
        states = self.lstm(input_ids, attention_mask).last_hidden_state
        logits = self.head(self.lstm.dropout(states))
        loss = None
        if labels is not None:
            loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
        return CausalLMOutput(loss=loss, logits=logits)


def register() -> None:
    """Make Transformers' Auto classes know the architecture; calling it again changes nothing."""
    AutoConfig.register(LSTM_TYPE, LSTMConfig, exist_ok=True)
    AutoModel.register(LSTMConfig, LSTMModel, exist_ok=True)
    AutoModelForCausalLM.register(LSTMConfig, LSTMForCausalLM, exist_ok=True)
