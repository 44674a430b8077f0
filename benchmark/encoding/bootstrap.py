# SPDX-License-Identifier: Apache-2.0
"""Ridge regression as the Huth laboratory fits it: alpha by random sets of left-out chunks.

Many published maps were made so (Huth et al. 2016; LeBel et al. 2023): on each of some draws, chunks of neighbouring TRs are left
out at random, and a voxel's alpha is the one with the best mean correlation over draws. Chunks of one story lie on
both sides of such a split, which mis-tunes alpha a little and inflates nothing, because the scored stories are others.
It is here to compare with those maps; the scored protocol leaves out whole stories.

Published alphas are squared: a laboratory alpha of 100 is an alpha of 10,000 here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.alpha_search import Search, search_alphas
from voxelboard.benchmark.encoding.designs import Device, Problem
from voxelboard.benchmark.encoding.operators import (
    AlphaOperators,
    DualOperators,
    Precision,
    invert_in_steps,
    leave_rows_out,
)
from voxelboard.benchmark.encoding.ridge import DEFAULT_TARGET_BLOCK, absolute_alphas, check_arguments
from voxelboard.benchmark.encoding.screening import BuiltOperators
from voxelboard.benchmark.encoding.selection import Scope, Selection, choose_alpha
from voxelboard.benchmark.encoding.streaming import FoldStatistics, Responses, TargetStream, products_by_alpha
from voxelboard.benchmark.errors import UserError

# Rows of W longer than that enlarge the rounding of float32 errors, so such alphas get a matrix for each draw. At it a
# correlation is off by 4e-7.
_LONGEST_ROW = 20.0


@dataclass(frozen=True, eq=False)
class BootstrapFit:
    """What :func:`bootstrap_ridge` found. Arrays are numpy, on the host.

    Attributes
    ----------
    alpha_index : (n_targets,) index into ``alpha_grid``; ``alphas`` (n_targets,) the absolute values.
    alpha_grid : (n_alphas,) absolute: relative alphas times trace(K) / n_train.
    cv_scores : (n_targets,) at the chosen alpha: the mean correlation over draws, or minus the mean squared error.
    test_predictions : (n_test, n_targets) float32, each target at its own alpha.
    """

    alpha_index: NDArray[np.intp]
    alphas: NDArray[np.float64]
    alpha_grid: NDArray[np.float64]
    cv_scores: NDArray[np.float64]
    test_predictions: NDArray[np.float32]


def chunk_draws(n_trs: int, n_draws: int, chunk_trs: int, n_chunks: int, seed: int) -> list[NDArray[np.intp]]:
    """Rows left out on each draw: ``n_chunks`` random chunks of ``chunk_trs`` neighbouring rows, in row order.

    Rows behind the last whole chunk are never left out.

    Raises
    ------
    UserError
        when fewer chunks exist than are to be left out, or none would be kept.
    """
    n_whole = n_trs // max(chunk_trs, 1)
    if min(n_draws, chunk_trs, n_chunks) < 1 or n_chunks >= n_whole:
        raise UserError(
            f"{n_draws} draws of {n_chunks} chunks of {chunk_trs} TRs out of {n_trs} TRs ({n_whole} chunks)",
            "leave out at least one chunk and keep at least one: fewer or shorter chunks",
        )
    rng = np.random.default_rng(seed)
    starts = [np.sort(rng.choice(n_whole, n_chunks, replace=False)) * chunk_trs for _ in range(n_draws)]
    return [(first[:, None] + np.arange(chunk_trs)).ravel().astype(np.intp) for first in starts]


def bootstrap_ridge(
    problem: Problem,
    responses: Responses,
    draws: Sequence[NDArray[np.intp]],
    relative_alphas: Sequence[float],
    *,
    selection: Selection = "correlation",
    scope: Scope = "target",
    device: Device = None,
    target_block: int | None = None,
    precision: Precision = "float64",
    search: Search = "every",
) -> BootstrapFit:
    """Choose alpha by left-out sets of rows, then predict the test rows from all training rows.

    One inverse of the whole Gram per alpha serves every draw (Schur complement, as in ``operators``): the peers' one
    decomposition per draw is not needed.

    Parameters
    ----------
    problem : the design; the Gram form is used whatever the widths.
    draws : for each draw the training rows that are left out, as from :func:`chunk_draws`.

    The other parameters and errors are those of :func:`voxelboard.benchmark.encoding.ridge.fit_ridge`.
    """
    n_rows = problem.n_train
    if not draws or any(len(np.unique(rows)) != len(rows) or not 0 < len(rows) < n_rows for rows in draws):
        raise UserError("each draw must leave out different rows, and not all of them", "chunk_draws makes such draws")
    check_arguments(
        problem, responses, np.isin(np.arange(n_rows), draws[0]).astype(np.intp), relative_alphas, None, scope, search
    )
    where = problem.train.device if device is None else torch.device(device)
    problem = problem.to(where).to_dual() if problem.form == "primal" else problem.to(where)
    grid = absolute_alphas(problem, relative_alphas)
    order = np.arange(n_rows)
    stream = TargetStream(responses, order, where, target_block or DEFAULT_TARGET_BLOCK)
    operators = _DrawOperators(problem, draws, precision)
    built = BuiltOperators(operators, grid)
    sums = _DrawSums(built, operators, stream, centred=selection == "correlation")
    found = search_alphas(sums, grid, selection, np.ones((1, len(draws))), search=search)
    choice = choose_alpha(
        found.c, found.q, found.y2, grid, selection, scope, sum(len(rows) for rows in draws), found.scored
    )
    tests = [built.tests[a] for a in range(len(grid))]
    predictions = products_by_alpha(operators.whole, stream, tests, choice.index)
    return BootstrapFit(choice.index, grid[choice.index], grid, choice.scores, predictions)


class _DrawOperators:
    """For each alpha the matrices that predict the left-out rows of every draw from its others.

    Either a matrix for each draw, or one that all draws share and a small one for each. A *block* is a run of rows that every
    draw keeps or leaves out together, and ``alone`` predicts each block from all other rows, with ``-(G_cc)^-1 G_c``.
    A draw leaves out several blocks, S. With D the blocks of ``G_SS`` alone, the errors of its prediction are ``(G_SS)^-1 D``
    times those of ``alone``, so the prediction is that of ``alone`` minus ``W = (G_SS)^-1 D - I = (G_SS)^-1 (D - G_SS)`` times
    its errors. That takes n_rows^2 + sum |S|^2 multiplications a target instead of sum |S| (n_rows - |S|).
    """

    def __init__(self, problem: Problem, draws: Sequence[NDArray[np.intp]], precision: Precision) -> None:
        n_rows, device = problem.n_train, problem.train.device
        self.whole = DualOperators(problem, torch.arange(n_rows, device=device), [], centred=False, precision=precision)
        self.pairs = [_both_sides(draw, n_rows, device) for draw in draws]
        self.blocks, block_of_row = _blocks(draws, n_rows)
        self.block_of_row = torch.as_tensor(block_of_row, device=device)
        n_kept = [len(kept) for _, kept in self.pairs]
        n_left_out = [len(rows) for rows, _ in self.pairs]
        apart = sum(n * kept for n, kept in zip(n_left_out, n_kept, strict=True))
        self.is_shared = n_rows**2 + sum(n**2 for n in n_left_out) < apart

    def build(self, alpha: float) -> AlphaOperators:
        """Its folds are the draws; where they share a matrix, that comes first."""
        inverse, notes = invert_in_steps(self.whole.grams, alpha)
        gram, cross = self.whole.gram, self.whole.cross
        folds = self._shared(inverse) if inverse is not None and self.is_shared else None
        if folds is None:
            folds = [leave_rows_out(inverse, gram, alpha, rows, kept) for rows, kept in self.pairs]
        if inverse is None:
            return AlphaOperators(folds, self.whole.build(alpha).test, notes)
        return AlphaOperators(folds, (cross.to(inverse.dtype) @ inverse).float(), notes)

    def _shared(self, inverse: torch.Tensor) -> list[torch.Tensor] | None:
        """``alone`` (n_rows, n_rows) and W of each draw; None where there is no factor or W would enlarge rounding."""
        alone = torch.zeros_like(inverse)
        for rows in self.blocks:
            factor, info = torch.linalg.cholesky_ex(inverse[rows, rows])
            if int(info) != 0:
                return None
            torch.mm(-torch.cholesky_inverse(factor), inverse[rows], out=alone[rows])
            alone[rows, rows] = 0
        found = [alone.float()]
        for rows_left_out, _ in self.pairs:
            mine = inverse[rows_left_out][:, rows_left_out]
            factor, info = torch.linalg.cholesky_ex(mine)
            if int(info) != 0:
                return None
            block = self.block_of_row[rows_left_out]
            mine[block[:, None] == block] = 0
            correction = -(torch.cholesky_inverse(factor) @ mine).float()
            if not float(correction.square().sum(1).max()) <= _LONGEST_ROW**2:
                return None
            found.append(correction)
        return found

    def predictions(self, folds: list[torch.Tensor], responses: torch.Tensor) -> Iterator[torch.Tensor]:
        """(n_left_out, width) of each draw, from its matrices and responses (n_rows, width)."""
        if len(folds) == len(self.pairs):
            for (_, kept), fold in zip(self.pairs, folds, strict=True):
                yield fold @ responses[kept]
            return
        alone = folds[0] @ responses
        errors = responses - alone
        for (rows, _), correction in zip(self.pairs, folds[1:], strict=True):
            yield alone[rows].addmm_(correction, errors[rows], alpha=-1)


class _DrawSums:
    """:class:`~voxelboard.benchmark.encoding.alpha_search.Sums` whose folds are the draws."""

    is_rough = False

    def __init__(
        self, built: BuiltOperators, operators: _DrawOperators, stream: TargetStream, *, centred: bool
    ) -> None:
        self.built = built
        self.operators = operators
        self.stream = stream
        self.centred = centred
        self.n_folds = len(operators.pairs)
        self.n_targets = stream.n_targets

    def everywhere(self, alphas: Sequence[int], found: FoldStatistics) -> None:
        """As :meth:`Sums.everywhere`."""
        first = 0
        for group in self.built.groups(alphas):
            self._fill(list(enumerate(group, first)), found, self.stream.all_targets())
            first += len(group)

    def at(self, alpha: int, targets: NDArray[np.intp], found: FoldStatistics) -> None:
        """As :meth:`Sums.at`."""
        self._fill([(alpha, alpha)], found, self.stream.some_targets(targets))

    def _fill(
        self,
        rows: list[tuple[int, int]],
        found: FoldStatistics,
        blocks: Iterator[tuple[NDArray[np.intp], torch.Tensor]],
    ) -> None:
        """Rows of ``found`` with their alphas; what does not depend on alpha is made once."""
        matrices = [(row, self.built[a].folds) for row, a in rows]
        for targets, block in blocks:
            n = len(targets)
            truths = [self._centre(block[left_out]) for left_out, _ in self.operators.pairs]
            for b, y in enumerate(truths):
                found.y2[b, targets] = (y.double() ** 2).sum(0)[:n].cpu().numpy()
            for row, folds in matrices:
                for b, (y, p) in enumerate(zip(truths, self.operators.predictions(folds, block), strict=True)):
                    p = self._centre(p)
                    found.c[row, b, targets] = (p * y).sum(0)[:n].cpu().numpy()
                    found.q[row, b, targets] = p.square_().sum(0)[:n].cpu().numpy()

    def _centre(self, values: torch.Tensor) -> torch.Tensor:
        return values - values.mean(0) if self.centred else values


def _blocks(draws: Sequence[NDArray[np.intp]], n_rows: int) -> tuple[list[slice], NDArray[np.intp]]:
    """Runs of rows that each draw keeps or leaves out together, without those never left out, and (n_rows,) the run of each row."""
    left_out = np.zeros((len(draws), n_rows), dtype=bool)
    for b, rows in enumerate(draws):
        left_out[b, rows] = True
    starts = np.flatnonzero(np.r_[True, (left_out[:, 1:] != left_out[:, :-1]).any(axis=0)])
    runs = [slice(int(a), int(b)) for a, b in zip(starts, [*starts[1:], n_rows], strict=True)]
    of_row = np.repeat(np.arange(len(runs)), [run.stop - run.start for run in runs])
    return [run for run in runs if left_out[:, run.start].any()], of_row


def _both_sides(rows: NDArray[np.intp], n_rows: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The left-out rows in order, and the kept ones."""
    left_out = np.zeros(n_rows, dtype=bool)
    left_out[rows] = True
    both = np.flatnonzero(left_out), np.flatnonzero(~left_out)
    return torch.as_tensor(both[0], device=device), torch.as_tensor(both[1], device=device)
