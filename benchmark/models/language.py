# SPDX-License-Identifier: Apache-2.0
"""A causal language model with its head: what it gives for the next word, and the gradient of that."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.models.alignment import FastTokenizer, Tokenizer
from voxelboard.benchmark.models.backbone import (
    as_user_error,
    count_parameters,
    load_config,
    load_tokenizer,
    longest_input,
    pad_id_of,
    parameters_sha256,
    random_module,
)
from voxelboard.benchmark.models.base import ModelIdentity
from voxelboard.benchmark.models.batching import Batcher, BatchSize, token_budget
from voxelboard.benchmark.models.checkpoint import Checkpoint, open_checkpoint
from voxelboard.benchmark.models.contexts import ContextBatch
from voxelboard.benchmark.models.load import choose_place
from voxelboard.benchmark.models.quiet import quiet_transformers
from voxelboard.benchmark.models.spec import ModelSpec
from voxelboard.benchmark.models.trust import may_run_code

_PROBE_TOKENS = 6
# A pass with gradients keeps the activations of every block, not of one
_GRADIENT_SHARE = 4
_EMBEDDING_ROWS = 4096  # of the embedding matrix, in float64 at a time


@dataclass(frozen=True, eq=False)
class Read:
    """What one pass gave, on the device.

    Attributes
    ----------
    hidden : n_layers x (n_texts, n_tokens, n_features); layer 0 the embeddings, layer k the output of block k.
    last : (n_texts, n_tokens, n_features) what the head reads.
    attention : blocks x (n_texts, n_heads, n_tokens, n_tokens), query before key; empty unless asked for.
    logits : None, or (n_texts, n_tokens, n_vocabulary) where the head does more than multiply.
    """

    hidden: Sequence[Tensor]
    last: Tensor
    attention: Sequence[Tensor]
    logits: Tensor | None


class LanguageModel:
    """A Transformers causal language model in float32, evaluation mode, without gradients of its weights.

    Raises
    ------
    UserError
        when no gradient of a score reaches the embeddings.
    """

    def __init__(
        self,
        module: nn.Module,
        tokenizer: Tokenizer,
        identity: ModelIdentity,
        device: torch.device,
        pad_id: int,
        batch_size: BatchSize = "auto",
    ) -> None:
        self.tokenizer = tokenizer
        self.identity = identity
        self.device = device
        self.pad_id = pad_id
        self._module: Any = module
        base: Any = module.base_model
        self._base = base
        self._embedding: Any = module.get_input_embeddings()  # type: ignore[operator]
        self._head: Any = module.get_output_embeddings()  # type: ignore[operator]
        self._takes_positions = "position_ids" in inspect.signature(self._base.forward).parameters
        self._whole_head = False
        self._whole_head = not self._head_is_linear()
        probe = self.read(self.embed(self._probe()), attention=True)
        self.n_layers = len(probe.hidden)
        self.n_features = int(probe.hidden[0].shape[-1])
        self.n_attention_layers = len(probe.attention)
        self.n_heads = int(probe.attention[0].shape[1]) if probe.attention else 0
        self._refuse_flat()
        budget = token_budget(device, self.n_layers, self.n_features, torch.float32)
        self._batch_size, self._budget = batch_size, budget

    @property
    def mean_embedding(self) -> Tensor:
        """(n_features,) the mean row of the embedding matrix, as the model scales its embeddings."""
        n_vocabulary = int(self._embedding.weight.shape[0])
        total = torch.zeros(self._embedding.weight.shape[1], dtype=torch.float64, device=self.device)
        for first in range(0, n_vocabulary, _EMBEDDING_ROWS):
            rows = torch.arange(first, min(first + _EMBEDDING_ROWS, n_vocabulary), device=self.device)
            total += self.embed(rows).double().sum(0)
        return (total / n_vocabulary).float()

    def batcher(self, *, gradients: bool) -> Batcher:
        """Batches that fit the memory; with gradients the activations of every block are kept."""
        return Batcher(self._batch_size, max(1, self._budget // (_GRADIENT_SHARE if self._on_gpu and gradients else 1)))

    @property
    def _on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def embed(self, ids: Tensor) -> Tensor:
        """(n_texts, n_tokens, n_features) the input embeddings x, without positions."""
        with torch.no_grad():
            embedded: Tensor = self._embedding(ids)
        return embedded

    def read(self, embeddings: Tensor, mask: Tensor | None = None, *, attention: bool = False) -> Read:
        """Run the model on embeddings. ``mask`` (n_texts, n_tokens) is 0 where a token is hidden from all others.

        Positions count tokens whether they are hidden or not.
        """
        options: dict[str, Any] = {"inputs_embeds": embeddings, "attention_mask": mask, "output_hidden_states": True}
        if attention:
            options["output_attentions"] = True
        if self._takes_positions:
            n_tokens = embeddings.shape[1]
            options["position_ids"] = torch.arange(n_tokens, device=embeddings.device).expand(len(embeddings), -1)
        output = (self._module if self._whole_head else self._base)(**options, use_cache=False)
        given = getattr(output, "attentions", None) or () if attention else ()
        # blocks without attention (convolutions, recurrences) of a mixed model give None or something else
        tables = tuple(table for table in given if isinstance(table, Tensor) and table.ndim == 4)
        hidden = output.hidden_states
        if self._whole_head:
            return Read(hidden, hidden[-1], tables, output.logits)
        return Read(hidden, output.last_hidden_state, tables, None)

    def logits(self, read: Read, rows: Tensor, positions: Tensor) -> Tensor:
        """(n, n_vocabulary) logits that predict the token *after* each position."""
        if read.logits is not None:
            return read.logits[rows, positions]
        logits: Tensor = self._head(read.last[rows, positions])
        return logits

    def score(self, read: Read, batch: ContextBatch, kind: str) -> Tensor:
        """(n_contexts,) f: the sum over the scored tokens of their log-probability, or of their logit."""
        scores = torch.zeros(len(batch), device=read.last.device, dtype=read.last.dtype)
        if len(batch.rows) == 0:
            return scores
        logits = self.logits(read, batch.rows, batch.positions - 1)
        values = logits.log_softmax(-1) if kind == "log_probability" else logits
        return scores.index_add(0, batch.rows, values.gather(1, batch.targets[:, None])[:, 0])

    def _probe(self) -> Tensor:
        n_vocabulary = int(self._embedding.weight.shape[0])
        return (torch.arange(1, _PROBE_TOKENS + 1, device=self.device) % n_vocabulary)[None]

    @torch.no_grad()
    def _head_is_linear(self) -> bool:
        """Whether the output embedding alone gives the model's logits; some families cap or scale them afterwards."""
        if self._head is None:
            return False
        ids = self._probe()
        whole = self._module(input_ids=ids, use_cache=False).logits
        short = self._head(self.read(self.embed(ids)).last)
        return whole.shape == short.shape and bool(
            (whole - short).abs().max() <= 1e-5 * whole.abs().max().clamp_min(1.0)
        )

    def _refuse_flat(self) -> None:
        ids = self._probe()
        embedded = self.embed(ids).requires_grad_(True)
        read = self.read(embedded)
        last = torch.tensor([ids.shape[1] - 2], device=self.device)
        score = self.logits(read, torch.zeros_like(last), last).log_softmax(-1)[0, ids[0, -1]]
        gradient = torch.autograd.grad(score, embedded, allow_unused=True)[0] if score.requires_grad else None
        if gradient is None or not bool(gradient.abs().max() > 0):
            raise UserError(
                f"{self.identity.model_id}: no gradient of its scores reaches its embeddings, so it cannot be explained",
                "leave --features attributions out for this model",
            )


def load_language_model(
    spec: ModelSpec,
    *,
    device: str | torch.device = "cpu",
    batch_size: BatchSize = "auto",
    offline: bool = False,
    allow_remote_code: bool = False,
    cache_dir: Path | None = None,
) -> LanguageModel:
    """Load a causal language model with its head in float32; parameters as in :func:`load_model`.

    Raises
    ------
    UserError
        for a model that is not causal, is quantised, or whose checkpoint has no head.
    MissingPrerequisite
        for files, a device or a permission that is not there.
    """
    if spec.loader != "causal":
        raise UserError(
            f"{spec.name} has loader {spec.loader!r}: attributions explain what a causal model says of the next word",
            "leave --features attributions out for this model",
        )
    place = choose_place(device)
    checkpoint = open_checkpoint(spec, offline=offline, cache_dir=cache_dir, with_weights=spec.weights == "pretrained")
    with quiet_transformers():
        trusted = may_run_code(spec, checkpoint, allow_remote_code)
        config = load_config(spec, checkpoint, trusted)
        _refuse_quantised(spec, config)
        tokenizer = FastTokenizer(load_tokenizer(spec, checkpoint, trusted), spec.tokenizer_id or spec.name)
        module = _build(spec, checkpoint, config, trusted).eval().requires_grad_(False)
        identity = _identity(spec, checkpoint, module, longest_input(module, config, tokenizer.max_tokens))
        pad_id = pad_id_of(config, tokenizer.pad_id)
        return LanguageModel(module.to(place), tokenizer, identity, place, pad_id, batch_size)


def _refuse_quantised(spec: ModelSpec, config: Any) -> None:
    quantisation = getattr(config, "quantization_config", None)
    if quantisation is not None:
        method = quantisation.get("quant_method") if isinstance(quantisation, dict) else quantisation.quant_method
        raise UserError(
            f"{spec.name} is quantised ({method}): gradients of rounded weights are not those of the model",
            "submit the unquantised checkpoint, or leave --features attributions out",
        )


def _build(spec: ModelSpec, checkpoint: Checkpoint, config: Any, trusted: bool) -> nn.Module:
    """The whole model with its head, float32 on the CPU. Eager attention: the fused kernels return no weights."""
    from transformers import AutoModelForCausalLM

    options = {"attn_implementation": "eager", "dtype": torch.float32, "trust_remote_code": trusted}
    if spec.weights == "random":
        with torch.random.fork_rng(devices=[]), as_user_error("the architecture cannot be built"):
            torch.manual_seed(spec.seed)
            drawn: Any = AutoModelForCausalLM.from_config(config, **options)
        # the same body as the twin whose states are read; only the head is drawn beside it
        drawn.base_model.load_state_dict(random_module(config, spec.seed, trusted).state_dict())
        twin: nn.Module = drawn
        return twin
    with as_user_error(f"{spec.name}: the weights cannot be loaded with a language-model head"):
        module, info = AutoModelForCausalLM.from_pretrained(
            checkpoint.folder,
            config=config,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
    missing = sorted(info["missing_keys"])
    if missing:
        raise UserError(
            f"{spec.name}: {len(missing)} weights of {type(module).__name__} are not in the checkpoint, the first is "
            f"{missing[0]!r}; the scores of words would be random",
            "attributions need a checkpoint with its language-model head",
        )
    loaded: nn.Module = module
    return loaded


def _identity(spec: ModelSpec, checkpoint: Checkpoint, module: nn.Module, max_tokens: int | None) -> ModelIdentity:
    random = spec.weights == "random"
    weights_sha256 = parameters_sha256(module) if random else checkpoint.weights_sha256()
    return ModelIdentity(
        loader=spec.loader,
        model_id=spec.name,
        revision=checkpoint.resolved_revision("" if random else weights_sha256),
        weights_sha256=weights_sha256,
        tokenizer_sha256=checkpoint.tokenizer_sha256(),
        dtype="float32",
        n_parameters=count_parameters(module),
        max_tokens=max_tokens,
        weights=spec.weights,
        seed=spec.seed if random else 0,
    )
