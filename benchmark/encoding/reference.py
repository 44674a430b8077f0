# SPDX-License-Identifier: Apache-2.0
"""The same fit by himalaya: reference of the parity tests, and fallback.

himalaya chooses alpha with its own search, refits and predicts; only the sums per left-out fold are recorded here, by
the score function that it calls. Its eigendecompositions run in float64, its backend is global and restored.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.designs import Device, Problem
from voxelboard.benchmark.encoding.ridge import RidgeFit, absolute_alphas, check_arguments, fit_ridge
from voxelboard.benchmark.encoding.selection import (
    Scope,
    Selection,
    correlation,
    fold_gains,
    held_out_alphas,
    inner_statistics,
    target_groups,
)
from voxelboard.benchmark.encoding.streaming import Responses
from voxelboard.benchmark.errors import InvalidNumbers


@contextmanager
def himalaya_backend(name: str = "torch") -> Iterator[Any]:
    """The only owner of himalaya's global backend; the one from before comes back, also after an error."""
    from himalaya.backend import get_backend, set_backend

    before = get_backend()
    try:
        yield set_backend(name)
    finally:
        set_backend(before)


class _Recorder:
    """himalaya's score function, which also keeps the sums of each (alpha, target) of each call."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.sums: list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]] = []

    def __call__(self, y: torch.Tensor, predictions: torch.Tensor) -> torch.Tensor:
        if self.selection == "correlation":
            y, predictions = y - y.mean(0), predictions - predictions.mean(-2, keepdim=True)
        c, q = (predictions * y).sum(-2), (predictions**2).sum(-2)
        y2 = (y**2).sum(0).expand_as(c)
        self.sums.append((c.numpy(), q.numpy(), y2.numpy()))
        if self.selection == "correlation":
            return torch.as_tensor(correlation(c.numpy(), q.numpy(), y2.numpy()))
        return 2 * c - q - y2  # minus the summed squared error: folds count by their rows

    def stacked(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """c, q (n_alphas, n_folds, n_targets), y2 (n_folds, n_targets); himalaya calls once per fold."""
        c, q, y2 = (np.stack([sums[i] for sums in self.sums], axis=1) for i in range(3))
        return c, q, y2[0]


def fit_ridge_himalaya(
    problem: Problem,
    responses: Responses,
    folds: NDArray[np.integer],
    relative_alphas: Sequence[float],
    *,
    selection: Selection = "squared_error",
    scope: Scope = "target",
    device: Device = None,
    target_block: int | None = None,
    weights: bool = False,
) -> RidgeFit:
    """:func:`fit_ridge` by himalaya, on the CPU, float64. Parameters, result and errors are the same.

    ``device`` and ``target_block`` are accepted and not used: all predictions of one left-out fold are in memory.
    """
    del device, target_block
    check_arguments(problem, responses, folds, relative_alphas, None, scope)
    grid = absolute_alphas(problem, relative_alphas)
    y = torch.as_tensor(np.asarray(responses, dtype=np.float64)).clone()
    if not bool(torch.isfinite(y).all()):
        bad = int((~torch.isfinite(y).all(0)).nonzero()[0])
        raise InvalidNumbers(f"target {bad} has NaN or infinite responses; leave it out of the mask")
    groups = target_groups(scope, y.shape[1]) or [np.arange(y.shape[1])]
    own_alpha = isinstance(scope, str) and scope == "target"
    parts = [_fit_group(problem, y[:, members], folds, grid, selection, own_alpha) for members in groups]
    where = np.concatenate(groups)
    alphas, c, q, y2, found = (_scatter([part[i] for part in parts], where) for i in range(5))
    index = np.abs(np.log(alphas[None] / grid[:, None])).argmin(axis=0)
    gains = fold_gains(c, q, y2, selection)
    total = np.take_along_axis(gains.sum(axis=1), index[None], axis=0)[0]
    cross = problem.test.double().cpu().numpy()
    return RidgeFit(
        alpha_index=index,
        alphas=grid[index],
        alpha_grid=grid,
        test_predictions=(cross @ found).astype(np.float32),
        inner=inner_statistics(c, q, y2, held_out_alphas(gains, grid, scope)),
        fold_ids=np.unique(folds).astype(np.intp),
        cv_scores=total / (gains.shape[1] if selection == "correlation" else problem.n_train),
        weights=found.astype(np.float32) if weights else None,
    )


def _fit_group(
    problem: Problem,
    y: torch.Tensor,
    folds: NDArray[np.integer],
    grid: NDArray[np.float64],
    selection: Selection,
    own_alpha: bool,
) -> tuple[NDArray[np.float64], ...]:
    """Alphas (n,), c, q, y2 and weights (n_train or n_columns, n) of targets that share an alpha, or have their own."""
    from himalaya.kernel_ridge import solve_kernel_ridge_cv_eigenvalues
    from himalaya.ridge import solve_ridge_cv_svd
    from sklearn.model_selection import PredefinedSplit

    record = _Recorder(selection)
    solver: Callable[..., Any] = solve_kernel_ridge_cv_eigenvalues if problem.form == "dual" else solve_ridge_cv_svd
    extra = {} if problem.form == "dual" else {"warn": False}
    fold_numbers = np.unique(folds, return_inverse=True)[1]
    with himalaya_backend():
        alphas, found, _ = solver(
            problem.train.double().cpu(),
            y,
            alphas=torch.as_tensor(grid),
            score_func=record,
            cv=PredefinedSplit(fold_numbers),
            local_alpha=own_alpha,
            **extra,
        )
    return (np.asarray(alphas), *record.stacked(), np.asarray(found))


def _scatter(parts: list[NDArray[np.float64]], where: NDArray[np.intp]) -> NDArray[np.float64]:
    """Results of groups of targets, last axis, back in the order of the targets."""
    joined = np.concatenate(parts, axis=-1)
    out = np.empty_like(joined)
    out[..., where] = joined
    return out


SOLVERS: dict[str, Callable[..., RidgeFit]] = {"shared": fit_ridge, "himalaya": fit_ridge_himalaya}
