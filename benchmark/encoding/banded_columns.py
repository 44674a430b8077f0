# SPDX-License-Identifier: Apache-2.0
"""Banded ridge where the designs have fewer columns than rows: everything from cross-products of columns.

The search, its draws and its rules are those of ``banded``; what differs is the algebra. With ``C_f = X_f' X_f`` and
``B_f = X_f' Y_f`` of each fold f, a draw of band weights needs one eigendecomposition a fold, of
``D (C - C_f) D`` with D the square roots of the weights, and every alpha and target is then two products of the size
(n_columns, n_targets). Rows are never touched again, which is what makes hours of film (22,000 TRs) with a few hundred
to a few thousand columns affordable: the Grams of the dual form would be 4 GB a band.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.banded import BandedPredictions, BandedSearch
from voxelboard.benchmark.encoding.designs import Problem
from voxelboard.benchmark.encoding.ridge import DEFAULT_TARGET_BLOCK, check_arguments, sort_by_fold
from voxelboard.benchmark.encoding.selection import Selection, choose_alpha
from voxelboard.benchmark.encoding.streaming import FEW, Responses, TargetStream
from voxelboard.benchmark.errors import UserError

FloatArray = NDArray[np.float64]

# Cross-products of design and responses are kept over the draws up to this size, computed again beyond it.
KEPT_BYTES = 2**28


@dataclass(frozen=True, eq=False)
class ColumnBands:
    """Designs of several feature spaces side by side, on the same rows.

    Attributes
    ----------
    names : (n_bands,).
    train, test : (n_train, n_columns), (n_test, n_columns) float64 on one device, the columns of a band together.
    edges : (n_bands + 1,) first column of each band, and the number of columns.
    """

    names: tuple[str, ...]
    train: torch.Tensor
    test: torch.Tensor
    edges: tuple[int, ...]

    @property
    def n_train(self) -> int:
        """Training rows."""
        return int(self.train.shape[0])

    def columns(self, band: int) -> slice:
        """The columns of a band."""
        return slice(self.edges[band], self.edges[band + 1])

    def without(self, name: str) -> "ColumnBands":
        """The problem without one band; raises UserError for an unknown one and for the only one."""
        return self.select([other for other in self.names if other != self._known(name)])

    def select(self, names: Sequence[str]) -> "ColumnBands":
        """The problem of some of the bands, in the order given."""
        if not names:
            raise UserError("a banded problem needs one band at least")
        parts = [self.columns(self.names.index(self._known(name))) for name in names]
        widths = [part.stop - part.start for part in parts]
        return ColumnBands(
            tuple(names),
            torch.cat([self.train[:, part] for part in parts], dim=1),
            torch.cat([self.test[:, part] for part in parts], dim=1),
            tuple(np.cumsum([0, *widths]).tolist()),
        )

    def compressed(self, tolerance: float = 1e-10) -> "ColumnBands":
        """The same problem with each band in its principal axes, directions without power left out.

        A rotation inside a band changes no prediction, weight draws act on whole bands; the search costs the square
        of the columns, so bands of low rank (few seconds, few words) pay for what they hold. Weights are then those of
        the axes.

        Parameters
        ----------
        tolerance : of the power of a direction, as a share of the band's largest. float32 features leave up to 1e-11
            of it in directions that hold nothing.
        """
        train, test, widths = [], [], []
        for band in range(len(self.names)):
            columns = self.train[:, self.columns(band)]
            values, vectors = torch.linalg.eigh(columns.T @ columns)
            axes = vectors[:, values > tolerance * (values[-1:] if len(values) else values).clamp_min(0)]
            train.append(columns @ axes)
            test.append(self.test[:, self.columns(band)] @ axes)
            widths.append(int(axes.shape[1]))
        edges = tuple(np.cumsum([0, *widths]).tolist())
        return ColumnBands(self.names, torch.cat(train, dim=1), torch.cat(test, dim=1), edges)

    def _known(self, name: str) -> str:
        if name not in self.names:
            raise UserError(f"unknown band {name!r}; allowed: {', '.join(self.names)}")
        return name

    def scales(self, gamma: FloatArray) -> torch.Tensor:
        """(n_columns,) square root of the weight of each column's band."""
        widths = np.diff(self.edges)
        return torch.as_tensor(np.repeat(np.sqrt(gamma), widths), device=self.train.device)


def stack_columns(problems: Mapping[str, Problem], *, normalise: bool = True) -> ColumnBands:
    """One problem of several primal ones, which must have the same rows.

    ``normalise`` divides each band by the root of its trace(K) / n_train, as :func:`stack_bands` does: bands of any
    width compete on equal terms and alphas are in the units of :func:`fit_ridge`.

    Raises
    ------
    UserError
        for problems in the dual form or with other rows.
    """
    forms = {problem.form for problem in problems.values()}
    if not problems or forms != {"primal"} or len({(p.n_train, p.n_test) for p in problems.values()}) != 1:
        found = [(p.form, p.n_train, p.n_test) for p in problems.values()]
        raise UserError(f"bands {list(problems)} are (form, n_train, n_test) {found}; expected primal, the same rows")
    units = [problem.mean_row_power if normalise else 1.0 for problem in problems.values()]
    roots = [unit**0.5 if unit > 0 else 1.0 for unit in units]
    train = torch.cat([p.train.double() / root for p, root in zip(problems.values(), roots, strict=True)], dim=1)
    test = torch.cat([p.test.double() / root for p, root in zip(problems.values(), roots, strict=True)], dim=1)
    widths = [int(problem.train.shape[1]) for problem in problems.values()]
    return ColumnBands(tuple(problems), train, test, tuple(np.cumsum([0, *widths]).tolist()))


def search_columns(
    problem: ColumnBands,
    responses: Responses,
    folds: NDArray[np.integer],
    gammas: FloatArray,
    alphas: Sequence[float],
    *,
    selection: Selection = "squared_error",
    target_block: int | None = None,
) -> BandedSearch:
    """Score every draw of band weights with its best alpha; arguments and result as :func:`search_bands`.

    Memory: ``n_folds + 1`` matrices of (n_columns, n_columns) and blocks of (n_columns, target_block), float64.

    Raises
    ------
    UserError
        for shapes that do not fit, negative weights, and as :func:`fit_ridge`.
    """
    draws = _check_draws(gammas, len(problem.names))
    _check(problem, responses, folds, alphas)
    order, slices, _ = sort_by_fold(folds)
    products = _Products(problem, responses, order, slices, target_block, centred=selection == "correlation")
    grid = np.asarray(alphas, dtype=np.float64)
    scores = np.empty((len(draws), products.n_targets))
    chosen = np.empty(scores.shape, dtype=np.intp)
    for i, gamma in enumerate(draws):
        c, q = _draw_statistics(products, problem.scales(gamma), grid)
        choice = choose_alpha(c, q, products.y2, grid, selection, "target", problem.n_train)
        scores[i], chosen[i] = choice.scores, choice.index
    return BandedSearch(draws, grid, scores, chosen)


def refit_columns(
    problem: ColumnBands,
    responses: Responses,
    search: BandedSearch,
    *,
    allowed: NDArray[np.bool_] | None = None,
    target_block: int | None = None,
) -> BandedPredictions:
    """Predict the test rows with each target's best draw and alpha, as :func:`refit_bands`."""
    draw, alpha_index = search.best(allowed)
    alphas = search.alpha_grid[alpha_index]
    bands = np.zeros((len(problem.names), problem.test.shape[0], responses.shape[1]), dtype=np.float32)
    for targets, weights in _refitted(problem, responses, search, draw, alphas, target_block):
        for b in range(len(problem.names)):
            part = problem.columns(b)
            predicted = (problem.test[:, part] @ weights[part])[:, : len(targets)]
            bands[b][:, targets] = predicted.float().cpu().numpy()
    return BandedPredictions(bands.sum(axis=0), bands, search.gammas[draw], alphas)


def banded_weights(
    problem: ColumnBands, responses: Responses, search: BandedSearch, *, target_block: int | None = None
) -> NDArray[np.float32]:
    """(n_columns, n_targets) weights of the columns of ``problem.train``, at each target's best draw and alpha."""
    draw, alpha_index = search.best()
    found = np.zeros((problem.train.shape[1], responses.shape[1]), dtype=np.float32)
    for targets, weights in _refitted(problem, responses, search, draw, search.alpha_grid[alpha_index], target_block):
        found[:, targets] = weights[:, : len(targets)].float().cpu().numpy()
    return found


def leave_band_out(
    problem: ColumnBands,
    responses: Responses,
    folds: NDArray[np.integer],
    search: BandedSearch,
    name: str,
    *,
    selection: Selection = "squared_error",
    target_block: int | None = None,
) -> BandedPredictions:
    """Predictions of the model that never saw one band: searched and refitted without it, not set to zero.

    The draws are those of the whole search without the band's weight, on the simplex again: random weights of the
    rest. A draw whose whole weight was the band's is left out.
    """
    rest = problem.without(name)
    kept = np.delete(search.gammas, problem.names.index(name), axis=1)
    total = kept.sum(axis=1)
    draws = kept[total > 0] / total[total > 0, None]
    if len(rest.names) == 1:
        draws = np.ones((1, 1))
    again = search_columns(
        rest, responses, folds, draws, search.alpha_grid.tolist(), selection=selection, target_block=target_block
    )
    return refit_columns(rest, responses, again, target_block=target_block)


class _Products:
    """C and C_f of a problem, B and B_f of its responses by blocks of targets; rows sorted by fold."""

    def __init__(
        self,
        problem: ColumnBands,
        responses: Responses,
        order: NDArray[np.intp],
        slices: list[slice],
        target_block: int | None,
        *,
        centred: bool,
    ) -> None:
        where = problem.train.device
        self._design = problem.train[torch.as_tensor(order, device=where)]
        self._stream = TargetStream(responses, order, where, target_block or DEFAULT_TARGET_BLOCK, FEW)
        self._slices = slices
        self._centred = centred
        self.n_targets = self._stream.n_targets
        self.whole = self._design.T @ self._design
        self.parts = [self._design[rows].T @ self._design[rows] for rows in slices]
        means = [self._design[rows].mean(0) for rows in slices]
        self._means = means
        sizes = [rows.stop - rows.start for rows in slices]
        self.scored = [
            part - n * torch.outer(mean, mean) if centred else part
            for part, n, mean in zip(self.parts, sizes, means, strict=True)
        ]
        self.y2 = np.zeros((len(slices), self.n_targets))
        n_bytes = 8 * len(slices) * self._design.shape[1] * self.n_targets
        self._kept: list[tuple[NDArray[np.intp], list[torch.Tensor], list[torch.Tensor]]] | None = None
        blocks = list(self._blocks()) if n_bytes <= KEPT_BYTES else None
        if blocks is None:
            for _ in self._blocks():
                pass  # fills y2
        self._kept = blocks

    def blocks(self) -> Iterator[tuple[NDArray[np.intp], list[torch.Tensor], list[torch.Tensor]]]:
        """Targets, and for each fold (n_columns, width): X_f' Y_f to fit, and the same centred to score; padded."""
        yield from self._kept if self._kept is not None else self._blocks()

    def _blocks(self) -> Iterator[tuple[NDArray[np.intp], list[torch.Tensor], list[torch.Tensor]]]:
        for targets, block in self._stream.all_targets():
            values = block.double()
            fitted, scored = [], []
            for f, rows in enumerate(self._slices):
                y = values[rows]
                fitted.append(self._design[rows].T @ y)
                mean = y.mean(0)
                shift = (rows.stop - rows.start) * torch.outer(self._means[f], mean) if self._centred else 0.0
                scored.append(fitted[-1] - shift)
                deviations = y - mean if self._centred else y
                self.y2[f, targets] = (deviations**2).sum(0)[: len(targets)].cpu().numpy()
            yield targets, fitted, scored


def _draw_statistics(
    products: _Products, scales: torch.Tensor, grid: FloatArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """c, q (n_alphas, n_folds, n_targets): sums of prediction times response and of squared predictions."""
    shape = (len(grid), len(products.parts), products.n_targets)
    c, q = np.zeros(shape), np.zeros(shape)
    live = torch.nonzero(scales > 0)[:, 0]
    root = scales[live]
    bases = []
    for part, scored in zip(products.parts, products.scored, strict=True):
        values, vectors = _decompose((products.whole - part)[live][:, live], root)
        scaled = root[:, None] * vectors  # D U
        bases.append((values, scaled, scaled.T @ scored[live][:, live] @ scaled))
    for targets, fitted, scored in products.blocks():
        total = torch.stack(fitted).sum(0)
        for f, (values, scaled, power) in enumerate(bases):
            rotated = scaled.T @ (total - fitted[f])[live]
            tested = scaled.T @ scored[f][live]
            for a, alpha in enumerate(grid.tolist()):
                weights = rotated / (values[:, None] + alpha)
                c[a, f, targets] = (weights * tested).sum(0)[: len(targets)].cpu().numpy()
                q[a, f, targets] = (weights * (power @ weights)).sum(0)[: len(targets)].cpu().numpy()
    return c, q


def _decompose(gram: torch.Tensor, root: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues and vectors of D gram D without its null space."""
    values, vectors = torch.linalg.eigh(root[:, None] * gram * root)
    live = values > values[-1].clamp_min(0) * len(values) * torch.finfo(torch.float64).eps
    return values[live], vectors[:, live]


def _refitted(
    problem: ColumnBands,
    responses: Responses,
    search: BandedSearch,
    draw: NDArray[np.intp],
    alphas: FloatArray,
    target_block: int | None,
) -> Iterator[tuple[NDArray[np.intp], torch.Tensor]]:
    """Targets and their weights (n_columns, width), padded, one decomposition for each draw in use.

    Products are as wide as the stream's blocks until the end: then the bytes of a target do not depend on its neighbours.
    """
    where = problem.train.device
    stream = TargetStream(responses, np.arange(problem.n_train), where, target_block or DEFAULT_TARGET_BLOCK, FEW)
    whole = problem.train.T @ problem.train
    for i in np.unique(draw):
        scales = problem.scales(search.gammas[i])
        values, vectors = _decompose(whole, scales)
        scaled = scales[:, None] * vectors
        for targets, block in stream.some_targets(np.flatnonzero(draw == i)):
            alpha = torch.ones(block.shape[1], dtype=torch.float64, device=where)
            alpha[: len(targets)] = torch.as_tensor(alphas[targets], device=where)
            weights = scaled @ ((scaled.T @ (problem.train.T @ block.double())) / (values[:, None] + alpha))
            yield targets, weights


def _check_draws(gammas: FloatArray, n_bands: int) -> FloatArray:
    draws = np.asarray(gammas, dtype=np.float64)
    if draws.ndim != 2 or draws.shape[1] != n_bands or not np.isfinite(draws).all():
        raise UserError(f"gammas have shape {draws.shape}, expected (n_draws, n_bands={n_bands}), finite")
    if (draws < 0).any() or (draws.sum(axis=1) <= 0).any():
        raise UserError("each draw of gammas needs weights that are not negative and not all zero")
    return draws


def _check(problem: ColumnBands, responses: Responses, folds: NDArray[np.integer], alphas: Sequence[float]) -> None:
    none = problem.train.new_zeros(0, problem.train.shape[1])
    whole = Problem("primal", problem.train, none, none[:, 0], int(problem.train.shape[1]))
    check_arguments(whole, responses, folds, alphas, None, "target")
