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
    """For each alpha the matrices that predict the left-out rows of every draw from its others."""

    def __init__(self, problem: Problem, draws: Sequence[NDArray[np.intp]], precision: Precision) -> None:
        n_rows, device = problem.n_train, problem.train.device
        rows = torch.arange(n_rows, device=device)
        self.whole = DualOperators(problem, rows, [], centred=False, precision=precision)
        self.pairs = [_both_sides(draw, n_rows, device) for draw in draws]

    def build(self, alpha: float) -> AlphaOperators:
        """Its folds are the draws."""
        inverse, notes = invert_in_steps(self.whole.grams, alpha)
        gram, cross = self.whole.gram, self.whole.cross
        folds = [leave_rows_out(inverse, gram, alpha, rows, kept) for rows, kept in self.pairs]
        if inverse is None:
            return AlphaOperators(folds, self.whole.build(alpha).test, notes)
        return AlphaOperators(folds, (cross.to(inverse.dtype) @ inverse).float(), notes)


class _DrawSums:
    """:class:`~voxelboard.benchmark.encoding.alpha_search.Sums` whose folds are the draws."""

    is_rough = False

    def __init__(
        self, built: BuiltOperators, operators: _DrawOperators, stream: TargetStream, *, centred: bool
    ) -> None:
        self.built = built
        self.pairs = operators.pairs
        self.stream = stream
        self.centred = centred
        self.n_folds = len(self.pairs)
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
            for b, (left_out, kept) in enumerate(self.pairs):
                y, inputs = block[left_out], block[kept]
                y = y - y.mean(0) if self.centred else y
                found.y2[b, targets] = (y.double() ** 2).sum(0)[:n].cpu().numpy()
                for row, folds in matrices:
                    p = folds[b] @ inputs
                    p = p - p.mean(0) if self.centred else p
                    found.c[row, b, targets] = (p * y).sum(0)[:n].cpu().numpy()
                    found.q[row, b, targets] = (p * p).sum(0)[:n].cpu().numpy()


def _both_sides(rows: NDArray[np.intp], n_rows: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The left-out rows in order, and the kept ones."""
    left_out = np.zeros(n_rows, dtype=bool)
    left_out[rows] = True
    both = np.flatnonzero(left_out), np.flatnonzero(~left_out)
    return torch.as_tensor(both[0], device=device), torch.as_tensor(both[1], device=device)
