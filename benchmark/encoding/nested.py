# SPDX-License-Identifier: Apache-2.0
"""Nested cross-validation from one Gram: every outer fold is predicted with alphas that never saw it.

With ``G = (K + alpha I)^-1`` of all rows, leaving out the outer fold *and* an inner fold, S = outer + inner, is again
``-(G_SS)^-1 G_ST``. So one inverse per alpha serves all pairs of folds, and where the inner folds are the other outer
folds each unordered pair serves both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.alpha_search import Search, every_choice, search_alphas
from voxelboard.benchmark.encoding.designs import Device, Problem
from voxelboard.benchmark.encoding.nested_pairs import Inverses, PairSums, leave_out, pairs_of_folds, product_of_kept
from voxelboard.benchmark.encoding.operators import Precision
from voxelboard.benchmark.encoding.ridge import (
    DEFAULT_TARGET_BLOCK,
    absolute_alphas,
    check_arguments,
    fit_ridge,
    sort_by_fold,
)
from voxelboard.benchmark.encoding.selection import (
    InnerStatistics,
    Scope,
    Selection,
    choose_alpha,
    inner_statistics,
)
from voxelboard.benchmark.encoding.streaming import Responses, TargetStream
from voxelboard.benchmark.errors import UserError


@dataclass(frozen=True, eq=False)
class NestedFit:
    """Out-of-fold predictions. Arrays are numpy, on the host.

    Attributes
    ----------
    predictions : (n_trs, n_targets) float32, each row predicted without its outer fold, in the rows' given order.
    outer_ids : (n_outer,) fold ids.
    alpha_index : (n_outer, n_targets) index into ``alpha_grid`` (n_alphas,), absolute.
    inner : per outer fold, the statistics of its inner folds at fold-held-out alphas.
    """

    predictions: NDArray[np.float32]
    outer_ids: NDArray[np.intp]
    alpha_index: NDArray[np.intp]
    alpha_grid: NDArray[np.float64]
    inner: tuple[InnerStatistics, ...]


def nested_ridge(
    problem: Problem,
    responses: Responses,
    outer: NDArray[np.integer],
    relative_alphas: Sequence[float],
    *,
    inner_groups: NDArray[np.integer] | None = None,
    selection: Selection = "squared_error",
    scope: Scope = "target",
    device: Device = None,
    target_block: int | None = None,
    precision: Precision = "float64",
    search: Search = "every",
) -> NestedFit:
    """Predict every row without its outer fold, alpha chosen by inner folds of the other rows.

    Parameters
    ----------
    problem : all rows as training rows; its test rows are not used. Feature scales therefore come from all rows.
    outer : (n_trs,) outer fold of each row.
    relative_alphas : in units of trace(K) / n_trs of *all* rows, the same grid for each outer fold.
    inner_groups : (n_trs,) inner fold of each row, one group per outer fold; None leaves the other outer folds out
        one by one.

    The other parameters and errors are those of :func:`fit_ridge`. Three outer folds or more are needed. A thinned search
    keeps up to 2 GiB of matrices.
    """
    check_arguments(problem, responses, outer, relative_alphas, None, scope, search)
    where = problem.train.device if device is None else torch.device(device)
    problem = problem.to(where)
    grid = absolute_alphas(problem, relative_alphas)
    order, slices, outer_ids = sort_by_fold(outer)
    groups = _group_of_each_fold(outer if inner_groups is None else inner_groups, order, slices)
    if problem.form == "primal":
        return _nested_primal(problem, responses, outer, groups, grid, selection, scope, target_block, search)
    stream = TargetStream(responses, order, where, target_block or DEFAULT_TARGET_BLOCK)
    index = torch.as_tensor(order, device=where)
    gram = problem.train.double()[index][:, index]
    pairs = list(pairs_of_folds(slices, groups, where))
    inverses = Inverses(gram, len(grid), precision)
    sums = PairSums(inverses, pairs, groups, stream, grid, centred=selection == "correlation", keep=search == "thinned")
    found = search_alphas(sums, grid, selection, _choices(groups), search=search)
    n_inner = int(groups.max()) + 1
    c, q = (table.reshape(len(grid), len(slices), n_inner, -1) for table in (found.c, found.q))
    y2 = found.y2.reshape(len(slices), n_inner, -1)
    choices = []
    for o, rows in enumerate(slices):
        used = _inner_groups(groups, o)
        n_rows = len(order) - (rows.stop - rows.start)
        parts = c[:, o, used], q[:, o, used], y2[o, used]
        choice = choose_alpha(*parts, grid, selection, scope, n_rows, found.scored)
        choices.append((choice.index, inner_statistics(*parts, choice.held_out)))
    alpha_index = np.stack([index for index, _ in choices])
    predictions = np.empty((len(order), stream.n_targets), dtype=np.float32)
    _predict_outer(inverses, slices, stream, grid, alpha_index, predictions)
    in_order = np.empty_like(predictions)
    in_order[order] = predictions
    return NestedFit(in_order, outer_ids, alpha_index, grid, tuple(inner for _, inner in choices))


def _inner_groups(groups: NDArray[np.intp], o: int) -> list[int]:
    """The inner folds of outer fold ``o``: the groups that hold another outer fold."""
    inner: list[int] = np.unique(np.delete(groups, o)).tolist()
    return inner


def _choices(groups: NDArray[np.intp]) -> NDArray[np.float64]:
    """(n_choices, n_outer * n_groups): each outer fold chooses by all of its inner folds, and without each of them."""
    rows = []
    for o in range(len(groups)):
        used = _inner_groups(groups, o)
        table = np.zeros((1 + len(used), len(groups), int(groups.max()) + 1))
        table[:, o, used] = every_choice(len(used))
        rows.append(table.reshape(len(table), -1))
    return np.concatenate(rows)


def _group_of_each_fold(inner: NDArray[np.integer], order: NDArray[np.intp], slices: list[slice]) -> NDArray[np.intp]:
    """(n_outer,) inner group of each outer fold, 0 .. n_groups - 1."""
    if np.shape(inner) != (len(order),):
        raise UserError(f"inner groups have shape {np.shape(inner)}, expected ({len(order)},)")
    sorted_groups = np.asarray(inner)[order]
    if any(len(np.unique(sorted_groups[rows])) > 1 for rows in slices):
        raise UserError("an outer fold lies in two inner groups; give each outer fold one group")
    groups = np.unique([sorted_groups[rows.start] for rows in slices], return_inverse=True)[1].astype(np.intp)
    for o in range(len(slices)):
        if len({int(groups[i]) for i in range(len(slices)) if i != o}) < 2:
            raise UserError(
                f"without outer fold {o} fewer than 2 inner folds remain, so no alpha can be chosen",
                "use 3 or more outer folds and 2 or more inner groups among any of the others",
            )
    return groups


def _predict_outer(
    inverses: Inverses,
    slices: list[slice],
    stream: TargetStream,
    grid: NDArray[np.float64],
    alpha_index: NDArray[np.intp],
    predictions: NDArray[np.float32],
) -> None:
    """Fill (n_trs, n_targets): each outer fold from all others at the chosen alphas."""
    for a, alpha in enumerate(grid.tolist()):
        if not (alpha_index == a).any():
            continue
        inverse, gram = inverses[alpha], inverses.gram
        for o, rows in enumerate(slices):
            mine = np.flatnonzero(alpha_index[o] == a)
            if len(mine) == 0:
                continue
            kept = [part for part in slices if part is not rows]
            left_out = torch.arange(rows.start, rows.stop, device=gram.device)
            operator = leave_out(inverse, gram, alpha, left_out, kept)
            for targets, block in stream.some_targets(mine):
                predicted = product_of_kept(operator, kept, block)[:, : len(targets)]
                predictions[rows, targets] = predicted.cpu().numpy()


def _nested_primal(
    problem: Problem,
    responses: Responses,
    outer: NDArray[np.integer],
    groups: NDArray[np.intp],
    grid: NDArray[np.float64],
    selection: Selection,
    scope: Scope,
    target_block: int | None,
    search: Search,
) -> NestedFit:
    """With fewer columns than rows a fit per outer fold is cheap: its factorisation does not grow with the rows."""
    outer_ids, fold_of_row = np.unique(outer, return_inverse=True)
    predictions = np.empty((problem.n_train, int(responses.shape[1])), dtype=np.float32)
    fits = []
    for o in range(len(outer_ids)):
        train, test = np.flatnonzero(fold_of_row != o), np.flatnonzero(fold_of_row == o)
        design, tested = problem.train[train], problem.train[test]
        part = Problem("primal", design, tested, (tested.double() ** 2).sum(1), problem.n_columns)
        unit = part.mean_row_power
        fit = fit_ridge(
            part,
            responses[train],
            groups[fold_of_row[train]],
            (grid / (unit if unit > 0 else 1.0)).tolist(),
            selection=selection,
            scope=scope,
            target_block=target_block,
            search=search,
        )
        predictions[test] = fit.test_predictions
        fits.append(fit)
    alpha_index = np.stack([fit.alpha_index for fit in fits])
    return NestedFit(predictions, outer_ids.astype(np.intp), alpha_index, grid, tuple(fit.inner for fit in fits))
