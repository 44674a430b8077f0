# SPDX-License-Identifier: Apache-2.0
"""From the model part of a submission to a model that can read stories."""

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from voxelboard.benchmark.errors import MissingPrerequisite, UserError, unknown_name
from voxelboard.benchmark.models.alignment import FastTokenizer
from voxelboard.benchmark.models.backbone import (
    TransformersBackbone,
    build_module,
    count_layers,
    count_parameters,
    load_config,
    load_tokenizer,
    longest_input,
    pad_id_of,
    parameters_sha256,
    part_that_is_read,
    random_module,
)
from voxelboard.benchmark.models.base import ModelIdentity, WordModel
from voxelboard.benchmark.models.batching import BatchSize
from voxelboard.benchmark.models.checkpoint import Checkpoint, inside, open_checkpoint
from voxelboard.benchmark.models.passages import plan_causal, plan_prefixes
from voxelboard.benchmark.models.pooling import POOLINGS, Pooling, PoolSentences, TokenPooling
from voxelboard.benchmark.models.quiet import quiet_transformers
from voxelboard.benchmark.models.sentence import SentenceLayout, read_sentence_layout
from voxelboard.benchmark.models.spec import DTYPES, ModelSpec
from voxelboard.benchmark.models.static import load_static
from voxelboard.benchmark.models.transformer import TransformerModel
from voxelboard.benchmark.models.trust import may_run_code

logger = logging.getLogger(__name__)

_TORCH_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(
    spec: ModelSpec,
    *,
    device: str | torch.device = "cpu",
    dtype: str | None = None,
    batch_size: BatchSize = "auto",
    offline: bool = False,
    allow_remote_code: bool = False,
    cache_dir: Path | None = None,
    token_pooling: TokenPooling = "mean",  # noqa: S107 - no password
) -> WordModel:
    """Load a model, whole and checked.

    Parameters
    ----------
    device : where the forward pass runs.
    dtype : one of ``DTYPES``; None: that of the spec, on a CPU float32. The identity says which it was.
    batch_size : texts in a batch, or "auto" for as many as fit; halved when memory runs out.
    offline : use only what is on this machine.
    allow_remote_code : the caller's half of the permission to run code of the checkpoint.
    cache_dir : of the hub; None: the hub's own default.
    token_pooling : how the tokens of a word become its state; sentence models have their own way.

    Raises
    ------
    UserError
        for a spec that contradicts the checkpoint: pickled weights, missing tensors, a bidirectional model with the
        loader causal, a tokenizer without offsets, code that was not allowed, paths that lead out.
    MissingPrerequisite
        for files, a device or a permission that is not there.
    """
    if spec.loader == "static":
        return load_static(spec)
    place = choose_place(device)
    precision = _dtype(spec, dtype, place)
    checkpoint = open_checkpoint(spec, offline=offline, cache_dir=cache_dir, with_weights=spec.weights == "pretrained")
    with quiet_transformers():
        return _load_transformer(
            spec, checkpoint, place, precision, batch_size, allow_remote_code, POOLINGS[token_pooling]
        )


def load_exact(
    spec: ModelSpec,
    *,
    device: str | torch.device,
    offline: bool = False,
    allow_remote_code: bool = False,
    token_pooling: TokenPooling = "mean",  # noqa: S107 - no password
) -> WordModel:
    """The model in float32, one text at a time: what a receipt compares the states with. Parameters as in :func:`load_model`.

    On the CPU where a GPU does not hold it beside the model itself (7 billion parameters are 28 GB): a receipt reads few words.

    Raises
    ------
    UserError, MissingPrerequisite
        as :func:`load_model`.
    """
    load = partial(
        load_model,
        spec,
        dtype="float32",
        batch_size=1,
        offline=offline,
        allow_remote_code=allow_remote_code,
        token_pooling=token_pooling,
    )
    try:
        return load(device=device)
    except MissingPrerequisite as error:
        if torch.device(device).type == "cpu":
            raise
        logger.info("%s; the receipt is read on the CPU", error.message)
    return load(device="cpu")


def _load_transformer(
    spec: ModelSpec,
    checkpoint: Checkpoint,
    device: torch.device,
    dtype: str,
    batch_size: BatchSize,
    allow_remote_code: bool,
    pool_tokens: Pooling,
) -> TransformerModel:
    trusted = may_run_code(spec, checkpoint, allow_remote_code)
    layout = _sentence_layout(spec, checkpoint)
    _register_own(spec)
    config = load_config(spec, checkpoint, trusted)
    name = spec.tokenizer_id or spec.name
    tokenizer = FastTokenizer(load_tokenizer(spec, checkpoint, trusted), name, layout.lower_case)
    module = build_module(spec, checkpoint, config, _TORCH_DTYPES[dtype], trusted)
    max_tokens = longest_input(module, config, tokenizer.max_tokens, layout.max_tokens)
    identity = _identity(spec, checkpoint, module, dtype, max_tokens)
    part = _place(part_that_is_read(module, config), device, dtype, spec)
    backbone = TransformersBackbone(part, device, pad_id_of(config, tokenizer.pad_id), identity.max_tokens)
    in_one_pass = spec.loader in ("causal", "recurrent")
    if in_one_pass and backbone.sees_the_future():
        raise UserError(
            f"{spec.name}: a later word changes the state of an earlier one, so this model is not causal",
            "use loader: masked, which shows it each word's past only",
        )
    backbone.causal = in_one_pass
    plan = plan_causal if in_one_pass else plan_prefixes
    pool = layout.pooling if spec.loader == "sentence" else pool_tokens
    return TransformerModel(backbone, tokenizer, identity, plan, pool, batch_size)


def _register_own(spec: ModelSpec) -> None:
    """Make Transformers know the architectures that are this project's own."""
    if spec.loader == "recurrent":
        from voxelboard.benchmark.models.recurrent import register

        register()


def _place(module: nn.Module, device: torch.device, dtype: str, spec: ModelSpec) -> nn.Module:
    try:
        return module.to(device=device, dtype=_TORCH_DTYPES[dtype])
    except torch.OutOfMemoryError as error:
        gib = count_parameters(module) * _TORCH_DTYPES[dtype].itemsize / 2**30
        raise MissingPrerequisite(
            f"{spec.name}: {gib:.1f} GiB of weights in {dtype} do not fit on {device}",
            "use --dtype bfloat16, free the device, or use one with more memory",
        ) from error


def _identity(
    spec: ModelSpec, checkpoint: Checkpoint, module: nn.Module, dtype: str, max_tokens: int | None
) -> ModelIdentity:
    """``module`` is the whole base model, before its precision is changed."""
    random = spec.weights == "random"
    weights_sha256 = parameters_sha256(module) if random else checkpoint.weights_sha256()
    return ModelIdentity(
        loader=spec.loader,
        model_id=spec.name,
        revision=checkpoint.resolved_revision("" if random else weights_sha256),
        weights_sha256=weights_sha256,
        tokenizer_sha256=checkpoint.tokenizer_sha256(),
        dtype=dtype,
        n_parameters=count_parameters(module),
        max_tokens=max_tokens,
        weights=spec.weights,
        seed=spec.seed if random else 0,
    )


@dataclass(frozen=True)
class ModelDescription:
    """What a model will take, known before its weights are loaded.

    Attributes
    ----------
    n_layers : with the embedding layer.
    n_parameters : of the base model without a head; an encoder-decoder model is counted whole.
    weight_bytes : of the weights in the spec's dtype.
    max_tokens : longest input, None when unbounded.
    n_vocabulary : tokens that it knows; 0 for a table of words.
    """

    model_id: str
    n_layers: int
    n_features: int
    n_parameters: int
    weight_bytes: int
    max_tokens: int | None
    n_vocabulary: int = 0


def describe_model(
    spec: ModelSpec, *, offline: bool = False, allow_remote_code: bool = False, cache_dir: Path | None = None
) -> ModelDescription:
    """Size of a model from its configuration alone: no weight is downloaded, read or drawn.

    Raises
    ------
    UserError, MissingPrerequisite
        as :func:`load_model`.
    """
    if spec.loader == "static":
        model = load_static(spec)
        size = model.identity.n_parameters
        return ModelDescription(spec.name, 1, model.n_features, size, 4 * size, None)
    checkpoint = open_checkpoint(spec, offline=offline, cache_dir=cache_dir, with_weights=False, with_tokenizer=False)
    with quiet_transformers():
        trusted = may_run_code(spec, checkpoint, allow_remote_code)
        _register_own(spec)
        config = load_config(spec, checkpoint, trusted)
        with torch.device("meta"):
            module = random_module(config, seed=0, trusted=trusted)
    n_parameters = count_parameters(module)
    return ModelDescription(
        model_id=spec.name,
        n_layers=count_layers(config),
        n_features=int(config.get_text_config().hidden_size),
        n_parameters=n_parameters,
        weight_bytes=n_parameters * _TORCH_DTYPES[spec.dtype].itemsize,
        max_tokens=longest_input(module, config, _sentence_layout(spec, checkpoint).max_tokens),
        n_vocabulary=int(getattr(config.get_text_config(), "vocab_size", 0)),
    )


def _sentence_layout(spec: ModelSpec, checkpoint: Checkpoint) -> SentenceLayout:
    if spec.loader != "sentence":
        return SentenceLayout(PoolSentences())
    return read_sentence_layout(inside(checkpoint.root, spec.subfolder, spec.name), spec.name)


def choose_place(device: str | torch.device) -> torch.device:
    """The device by its name.

    Raises
    ------
    UserError
        when it is unknown, or a CUDA device that is not there.
    """
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"device {device!r} is unknown", "allowed: cpu, cuda, cuda:N") from error
    if place.type == "cuda" and not torch.cuda.is_available():
        raise MissingPrerequisite(f"device {device} was asked for, but PyTorch sees no GPU", "use --device cpu")
    return place


def _dtype(spec: ModelSpec, asked: str | None, device: torch.device) -> str:
    if asked is not None and asked not in DTYPES:
        raise unknown_name("dtype", asked, DTYPES)
    # half precision on a CPU is slower and less exact: only when asked for by name
    return asked or ("float32" if device.type == "cpu" else spec.dtype)
