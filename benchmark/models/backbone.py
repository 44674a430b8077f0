# SPDX-License-Identifier: Apache-2.0
"""Build the module whose states are read: pretrained or drawn from a seed, whole, and checked to be what it should."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor, nn

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.models.checkpoint import Checkpoint
from voxelboard.benchmark.models.early_stop import lists_of_blocks, run_up_to
from voxelboard.benchmark.models.spec import Loader, ModelSpec

# Weights that no hidden state depends on: the head on top of the first token of BERT-like models.
_UNREAD = ("pooler.",)
_LIMIT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "max_seq_length")
_PROBE_TOKENS = 8
LSTM_TYPE = "voxelboard-lstm"  # of config.json, see models.recurrent


class TransformersBackbone:
    """A Transformers module without a head, in evaluation mode, on a device. Attributes as in ``Backbone``.

    With ``causal`` it runs without a mask: rows are padded on the right, where nothing before the padding can see it, and
    attention kernels that know only "causal" are the fastest. Set it only after :meth:`sees_the_future` said no.
    """

    def __init__(self, module: nn.Module, device: torch.device, pad_id: int, max_tokens: int | None) -> None:
        self._module = module
        self.causal = False
        self._n_probe = min(_PROBE_TOKENS, max_tokens or _PROBE_TOKENS)
        self.device = device
        self.dtype = next(module.parameters()).dtype
        self.pad_id = pad_id
        embeddings: Any = module.get_input_embeddings()  # type: ignore[operator]
        self.n_vocabulary = int(embeddings.weight.shape[0])
        probe = self.hidden_states(*self._probe())
        self.n_layers = len(probe)
        self.n_features = int(probe[0].shape[-1])
        shapes = {tuple(layer.shape) for layer in probe}
        if len(shapes) != 1:
            raise UserError(
                f"{type(module).__name__} has layers of different shapes {sorted(shapes)}; one width is needed",
                "such architectures cannot be read layer by layer",
            )
        candidates = lists_of_blocks(module, self.n_layers)
        self._blocks = next((blocks for blocks in candidates if self._stops_exactly(blocks, probe)), None)

    @torch.inference_mode()
    def hidden_states(self, ids: Tensor, mask: Tensor, last_layer: int | None = None) -> Sequence[Tensor]:
        """n_layers x (n_texts, n_tokens, n_features) on the device, or those of layers 0 .. ``last_layer`` alone.

        Blocks after ``last_layer`` do not run, where the architecture was seen to give the same states without them.
        """
        inputs = {"input_ids": ids, "attention_mask": None if self.causal else mask}
        if last_layer is not None and last_layer < self.n_layers - 1:
            if self._blocks is not None:
                return run_up_to(self._module, self._blocks, last_layer, inputs)
            return self.hidden_states(ids, mask)[: last_layer + 1]
        output = self._module(**inputs, output_hidden_states=True)
        layers: Sequence[Tensor] | None = output.hidden_states
        if not layers:
            raise UserError(
                f"{type(self._module).__name__} returns no hidden states", "this architecture cannot be read"
            )
        return layers

    def _stops_exactly(self, blocks: nn.ModuleList, probe: Sequence[Tensor]) -> bool:
        """Whether the inputs of the blocks are, byte for byte, the states that the whole pass tells."""
        ids, mask = self._probe()
        try:
            with torch.inference_mode():
                inputs = {"input_ids": ids, "attention_mask": mask}
                found = run_up_to(self._module, blocks, self.n_layers - 2, inputs)
        except (RuntimeError, KeyError):  # blocks in another order, or with inputs of another name
            return False
        return all(torch.equal(one.nan_to_num(), other.nan_to_num()) for one, other in zip(found, probe, strict=False))

    def sees_the_future(self) -> bool:
        """Whether a later token changes the state of an earlier one, in any layer."""
        ids, mask = self._probe()
        changed = ids.clone()
        half = self._n_probe // 2
        changed[:, half:] = (changed[:, half:] + self.n_vocabulary // 2) % self.n_vocabulary
        tolerance = 32 * torch.finfo(self.dtype).eps
        for one, other in zip(self.hidden_states(ids, mask), self.hidden_states(changed, mask), strict=True):
            before, after = (states[:, :half].nan_to_num().float() for states in (one, other))
            if (before - after).abs().max() > tolerance * (1 + before.abs().max()):
                return True
        return False

    def _probe(self) -> tuple[Tensor, Tensor]:
        ids = (torch.arange(1, self._n_probe + 1, device=self.device) % self.n_vocabulary)[None]
        return ids, torch.ones_like(ids)


def load_config(spec: ModelSpec, checkpoint: Checkpoint, trusted: bool) -> Any:
    """The Transformers configuration.

    Raises
    ------
    UserError
        for an architecture that Transformers does not know, and for a loader that does not suit it.
    """
    from transformers import AutoConfig

    kind = checkpoint.config().get("model_type")
    if (kind == LSTM_TYPE) != (spec.loader == "recurrent"):
        right = "recurrent" if kind == LSTM_TYPE else "causal, masked, seq2seq or sentence"
        raise UserError(
            f"{spec.name}: the loader {spec.loader} cannot read a model of the type {kind!r}", f"use loader: {right}"
        )
    with as_user_error(f"{spec.name}: config.json cannot be read"):
        config = AutoConfig.from_pretrained(checkpoint.folder, local_files_only=True, trust_remote_code=trusted)
    if spec.loader == "seq2seq" and not config.is_encoder_decoder:
        raise UserError(f"{spec.name} is no encoder-decoder model", "use loader: causal or masked")
    if spec.loader in ("causal", "masked") and config.is_encoder_decoder:
        raise UserError(f"{spec.name} is an encoder-decoder model", "use loader: seq2seq, which reads its encoder")
    config.use_cache = False
    return config


def load_tokenizer(spec: ModelSpec, checkpoint: Checkpoint, trusted: bool) -> Any:
    """The Transformers tokenizer, fast or not."""
    from transformers import AutoTokenizer

    with as_user_error(f"{spec.tokenizer_id or spec.name}: the tokenizer cannot be read"):
        return AutoTokenizer.from_pretrained(
            checkpoint.tokenizer_folder, local_files_only=True, trust_remote_code=trusted
        )


def build_module(spec: ModelSpec, checkpoint: Checkpoint, config: Any, dtype: torch.dtype, trusted: bool) -> nn.Module:
    """The whole base model on the CPU, in ``dtype``."""
    if spec.weights == "random":
        return random_module(config, spec.seed, trusted)
    return _pretrained_module(spec, checkpoint, config, dtype, trusted)


def random_module(config: Any, seed: int, trusted: bool = False) -> nn.Module:
    """The architecture of ``config`` with weights drawn from ``seed``, float32 on the CPU.

    The generator of the process is left as it was. Drawn in float32 for every precision, so twins differ in rounding only.
    """
    from transformers import AutoModel

    with torch.random.fork_rng(devices=[]), as_user_error("the architecture cannot be built"):
        torch.manual_seed(seed)
        module: nn.Module = AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=trusted)
    return module


def _pretrained_module(
    spec: ModelSpec, checkpoint: Checkpoint, config: Any, dtype: torch.dtype, trusted: bool
) -> nn.Module:
    from transformers import AutoModel

    with as_user_error(f"{spec.name}: the weights cannot be loaded"):
        module, info = AutoModel.from_pretrained(
            checkpoint.folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=trusted,
            output_loading_info=True,
        )
    missing = sorted(name for name in info["missing_keys"] if _is_read(name, spec.loader, config))
    if missing:
        raise UserError(
            f"{spec.name}: {len(missing)} weights of {type(module).__name__} are not in the checkpoint, "
            f"the first is {missing[0]!r}; they would be random",
            "the checkpoint is incomplete or of another architecture; download it again or correct config.json",
        )
    loaded: nn.Module = module
    return loaded


def _is_read(name: str, loader: Loader, config: Any) -> bool:
    unread = (*_UNREAD, "decoder.") if config.is_encoder_decoder and loader in ("seq2seq", "sentence") else _UNREAD
    return not name.startswith(unread)


def part_that_is_read(module: nn.Module, config: Any) -> nn.Module:
    """The encoder of an encoder-decoder model, else the module itself; in evaluation mode, without gradients."""
    part: nn.Module = module.get_encoder() if config.is_encoder_decoder else module  # type: ignore[operator]
    return part.eval().requires_grad_(False)


def parameters_sha256(module: nn.Module) -> str:
    """Hash of the names and values of all parameters and stored buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def count_parameters(module: nn.Module) -> int:
    """Parameters of the base model, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_layers(config: Any) -> int:
    """Layers with the embedding layer, by the configuration alone; of an encoder-decoder model those of the encoder."""
    text = config.get_text_config()
    for key in ("encoder_layers", "num_layers") if config.is_encoder_decoder else ():
        if isinstance(getattr(config, key, None), int):
            return int(getattr(config, key)) + 1
    return int(text.num_hidden_layers) + 1


def longest_input(module: nn.Module, config: Any, *others: int | None) -> int | None:
    """Tokens that the model accepts, None when unbounded; ``others`` are limits of the tokenizer and the sentence model."""
    limits = [limit for limit in others if limit is not None]
    for key in _LIMIT_KEYS:
        value = getattr(config.get_text_config(), key, None)
        if isinstance(value, int) and value > 0:
            limits.append(value)
    for name, embedding in module.named_modules():
        # RoBERTa-like models count positions from padding_idx + 1, so 514 rows take 512 tokens
        if (
            name.endswith("position_embeddings")
            and isinstance(embedding, nn.Embedding)
            and embedding.padding_idx is not None
        ):
            limits.append(embedding.num_embeddings - embedding.padding_idx - 1)
    return min(limits) if limits else None


def pad_id_of(config: Any, tokenizer_pad: int | None) -> int:
    """The id that fills short rows. Positions of RoBERTa-like models depend on it, so the configuration comes first."""
    text = config.get_text_config()
    for pad in (getattr(text, "pad_token_id", None), tokenizer_pad):
        if isinstance(pad, int) and 0 <= pad < text.vocab_size:
            return pad
    return 0


@contextmanager
def as_user_error(what: str) -> Iterator[None]:
    """Turn what Transformers raises on bad files into one message, keeping the original as its cause."""
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"{what}: {first}", "download the checkpoint again, or update transformers") from error
