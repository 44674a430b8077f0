# SPDX-License-Identifier: Apache-2.0
"""Two folds left out together, and the sums of nested cross-validation that come of it.

Where the inner folds are the other outer folds, each unordered pair of folds serves both as outer and inner.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.operators import Precision, in_precision, invert_in_steps, leave_rows_out
from voxelboard.benchmark.encoding.screening import OPERATOR_BYTES
from voxelboard.benchmark.encoding.streaming import FoldStatistics, TargetStream


@dataclass(frozen=True, eq=False)
class Pair:
    """Rows left out together, S; the rows of it that are scored, for which (outer, inner)."""

    left_out: torch.Tensor
    kept: list[slice]
    scored: list[tuple[int, int, slice, slice]]  # outer, inner, where in S, rows


class Inverses:
    """(K + alpha I)^-1 of each alpha, kept where all of them fit the memory bound, computed again where not."""

    def __init__(self, gram: torch.Tensor, n_alphas: int, precision: Precision) -> None:
        self.gram = gram
        self.grams = in_precision(gram, precision)
        self.kept: dict[float, torch.Tensor | None] | None = {} if n_alphas * gram.nbytes <= OPERATOR_BYTES else None

    def __getitem__(self, alpha: float) -> torch.Tensor | None:
        if self.kept is None:
            return invert_in_steps(self.grams, alpha)[0]
        if alpha not in self.kept:
            self.kept[alpha] = invert_in_steps(self.grams, alpha)[0]
        return self.kept[alpha]


def leave_out(
    inverse: torch.Tensor | None, gram: torch.Tensor, alpha: float, rows: torch.Tensor, kept: list[slice]
) -> torch.Tensor:
    """(n_left_out, n_kept) float32: predictions of ``rows`` from the kept rows."""
    columns = torch.cat([torch.arange(part.start, part.stop, device=gram.device) for part in kept])
    return leave_rows_out(inverse, gram, alpha, rows, columns)


def product_of_kept(operator: torch.Tensor, kept: list[slice], block: torch.Tensor) -> torch.Tensor:
    """``operator @ block[kept rows]`` without copying the rows."""
    total = torch.zeros(operator.shape[0], block.shape[1], device=block.device)
    first = 0
    for part in kept:
        size = part.stop - part.start
        total.addmm_(operator[:, first : first + size], block[part])
        first += size
    return total


def pairs_of_folds(slices: list[slice], groups: NDArray[np.intp], device: torch.device) -> Iterator[Pair]:
    """One entry per set of rows that is left out together; (i, j) and (j, i) share it when both are single folds."""
    seen: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for o in range(len(slices)):
        for j in sorted({int(groups[i]) for i in range(len(slices)) if i != o}):
            together = tuple(sorted({o, *np.flatnonzero(groups == j).tolist()}))
            seen.setdefault(together, []).append((o, j))
    for together, members in seen.items():
        rows = torch.cat([torch.arange(slices[i].start, slices[i].stop, device=device) for i in together])
        starts = dict(
            zip(
                together,
                np.cumsum([0, *(slices[i].stop - slices[i].start for i in together)]).tolist()[:-1],
                strict=True,
            )
        )
        kept = [slices[i] for i in range(len(slices)) if i not in together]
        scored = []
        for o, j in members:
            for i in (i for i in together if i != o):
                size = slices[i].stop - slices[i].start
                scored.append((o, j, slice(starts[i], starts[i] + size), slices[i]))
        yield Pair(rows, kept, scored)


class PairSums:
    """:class:`~voxelboard.benchmark.encoding.alpha_search.Sums` of (outer, inner group) pairs, n_outer * n_groups folds.

    ``keep`` holds the matrices of the last alphas that fit the memory bound, for a search that comes back to them.
    """

    is_rough = False

    def __init__(
        self,
        inverses: Inverses,
        pairs: list[Pair],
        groups: NDArray[np.intp],
        stream: TargetStream,
        grid: NDArray[np.float64],
        *,
        centred: bool,
        keep: bool,
    ) -> None:
        self.inverses = inverses
        self.chunks = list(_chunks(pairs, len(inverses.gram)))
        self.n_groups = int(groups.max()) + 1
        self.n_folds = len(groups) * self.n_groups
        self.stream = stream
        self.n_targets = stream.n_targets
        self.grid = grid
        self.centred = centred
        largest = max(sum(4 * len(pair.left_out) * len(inverses.gram) for pair in chunk) for chunk in self.chunks)
        self.n_together = max(1, OPERATOR_BYTES // largest)
        self.n_kept = self.n_together if keep else 0
        self.kept: dict[tuple[int, int], list[torch.Tensor]] = {}

    def everywhere(self, alphas: Sequence[int], found: FoldStatistics) -> None:
        """As :meth:`Sums.everywhere`."""
        self._fill(list(enumerate(alphas)), found, self.stream.all_targets)

    def at(self, alpha: int, targets: NDArray[np.intp], found: FoldStatistics) -> None:
        """As :meth:`Sums.at`."""
        self._fill([(alpha, alpha)], found, lambda: self.stream.some_targets(targets))

    def _fill(
        self,
        rows: list[tuple[int, int]],
        found: FoldStatistics,
        blocks: Callable[[], Iterator[tuple[NDArray[np.intp], torch.Tensor]]],
    ) -> None:
        """Rows of ``found`` with their alphas, as many at a time as fit: what does not depend on alpha is made once."""
        for i, chunk in enumerate(self.chunks):
            for first in range(0, len(rows), self.n_together):
                some = rows[first : first + self.n_together]
                operators = []  # those of the last group go before new ones come
                operators = [self._operators(a, i) for _, a in some]
                for targets, block in blocks():
                    truths: dict[tuple[int, ...], _Truth] = {}
                    for p, pair in enumerate(chunk):
                        for (row, _), made in zip(some, operators, strict=True):
                            predicted = product_of_kept(made[p], pair.kept, block)
                            self._store(pair, predicted, block, truths, found, row, targets)

    def _store(
        self,
        pair: Pair,
        predicted: torch.Tensor,
        block: torch.Tensor,
        truths: dict[tuple[int, ...], "_Truth"],
        found: FoldStatistics,
        row: int,
        targets: NDArray[np.intp],
    ) -> None:
        """Sums over the inner fold of each (outer, inner) that this pair serves."""
        folds: dict[int, list[tuple[slice, slice]]] = {}
        for o, j, positions, rows in pair.scored:
            folds.setdefault(o * self.n_groups + j, []).append((positions, rows))
        for fold, parts in folds.items():
            key = tuple(rows.start for _, rows in parts)
            if key not in truths:
                truths[key] = _Truth.of(block, [rows for _, rows in parts], centred=self.centred)
            truth, p = truths[key], _joined([predicted[positions] for positions, _ in parts])
            if self.centred:
                p = p - p.mean(0)
            for table, sums in ((found.c, (p * truth.y).sum(0)), (found.q, (p * p).sum(0))):
                table[row, fold, targets] = sums[: len(targets)].cpu().numpy()
            found.y2[fold, targets] = truth.y2[: len(targets)].cpu().numpy()

    def _operators(self, a: int, i: int) -> list[torch.Tensor]:
        if (a, i) in self.kept:
            return self.kept[a, i]
        alpha = float(self.grid[a])
        inverse, gram = self.inverses[alpha], self.inverses.gram
        made = [leave_out(inverse, gram, alpha, pair.left_out, pair.kept) for pair in self.chunks[i]]
        if self.n_kept:
            if len(self.kept) == self.n_kept:
                del self.kept[next(iter(self.kept))]
            self.kept[a, i] = made
        return made


def _chunks(pairs: list[Pair], n_trs: int) -> Iterator[list[Pair]]:
    """Pairs whose operators fit the memory bound together."""
    chunk: list[Pair] = []
    size = 0
    for pair in pairs:
        chunk.append(pair)
        size += 4 * len(pair.left_out) * n_trs
        if size >= OPERATOR_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


@dataclass(frozen=True, eq=False)
class _Truth:
    """Responses of an inner fold (n_rows, width), and their sums of squares (width,) float64."""

    y: torch.Tensor
    y2: torch.Tensor

    @classmethod
    def of(cls, block: torch.Tensor, folds: list[slice], *, centred: bool) -> "_Truth":
        y = _joined([block[rows] for rows in folds])
        if centred:
            y = y - y.mean(0)
        return cls(y, (y.double() ** 2).sum(0))


def _joined(parts: list[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
