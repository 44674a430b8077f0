# SPDX-License-Identifier: Apache-2.0
"""Nested cross-validation from one Gram: every outer fold is predicted with alphas that never saw it.

With ``G = (K + alpha I)^-1`` of all rows, leaving out the outer fold *and* an inner fold, S = outer + inner, is again
``-(G_SS)^-1 G_ST``. So one inverse per alpha serves all pairs of folds, and where the inner folds are the other outer
folds each unordered pair serves both.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.designs import Device, Problem
from voxelboard.benchmark.encoding.operators import invert_shifted, leave_rows_out
from voxelboard.benchmark.encoding.ridge import (
    DEFAULT_TARGET_BLOCK,
    OPERATOR_BYTES,
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


@dataclass(frozen=True, eq=False)
class _Pair:
    """Rows left out together, S; the rows of it that are scored, for which (outer, inner)."""

    left_out: torch.Tensor
    kept: list[slice]
    scored: list[tuple[int, int, torch.Tensor, slice]]  # outer, inner, positions within S, rows


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
) -> NestedFit:
    """Predict every row without its outer fold, alpha chosen by inner folds of the other rows.

    Parameters
    ----------
    problem : all rows as training rows; its test rows are not used. Feature scales therefore come from all rows.
    outer : (n_trs,) outer fold of each row.
    relative_alphas : in units of trace(K) / n_trs of *all* rows, the same grid for each outer fold.
    inner_groups : (n_trs,) inner fold of each row, one group per outer fold; None leaves the other outer folds out
        one by one.

    The other parameters and errors are those of :func:`fit_ridge`. Three outer folds or more are needed.
    """
    check_arguments(problem, responses, outer, relative_alphas, None, scope)
    where = problem.train.device if device is None else torch.device(device)
    problem = problem.to(where)
    grid = absolute_alphas(problem, relative_alphas)
    order, slices, outer_ids = sort_by_fold(outer)
    groups = _group_of_each_fold(outer if inner_groups is None else inner_groups, order, slices)
    if problem.form == "primal":
        return _nested_primal(problem, responses, outer, groups, grid, selection, scope, target_block)
    stream = TargetStream(responses, order, where, target_block or DEFAULT_TARGET_BLOCK)
    index = torch.as_tensor(order, device=where)
    gram = problem.train.double()[index][:, index]
    pairs = list(_pairs(slices, groups, where))
    inverses = _Inverses(gram, len(grid))
    c, q, y2 = _pair_statistics(inverses, pairs, slices, stream, grid, groups, centred=selection == "correlation")
    choices = []
    for o, rows in enumerate(slices):
        used = [j for j in range(int(groups.max()) + 1) if any(groups[i] == j for i in range(len(slices)) if i != o)]
        n_rows = len(order) - (rows.stop - rows.start)
        parts = c[:, o, used], q[:, o, used], y2[o, used]
        choice = choose_alpha(*parts, grid, selection, scope, n_rows)
        choices.append((choice.index, inner_statistics(*parts, choice.held_out)))
    alpha_index = np.stack([index for index, _ in choices])
    predictions = np.empty((len(order), stream.n_targets), dtype=np.float32)
    _predict_outer(inverses, slices, stream, grid, alpha_index, predictions)
    in_order = np.empty_like(predictions)
    in_order[order] = predictions
    return NestedFit(in_order, outer_ids, alpha_index, grid, tuple(inner for _, inner in choices))


class _Inverses:
    """(K + alpha I)^-1 of each alpha, kept where all of them fit the memory bound, computed again where not."""

    def __init__(self, gram: torch.Tensor, n_alphas: int) -> None:
        self.gram = gram
        self.kept: dict[float, torch.Tensor | None] | None = {} if n_alphas * gram.nbytes <= OPERATOR_BYTES else None

    def __getitem__(self, alpha: float) -> torch.Tensor | None:
        if self.kept is None:
            return invert_shifted(self.gram, alpha)
        if alpha not in self.kept:
            self.kept[alpha] = invert_shifted(self.gram, alpha)
        return self.kept[alpha]


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


def _pairs(slices: list[slice], groups: NDArray[np.intp], device: torch.device) -> Iterator[_Pair]:
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
                scored.append((o, j, torch.arange(starts[i], starts[i] + size, device=device), slices[i]))
        yield _Pair(rows, kept, scored)


def _leave_out(
    inverse: torch.Tensor | None, gram: torch.Tensor, alpha: float, rows: torch.Tensor, kept: list[slice]
) -> torch.Tensor:
    """(n_left_out, n_kept) float32: predictions of ``rows`` from the kept rows."""
    columns = torch.cat([torch.arange(part.start, part.stop, device=gram.device) for part in kept])
    return leave_rows_out(inverse, gram, alpha, rows, columns)


def _product(operator: torch.Tensor, kept: list[slice], block: torch.Tensor) -> torch.Tensor:
    """``operator @ block[kept rows]`` without copying the rows."""
    total = torch.zeros(operator.shape[0], block.shape[1], device=block.device)
    first = 0
    for part in kept:
        size = part.stop - part.start
        total.addmm_(operator[:, first : first + size], block[part])
        first += size
    return total


def _pair_statistics(
    inverses: "_Inverses",
    pairs: list[_Pair],
    slices: list[slice],
    stream: TargetStream,
    grid: NDArray[np.float64],
    groups: NDArray[np.intp],
    *,
    centred: bool,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
    """c, q (n_alphas, n_outer, n_groups, n_targets) and y2 (n_outer, n_groups, n_targets)."""
    shape = (len(slices), int(groups.max()) + 1, stream.n_targets)
    c, y2 = np.zeros((len(grid), *shape), dtype=np.float32), np.zeros(shape)
    q = np.zeros_like(c)
    for a, alpha in enumerate(grid.tolist()):
        inverse, gram = inverses[alpha], inverses.gram
        for chunk in _chunks(pairs, len(gram)):
            operators = [_leave_out(inverse, gram, alpha, pair.left_out, pair.kept) for pair in chunk]
            for targets, block in stream.all_targets():
                part = slice(int(targets[0]), int(targets[-1]) + 1)
                for pair, operator in zip(chunk, operators, strict=True):
                    sums = _scores(pair, _product(operator, pair.kept, block), block, centred=centred)
                    for o, j, found in sums:
                        values = [x[: len(targets)].cpu().numpy() for x in found]
                        c[a, o, j, part], q[a, o, j, part] = values[0], values[1]
                        y2[o, j, part] = values[2]
    return c, q, y2


def _chunks(pairs: list[_Pair], n_trs: int) -> Iterator[list[_Pair]]:
    """Pairs whose operators fit the memory bound together."""
    chunk: list[_Pair] = []
    size = 0
    for pair in pairs:
        chunk.append(pair)
        size += 4 * len(pair.left_out) * n_trs
        if size >= OPERATOR_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _scores(
    pair: _Pair, predicted: torch.Tensor, block: torch.Tensor, *, centred: bool
) -> list[tuple[int, int, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]]:
    """Sums p*y, p^2, y^2 over the inner fold of each (outer, inner) that this pair serves."""
    folds: dict[tuple[int, int], list[tuple[torch.Tensor, slice]]] = {}
    for o, j, positions, rows in pair.scored:
        folds.setdefault((o, j), []).append((positions, rows))
    out = []
    for (o, j), parts in folds.items():
        p = torch.cat([predicted[positions] for positions, _ in parts])
        y = torch.cat([block[rows] for _, rows in parts])
        if centred:
            p, y = p - p.mean(0), y - y.mean(0)
        out.append((o, j, ((p * y).sum(0), (p * p).sum(0), (y.double() ** 2).sum(0))))
    return out


def _predict_outer(
    inverses: "_Inverses",
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
            operator = _leave_out(inverse, gram, alpha, left_out, kept)
            for targets, block in stream.some_targets(mine):
                predicted = _product(operator, kept, block)[:, : len(targets)]
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
        )
        predictions[test] = fit.test_predictions
        fits.append(fit)
    alpha_index = np.stack([fit.alpha_index for fit in fits])
    return NestedFit(predictions, outer_ids.astype(np.intp), alpha_index, grid, tuple(fit.inner for fit in fits))
