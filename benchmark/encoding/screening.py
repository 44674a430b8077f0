# SPDX-License-Identifier: Apache-2.0
"""Sums of left-out folds for a search of alphas, in low precision first where that was asked for.

bfloat16, float16 and (on a GPU) tfloat32 products cost a half to a sixteenth of float32 ones, and their error on a score is
up to a few 1e-4. ``alpha_search`` scores again in float32 what could still win.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.operators import AlphaOperators, Operators
from voxelboard.benchmark.encoding.streaming import FoldStatistics, TargetStream, fold_statistics

Screening = Literal["bfloat16", "float16", "tfloat32"]
DTYPES: dict[str, torch.dtype] = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "tfloat32": torch.float32,  # rounded to ten bits of fraction, as tensor cores read it
}
# bits of a float32's fraction that tfloat32 has not
_TF32_DROPPED = 13
# fold matrices of as many alphas as fit are kept at a time
OPERATOR_BYTES = 2 << 30


def rounded(values: torch.Tensor, screening: Screening) -> torch.Tensor:
    """``values`` as products of that precision read them: rounded to nearest, ties to even."""
    if screening != "tfloat32":
        return values.to(DTYPES[screening])
    bits = values.float().contiguous().view(torch.int32)
    half = (1 << (_TF32_DROPPED - 1)) - 1 + ((bits >> _TF32_DROPPED) & 1)
    return ((bits + half) & -(1 << _TF32_DROPPED)).view(torch.float32)


@contextmanager
def _tensor_cores(screening: Screening, device: torch.device) -> Iterator[None]:
    """float32 products by tfloat32 where that was asked for, on a GPU; the process's own setting comes back."""
    if screening != "tfloat32" or device.type != "cuda":
        yield
        return
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def low_precision(built: AlphaOperators, screening: Screening) -> AlphaOperators:
    """The fold matrices rounded; the test matrix is not screened."""
    return AlphaOperators([rounded(fold, screening) for fold in built.folds], built.test)


class Builder(Protocol):
    """What makes the matrices of one alpha."""

    def build(self, alpha: float) -> AlphaOperators:
        """Their folds, and the test matrix."""
        ...


class BuiltOperators:
    """The matrices of each alpha: the last ones that fit the memory bound are kept, others are built again.

    ``tests`` and ``notes`` hold the test matrix and the notes of every alpha that was asked for.
    """

    def __init__(self, builder: Builder, grid: NDArray[np.float64]) -> None:
        self.builder = builder
        self.grid = grid
        self.tests: dict[int, torch.Tensor] = {}
        self.notes: dict[int, list[str]] = {}
        self._kept: dict[int, AlphaOperators] = {}

    def __getitem__(self, a: int) -> AlphaOperators:
        if a in self._kept:
            return self._kept[a]
        built = self.builder.build(float(self.grid[a]))
        self.tests.setdefault(a, built.test)
        self.notes.setdefault(a, built.notes)
        while self._kept and (1 + len(self._kept)) * _bytes(built) > OPERATOR_BYTES:
            del self._kept[next(iter(self._kept))]
        self._kept[a] = built
        return built

    def groups(self, alphas: Sequence[int]) -> Iterator[list[int]]:
        """The alphas in groups whose matrices fit the memory bound together."""
        n = max(1, OPERATOR_BYTES // max(1, _bytes(self[alphas[0]])))
        return (list(alphas[first : first + n]) for first in range(0, len(alphas), n))


def _bytes(built: AlphaOperators) -> int:
    return sum(fold.nbytes for fold in built.folds)


class FoldSums:
    """:class:`~voxelboard.benchmark.encoding.alpha_search.Sums` of the folds of one problem."""

    def __init__(
        self,
        operators: Operators,
        built: BuiltOperators,
        stream: TargetStream,
        *,
        centred: bool,
        screening: Screening | None = None,
    ) -> None:
        self.operators = operators
        self.built = built
        self.stream = stream
        self.centred = centred
        self.screening = screening
        self.is_rough = screening is not None
        self.n_folds = len(operators.slices)
        self.n_targets = stream.n_targets

    def everywhere(self, alphas: Sequence[int], found: FoldStatistics) -> None:
        """As :meth:`Sums.everywhere`."""
        screening, first = self.screening, 0
        for group in self.built.groups(alphas):
            matrices = []  # those of the last group go before new ones come
            matrices = [self.built[a] for a in group]
            if screening is not None:
                matrices = [low_precision(each, screening) for each in matrices]
            for targets, block in self.stream.all_targets():
                sums = self._sums(matrices, block) if screening is None else self._rough(matrices, block, screening)
                here = slice(int(targets[0]), int(targets[-1]) + 1)
                _store(sums, found, slice(first, first + len(group)), here, len(targets))
            first += len(group)

    def at(self, alpha: int, targets: NDArray[np.intp], found: FoldStatistics) -> None:
        """As :meth:`Sums.at`."""
        matrices = [self.built[alpha]]
        for part, block in self.stream.some_targets(targets):
            _store(self._sums(matrices, block), found, slice(alpha, alpha + 1), part, len(part))

    def _sums(self, matrices: list[AlphaOperators], block: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return fold_statistics(self.operators, matrices, block, centred=self.centred)

    def _rough(
        self, matrices: list[AlphaOperators], block: torch.Tensor, screening: Screening
    ) -> tuple[torch.Tensor, ...]:
        # unit rows keep float16 from overflowing on raw responses; sums are scaled back
        size = block.square().mean(0).sqrt().clamp_min(torch.finfo(torch.float32).tiny)
        with _tensor_cores(screening, self.stream.device):
            c, q, y2 = fold_statistics(
                self.operators,
                matrices,
                block / size,
                centred=self.centred,
                rounding=lambda x: rounded(x, screening),
            )
        return c * size**2, q * size**2, y2 * size.double() ** 2


def _store(
    sums: tuple[torch.Tensor, ...], found: FoldStatistics, rows: slice, targets: slice | NDArray[np.intp], n: int
) -> None:
    """The first ``n`` targets of a padded block's sums into the rows of some alphas."""
    c, q, y2 = (table[..., :n].cpu().numpy() for table in sums)
    found.c[rows, :, targets], found.q[rows, :, targets], found.y2[:, targets] = c, q, y2
