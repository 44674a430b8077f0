# SPDX-License-Identifier: Apache-2.0
"""Fractional ridge regression (Rokem & Kay 2020): alpha is set by how much it shortens the weights.

For a fraction f, alpha is where ``|w(alpha)| = f |w(0)|`` with w(0) the minimum-norm least-squares weights. In the basis
of the design's singular vectors ``|w(alpha)|^2 = sum_i L_i b_i^2 / (L_i + alpha)^2``, with L the squared singular values
and b the response along the left vectors. So one decomposition serves all fractions and targets; the root is found for
all of them at once, to rounding, where fracridge interpolates between alphas on a grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.designs import Device, Problem
from voxelboard.benchmark.encoding.ridge import DEFAULT_TARGET_BLOCK, check_arguments, sort_by_fold
from voxelboard.benchmark.encoding.selection import (
    InnerStatistics,
    Scope,
    Selection,
    choose_alpha,
    inner_statistics,
)
from voxelboard.benchmark.encoding.streaming import Responses, TargetStream
from voxelboard.benchmark.errors import InvalidNumbers, UserError

_GRID_POINTS = 64  # of the bracket of each root; Newton then needs 3 to 5 steps
_NEWTON_STEPS = 8
_RELATIVE_TOLERANCE = 1e-10


@dataclass(frozen=True, eq=False)
class FractionalFit:
    """What :func:`fit_fractional` found. Arrays are numpy, on the host.

    Attributes
    ----------
    fraction_index, fractions : (n_targets,) index into the given fractions, and the fraction.
    alphas : (n_targets,) the absolute alpha of the final fit; 0 is least squares.
    test_predictions : (n_test, n_targets) float32.
    inner : statistics of the left-out folds at fold-held-out fractions, (n_folds, n_targets) each.
    cv_scores : (n_targets,) as :attr:`RidgeFit.cv_scores`.
    """

    fraction_index: NDArray[np.intp]
    fractions: NDArray[np.float64]
    alphas: NDArray[np.float64]
    test_predictions: NDArray[np.float32]
    inner: InnerStatistics
    cv_scores: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Spectrum:
    """A design in the basis of its singular vectors, null directions dropped. float64.

    Attributes
    ----------
    values : (rank,) squared singular values L.
    left : (n_train, rank) left singular vectors U.
    scores : (n_test, rank) test rows along the right singular vectors.
    """

    values: torch.Tensor
    left: torch.Tensor
    scores: torch.Tensor


def decompose(problem: Problem) -> Spectrum:
    """The spectrum of a problem of either form."""
    primal = problem.form == "primal"
    train, test = problem.train.double(), problem.test.double()
    values, vectors = torch.linalg.eigh(train.T @ train if primal else train)
    largest = float(values[-1].clamp_min(0)) if len(values) else 0.0
    kept = values > largest * len(values) * torch.finfo(torch.float64).eps
    values, vectors = values[kept], vectors[:, kept]
    if primal:
        return Spectrum(values, (train @ vectors) / values.sqrt(), test @ vectors)
    return Spectrum(values, vectors, (test @ vectors) / values.sqrt())


def alphas_of_fractions(values: torch.Tensor, b: torch.Tensor, fractions: torch.Tensor) -> torch.Tensor:
    """(n_fractions, n_targets) the alpha at which the weights have the asked share of their least-squares length.

    Parameters
    ----------
    values : (rank,) squared singular values, positive; b : (rank, n_targets) responses along the left vectors.
    fractions : (n_fractions,) in (0, 1]; 1 gives 0. A target without any projection on the design gives 0.
    """
    if len(values) == 0:
        return b.new_zeros(len(fractions), b.shape[1])
    power = b**2
    lengths = (power / values[:, None]).sum(0)
    goals = fractions[:, None] ** 2 * lengths  # of |w|^2
    edges = torch.logspace(-6, 6, _GRID_POINTS, dtype=values.dtype, device=values.device)
    low, high = float(values.min()), float(values.max())
    smallest = fractions.min().clamp_min(1e-12)
    # |w| <= |w(0)| L_max / (L_max + alpha): beyond L_max / f no fraction f is left
    grid = torch.cat([values.new_zeros(1), low * 1e-6 * (high / (low * 1e-6 * smallest)) ** ((edges.log10() + 6) / 12)])
    squared = (values / (values + grid[:, None]) ** 2) @ power  # (n_grid, n_targets), falls with alpha
    alphas = torch.empty_like(goals)
    for i, goal in enumerate(goals):
        # the last grid point that is still longer than asked: from the left Newton on 1/|w| rises monotonically
        start = grid[((squared >= goal).sum(0) - 1).clamp_min(0)]
        alphas[i] = _newton(values, power, goal, start)
    alphas[fractions == 1] = 0
    return torch.where(lengths > 0, alphas, torch.zeros_like(alphas))


def _newton(values: torch.Tensor, power: torch.Tensor, goal: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """Root of 1 / |w(alpha)| = 1 / sqrt(goal) (the secular equation, Moré & Sorensen 1983), per target.

    A target that has arrived stays, so that its root does not depend on the targets beside it.
    """
    moving = torch.ones_like(goal, dtype=torch.bool)
    for _ in range(_NEWTON_STEPS):
        inverse = 1 / (values[:, None] + alpha)
        weighted = values[:, None] * power * inverse**2
        squared = weighted.sum(0)
        slope = (weighted * inverse).sum(0)  # minus half the derivative of |w|^2
        ratio = torch.sqrt(squared / goal.clamp_min(torch.finfo(goal.dtype).tiny))
        step = squared / slope.clamp_min(torch.finfo(goal.dtype).tiny) * (ratio - 1)
        alpha = torch.where(moving, (alpha + step).clamp_min(0), alpha)
        moving &= step.abs() > _RELATIVE_TOLERANCE * alpha
        if not bool(moving.any()):
            break
    return alpha


def fit_fractional(
    problem: Problem,
    responses: Responses,
    folds: NDArray[np.integer],
    fractions: Sequence[float],
    *,
    selection: Selection = "squared_error",
    scope: Scope = "target",
    device: Device = None,
    target_block: int | None = None,
) -> FractionalFit:
    """Fit every target by fractional ridge regression, its fraction chosen by left-out folds.

    Parameters
    ----------
    fractions : in (0, 1]; each is the length of the weights relative to least squares.

    The other parameters and errors are those of :func:`fit_ridge`. One decomposition per fold and one of all rows.
    """
    shares = np.asarray(fractions, dtype=np.float64)
    outside = ~((shares > 0) & (shares <= 1))
    if shares.ndim != 1 or len(shares) == 0 or outside.any():
        raise UserError(
            f"fractions {shares.tolist()}" + (f", of them {shares[outside].tolist()} outside" if outside.any() else ""),
            "give one or more numbers above 0, up to 1: no ridge has longer weights than least squares (a published grid ends at 1.05)",
        )
    check_arguments(problem, responses, folds, [1.0], None, scope)
    where = problem.train.device if device is None else torch.device(device)
    problem = problem.to(where)
    order, slices, _ = sort_by_fold(folds)
    stream = TargetStream(responses, order, where, target_block or DEFAULT_TARGET_BLOCK)
    c, q, y2 = _fold_sums(problem, order, slices, stream, shares, centred=selection == "correlation")
    # ties go to the smaller fraction, as they go to the larger alpha in fit_ridge
    choice = choose_alpha(c, q, y2, 1 / shares, selection, scope, problem.n_train)
    predictions = np.empty((problem.n_test, stream.n_targets), dtype=np.float32)
    alphas = np.empty(stream.n_targets)
    index = torch.as_tensor(order, device=where)
    full = decompose(_subset(problem, index, None))
    for targets, block in stream.all_targets():
        b = full.left.T @ block.double()
        own = np.zeros(block.shape[1], dtype=np.intp)
        own[: len(targets)] = choice.index[targets]
        of_each = alphas_of_fractions(full.values, b, torch.as_tensor(shares, device=where))
        alpha = of_each.gather(0, torch.as_tensor(own, device=where)[None])[0]
        predictions[:, targets] = _predict(full, b, alpha)[:, : len(targets)].cpu().numpy()
        alphas[targets] = alpha[: len(targets)].cpu().numpy()
    inner = inner_statistics(c, q, y2, choice.held_out)
    return FractionalFit(choice.index, shares[choice.index], alphas, predictions, inner, choice.scores)


def _subset(problem: Problem, train: torch.Tensor, test: torch.Tensor | None) -> Problem:
    """Training rows ``train``; test rows are training rows ``test``, or the problem's own."""
    columns = slice(None) if problem.form == "primal" else train
    kept = problem.train[train][:, columns]
    tested = problem.test[:, columns] if test is None else problem.train[test][:, columns]
    return Problem(problem.form, kept, tested, problem.test_norms, problem.n_columns)


def _predict(spectrum: Spectrum, b: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """(n_test, n_targets) float32."""
    values = spectrum.values[:, None]
    rotated = values.sqrt() * b / (values + alpha)
    found: torch.Tensor = spectrum.scores.float() @ rotated.float()
    if not bool(torch.isfinite(found).all()):
        raise InvalidNumbers("the fractional ridge solution is not finite; the design's scale may overflow")
    return found


def _fold_sums(
    problem: Problem,
    order: NDArray[np.intp],
    slices: list[slice],
    stream: TargetStream,
    shares: NDArray[np.float64],
    *,
    centred: bool,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
    """c, q (n_fractions, n_folds, n_targets) and y2 (n_folds, n_targets) of the left-out folds."""
    fractions = torch.as_tensor(shares, device=stream.device)
    c = np.empty((len(shares), len(slices), stream.n_targets), dtype=np.float32)
    q, y2 = np.empty_like(c), np.empty(c.shape[1:])
    index = torch.as_tensor(order, device=stream.device)
    for f, rows in enumerate(slices):
        others = torch.cat([index[: rows.start], index[rows.stop :]])
        spectrum = decompose(_subset(problem, others, index[rows]))
        left = spectrum.left.T.contiguous()
        for targets, block in stream.all_targets():
            b = (
                left[:, : rows.start] @ block[: rows.start].double()
                + left[:, rows.start :] @ block[rows.stop :].double()
            )
            y = block[rows] - (block[rows].mean(0) if centred else 0)
            part = slice(int(targets[0]), int(targets[-1]) + 1)
            y2[f, part] = (y.double() ** 2).sum(0)[: len(targets)].cpu().numpy()
            for i, alpha in enumerate(alphas_of_fractions(spectrum.values, b, fractions)):
                p = _predict(spectrum, b, alpha)
                p = p - p.mean(0) if centred else p
                c[i, f, part] = (p * y).sum(0)[: len(targets)].cpu().numpy()
                q[i, f, part] = (p * p).sum(0)[: len(targets)].cpu().numpy()
    return c, q, y2
