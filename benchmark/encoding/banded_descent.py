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
from voxelboard.benchmark.encoding.streaming import Responses, TargetStream
from voxelboard.benchmark.errors import UserError

FloatArray = NDArray[np.float64]

# Log weights stay in this range; a band of weight e^-14 of the unit says nothing.
_LEAST, _MOST = -14.0, 14.0
_LONGEST_STEP = 3.0
_DAMPING, _EASED, _TIGHTENED = 1e-2, 0.2, 8.0
# bytes of the matrices of the targets that are solved together
_CHUNK_BYTES = 64 << 20


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
    for part in error.chunks():
        theta[part], begun[part], found[part] = _descend(error, theta[part], part, n_steps)
    n_rows = len(order)
    return BandedDescent(theta.exp().cpu().numpy(), -found / n_rows, -begun / n_rows)


def refit_descended(problem: ColumnBands, responses: Responses, descent: BandedDescent) -> BandedPredictions:
    """Predict the test rows with each target's own weights, fitted on all training rows."""
    order = np.arange(problem.n_train)
    error = _LeftOutError(problem, responses, order, [])
    bands = np.zeros((len(problem.names), problem.test.shape[0], len(descent.weights)), dtype=np.float32)
    theta = torch.as_tensor(descent.weights, device=problem.train.device).log()
    for part in error.chunks():
        root = error.roots(theta[part])
        solved, _ = _solve(error.whole, root, error.total[:, part].T * root)
        weights = (root * solved).T
        for b in range(len(problem.names)):
            columns = problem.columns(b)
            bands[b][:, part] = (problem.test[:, columns] @ weights[columns]).float().cpu().numpy()
    total = descent.weights.sum(axis=1)
    return BandedPredictions(bands.sum(axis=0), bands, descent.weights / total[:, None], 1 / total)


class _LeftOutError:
    """Cross-products of a problem and its responses, whole and by fold; float64."""

    def __init__(
        self, problem: ColumnBands, responses: Responses, order: NDArray[np.intp], slices: list[slice]
    ) -> None:
        where = problem.train.device
        design = problem.train[torch.as_tensor(order, device=where)]
        stream = TargetStream(responses, order, where, DEFAULT_TARGET_BLOCK)
        self.n_bands, self._n_targets = len(problem.names), stream.n_targets
        widths = torch.as_tensor(np.diff(problem.edges), device=where)
        self.band = torch.repeat_interleave(torch.arange(self.n_bands, device=where), widths)
        self.whole = design.T @ design
        self.parts = [design[rows].T @ design[rows] for rows in slices]
        shape = (design.shape[1], stream.n_targets)
        self.total = design.new_zeros(shape)
        self.fitted = [design.new_zeros(shape) for _ in slices]
        self.y2 = design.new_zeros(stream.n_targets)
        for targets, block in stream.all_targets():
            part, y = slice(int(targets[0]), int(targets[-1]) + 1), block[:, : len(targets)].double()
            self.total[:, part] = design.T @ y
            self.y2[part] = (y**2).sum(0)
            for table, rows in zip(self.fitted, slices, strict=True):
                table[:, part] = design[rows].T @ y[rows]

    def chunks(self) -> list[slice]:
        """Targets whose matrices are solved together."""
        size = max(1, _CHUNK_BYTES // (8 * max(1, len(self.band)) ** 2))
        return [slice(i, min(i + size, self._n_targets)) for i in range(0, self._n_targets, size)]

    def roots(self, theta: torch.Tensor) -> torch.Tensor:
        """(n_targets, n_columns) root of the weight of each column."""
        return (theta / 2).exp()[:, self.band]

    def at(self, theta: torch.Tensor, part: slice) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Error (n,), gradient (n, n_bands) and curvature (n, n_bands, n_bands) of some targets."""
        root = self.roots(theta)
        error = self.y2[part].clone()
        gradient = error.new_zeros(len(theta), self.n_bands)
        curvature = error.new_zeros(len(theta), self.n_bands, self.n_bands)
        every = torch.arange(len(self.band), device=theta.device)
        for own, fitted in zip(self.parts, self.fitted, strict=True):
            products = fitted[:, part].T
            solved, factor = _solve(self.whole - own, root, (self.total[:, part].T - products) * root)
            weights = root * solved
            predicted = weights @ own
            error += (weights * (predicted - 2 * products)).sum(1)
            by_band = root.new_zeros(*root.shape, self.n_bands)
            by_band[:, every, self.band] = solved
            slopes = root[:, :, None] * torch.cholesky_solve(by_band, factor)
            gradient += 2 * torch.einsum("vpm,vp->vm", slopes, predicted - products)
            curvature += 2 * torch.einsum("vpm,pq,vqk->vmk", slopes, own, slopes)
        return error, gradient, curvature


def _solve(gram: torch.Tensor, root: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Solutions (n, n_columns) of (D gram D + I) u = right for each target's D, and the factors."""
    system = gram * root[:, :, None] * root[:, None, :]
    system.diagonal(dim1=1, dim2=2).add_(1)
    factor = torch.linalg.cholesky(system)
    return torch.cholesky_solve(right[:, :, None], factor)[:, :, 0], factor


def _descend(
    error: _LeftOutError, theta: torch.Tensor, part: slice, n_steps: int
) -> tuple[torch.Tensor, NDArray[np.float64], NDArray[np.float64]]:
    """Log weights of some targets after the steps, their error before and after."""
    value, gradient, curvature = error.at(theta, part)
    begun, damping = value, torch.full_like(value, _DAMPING)
    floor = 1e-5 * torch.where(error.y2[part] > 0, error.y2[part], 1.0)
    for _ in range(n_steps):
        diagonal = curvature.diagonal(dim1=1, dim2=2) + floor[:, None]
        step = torch.linalg.solve(curvature + torch.diag_embed(damping[:, None] * diagonal), gradient[:, :, None])
        tried = (theta - step[:, :, 0].clamp(-_LONGEST_STEP, _LONGEST_STEP)).clamp(_LEAST, _MOST)
        new, slope, bend = error.at(tried, part)
        better = new < value
        theta, value = torch.where(better[:, None], tried, theta), torch.where(better, new, value)
        gradient = torch.where(better[:, None], slope, gradient)
        curvature = torch.where(better[:, None, None], bend, curvature)
        damping = damping * torch.where(better, _EASED, _TIGHTENED)
    return theta, begun.cpu().numpy(), value.cpu().numpy()
