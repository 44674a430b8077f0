# SPDX-License-Identifier: Apache-2.0
"""States of vision models on pictures: any image encoder of Transformers, or of timm, by local checkpoint or hub id.

Pictures are resized and normalised here, as the model's own preprocessor file says; no other package is needed for it.
Weights come from safetensors only, code of a checkpoint is never run.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from voxelboard.benchmark.errors import MissingPrerequisite, UserError
from voxelboard.benchmark.models.image_nets import as_images
from voxelboard.benchmark.models.quiet import quiet_transformers

Float32Array = NDArray[np.float32]
_MEAN, _SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, where the checkpoint says nothing

# pixels (n_images, height, width, 3) uint8 -> layer name -> (n_images, n_features)
VisionModel = Callable[[NDArray[np.uint8]], dict[str, Float32Array]]


def load_vision_model(
    name: str, *, device: torch.device | str = "cpu", offline: bool = False, batch: int = 32
) -> VisionModel:
    """An image encoder; every layer is the mean over its tokens or places.

    Parameters
    ----------
    name : a checkpoint folder or hub id of Transformers, or ``timm/NAME`` for a model of timm with its own weights.

    Raises
    ------
    UserError
        for a model that is no image encoder.
    MissingPrerequisite
        for a checkpoint or package that is not there.
    """
    if name.startswith("timm/") and not Path(name).is_dir():
        return _load_timm(name.removeprefix("timm/"), device, batch)
    from transformers import AutoConfig, AutoModel

    with quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(name, local_files_only=offline, trust_remote_code=False)
            model = AutoModel.from_pretrained(
                name, local_files_only=offline, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
            )
        except OSError as error:
            raise MissingPrerequisite(
                f"{name}: {str(error).splitlines()[0]}", "check the name or the folder"
            ) from error
    vision = getattr(model, "vision_model", model)
    if getattr(vision, "main_input_name", "") != "pixel_values":
        raise UserError(
            f"{name} reads {getattr(vision, 'main_input_name', 'nothing')}, not pictures", "name an image encoder"
        )
    prepare = _preparation(name, int(getattr(getattr(config, "vision_config", config), "image_size", 224)))
    vision = vision.to(device).eval()

    @torch.inference_mode()
    def read(pixels: NDArray[np.uint8]) -> dict[str, Float32Array]:
        parts: dict[str, list[torch.Tensor]] = {}
        for start in range(0, len(pixels), batch):
            found = vision(pixel_values=prepare(pixels[start : start + batch]).to(device), output_hidden_states=True)
            for number, state in enumerate(found.hidden_states):
                places = (2, 3) if state.ndim == 4 else (1,)
                parts.setdefault(f"layer {number}", []).append(state.mean(places).float().cpu())
        return {layer: torch.cat(states).numpy() for layer, states in parts.items()}

    return read


def _preparation(name: str, px: int) -> Callable[[NDArray[np.uint8]], torch.Tensor]:
    """Resize to the model's input and normalise with the mean and SD of preprocessor_config.json."""
    mean, sd = _MEAN, _SD
    note = Path(name) / "preprocessor_config.json"
    if note.is_file():
        content = json.loads(note.read_text(encoding="utf-8"))
        mean, sd = content.get("image_mean", mean), content.get("image_std", sd)
    centre, scale = (torch.tensor(values)[None, :, None, None] for values in (mean, sd))

    def prepare(pixels: NDArray[np.uint8]) -> torch.Tensor:
        images = as_images(pixels, pixels.shape[1]) if pixels.shape[1] == pixels.shape[2] else as_images(pixels, px)
        resized = functional.interpolate(images, size=(px, px), mode="bicubic", antialias=True)
        normalised: torch.Tensor = (resized.clamp(0, 1) - centre) / scale
        return normalised

    return prepare


def _load_timm(name: str, device: torch.device | str, batch: int) -> VisionModel:
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # it imports torchvision, which must fit the torch that is there
        raise MissingPrerequisite(
            f"timm cannot be imported: {error}", "pip install timm, with a torchvision that fits torch"
        ) from error
    model: Any = timm.create_model(name, pretrained=True).to(device).eval()
    settings = timm.data.resolve_data_config({}, model=model)
    px, mean, sd = settings["input_size"][1], settings["mean"], settings["std"]
    centre, scale = (torch.tensor(values)[None, :, None, None] for values in (mean, sd))

    @torch.inference_mode()
    def read(pixels: NDArray[np.uint8]) -> dict[str, Float32Array]:
        parts: dict[str, list[torch.Tensor]] = {}
        for start in range(0, len(pixels), batch):
            images = (as_images(pixels[start : start + batch], px) - centre) / scale
            for number, state in enumerate(model.forward_intermediates(images.to(device), intermediates_only=True)):
                parts.setdefault(f"layer {number}", []).append(state.mean((2, 3)).float().cpu())
        return {layer: torch.cat(states).numpy() for layer, states in parts.items()}

    return read
