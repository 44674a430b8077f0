# SPDX-License-Identifier: Apache-2.0
"""Ridge regression for many targets on one design: alpha per target by left-out folds, then the test rows.

One factorisation per alpha serves all folds, all targets of all subjects and the test set (``operators``); the
responses are read once per group of alphas in blocks, and neither weights nor all predictions ever exist.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.alpha_search import Search, every_choice, search_alphas
from voxelboard.benchmark.encoding.designs import Device, Problem
from voxelboard.benchmark.encoding.feature_space import FeatureOperators
from voxelboard.benchmark.encoding.operators import DualOperators, Operators, Precision, make_operators
from voxelboard.benchmark.encoding.screening import DTYPES, BuiltOperators, FoldSums, Screening
from voxelboard.benchmark.encoding.selection import (
    InnerStatistics,
    Scope,
    Selection,
    choose_alpha,
    inner_statistics,
)
from voxelboard.benchmark.encoding.streaming import (
    FoldStatistics,
    Responses,
    TargetStream,
    products_by_alpha,
)
from voxelboard.benchmark.errors import InvalidNumbers, UserError

DEFAULT_TARGET_BLOCK = 8192


@dataclass(frozen=True, eq=False)
class RidgeFit:
    """What :func:`fit_ridge` found. Arrays are numpy, on the host.

    Attributes
    ----------
    alpha_index : (n_targets,) index into ``alpha_grid``; ``alphas`` (n_targets,) the absolute values.
    alpha_grid : (n_alphas,) absolute: relative alphas times trace(K) / n_train.
    test_predictions : (n_test, n_targets) float32, each target at its own alpha.
    inner : statistics of the left-out folds at fold-held-out alphas, (n_folds, n_targets) each; no rows where not asked for.
    fold_ids : (n_folds,) the fold of each row of ``inner``.
    cv_scores : (n_targets,) at the chosen alpha: minus the mean squared error, or the mean fold correlation.
    weights : None, or (n_train, n_targets) dual / (n_columns, n_targets) primal float32, in the rows' given order.
    notes : what was solved in another way than asked, one line per alpha. Empty when nothing was.
    """

    alpha_index: NDArray[np.intp]
    alphas: NDArray[np.float64]
    alpha_grid: NDArray[np.float64]
    test_predictions: NDArray[np.float32]
    inner: InnerStatistics
    fold_ids: NDArray[np.intp]
    cv_scores: NDArray[np.float64]
    weights: NDArray[np.float32] | None = None
    notes: tuple[str, ...] = ()

    @property
    def at_grid_edge(self) -> NDArray[np.bool_]:
        """(n_targets,) whether the chosen alpha is the smallest or the largest of the grid."""
        return np.isin(self.alphas, [self.alpha_grid.min(), self.alpha_grid.max()])


def fit_ridge(
    problem: Problem,
    responses: Responses,
    folds: NDArray[np.integer],
    relative_alphas: Sequence[float],
    *,
    selection: Selection = "squared_error",
    scope: Scope = "target",
    device: Device = None,
    target_block: int | None = None,
    precision: Precision = "float64",
    screening: Screening | None = None,
    search: Search = "every",
    inner: bool = True,
    weights: bool = False,
) -> RidgeFit:
    """Fit every target by ridge regression without intercept, its alpha chosen by left-out folds.

    Parameters
    ----------
    problem : the design, from :meth:`SegmentedDesign.problem` or :func:`primal_problem`.
    responses : (n_train, n_targets), rows as in the problem; any real dtype, read as float32; may be a memory map.
    folds : (n_train,) fold of each row, whole stories or segments; two or more different values.
    relative_alphas : positive, in units of trace(K) / n_train, so that one grid suits every width of features.
    selection : "squared_error" (the sum over folds) or "correlation" (the mean over folds).
    scope : one alpha per "target", one for all ("global"), or per label: (n_targets,) labels.
    device : where to compute; None is where the problem lies.
    target_block : targets on the device at a time: bounds memory, never changes a byte of the result.
    precision : of the factorisations. "float32" takes half the time and memory and falls back to float64 where it
        must; predictions are then wrong by 1e-6 of their size, at the smallest alphas by up to 1e-4.
    screening : None, or "bfloat16"/"float16"/"tfloat32": find the contested alphas in low precision and score those in
        float32. Alphas and statistics are those of float32. A CPU has no tfloat32 products: there it is emulated, and slower.
    search : "every" scores each alpha for each target; "thinned" scores some alphas, and of the others those that could be a
        target's best (``alpha_search``). The same bytes come out, in less time for many alphas a decade and some thousand
        targets; with fewer, and for narrow designs, which are scored in feature space, it is "every".
    inner : also choose an alpha without each fold, and return what the left-out folds say at those. Where only the test rows
        matter, False leaves ``RidgeFit.inner`` without rows: one choice is made for each target instead of 1 + n_folds, so that
        screening and a thinned search have fewer pairs to score.
    weights : also return the weights, of the size of the responses (dual) or of the design (primal). At small alphas
            float32 dual weights are large: predictions made with them are good to 1e-4, primal ones to 1e-6.

    Raises
    ------
    UserError
        for shapes that do not fit, one fold only, alphas that are zero, negative or not finite.
    InvalidNumbers
        for NaN or infinite values in design or responses; the first target is named.
    """
    check_arguments(problem, responses, folds, relative_alphas, screening, scope, search)
    where = problem.train.device if device is None else torch.device(device)
    given = problem.to(where)
    grid = absolute_alphas(given, relative_alphas)
    order, slices, fold_ids = sort_by_fold(folds)
    problem = _accurate_form(given, slices)
    rows = torch.as_tensor(order, device=where)
    stream = TargetStream(responses, order, where, target_block or DEFAULT_TARGET_BLOCK)
    centred = selection == "correlation"
    operators: Operators
    if problem.form == "primal" and screening is None and FeatureOperators.suits(problem.train.shape[1], slices):
        operators = narrow = FeatureOperators(problem, rows, slices, float(grid.min()), centred=centred)
        found = narrow.statistics(stream, grid)
        tests, notes = [narrow.build(alpha).test for alpha in grid.tolist()], list[str]()
    else:
        operators = make_operators(problem, rows, slices, grid.tolist(), centred=centred, precision=precision)
        found, tests, notes = all_statistics(operators, stream, grid, selection, screening, search, inner=inner)
    choice = choose_alpha(found.c, found.q, found.y2, grid, selection, scope, problem.n_train, found.scored)
    told = slice(None if inner else 0)
    return RidgeFit(
        alpha_index=choice.index,
        alphas=grid[choice.index],
        alpha_grid=grid,
        test_predictions=products_by_alpha(operators, stream, tests, choice.index),
        inner=inner_statistics(found.c[:, told], found.q[:, told], found.y2[told], choice.held_out[told]),
        fold_ids=fold_ids[told],
        cv_scores=choice.scores,
        weights=_weights(given, operators, stream, grid, choice.index) if weights else None,
        notes=tuple(notes),
    )


def absolute_alphas(problem: Problem, relative_alphas: Sequence[float]) -> NDArray[np.float64]:
    """(n_alphas,) the relative alphas times trace(K) / n_train; a design of zeros has the unit 1 and predicts 0."""
    scale = problem.mean_row_power
    if not np.isfinite(scale):
        raise InvalidNumbers("the design has NaN or infinite values")
    return np.asarray(relative_alphas, dtype=np.float64) * (scale if scale > 0 else 1.0)


def sort_by_fold(folds: NDArray[np.integer]) -> tuple[NDArray[np.intp], list[slice], NDArray[np.intp]]:
    """The row order in which each fold is one slice, the slices, and the fold ids in that order."""
    fold_ids, counts = np.unique(folds, return_counts=True)
    ends = np.cumsum(counts).tolist()
    slices = [slice(end - int(n), end) for n, end in zip(counts, ends, strict=True)]
    return np.argsort(folds, kind="stable"), slices, fold_ids.astype(np.intp)


def check_arguments(
    problem: Problem,
    responses: Responses,
    folds: NDArray[np.integer],
    relative_alphas: Sequence[float],
    screening: Screening | None,
    scope: Scope,
    search: Search = "every",
) -> None:
    """Refuse shapes that do not fit, a single fold, alphas that are not positive, unknown screening or search."""
    if len(responses.shape) != 2 or responses.shape[0] != problem.n_train:
        raise UserError(
            f"responses have shape {tuple(responses.shape)}, expected (n_train={problem.n_train}, n_targets)"
        )
    if np.shape(folds) != (problem.n_train,):
        raise UserError(f"folds have shape {np.shape(folds)}, expected ({problem.n_train},): one id per row")
    if len(np.unique(folds)) < 2:
        raise UserError("all rows are in one fold, so no alpha can be chosen", "give whole stories to 2 or more folds")
    alphas = np.asarray(relative_alphas, dtype=np.float64)
    if alphas.ndim != 1 or len(alphas) == 0 or not (np.isfinite(alphas).all() and (alphas > 0).all()):
        raise UserError(
            f"alphas {list(relative_alphas)}; expected one or more positive finite numbers",
            "for next to no regularisation take a small one, such as 1e-9",
        )
    if screening is not None and screening not in DTYPES:
        raise UserError(f"unknown screening {screening!r}; allowed: {', '.join(DTYPES)}, None")
    if search not in get_args(Search):
        raise UserError(f"unknown search {search!r}; allowed: {', '.join(get_args(Search))}")
    if (screening is not None or search != "every") and not (isinstance(scope, str) and scope == "target"):
        raise UserError(
            "screening and thinned searches find the alpha of each target",
            'leave them out, or take scope="target"',
        )


def all_statistics(
    operators: Operators,
    stream: TargetStream,
    grid: NDArray[np.float64],
    selection: Selection,
    screening: Screening | None,
    search: Search,
    *,
    inner: bool,
) -> tuple[FoldStatistics, list[torch.Tensor], list[str]]:
    """Statistics of every alpha, fold and target, the test matrix of every alpha, and the notes.

    With screening or a thinned search they are those of the full search only where an alpha could be chosen: by all folds,
    and with ``inner`` also by all but one.
    """
    built = BuiltOperators(operators, grid)
    sums = FoldSums(operators, built, stream, centred=selection == "correlation", screening=screening)
    choices = every_choice(len(operators.slices))[: None if inner else 1]
    found = search_alphas(sums, grid, selection, choices, search=search)
    notes = [note for a in range(len(grid)) for note in built.notes[a]]
    if screening is not None or search == "thinned":
        share = 1.0 if found.scored is None else float(found.scored.mean())
        notes.append(f"{search} alphas, {screening or 'no'} screening: {share:.1%} of the pairs scored in float32")
    return found, [built.tests[a] for a in range(len(grid))], notes


def _accurate_form(problem: Problem, slices: list[slice]) -> Problem:
    """The dual form where a fold leaves hardly more rows than columns.

    There the primal prediction of that fold is a small difference of large numbers (1e-4 off at the smallest alphas),
    while the dual one is not.
    """
    n_kept = problem.n_train - max(rows.stop - rows.start for rows in slices)
    return problem.to_dual() if problem.form == "primal" and problem.train.shape[1] > 0.7 * n_kept else problem


def _weights(
    given: Problem, operators: Operators, stream: TargetStream, grid: NDArray[np.float64], index: NDArray[np.intp]
) -> NDArray[np.float32]:
    dual_rows = isinstance(operators, DualOperators)
    design = given.train.double()[torch.as_tensor(stream.order, device=stream.device)].T
    used: list[torch.Tensor | None] = []
    for a, alpha in enumerate(grid.tolist()):
        operator = operators.weights_operator(alpha) if a in index else None
        if operator is not None and dual_rows and given.form == "primal":
            operator = design @ operator  # in float64: float32 dual weights would cancel in this product
        used.append(None if operator is None else operator.float())
    found = products_by_alpha(operators, stream, used, index)
    if given.form == "primal":
        return found
    rows = np.empty_like(found)
    rows[stream.order] = found
    return rows
