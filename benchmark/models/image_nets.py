# SPDX-License-Identifier: Apache-2.0
"""A recurrent convolutional network with bottom-up, lateral and top-down connections (BLT), and its readouts.

A layer at a timestep sums what comes from the layer below at this timestep, and from itself and the layer above at the one
before; then comes a layer norm and a rectifier (Spoerer et al. 2020; sizes of Doerig et al. 2025: 10 layers, 6 timesteps). The
readout is linear on the spatial mean of the last layer (of each quarter, in the small network). Trained to an embedding it is a map from pictures to captions; trained
to the categories that a picture shows it is the control of the same architecture and data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

Objective = Literal["caption", "category"]


@dataclass(frozen=True)
class NetSize:
    """Architecture of a network.

    image_px : pictures are brought to this size; channels : of each layer; pooled : layers before which space is halved;
    n_timesteps : recurrent steps; kernel : of all convolutions, an odd number; stem_stride : of the first convolution on the
    picture; above 1 its kernel is ``2 stem_stride + 1``; readout_grid : places along an edge that the readout tells apart (1 is
    the spatial mean).
    """

    image_px: int
    channels: tuple[int, ...]
    pooled: tuple[int, ...]
    n_timesteps: int
    kernel: int = 3
    stem_stride: int = 1
    readout_grid: int = 1

    @property
    def n_layers(self) -> int:
        return len(self.channels)


SIZES: Final = {
    # a few seconds an epoch on one core
    "tiny": NetSize(
        image_px=32, channels=(16, 32, 48, 64), pooled=(1, 2, 3), n_timesteps=2, stem_stride=2, readout_grid=2
    ),
    # the published network with half of its channels: 128 px, 10 layers, 6 timesteps. For a GPU.
    "protocol": NetSize(
        image_px=128,
        channels=(48, 48, 96, 96, 192, 192, 384, 384, 512, 512),
        pooled=(1, 2, 4, 6, 8),
        n_timesteps=6,
    ),
}


class RecurrentNet(nn.Module):
    """(n_images, 3, px, px) in [0, 1] -> (n_timesteps, n_images, n_outputs). Deterministic given ``seed``."""

    def __init__(self, size: NetSize, n_outputs: int, seed: int) -> None:
        super().__init__()
        self.size = size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            below = (3, *size.channels[:-1])
            pad = size.kernel // 2
            self.bottom_up = nn.ModuleList(
                nn.Conv2d(b, c, size.kernel, padding=pad) for b, c in zip(below, size.channels, strict=True)
            )
            if size.stem_stride > 1:
                stem = 2 * size.stem_stride + 1
                self.bottom_up[0] = nn.Conv2d(3, size.channels[0], stem, stride=size.stem_stride, padding=stem // 2)
            self.lateral = nn.ModuleList(nn.Conv2d(c, c, size.kernel, padding=pad, bias=False) for c in size.channels)
            self.top_down = nn.ModuleList(
                nn.Conv2d(above, c, size.kernel, padding=pad, bias=False)
                for c, above in zip(size.channels[:-1], size.channels[1:], strict=True)
            )
            # one norm a layer and timestep, over channels and space
            self.norms = nn.ModuleList(
                nn.ModuleList(nn.GroupNorm(1, c) for _ in range(size.n_timesteps)) for c in size.channels
            )
            self.readout = nn.Linear(size.channels[-1] * size.readout_grid**2, n_outputs)

    def forward(self, images: Tensor) -> Tensor:
        """(n_timesteps, n_images, n_outputs)."""
        return torch.stack([self.read(step[-1]) for step in self.unroll(images)])

    def read(self, last: Tensor) -> Tensor:
        """(n_images, n_outputs) of the last layer (n_images, n_channels, height, width)."""
        places = functional.adaptive_avg_pool2d(last, self.size.readout_grid)
        outputs: Tensor = self.readout(places.flatten(1))
        return outputs

    def unroll(self, images: Tensor) -> list[list[Tensor]]:
        """Timestep -> layer -> (n_images, n_channels, height, width)."""
        steps: list[list[Tensor]] = []
        images = 2 * images - 1
        for time in range(self.size.n_timesteps):
            before = steps[-1] if steps else None
            layers: list[Tensor] = []
            for number in range(self.size.n_layers):
                layers.append(self._layer(number, time, layers[-1] if layers else images, before))
            steps.append(layers)
        return steps

    def _layer(self, number: int, time: int, below: Tensor, before: list[Tensor] | None) -> Tensor:
        if number in self.size.pooled:
            below = functional.max_pool2d(below, 2)
        drive: Tensor = self.bottom_up[number](below)
        if before is not None:
            drive = drive + self.lateral[number](before[number])
            if number + 1 < self.size.n_layers:
                above = functional.interpolate(before[number + 1], size=drive.shape[2:], mode="nearest")
                drive = drive + self.top_down[number](above)
        norms = cast("nn.ModuleList", self.norms[number])
        return functional.relu(norms[time](drive))


def net_loss(outputs: Tensor, targets: Tensor, objective: Objective) -> Tensor:
    """Mean over timesteps and images: cosine distance to the embedding, or binary cross-entropy of the categories.

    Parameters
    ----------
    outputs : (n_timesteps, n_images, n_outputs); targets : (n_images, n_outputs).
    """
    if objective == "caption":
        return (1 - functional.cosine_similarity(outputs, targets[None], dim=2)).mean()
    return functional.binary_cross_entropy_with_logits(outputs, targets[None].expand_as(outputs))


def as_images(pixels: NDArray[np.uint8], px: int) -> Tensor:
    """(n_images, 3, px, px) float32 in [0, 1] from (n_images, height, width, 3) uint8, by area averaging."""
    images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255
    return images if images.shape[2:] == (px, px) else functional.interpolate(images, size=(px, px), mode="area")


@torch.no_grad()
def net_features(
    net: RecurrentNet, pixels: NDArray[np.uint8], device: torch.device | str = "cpu", batch: int = 64
) -> dict[tuple[int, int], NDArray[np.float32]]:
    """(layer, timestep) -> (n_images, n_channels): spatial means; layers count from 0, the last index is the readout.

    ``(n_layers, timestep)`` is the output of the readout.
    """
    net = net.to(device).eval()
    found: dict[tuple[int, int], list[Tensor]] = {}
    for start in range(0, len(pixels), batch):
        steps = net.unroll(as_images(pixels[start : start + batch], net.size.image_px).to(device))
        for time, layers in enumerate(steps):
            means = [layer.mean((2, 3)) for layer in layers]
            for number, values in enumerate([*means, net.read(layers[-1])]):
                found.setdefault((number, time), []).append(values.cpu())
    return {key: torch.cat(parts).numpy() for key, parts in found.items()}


def count_parameters(net: nn.Module) -> int:
    """Trainable numbers of a network."""
    return sum(p.numel() for p in net.parameters())


def layer_names(size: NetSize) -> Sequence[str]:
    """``layer 0`` .. and ``readout``, in the order of :func:`net_features`."""
    return (*(f"layer {i}" for i in range(size.n_layers)), "readout")
