# SPDX-License-Identifier: Apache-2.0
"""What a design holds beyond the confounds: cross-fitted residuals and the projection of predictions.

The semi-partial method of statistics.md 2.3 (variant V2): training rows are residualised by a confound ridge of the
*other* folds, test rows by that of all training rows, residuals are not rescaled, and predictions of test rows are
projected off the test rows' confounds. Each step is a linear map of rows, so Grams are residualised as Grams.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.designs import Problem
from voxelboard.benchmark.encoding.ridge import sort_by_fold
from voxelboard.benchmark.errors import InvalidNumbers, UserError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Residualised:
    """A problem without its confounds.

    Attributes
    ----------
    problem : in the form of the original one; the same rows, the same number of columns.
    relative_lambda : chosen for the confound ridge, in units of trace(C'C) / n_confounds.
    cross_fitted_error : (n_lambdas,) squared error over all columns and left-out rows, as a share of their power.
    sd_ratio : sd of the test residuals over that of the training residuals, pooled over columns (the alarm of F6:
        outside [.9, 1.15] the confound model extrapolates). NaN without test rows or without residual power.
    """

    problem: Problem
    relative_lambda: float
    cross_fitted_error: FloatArray
    sd_ratio: float


def residualise(
    problem: Problem,
    confounds_train: FloatArray,
    confounds_test: FloatArray,
    folds: NDArray[np.integer],
    relative_lambdas: Sequence[float],
) -> Residualised:
    """Take what the confounds predict out of a design, in either form, with the same result.

    Parameters
    ----------
    problem : design of the model, from the same segments as the confounds.
    confounds_train, confounds_test : (n_train, n_confounds), (n_test, n_confounds) design rows, filtered like the
        model's (:meth:`SegmentedDesign.rows`).
    folds : (n_train,) fold of each row: the folds of the cross-fitting, whole stories.
    relative_lambdas : in units of trace(C'C) / n_confounds, which is n_train for standardised columns. One is chosen
        for all columns of the design, by the squared error of left-out folds.

    Raises
    ------
    UserError
        for shapes that do not fit, fewer than two folds, or lambdas that are not positive.
    InvalidNumbers
        for NaN or infinite values in the confounds.
    """
    device = problem.train.device
    train, test = (torch.as_tensor(x, dtype=torch.float64, device=device) for x in (confounds_train, confounds_test))
    _check(problem, train, test, folds, relative_lambdas)
    order, slices, _ = sort_by_fold(folds)
    rows = [torch.as_tensor(order[part], device=device) for part in slices]
    power = float((train**2).sum()) / max(1, train.shape[1])
    lambdas = [value * (power if power > 0 else 1.0) for value in relative_lambdas]
    errors = _cross_fitted_errors(problem, train, rows, lambdas)
    best = int(np.argmin(errors))
    if problem.form == "primal":
        residual = _residual_primal(problem, train, test, rows, lambdas[best])
    else:
        residual = _residual_dual(problem, train, test, rows, lambdas[best])
    total = problem.mean_row_power * problem.n_train
    return Residualised(residual, relative_lambdas[best], errors / (total if total > 0 else 1.0), sd_ratio(residual))


def sd_ratio(problem: Problem) -> float:
    """Pooled sd of the test rows over that of the training rows; NaN where either has no row or no power."""
    power = problem.mean_row_power
    if problem.n_test == 0 or power <= 0:
        return float("nan")
    return float(torch.sqrt(problem.test_norms.double().clamp_min(0).mean() / power))


def confound_basis(
    confounds: FloatArray, segment_lengths: Sequence[int], max_share: float, tolerance: float = 1e-6
) -> FloatArray:
    """Orthonormal columns that span the strongest directions of the test confounds and their derivatives.

    Parameters
    ----------
    confounds : (n_test, n_confounds) of the test rows, HRF-convolved or delayed, filtered like the predictions.
    segment_lengths : rows of each test segment; derivatives (central differences, per TR) do not cross segments.
    max_share : bound on columns per test row. With more, the projection would eat the predictions themselves.
    tolerance : directions below this share of the largest singular value are rounding.

    Returns
    -------
    (n_test, n_basis) float64, ``n_basis <= max_share * n_test``; no column when the confounds are constant.
    """
    values = np.asarray(confounds, dtype=np.float64)
    if values.ndim != 2 or sum(segment_lengths) != len(values):
        raise UserError(f"confounds have shape {values.shape}, segments have {list(segment_lengths)} rows")
    if not 0 < max_share < 1:
        raise UserError(f"max_share is {max_share}; allowed: between 0 and 1")
    if not np.isfinite(values).all():
        raise InvalidNumbers("the test confounds have NaN or infinite values")
    ends = np.cumsum(segment_lengths)
    parts = np.split(values, ends[:-1])
    slopes = [np.gradient(part, axis=0) if len(part) > 1 else np.zeros_like(part) for part in parts]
    columns = np.concatenate([values, np.concatenate(slopes)], axis=1)
    size = np.sqrt((columns**2).mean(axis=0))
    columns = columns[:, size > 1e-8 * size.max(initial=0.0)] / size[size > 1e-8 * size.max(initial=0.0)]
    left, singular, _ = np.linalg.svd(columns, full_matrices=False)
    n_basis = min(int(max_share * len(values)), int((singular > tolerance * singular.max(initial=0.0)).sum()))
    return np.ascontiguousarray(left[:, :n_basis])


def project_out(predictions: NDArray[np.floating], basis: FloatArray) -> NDArray[np.float32]:
    """(I - basis basis') predictions, (n_test, n_targets) float32: what the confounds of the test rows cannot carry.

    ``basis`` is (n_test, n_basis) with orthonormal columns, from :func:`confound_basis`.
    """
    if len(predictions) != len(basis):
        raise UserError(f"{len(predictions)} rows of predictions but {len(basis)} rows of confounds")
    out = np.empty(predictions.shape, dtype=np.float32)
    for first in range(0, predictions.shape[1], 4096):  # the float64 copy of a block, not of all targets
        block = np.asarray(predictions[:, first : first + 4096], dtype=np.float64)
        out[:, first : first + 4096] = block - basis @ (basis.T @ block)
    return out


def _check(
    problem: Problem, train: torch.Tensor, test: torch.Tensor, folds: NDArray[np.integer], lambdas: Sequence[float]
) -> None:
    if train.ndim != 2 or len(train) != problem.n_train or tuple(test.shape) != (problem.n_test, train.shape[1]):
        raise UserError(
            f"confounds have shapes {tuple(train.shape)} and {tuple(test.shape)}, expected "
            f"(n_train={problem.n_train}, n_confounds) and (n_test={problem.n_test}, n_confounds)"
        )
    if np.shape(folds) != (problem.n_train,) or len(np.unique(folds)) < 2:
        raise UserError("cross-fitting needs one fold id per training row and two or more folds")
    if len(lambdas) == 0 or not all(0 < value < float("inf") for value in lambdas):
        raise UserError(f"lambdas {list(lambdas)}; expected one or more positive finite numbers")
    if not bool(torch.isfinite(train).all() and torch.isfinite(test).all()):
        raise InvalidNumbers("the confounds have NaN or infinite values")


def _solver(gram: torch.Tensor, penalty: float) -> torch.Tensor:
    """Lower Cholesky factor of gram + penalty I; penalties are a fixed share of its trace, so it exists."""
    shifted = gram.clone()
    shifted.diagonal().add_(penalty)
    factor: torch.Tensor
    factor, info = torch.linalg.cholesky_ex(shifted)
    if int(info) != 0:
        raise InvalidNumbers(f"the confound ridge has no solution at lambda {penalty:g}; raise the smallest lambda")
    return factor


def _cross_fitted_errors(
    problem: Problem, confounds: torch.Tensor, rows: list[torch.Tensor], lambdas: list[float]
) -> FloatArray:
    """(n_lambdas,) sum over folds of ||M_f - C_f W_f||^2, from C'M (primal) or C'K and C'KC (dual) of the others."""
    errors = np.zeros(len(lambdas))
    gram = confounds.T @ confounds
    products = confounds.T @ problem.train.double()  # C'M or C'K
    for mine in rows:
        c = confounds[mine]
        gram_f = c.T @ c
        products_f = products - c.T @ problem.train[mine].double()
        for i, penalty in enumerate(lambdas):
            factor = _solver(gram - gram_f, penalty)
            if problem.form == "primal":
                residual = problem.train[mine].double() - c @ torch.cholesky_solve(products_f, factor)
                errors[i] += float((residual**2).sum())
                continue
            others = confounds.clone()
            others[mine] = 0
            smoother = torch.cholesky_solve(c.T, factor).T  # C_f S^-1
            own = torch.diagonal(problem.train)[mine].double().sum()
            crossed = (smoother * products_f[:, mine].T).sum()
            fitted = ((smoother @ (products_f @ others)) * smoother).sum()
            errors[i] += float(own - 2 * crossed + fitted)
    return errors


def _residual_primal(
    problem: Problem, train: torch.Tensor, test: torch.Tensor, rows: list[torch.Tensor], penalty: float
) -> Problem:
    design = problem.train.double()
    residual = _cross_fit(design, train, rows, penalty)
    weights = torch.cholesky_solve(train.T @ design, _solver(train.T @ train, penalty))
    tested = problem.test.double() - test @ weights
    return Problem("primal", residual, tested, (tested**2).sum(1), problem.n_columns)


def _residual_dual(
    problem: Problem, train: torch.Tensor, test: torch.Tensor, rows: list[torch.Tensor], penalty: float
) -> Problem:
    """A K A' and (K_test - B K) A', A = I - cross-fitted smoother, B = C_test (C'C + lambda)^-1 C'."""
    gram, cross = problem.train.double(), problem.test.double()
    half = _cross_fit(gram, train, rows, penalty)
    residual = _cross_fit(half.T, train, rows, penalty)
    smoother = torch.cholesky_solve(test.T, _solver(train.T @ train, penalty)).T  # (n_test, n_confounds)
    fitted = smoother @ (train.T @ gram)
    tested = _cross_fit((cross - fitted).T, train, rows, penalty).T
    crossed = (smoother * (cross @ train)).sum(1)
    norms = problem.test_norms.double() - 2 * crossed + (smoother * (fitted @ train)).sum(1)
    return Problem("dual", residual, tested.contiguous(), norms, problem.n_columns)


def _cross_fit(values: torch.Tensor, confounds: torch.Tensor, rows: list[torch.Tensor], penalty: float) -> torch.Tensor:
    """A @ values: each fold's rows minus the prediction by a ridge on the other folds' rows."""
    gram, products = confounds.T @ confounds, confounds.T @ values
    residual = values.clone(memory_format=torch.contiguous_format)
    for mine in rows:
        c = confounds[mine]
        factor = _solver(gram - c.T @ c, penalty)
        residual[mine] -= c @ torch.cholesky_solve(products - c.T @ values[mine], factor)
    return residual
