# SPDX-License-Identifier: Apache-2.0
"""Training of networks from pictures into caption space: seeds, checkpoints, resumption, learning curves.

A run is a folder. After every epoch its checkpoint is replaced in one step (weights and optimiser as safetensors) and a line is
added to its log, so a run that stops goes on where it was and ends with the same bytes: the order of images depends on seed and
epoch alone.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from voxelboard.benchmark.atomic import replace_file
from voxelboard.benchmark.errors import DataError, InvalidNumbers, UserError, unknown_name
from voxelboard.benchmark.models.image_nets import SIZES, NetSize, Objective, RecurrentNet, as_images, net_loss

_CHECKPOINT, _LOG, _PLAN = "checkpoint.safetensors", "log.jsonl", "plan.json"

# Called with (epoch, epochs in all, training loss, held-out loss).
TrainingProgress = Callable[[int, int, float, float], None]


@dataclass(frozen=True)
class TrainingPlan:
    """Everything that determines a run.

    objective : what the readout is trained to. warm_up : epochs of a rising learning rate. held_out : share of the training
    images that are not trained on; their loss is the second curve. decay : the rate falls to 0 along half a cosine, so that a
    run ends where it no longer moves; such a run cannot be made longer afterwards.
    """

    objective: Objective
    size: str
    n_epochs: int
    batch: int
    learning_rate: float
    adam_eps: float
    warm_up: float
    seed: int = 0
    held_out: float = 0.1
    decay: bool = False

    def rate(self, epoch: int, along: float) -> float:
        """Learning rate in ``epoch`` (from 0), ``along`` of which (0 to 1) is done."""
        warm = min(1.0, (epoch + along) / self.warm_up) if self.decay else min(1.0, (epoch + 1) / max(1, self.warm_up))
        falling = 0.5 * (1 + math.cos(math.pi * (epoch + along) / self.n_epochs)) if self.decay else 1.0
        return self.learning_rate * warm * falling


PRESETS: Final[Mapping[str, TrainingPlan]] = {
    "tiny": TrainingPlan(
        "caption",
        "tiny",
        n_epochs=6,
        batch=64,
        learning_rate=3e-3,
        adam_eps=1e-8,
        warm_up=0.5,
        held_out=0.05,
        decay=True,
    ),
    # Doerig et al. 2025: Adam 5e-2 with eps 1e-1, 200 epochs, batch 96, 10 epochs of warm-up
    "protocol": TrainingPlan(
        "caption", "protocol", n_epochs=200, batch=96, learning_rate=5e-2, adam_eps=1e-1, warm_up=10
    ),
}


def training_plan(preset: str, objective: Objective, seed: int, n_epochs: int | None = None) -> TrainingPlan:
    """A preset with an objective and a seed; raises UserError for an unknown preset."""
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    plan = replace(PRESETS[preset], objective=objective, seed=seed)
    return plan if n_epochs is None else replace(plan, n_epochs=n_epochs)


@dataclass(frozen=True, eq=False)
class TrainedNet:
    """A network with its curves. train_loss, held_out_loss : one value an epoch."""

    net: RecurrentNet
    train_loss: tuple[float, ...]
    held_out_loss: tuple[float, ...]


def train_net(
    pixels: NDArray[np.uint8],
    targets: NDArray[np.floating],
    plan: TrainingPlan,
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    fresh: bool = False,
    progress: TrainingProgress = lambda epoch, total, train, held_out: None,
) -> TrainedNet:
    """Train a network, or go on with the run in ``folder``.

    Parameters
    ----------
    pixels : (n_images, height, width, 3); targets : (n_images, n_outputs) embeddings, or 0/1 for categories.
    fresh : start again whatever is there.

    Raises
    ------
    UserError
        when ``folder`` holds a run of another plan, or of other pictures or targets.
    InvalidNumbers
        when the loss is not finite.
    """
    size = SIZES[plan.size]
    images, wanted = _check(pixels, targets, plan, size)
    net = RecurrentNet(size, wanted.shape[1], plan.seed).to(device)
    optimiser = torch.optim.Adam(net.parameters(), lr=plan.learning_rate, eps=plan.adam_eps)
    curves = _resume(net, optimiser, plan, _digest(images, wanted), folder, fresh)
    order = np.random.default_rng([plan.seed, 71]).permutation(len(images))
    n_held_out = max(1, round(plan.held_out * len(images)))
    held_out, train = order[:n_held_out], order[n_held_out:]
    for epoch in range(len(curves), plan.n_epochs):
        shuffled = np.random.default_rng([plan.seed, 72, epoch]).permutation(train)
        loss = _epoch(net, optimiser, images, wanted, shuffled, epoch, plan, device)
        tested = _loss_of(net, images, wanted, held_out, plan, device)
        if not np.isfinite([loss, tested]).all():
            raise InvalidNumbers(f"the loss of epoch {epoch + 1} is not finite: lower the learning rate")
        curves.append((loss, tested))
        _store(net, optimiser, curves, folder)
        progress(epoch + 1, plan.n_epochs, loss, tested)
    return TrainedNet(net, tuple(a for a, _ in curves), tuple(b for _, b in curves))


def untrained_net(plan: TrainingPlan, n_outputs: int) -> RecurrentNet:
    """The network that a run starts from."""
    return RecurrentNet(SIZES[plan.size], n_outputs, plan.seed)


def _check(
    pixels: NDArray[np.uint8], targets: NDArray[np.floating], plan: TrainingPlan, size: NetSize
) -> tuple[torch.Tensor, torch.Tensor]:
    if len(pixels) != len(targets) or pixels.ndim != 4 or pixels.shape[3] != 3 or targets.ndim != 2:
        raise DataError(
            f"pictures {pixels.shape} and targets {targets.shape}; expected (n, h, w, 3) and (n, n_outputs)"
        )
    if len(pixels) < 2 * plan.batch:
        raise DataError(f"{len(pixels)} pictures are fewer than two batches of {plan.batch}")
    if not np.isfinite(targets).all():
        raise InvalidNumbers("training targets hold NaN or infinite values")
    return as_images(pixels, size.image_px), torch.as_tensor(np.asarray(targets, dtype=np.float32))


def _epoch(
    net: RecurrentNet,
    optimiser: torch.optim.Optimizer,
    images: torch.Tensor,
    targets: torch.Tensor,
    order: NDArray[np.integer],
    epoch: int,
    plan: TrainingPlan,
    device: torch.device | str,
) -> float:
    net.train()
    total = 0.0
    for start in range(0, len(order), plan.batch):
        for group in optimiser.param_groups:
            group["lr"] = plan.rate(epoch, start / len(order))
        rows = torch.from_numpy(order[start : start + plan.batch])
        loss = net_loss(net(images[rows].to(device)), targets[rows].to(device), plan.objective)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        total += float(loss.detach()) * len(rows)
    return total / len(order)


@torch.no_grad()
def _loss_of(
    net: RecurrentNet,
    images: torch.Tensor,
    targets: torch.Tensor,
    rows: NDArray[np.integer],
    plan: TrainingPlan,
    device: torch.device | str,
) -> float:
    net.eval()
    total = 0.0
    for start in range(0, len(rows), plan.batch):
        part = torch.from_numpy(rows[start : start + plan.batch])
        total += float(net_loss(net(images[part].to(device)), targets[part].to(device), plan.objective)) * len(part)
    return total / len(rows)


def _resume(
    net: RecurrentNet, optimiser: torch.optim.Adam, plan: TrainingPlan, data_sha256: str, folder: Path, fresh: bool
) -> list[tuple[float, float]]:
    """Load what the folder holds; returns the curves so far. A folder of another plan or of other data is refused."""
    note, checkpoint = folder / _PLAN, folder / _CHECKPOINT
    # without decay the number of epochs may grow: a longer run goes on from a shorter one
    wanted: dict[str, Any] = {
        **asdict(plan),
        "n_epochs": plan.n_epochs if plan.decay else None,
        "data_sha256": data_sha256,
    }
    if fresh or not note.is_file():
        checkpoint.unlink(missing_ok=True)
        text = json.dumps(wanted, sort_keys=True) + "\n"
        replace_file(note, lambda file: file.write(text.encode()))
        return []
    if json.loads(note.read_text(encoding="utf-8")) != wanted:
        raise UserError(
            f"{folder} holds a run of another plan, or of other pictures or embeddings",
            "remove the folder, or choose another one",
        )
    if not checkpoint.is_file():
        return []
    stored = load_tensors(checkpoint.read_bytes())
    net.load_state_dict({name.removeprefix("net."): t for name, t in stored.items() if name.startswith("net.")})
    for number, parameter in enumerate(net.parameters()):
        optimiser.state[parameter] = {
            key: stored[f"adam.{number}.{key}"].to(parameter.device if key != "step" else "cpu")
            for key in ("step", "exp_avg", "exp_avg_sq")
            if f"adam.{number}.{key}" in stored
        }
        if not optimiser.state[parameter]:
            del optimiser.state[parameter]
    return [(float(a), float(b)) for a, b in stored["curves"].tolist()]


def _digest(images: torch.Tensor, targets: torch.Tensor) -> str:
    """SHA-256 of what is trained on: embeddings of another model or layer are another run."""
    digest = hashlib.sha256()
    for table in (images, targets):
        digest.update(repr(tuple(table.shape)).encode())
        digest.update(table.contiguous().numpy().data)
    return digest.hexdigest()


def _store(net: RecurrentNet, optimiser: torch.optim.Adam, curves: Sequence[tuple[float, float]], folder: Path) -> None:
    tensors = {f"net.{name}": tensor.contiguous().cpu() for name, tensor in net.state_dict().items()}
    for number, parameter in enumerate(net.parameters()):
        for key, value in optimiser.state.get(parameter, {}).items():
            tensors[f"adam.{number}.{key}"] = torch.as_tensor(value).contiguous().cpu()
    tensors["curves"] = torch.tensor(curves, dtype=torch.float64)
    packed = save_tensors(tensors)
    replace_file(folder / _CHECKPOINT, lambda file: file.write(packed))
    lines = "".join(
        json.dumps({"epoch": i + 1, "train_loss": a, "held_out_loss": b}) + "\n" for i, (a, b) in enumerate(curves)
    )
    replace_file(folder / _LOG, lambda file: file.write(lines.encode()))
