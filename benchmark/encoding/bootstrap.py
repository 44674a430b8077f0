# SPDX-License-Identifier: Apache-2.0
"""Ridge regression as the Huth laboratory fits it: alpha by random sets of left-out chunks.

Many published maps were made so (Huth et al. 2016; LeBel et al. 2023): on each of some draws, chunks of neighbouring TRs are left
out at random, and a voxel's alpha is the one with the best mean correlation over draws. Chunks of one story lie on
both sides of such a split, which mis-tunes alpha a little and inflates nothing, because the scored stories are others.
It is here to compare with those maps; the scored protocol leaves out whole stories.

Published alphas are squared: a laboratory alpha of 100 is an alpha of 10,000 here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.designs import Device, Problem
from voxelboard.benchmark.encoding.operators import DualOperators, invert_shifted, leave_rows_out
from voxelboard.benchmark.encoding.ridge import DEFAULT_TARGET_BLOCK, absolute_alphas, check_arguments
from voxelboard.benchmark.encoding.selection import Scope, Selection, choose_alpha
from voxelboard.benchmark.encoding.streaming import Responses, TargetStream, products_by_alpha
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
        problem, responses, np.isin(np.arange(n_rows), draws[0]).astype(np.intp), relative_alphas, None, scope
    )
    where = problem.train.device if device is None else torch.device(device)
    problem = problem.to(where).to_dual() if problem.form == "primal" else problem.to(where)
    grid = absolute_alphas(problem, relative_alphas)
    order = np.arange(n_rows)
    stream = TargetStream(responses, order, where, target_block or DEFAULT_TARGET_BLOCK)
    operators = DualOperators(problem, torch.as_tensor(order, device=where), [], centred=False, precision="float64")
    pairs = [_both_sides(rows, n_rows, where) for rows in draws]
    shape = (len(draws), stream.n_targets)
    c, y2 = np.empty((len(grid), *shape), dtype=np.float32), np.empty(shape)
    q, tests = np.empty_like(c), []
    for a, alpha in enumerate(grid.tolist()):
        inverse = invert_shifted(operators.gram, alpha)
        left_out = [leave_rows_out(inverse, operators.gram, alpha, rows, kept) for rows, kept in pairs]
        tests.append(operators.build(alpha).test if inverse is None else (operators.cross @ inverse).float())
        for targets, block in stream.all_targets():
            part = slice(int(targets[0]), int(targets[-1]) + 1)
            for b, ((rows, kept), operator) in enumerate(zip(pairs, left_out, strict=True)):
                y, p = block[rows], operator @ block[kept]
                if selection == "correlation":
                    y, p = y - y.mean(0), p - p.mean(0)
                for table, value in ((c[a], (p * y).sum(0)), (q[a], (p * p).sum(0)), (y2, (y.double() ** 2).sum(0))):
                    table[b, part] = value[: len(targets)].cpu().numpy()
    choice = choose_alpha(c, q, y2, grid, selection, scope, sum(len(rows) for rows in draws))
    predictions = products_by_alpha(operators, stream, tests, choice.index)
    return BootstrapFit(choice.index, grid[choice.index], grid, choice.scores, predictions)


def _both_sides(rows: NDArray[np.intp], n_rows: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The left-out rows in order, and the kept ones."""
    left_out = np.zeros(n_rows, dtype=bool)
    left_out[rows] = True
    both = np.flatnonzero(left_out), np.flatnonzero(~left_out)
    return torch.as_tensor(both[0], device=device), torch.as_tensor(both[1], device=device)
