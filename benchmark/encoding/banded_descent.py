# SPDX-License-Identifier: Apache-2.0
"""Banded ridge without a random search to the end: the weights of the bands descend on the left-out error itself.

Each target has its own log weights ``theta`` (the alpha is among them: only ``exp(theta_b) = gamma_b / alpha`` enters).
With ``D`` the roots of the weights and ``M_f = D (C - C_f) D + I``, the weights fitted without fold f are
``w_f = D u_f``, ``M_f u_f = D (B - B_f)``, and the derivative of ``w_f`` by ``theta_b`` is ``D M_f^-1`` times the part of
``u_f`` in band b. That gives the gradient of the summed squared error of the left-out folds, and its Gauss-Newton
curvature, for one Cholesky factor a fold (the implicit differentiation of Bengio 2000; damping of Marquardt 1963).
A step that does not lower the error is not taken, so the result is never worse than where it starts.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.banded import BandedPredictions, BandedSearch
from voxelboard.benchmark.encoding.banded_columns import ColumnBands
from voxelboard.benchmark.encoding.ridge import DEFAULT_TARGET_BLOCK, sort_by_fold
from voxelboard.benchmark.encoding.streaming import FEW, Responses, TargetStream
from voxelboard.benchmark.errors import UserError

FloatArray = NDArray[np.float64]

# Log weights stay in this range; a band of weight e^-14 of the unit says nothing.
_LEAST, _MOST = -14.0, 14.0
_LONGEST_STEP = 3.0
_DAMPING, _EASED, _TIGHTENED = 1e-2, 0.2, 8.0
# bytes of the matrices of the targets that are factorised together
_CHUNK_BYTES = 64 << 20
_LINE = 8  # float64 numbers of a line of the cache


@dataclass(frozen=True, eq=False)
class BandedDescent:
    """Where each target's weights came to. Arrays are numpy, on the host.

    Attributes
    ----------
    weights : (n_targets, n_bands) gamma_b / alpha of each band.
    cv_scores : (n_targets,) minus the mean squared error of the left-out folds there; start_scores : where it began.
    """

    weights: FloatArray
    cv_scores: FloatArray
    start_scores: FloatArray


def descend_columns(
    problem: ColumnBands,
    responses: Responses,
    folds: NDArray[np.integer],
    start: BandedSearch,
    *,
    n_steps: int = 8,
) -> BandedDescent:
    """Improve each target's band weights from its best draw of a short random search.

    Memory: ``n_folds + 1`` arrays of (n_columns, n_targets) float64, and a few of 64 MiB; give targets in parts where
    that is too much, no target knows of another.

    Parameters
    ----------
    problem, responses, folds : as given to :func:`search_columns`.
    start : of :func:`search_columns` with ``selection="squared_error"``, of few draws: five are enough.
    n_steps : damped Gauss-Newton steps of each target.

    Raises
    ------
    UserError
        for a search of other targets, and fewer than one step.
    """
    if n_steps < 1:
        raise UserError(f"{n_steps} steps; give one or more")
    if start.cv_scores.shape[1] != responses.shape[1] or start.gammas.shape[1] != len(problem.names):
        raise UserError(
            f"the search has {start.cv_scores.shape[1]} targets and {start.gammas.shape[1]} bands, expected "
            f"{responses.shape[1]} and {len(problem.names)}"
        )
    order, slices, _ = sort_by_fold(folds)
    error = _LeftOutError(problem, responses, order, slices)
    draw, alpha = start.best()
    first = np.log(np.maximum(start.gammas[draw], np.exp(_LEAST)) / start.alpha_grid[alpha][:, None])
    theta = torch.as_tensor(first, device=problem.train.device).clamp(_LEAST, _MOST)
    found, begun = np.empty(len(theta)), np.empty(len(theta))
    for targets in error.blocks():
        n = len(theta[targets])
        ends, before, after = _descend(error, error.padded(theta[targets]), targets, n_steps)
        theta[targets], begun[targets], found[targets] = ends[:n], before[:n], after[:n]
    n_rows = len(order)
    return BandedDescent(theta.exp().cpu().numpy(), -found / n_rows, -begun / n_rows)


def refit_descended(problem: ColumnBands, responses: Responses, descent: BandedDescent) -> BandedPredictions:
    """Predict the test rows with each target's own weights, fitted on all training rows."""
    order = np.arange(problem.n_train)
    error = _LeftOutError(problem, responses, order, [])
    bands = np.zeros((len(problem.names), problem.test.shape[0], len(descent.weights)), dtype=np.float32)
    theta = torch.as_tensor(descent.weights, device=problem.train.device).log()
    for targets in error.blocks():
        root = error.roots(error.padded(theta[targets]))
        solved, _ = error.solve(error.whole, targets, root, error.total[:, targets].T * root)
        weights = (root * solved).T
        for b in range(len(problem.names)):
            columns = problem.columns(b)
            predicted = problem.test[:, columns] @ weights[columns]
            bands[b][:, targets] = predicted[:, : len(theta[targets])].float().cpu().numpy()
    total = descent.weights.sum(axis=1)
    return BandedPredictions(bands.sum(axis=0), bands, descent.weights / total[:, None], 1 / total)


class _LeftOutError:
    """Cross-products of a problem and its responses, whole and by fold; float64.

    Targets pass through in blocks of one width, the last one filled up with targets of zeros, as in ``streaming``, and
    columns of zeros let each target's matrix begin where BLAS reads whole lines of the cache. What a target comes to then
    depends neither on its place nor on the targets beside it, byte for byte.
    """

    def __init__(
        self, problem: ColumnBands, responses: Responses, order: NDArray[np.intp], slices: list[slice]
    ) -> None:
        where = problem.train.device
        fillers = -problem.train.shape[1] % _LINE
        design = torch.nn.functional.pad(problem.train[torch.as_tensor(order, device=where)], (0, fillers))
        stream = TargetStream(responses, order, where, DEFAULT_TARGET_BLOCK, FEW)
        self.n_bands, self._n_targets, self._width = len(problem.names), stream.n_targets, stream.width
        bands = np.repeat(np.arange(self.n_bands), np.diff(problem.edges))
        self.band = torch.as_tensor(np.append(bands, np.zeros(fillers, dtype=bands.dtype)), device=where)
        self.whole = design.T @ design
        self.parts = [design[rows].T @ design[rows] for rows in slices]
        self._starts = range(0, stream.n_targets, stream.width)
        shape = (design.shape[1], len(self._starts) * stream.width)
        self.total = design.new_zeros(shape)
        self.fitted = [design.new_zeros(shape) for _ in slices]
        self.y2 = design.new_zeros(shape[1])
        for targets, block in stream.all_targets():
            part, y = slice(int(targets[0]), int(targets[0]) + stream.width), block.double()
            self.total[:, part] = design.T @ y
            self.y2[part] = (y**2).sum(0)
            for table, rows in zip(self.fitted, slices, strict=True):
                table[:, part] = design[rows].T @ y[rows]

    def blocks(self) -> list[slice]:
        """Targets that pass through together: a whole block each, the last of them reaches beyond the last target."""
        return [slice(start, start + self._width) for start in self._starts]

    def padded(self, theta: torch.Tensor) -> torch.Tensor:
        """(width, n_bands) the log weights of a block, those of its fillers 0."""
        return torch.cat([theta, theta.new_zeros(self._width - len(theta), self.n_bands)])

    def roots(self, theta: torch.Tensor) -> torch.Tensor:
        """(n_targets, n_columns) root of the weight of each column."""
        return (theta / 2).exp()[:, self.band]

    def at(self, theta: torch.Tensor, block: slice) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Error (width,), gradient (width, n_bands) and curvature (width, n_bands, n_bands) of a block."""
        root = self.roots(theta)
        error = self.y2[block].clone()
        gradient = error.new_zeros(len(theta), self.n_bands)
        curvature = error.new_zeros(len(theta), self.n_bands, self.n_bands)
        for own, fitted in zip(self.parts, self.fitted, strict=True):
            products = fitted[:, block].T.contiguous()
            right = (self.total[:, block].T - products) * root
            solved, slopes = self.solve(self.whole - own, block, root, right, slopes=True)
            weights = root * solved
            predicted = weights @ own
            error += (weights * (predicted - 2 * products)).sum(1)
            slopes = root[:, None, :] * slopes
            gradient += 2 * torch.einsum("vmp,vp->vm", slopes, predicted - products)
            bent = (slopes.flatten(0, 1) @ own).view_as(slopes)
            curvature += 2 * bent @ slopes.transpose(1, 2)
        return error, gradient, curvature

    def solve(
        self, gram: torch.Tensor, block: slice, root: torch.Tensor, right: torch.Tensor, *, slopes: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(width, n_columns) u of (D gram D + I) u = right for each target's D; 0 for fillers.

        With ``slopes`` also (width, n_bands, n_columns), the solutions for the part of u in each band.
        """
        solved = torch.zeros_like(root)
        by_band = root.new_zeros(len(root), self.n_bands if slopes else 0, root.shape[1])
        every = torch.arange(len(self.band), device=root.device)
        at_once = max(1, _CHUNK_BYTES // (8 * max(1, len(self.band)) ** 2))
        n_live = min(self._width, self._n_targets - block.start)
        for first in range(0, n_live, at_once):
            part = slice(first, min(first + at_once, n_live))
            system = gram * root[part, :, None] * root[part, None, :]
            system.diagonal(dim1=1, dim2=2).add_(1)
            factor = torch.linalg.cholesky(system)
            solved[part] = torch.cholesky_solve(right[part, :, None], factor)[:, :, 0]
            if slopes:
                sides = root.new_zeros(len(factor), len(self.band), self.n_bands)
                sides[:, every, self.band] = solved[part]
                by_band[part] = torch.cholesky_solve(sides, factor).transpose(1, 2)
        return solved, by_band


def _descend(
    error: _LeftOutError, theta: torch.Tensor, block: slice, n_steps: int
) -> tuple[torch.Tensor, NDArray[np.float64], NDArray[np.float64]]:
    """Log weights of a block of targets after the steps, their error before and after."""
    value, gradient, curvature = error.at(theta, block)
    begun, damping = value, torch.full_like(value, _DAMPING)
    floor = 1e-5 * torch.where(error.y2[block] > 0, error.y2[block], 1.0)
    for _ in range(n_steps):
        diagonal = curvature.diagonal(dim1=1, dim2=2) + floor[:, None]
        step = torch.linalg.solve(curvature + torch.diag_embed(damping[:, None] * diagonal), gradient[:, :, None])
        tried = (theta - step[:, :, 0].clamp(-_LONGEST_STEP, _LONGEST_STEP)).clamp(_LEAST, _MOST)
        new, slope, bend = error.at(tried, block)
        better = new < value
        theta, value = torch.where(better[:, None], tried, theta), torch.where(better, new, value)
        gradient = torch.where(better[:, None], slope, gradient)
        curvature = torch.where(better[:, None, None], bend, curvature)
        damping = damping * torch.where(better, _EASED, _TIGHTENED)
    return theta, begun.cpu().numpy(), value.cpu().numpy()
