# SPDX-License-Identifier: Apache-2.0
"""Models that see and hear: states of frames, of one-second windows of sound, and of frames together with a text.

Vision (ViT, DeiT, the vision tower of CLIP, ResNet), audio (AST, wav2vec 2.0 and MMS) and vision-language (GIT,
BridgeTower, LLaVA-like chat models), all through their Transformers classes and the preprocessing files beside the
weights. Preprocessing needs Pillow and numpy; torchvision is not used.

Layers of different width are possible (ResNet), and a state of all patches of a frame can have 150,000 features:
reduce them (``features.reduction``) before they enter a ridge. As in Nakagi et al. 2024 vision and audio states are
flattened; with ``pooling="mean"`` they are averaged over patches or frames of sound.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from voxelboard.benchmark.errors import InvalidNumbers, MissingPrerequisite, UserError
from voxelboard.benchmark.models.backbone import load_config, parameters_sha256, random_module
from voxelboard.benchmark.models.checkpoint import Checkpoint, open_checkpoint
from voxelboard.benchmark.models.quiet import quiet_transformers
from voxelboard.benchmark.models.spec import ModelSpec
from voxelboard.benchmark.stimuli.media import Picture, Sound

Float32Array = NDArray[np.float32]
Kind = Literal["vision", "audio", "vision_language"]
Pooling = Literal["flatten", "mean"]

KINDS: tuple[Kind, ...] = ("vision", "audio", "vision_language")
# model_type of config.json -> what the model takes in
_KIND_OF = {
    "vit": "vision",
    "deit": "vision",
    "resnet": "vision",
    "clip": "vision",
    "clip_vision_model": "vision",
    "siglip": "vision",
    "siglip_vision_model": "vision",
    "dinov2": "vision",
    "audio-spectrogram-transformer": "audio",
    "wav2vec2": "audio",
    "hubert": "audio",
    "wavlm": "audio",
    "git": "vision_language",
    "bridgetower": "vision_language",
    "llava": "vision_language",
    "llava_next": "vision_language",
}


class Processor(Protocol):
    """What turns pictures or sound into tensors."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


@dataclass(eq=False)
class MediaModel:
    """A loaded model of frames, sound, or frames with text. Build it with :func:`load_media_model`.

    Attributes
    ----------
    kind : vision, audio or vision_language.
    name, weights_sha256 : which one, for keys and records.
    batch_size : seconds in a forward pass (two frames a second).
    """

    kind: Kind
    name: str
    weights_sha256: str
    module: nn.Module
    processor: Processor
    tokenizer: Any
    config: Any
    device: torch.device
    pooling: Pooling
    batch_size: int = 8

    def read_frames(self, pairs: Iterable[tuple[Picture, Picture]]) -> list[Float32Array]:
        """Each layer (n_seconds, n_features): the mean over the two frames of a second of their states.

        Raises
        ------
        UserError
            for a model that does not see.
        InvalidNumbers
            for a state that is not finite.
        """
        self._require("vision")
        parts: list[list[Float32Array]] = []
        iterator = iter(pairs)
        while batch := list(islice(iterator, self.batch_size)):
            states = self._layers(pixel_values=self._pixels([frame for pair in batch for frame in pair]))
            parts.append([_pool(layer, self.pooling).reshape(len(batch), 2, -1).mean(1).numpy() for layer in states])
        return _stacked(parts, self.name)

    def read_sound(self, sound: Sound, n_seconds: int) -> list[Float32Array]:
        """Each layer (n_seconds, n_features): states of the second that ends when each second starts."""
        self._require("audio")
        rate = int(getattr(self.processor, "sampling_rate", 16_000))
        windows = sound.resampled(rate).windows(n_seconds)
        parts: list[list[Float32Array]] = []
        for first in range(0, n_seconds, self.batch_size):
            window = list(windows[first : first + self.batch_size])
            values = self.processor(window, sampling_rate=rate, return_tensors="pt", padding=True)["input_values"]
            parts.append([_pool(layer, self.pooling).numpy() for layer in self._layers(input_values=values)])
        return _stacked(parts, self.name)

    def read_frames_and_texts(
        self, pairs: Iterable[tuple[Picture, Picture]], texts: Sequence[Sequence[str]]
    ) -> list[Float32Array]:
        """Each layer (n_seconds, n_text_features + n_image_features).

        States of the text's tokens and of the picture's are averaged by themselves and put side by side, then averaged
        over the two frames and over the annotators who wrote something. A second without a text is zero.

        Parameters
        ----------
        texts : (n_annotators, n_seconds), empty where there is none.
        """
        self._require("vision_language")
        wanted = list(zip(*texts, strict=True))
        parts: list[list[Float32Array]] = []
        width: list[int] | None = None
        for pair, written in zip(pairs, wanted, strict=True):
            said = [text for text in written if text]
            if not said:
                parts.append([])
                continue
            layers = [self._read_one(list(pair), text) for text in said]
            mean = [torch.stack(states).mean(0).numpy()[None] for states in zip(*layers, strict=True)]
            width = [layer.shape[1] for layer in mean]
            parts.append(mean)
        if width is None:
            raise UserError(f"{self.name}: no second has a text", "choose another level of annotation")
        return _stacked([part or [np.zeros((1, n), dtype=np.float32) for n in width] for part in parts], self.name)

    def _read_one(self, frames: list[Picture], text: str) -> list[Tensor]:
        """Each layer (n_features,): mean over two frames of text and image states side by side."""
        pixels = self._pixels(frames)
        ids, own = self._tokens(text)
        model_type = self.config.model_type
        if model_type.startswith("llava"):
            image = self._image_token_id()
            n_patches = self._n_patches(pixels[:1])
            ids = torch.cat([torch.full((n_patches,), image), ids])
            is_image = ids == image
            own = torch.cat([torch.zeros(n_patches, dtype=torch.bool), own])
        batch = ids[None].repeat(len(frames), 1).to(self.device)
        output = self._forward(input_ids=batch, attention_mask=torch.ones_like(batch), pixel_values=pixels)
        if model_type == "bridgetower":
            pairs = output.hidden_states[2]
            return [torch.cat([t[:, own].mean(1), i.mean(1)], dim=1).float().mean(0).cpu() for t, i in pairs]
        layers = output.hidden_states
        if model_type == "git":  # the picture's tokens stand before the text's
            n_image = layers[0].shape[1] - len(ids)
            split = [(layer[:, n_image:][:, own], layer[:, :n_image]) for layer in layers]
        else:
            split = [(layer[:, own], layer[:, is_image]) for layer in layers]
        return [torch.cat([t.mean(1), i.mean(1)], dim=1).float().mean(0).cpu() for t, i in split]

    def _tokens(self, text: str) -> tuple[Tensor, Tensor]:
        """Ids of a text, cut to the model's input, and which are not special."""
        limit = getattr(self.config.get_text_config(), "max_position_embeddings", None)
        room = (
            None if limit is None else max(1, int(limit) - (self._reserved() if self.config.model_type != "git" else 0))
        )
        encoded = self.tokenizer(
            text, return_special_tokens_mask=True, truncation=room is not None, max_length=room, verbose=False
        )
        own = ~np.asarray(encoded["special_tokens_mask"], dtype=bool)
        if not own.any():
            raise UserError(f"{self.name}: text {text[:60]!r} gets no token")
        return torch.tensor(encoded["input_ids"]), torch.from_numpy(own)

    def _reserved(self) -> int:
        """Positions that the picture takes in a chat model."""
        vision = getattr(self.config, "vision_config", None)
        if vision is None or not self.config.model_type.startswith("llava"):
            return 2  # of RoBERTa-like position counting
        return int((vision.image_size // vision.patch_size) ** 2)

    def _image_token_id(self) -> int:
        found = getattr(self.config, "image_token_id", None)
        return int(self.config.image_token_index if found is None else found)

    def _n_patches(self, pixels: Tensor) -> int:
        features = self.module.get_image_features(pixel_values=pixels.to(self.device, self._dtype()))  # type: ignore[operator]
        found = getattr(features, "pooler_output", features)
        found = found[0] if isinstance(found, (tuple, list)) else found
        return int(found.reshape(-1, found.shape[-1]).shape[0])

    def _pixels(self, frames: list[Picture]) -> Tensor:
        pixels: Tensor = self.processor(images=frames, return_tensors="pt")["pixel_values"]
        return pixels

    def _layers(self, **inputs: Tensor) -> list[Tensor]:
        return [layer.float().cpu() for layer in self._forward(**inputs).hidden_states]

    @torch.inference_mode()
    def _forward(self, **inputs: Tensor) -> Any:
        moved = {
            name: value.to(self.device, self._dtype()) if value.is_floating_point() else value.to(self.device)
            for name, value in inputs.items()
        }
        return self.module(**moved, output_hidden_states=True)

    def _dtype(self) -> torch.dtype:
        return next(self.module.parameters()).dtype

    def _require(self, kind: Kind) -> None:
        if self.kind != kind:
            raise UserError(f"{self.name} is a model of kind {self.kind}, not {kind}")


def load_media_model(
    spec: ModelSpec,
    *,
    device: str | torch.device = "cpu",
    pooling: Pooling = "flatten",
    batch_size: int = 8,
    offline: bool = False,
) -> MediaModel:
    """Load a model that sees or hears. What kind it is stands in its config.json.

    Parameters
    ----------
    spec : id and revision, or path; its loader is not looked at. ``weights: random`` draws them from the seed.
    pooling : of vision and audio states over patches or frames of sound.
    batch_size : seconds in a forward pass.

    Raises
    ------
    UserError
        for an architecture that is none of these, pickled weights, and preprocessing files that cannot be read.
    MissingPrerequisite
        for files that are not there, and for Pillow.
    """
    if pooling not in ("flatten", "mean"):
        raise UserError(f"pooling {pooling!r}; allowed: flatten, mean")
    checkpoint = open_checkpoint(
        spec, offline=offline, cache_dir=None, with_weights=spec.weights == "pretrained", with_tokenizer=False
    )
    with quiet_transformers():
        config = load_config(spec, checkpoint, trusted=False)
        kind = kind_of(config.model_type, spec.name)
        module = _build(spec, checkpoint, config)
        tower = module.vision_model if config.model_type in ("clip", "siglip") else module
        processor, tokenizer = _preprocessing(spec, checkpoint, kind)
    place = torch.device(device)
    return MediaModel(
        kind=kind,
        name=spec.name,
        weights_sha256=parameters_sha256(module) if spec.weights == "random" else checkpoint.weights_sha256(),
        module=tower.eval().requires_grad_(False).to(place),
        processor=processor,
        tokenizer=tokenizer,
        config=config,
        device=place,
        pooling=pooling,
        batch_size=batch_size,
    )


def kind_of(model_type: str, name: str) -> Kind:
    """What a model of this architecture takes in; raises UserError for one that is not known to see or hear."""
    kind = _KIND_OF.get(model_type)
    if kind is None:
        known = ", ".join(sorted(_KIND_OF))
        raise UserError(f"{name} is a {model_type!r}, which is not known to see or hear", f"known: {known}")
    return kind  # type: ignore[return-value]


def _build(spec: ModelSpec, checkpoint: Checkpoint, config: Any) -> Any:
    from transformers import AutoModel

    if spec.weights == "random":
        return random_module(config, spec.seed)
    try:
        module, info = AutoModel.from_pretrained(
            checkpoint.folder,
            config=config,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(
            f"{spec.name}: the weights cannot be loaded: {first}", "download the checkpoint again"
        ) from error
    missing = sorted(name for name in info["missing_keys"] if not name.startswith(("pooler.", "text_projection")))
    if missing:
        raise UserError(
            f"{spec.name}: {len(missing)} weights are not in the checkpoint, the first is {missing[0]!r}; they would be random",
            "the checkpoint is incomplete or of another architecture",
        )
    return module


def _preprocessing(spec: ModelSpec, checkpoint: Checkpoint, kind: Kind) -> tuple[Processor, Any]:
    from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoTokenizer

    from voxelboard.benchmark.optional import load_optional

    try:
        if kind == "audio":
            return AutoFeatureExtractor.from_pretrained(checkpoint.folder, local_files_only=True), None
        load_optional("PIL", "reading pictures", "media")
        processor = AutoImageProcessor.from_pretrained(checkpoint.folder, local_files_only=True)
        if kind == "vision":
            return processor, None
        return processor, AutoTokenizer.from_pretrained(checkpoint.folder, local_files_only=True)
    except ImportError as error:  # transformers before 5.18 wants torchvision for any picture
        import transformers

        raise MissingPrerequisite(
            f"{spec.name}: transformers {transformers.__version__} cannot read pictures without torchvision",
            "pip install 'transformers>=5.18'",
        ) from error
    except (OSError, ValueError, KeyError) as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(
            f"{spec.name}: the preprocessing files cannot be read: {first}",
            "preprocessor_config.json (and the tokenizer) must lie beside the weights",
        ) from error


def _pool(layer: Tensor, pooling: Pooling) -> Tensor:
    """(n_inputs, n_features): all positions behind each other, or their mean; (n, channels, height, width) for nets."""
    if pooling == "flatten":
        return layer.flatten(1)
    return layer.flatten(2).mean(2) if layer.ndim == 4 else layer.mean(1)


def _stacked(parts: list[list[Float32Array]], name: str) -> list[Float32Array]:
    layers = [np.concatenate(blocks).astype(np.float32) for blocks in zip(*parts, strict=True)]
    for number, layer in enumerate(layers):
        if not np.isfinite(layer).all():
            raise InvalidNumbers(f"{name}: states of layer {number} are NaN or infinite")
    return layers
