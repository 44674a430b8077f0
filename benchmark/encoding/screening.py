# SPDX-License-Identifier: Apache-2.0
"""Low-precision screening of alphas, with exact scores wherever it could matter.

bfloat16, float16 and (on a GPU) tfloat32 products cost a half to a sixteenth of float32 ones, and their error on a score is
up to a few 1e-4. So all (alpha, target) pairs are scored in low precision, and every pair that could still be its target's best is scored
again in float32. How wrong a score can be is measured on targets at hand, relative to the size of the predictions that
it is made of (an alpha that predicts next to nothing has next to no error), never a constant.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.operators import AlphaOperators, Operators
from voxelboard.benchmark.encoding.selection import Selection, fold_gains
from voxelboard.benchmark.encoding.streaming import FoldStatistics, TargetStream, fold_statistics

Screening = Literal["bfloat16", "float16", "tfloat32"]
DTYPES: dict[str, torch.dtype] = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "tfloat32": torch.float32,  # rounded to ten bits of fraction, as tensor cores read it
}
# bits of a float32's fraction that tfloat32 has not
_TF32_DROPPED = 13

# half as much again as the largest error seen, because it was seen on a part of the targets
_SAFETY = 1.5
_N_MEASURED = 512


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


def screened_statistics(
    operators: Operators,
    built: Sequence[AlphaOperators],
    stream: TargetStream,
    *,
    selection: Selection,
    screening: Screening,
) -> tuple[FoldStatistics, float]:
    """Statistics of all pairs: float32 where a pair is contested for any choice of alpha, low precision elsewhere.

    Returns
    -------
    the statistics, and the share of pairs that was scored in float32.
    """
    centred = selection == "correlation"
    low = [low_precision(operator, screening) for operator in built]
    shape = (len(built), len(operators.slices), stream.n_targets)
    c, q = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.float32)
    y2 = np.empty(shape[1:])
    for targets, block in stream.all_targets():
        # unit rows keep float16 from overflowing on raw responses; sums are scaled back
        size = block.square().mean(0).sqrt().clamp_min(torch.finfo(torch.float32).tiny)
        with _tensor_cores(screening, stream.device):
            sums = fold_statistics(
                operators, low, block / size, centred=centred, rounding=lambda x: rounded(x, screening)
            )
        n = len(targets)
        c[:, :, targets] = (sums[0] * size**2)[:, :, :n].cpu().numpy()
        q[:, :, targets] = (sums[1] * size**2)[:, :, :n].cpu().numpy()
        y2[:, targets] = (sums[2] * size.double() ** 2)[:, :n].cpu().numpy()
    statistics = FoldStatistics(c, q, y2)
    error = _measure_error(operators, built, stream, statistics, selection)
    contested = _contested(*_gains_and_sizes(statistics, selection), _SAFETY * error)
    for a, operator in enumerate(built):
        _score_exactly(operators, operator, stream, statistics, a, np.flatnonzero(contested[a]), centred)
    return statistics, float(contested.mean())


def _score_exactly(
    operators: Operators,
    operator: AlphaOperators,
    stream: TargetStream,
    statistics: FoldStatistics,
    a: int,
    targets: NDArray[np.intp],
    centred: bool,
) -> None:
    for part, block in stream.some_targets(targets):
        sums = fold_statistics(operators, [operator], block, centred=centred)
        n = len(part)
        statistics.c[a][:, part] = sums[0][0, :, :n].cpu().numpy()
        statistics.q[a][:, part] = sums[1][0, :, :n].cpu().numpy()
        statistics.y2[:, part] = sums[2][:, :n].cpu().numpy()


def _gains_and_sizes(
    statistics: FoldStatistics, selection: Selection
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(1 + n_folds, n_alphas, n_targets) each: the total gain and that without each fold, and the scale of its error."""
    gains = fold_gains(statistics.c, statistics.q, statistics.y2, selection)
    if selection == "correlation":
        sizes = np.ones_like(gains)
    else:
        q = statistics.q.astype(np.float64)
        sizes = np.sqrt(q * statistics.y2) + q
    return _totals(gains), _totals(sizes)


def _totals(table: NDArray[np.float64]) -> NDArray[np.float64]:
    total = table.sum(axis=1)
    return np.stack([total, *(total - table[:, f] for f in range(table.shape[1]))])


def _measure_error(
    operators: Operators,
    built: Sequence[AlphaOperators],
    stream: TargetStream,
    statistics: FoldStatistics,
    selection: Selection,
) -> NDArray[np.float64]:
    """(n_alphas, 1) largest error of a low-precision gain of each alpha, relative to its size, on the first targets."""
    n = min(_N_MEASURED, stream.n_targets)
    low = FoldStatistics(statistics.c[..., :n], statistics.q[..., :n], statistics.y2[..., :n])
    exact = FoldStatistics(low.c.copy(), low.q.copy(), low.y2.copy())
    for a, operator in enumerate(built):
        _score_exactly(operators, operator, stream, exact, a, np.arange(n), selection == "correlation")
    gains, sizes = _gains_and_sizes(low, selection)
    difference = np.abs(gains - _gains_and_sizes(exact, selection)[0])
    relative = np.divide(difference, sizes, out=np.zeros_like(sizes), where=sizes > 0)
    return np.asarray(relative.max(axis=(0, 2)))[:, None]


def _contested(gains: NDArray[np.float64], sizes: NDArray[np.float64], error: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n_alphas, n_targets): pairs that could be the best of any choice."""
    sure = (gains - error * sizes).max(axis=1, keepdims=True)
    mask: NDArray[np.bool_] = (gains + error * sizes >= sure).any(axis=0)
    return mask
