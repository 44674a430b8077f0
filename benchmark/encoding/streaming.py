# SPDX-License-Identifier: Apache-2.0
"""Responses pass through in blocks of fixed width; only sums per target stay.

Every product has the same number of columns, the last one padded with zeros. The bytes of a column then depend neither
on the block size nor on the targets beside it, which a test checks on the BLAS at hand. The width is a whole number of the
tiles of BLAS kernels (24 columns of float64 with AVX-512): what is left over goes through another kernel, which rounds
otherwise.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.operators import AlphaOperators, Operators
from voxelboard.benchmark.errors import InvalidNumbers

Responses: TypeAlias = NDArray[np.floating] | torch.Tensor

# columns of one product: near the peak of one CPU core, and of a GPU; FEW where products are small and float64
CPU_WIDTH, FEW, _CUDA_WIDTH = 576, 192, 4096


@dataclass(frozen=True, eq=False)
class FoldStatistics:
    """Sums of every (alpha, fold, target): c, q (n_alphas, n_folds, n_targets) float32, y2 (n_folds, n_targets).

    ``scored`` (n_alphas, n_targets) says for which pairs of alpha and target they are exact; None: for all.
    """

    c: NDArray[np.floating]
    q: NDArray[np.floating]
    y2: NDArray[np.float64]
    scored: NDArray[np.bool_] | None = None


class TargetStream:
    """Reads (n_train, n_targets) responses in padded blocks, rows sorted by fold, float32 on the device."""

    def __init__(
        self,
        responses: Responses,
        order: NDArray[np.intp],
        device: torch.device,
        target_block: int,
        cpu_width: int = CPU_WIDTH,
    ) -> None:
        self.responses = responses
        self.order = order
        self.device = device
        self.width = cpu_width if device.type == "cpu" else _CUDA_WIDTH
        self.n_targets = int(responses.shape[1])
        self.block = max(1, target_block // self.width) * self.width
        self.in_order = bool((order == np.arange(len(order))).all())

    def all_targets(self) -> Iterator[tuple[NDArray[np.intp], torch.Tensor]]:
        """(targets, (n_train, width)) over all targets, padded; NaN and infinite responses are refused."""
        for first in range(0, self.n_targets, self.block):
            targets = np.arange(first, min(first + self.block, self.n_targets))
            block = self._read(slice(first, first + len(targets)))
            finite = torch.isfinite(block).all(0)
            if not bool(finite.all()):
                bad = int(targets[int((~finite).nonzero()[0])])
                raise InvalidNumbers(f"target {bad} has NaN or infinite responses; leave it out of the mask")
            yield from self._cut(targets, block)

    def some_targets(self, targets: NDArray[np.intp]) -> Iterator[tuple[NDArray[np.intp], torch.Tensor]]:
        """The same for any subset of targets."""
        for first in range(0, len(targets), self.block):
            part = targets[first : first + self.block]
            yield from self._cut(part, self._read(part))

    def targets_by_group(self, group: NDArray[np.intp]) -> Iterator[tuple[int, NDArray[np.intp], torch.Tensor]]:
        """(group, its targets, (n_train, width)) over all targets, ``group`` (n_targets,).

        Responses are read once and in order, whatever the groups: scattered columns of a memory map would read all of
        its pages for each of them.
        """
        for first in range(0, self.n_targets, self.block):
            targets = np.arange(first, min(first + self.block, self.n_targets))
            block = self._read(slice(first, first + len(targets)))
            for one in np.unique(group[targets]).tolist():
                mine = np.flatnonzero(group[targets] == one)
                for part, padded in self._cut(targets[mine], block[:, torch.as_tensor(mine, device=self.device)]):
                    yield one, part, padded

    def _read(self, columns: slice | NDArray[np.intp]) -> torch.Tensor:
        if isinstance(self.responses, torch.Tensor):
            index = columns if isinstance(columns, slice) else torch.as_tensor(columns, device=self.responses.device)
            part = self.responses[:, index].to(self.device, torch.float32)
        else:
            part = torch.from_numpy(np.array(self.responses[:, columns], dtype=np.float32)).to(self.device)
        if not self.in_order:
            part = part[torch.as_tensor(self.order, device=self.device)]
        return part

    def _cut(self, targets: NDArray[np.intp], block: torch.Tensor) -> Iterator[tuple[NDArray[np.intp], torch.Tensor]]:
        for first in range(0, len(targets), self.width):
            part = block[:, first : first + self.width]
            # a fresh buffer each time: same alignment, same stride, zeros behind the last target
            padded = torch.zeros(len(block), self.width, device=self.device)
            padded[:, : part.shape[1]] = part
            yield targets[first : first + self.width], padded


def fold_statistics(
    operators: Operators,
    built: Sequence[AlphaOperators],
    block: torch.Tensor,
    *,
    centred: bool,
    rounding: Callable[[torch.Tensor], torch.Tensor] = torch.Tensor.float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """c, q (n_alphas, n_folds, width) float32 and y2 (n_folds, width) float64 of one padded block.

    ``rounding`` makes the responses of the type of the operators; sums are float32.
    """
    inputs = [rounding(x) for x in operators.inputs(block)]
    n_folds, width = len(operators.slices), block.shape[1]
    c = torch.empty(len(built), n_folds, width, device=block.device)
    q = torch.empty_like(c)
    y2 = torch.empty(n_folds, width, dtype=torch.float64, device=block.device)
    for f, rows in enumerate(operators.slices):
        y = block[rows]
        if centred:
            y = y - y.mean(0, keepdim=True)
        y2[f] = (y.double() ** 2).sum(0)
        for a, operator in enumerate(built):
            p = operators.predict_fold(operator.folds[f], inputs, f).float()
            c[a, f] = (p * y).sum(0)
            q[a, f] = p.square_().sum(0)
    return c, q, y2


def products_by_alpha(
    operators: Operators, stream: TargetStream, factors: Sequence[torch.Tensor | None], index: NDArray[np.intp]
) -> NDArray[np.float32]:
    """``factors[index[v]] @ inputs(v)`` for every target v.

    Parameters
    ----------
    factors : per alpha (n_out, n_inputs) float32; None is allowed for an alpha that no target has.
    index : (n_targets,).

    Returns
    -------
    (n_out, n_targets) float32 on the host.
    """
    n_out = next(factor.shape[0] for factor in factors if factor is not None)
    out = np.empty((n_out, stream.n_targets), dtype=np.float32)
    if n_out == 0:
        return out
    for a, targets, block in stream.targets_by_group(index):
        factor = factors[a]
        assert factor is not None  # every alpha in use has one
        product = factor @ operators.inputs(block)[-1]
        out[:, targets] = product[:, : len(targets)].cpu().numpy()
    return out
