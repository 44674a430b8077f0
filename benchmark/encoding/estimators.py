# SPDX-License-Identifier: Apache-2.0
"""The encoders behind scikit-learn's conventions, for use without the harness.

>>> model = StoryRidgeCV().fit(X, Y, groups=stories)  # doctest: +SKIP
>>> r2 = model.score(X_test, Y_test)  # doctest: +SKIP

``groups`` is the story (or run) of each row. Whole stories are left out to choose hyperparameters: shuffled rows of a
slow signal lie next to their own neighbours and make everything look predictable (statistics.md E).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from voxelboard.benchmark.encoding.banded import BandedProblem, dirichlet_gammas, refit_bands, search_bands
from voxelboard.benchmark.encoding.designs import Device, Problem, primal_problem
from voxelboard.benchmark.encoding.fractional import fit_fractional
from voxelboard.benchmark.encoding.ridge import fit_ridge
from voxelboard.benchmark.encoding.selection import Scope, Selection
from voxelboard.benchmark.errors import InvalidNumbers, UserError

FloatArray = NDArray[np.floating]

RELATIVE_ALPHAS: tuple[float, ...] = tuple(10.0 ** (-3 + 7 * i / 9) for i in range(10))
FRACTIONS: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def story_folds(groups: ArrayLike, n_folds: int) -> NDArray[np.intp]:
    """(n_trs,) fold of each row: whole stories, dealt to the folds in the order in which they appear.

    Fewer stories than ``n_folds`` are left out one by one; one story alone is refused.
    """
    values, first, story = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    if len(values) < 2 or n_folds < 2:
        raise UserError(
            f"{len(values)} stories and {n_folds} folds; 2 or more of both are needed to choose hyperparameters",
            "pass groups=, the story of each row; cut a single story into long segments",
        )
    rank = np.empty(len(values), dtype=np.intp)
    rank[np.argsort(first)] = np.arange(len(values))
    return np.asarray(rank[story] % n_folds, dtype=np.intp)


def _check_real(*tables: Any) -> None:
    """Refuse what numpy would turn into something else: sparse matrices and complex numbers."""
    for table in tables:
        if issparse(table) or np.iscomplexobj(table):
            kind = "sparse" if issparse(table) else "complex"
            raise UserError(f"{kind} input, expected dense arrays of real numbers", "pass X.toarray(), or X.real")


class _StoryModel(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # sklearn publishes no types
    """Centring, folds, prediction and score; subclasses fit ``coef_``."""

    n_folds: int
    fit_intercept: bool
    coef_: FloatArray
    X_offset_: FloatArray
    Y_offset_: FloatArray

    def predict(self, X: ArrayLike) -> FloatArray:
        """(n_trs, n_targets) float32, or (n_trs,) when fitted on one target without an axis."""
        check_is_fitted(self)
        _check_real(X)
        design = np.asarray(X, dtype=np.float64)
        if design.ndim != 2 or design.shape[1] != self.n_features_in_:
            raise UserError(f"X has shape {design.shape}, expected (n_trs, n_features={self.n_features_in_})")
        predicted = ((design - self.X_offset_) @ self.coef_ + self.Y_offset_).astype(np.float32)
        return predicted[:, 0] if self.one_target_ else predicted

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: None = None) -> FloatArray:
        """(n_targets,) R^2 of each target (not their mean: voxels are not averaged unseen); 0 for a constant target."""
        if sample_weight is not None:
            raise UserError("sample weights are not supported")
        truth = np.asarray(y, dtype=np.float64)
        error = ((truth - self.predict(X)) ** 2).sum(axis=0)
        power = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
        return np.asarray(1 - np.divide(error, power, out=np.ones_like(error), where=power > 0))

    def _prepare(
        self, X: ArrayLike, Y: ArrayLike, groups: ArrayLike | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.intp]]:
        """Centred X and Y and the folds. Means are those of all training rows, also inside the folds."""
        _check_real(X, Y)
        design, targets = np.asarray(X, dtype=np.float64), np.asarray(Y)
        if groups is None:
            raise UserError("groups is missing", "pass groups=, the story of each row: whole stories are left out")
        if design.ndim != 2 or targets.ndim not in {1, 2} or not len(design) == len(targets) == len(np.asarray(groups)):
            raise UserError(
                f"X, Y and groups have shapes {design.shape}, {targets.shape} and {np.shape(groups)}, expected "
                "(n_trs, n_features), (n_trs, n_targets) and (n_trs,)"
            )
        self.one_target_ = targets.ndim == 1
        targets = targets.reshape(len(targets), -1)
        self.n_features_in_ = design.shape[1]
        if not np.isfinite(design).all():
            raise InvalidNumbers("X has NaN or infinite values")
        self.X_offset_ = design.mean(axis=0) if self.fit_intercept else np.zeros(design.shape[1])
        offset = targets.mean(axis=0, dtype=np.float64) if self.fit_intercept else np.zeros(targets.shape[1])
        self.Y_offset_ = offset
        return design - self.X_offset_, (targets - offset).astype(np.float32), story_folds(groups, self.n_folds)


def _problem(design: NDArray[np.float64], device: Device) -> Problem:
    """In the smaller form; its test rows are the unit vectors of the features, so predictions of them are weights."""
    n_trs, n_features = design.shape
    if 2 * n_features <= n_trs:
        return primal_problem(design, np.eye(n_features), device)
    rows = torch.as_tensor(design, device=device)
    return Problem("dual", rows @ rows.T, rows.T.contiguous(), torch.ones(n_features, device=device), n_features)


class StoryRidgeCV(_StoryModel):
    """Ridge regression, one alpha per target chosen by leaving whole stories out.

    Parameters
    ----------
    relative_alphas : positive, in units of trace(X X') / n_trs.
    n_folds : of whole stories.
    selection : "squared_error" or "correlation".
    scope : "target", "global", or (n_targets,) labels of targets that share an alpha.
    fit_intercept : subtract the training means of X and Y.
    device, target_block : where to compute; how many targets at a time.

    Attributes
    ----------
    coef_ : (n_features, n_targets) float32.
    alphas_ : (n_targets,) absolute; alpha_grid_ (n_alphas,).
    cv_scores_ : (n_targets,) at the chosen alpha: minus the mean squared error, or the mean fold correlation.
    inner_ : statistics of the left-out folds, :class:`InnerStatistics`.
    notes_ : what was solved in another way than asked.
    """

    def __init__(
        self,
        relative_alphas: Sequence[float] = RELATIVE_ALPHAS,
        *,
        n_folds: int = 5,
        selection: Selection = "squared_error",
        scope: Scope = "target",
        fit_intercept: bool = True,
        device: Device = None,
        target_block: int | None = None,
    ) -> None:
        self.relative_alphas = relative_alphas
        self.n_folds = n_folds
        self.selection = selection
        self.scope = scope
        self.fit_intercept = fit_intercept
        self.device = device
        self.target_block = target_block

    def fit(self, X: ArrayLike, Y: ArrayLike, groups: ArrayLike | None = None) -> "StoryRidgeCV":
        """Fit (n_trs, n_features) to (n_trs, n_targets); ``groups`` (n_trs,) is the story of each row."""
        design, targets, folds = self._prepare(X, Y, groups)
        found = fit_ridge(
            _problem(design, self.device),
            targets,
            folds,
            self.relative_alphas,
            selection=self.selection,
            scope=self.scope,
            target_block=self.target_block,
        )
        self.coef_ = found.test_predictions
        self.alphas_, self.alpha_grid_ = found.alphas, found.alpha_grid
        self.cv_scores_, self.inner_, self.notes_ = found.cv_scores, found.inner, found.notes
        return self


class BandedRidgeCV(_StoryModel):
    """Banded ridge regression: a weight per feature space and an alpha per target, by random search.

    Parameters
    ----------
    bands : name -> columns of X, disjoint; columns in no band are not used.
    gammas : number of Dirichlet draws, or (n_draws, n_bands) weights.
    seed : of the draws.

    The others are those of :class:`StoryRidgeCV`. Each band is normalised to trace(X_b X_b') / n_trs = 1.

    Attributes
    ----------
    coef_ : (n_features, n_targets) float32, of the columns of X as given.
    gammas_ : (n_targets, n_bands) weights in use; alphas_ (n_targets,).
    cv_scores_ : (n_draws, n_targets); search_ : the :class:`BandedSearch`.
    """

    def __init__(
        self,
        bands: Mapping[str, Sequence[int]],
        *,
        gammas: int | NDArray[np.float64] = 100,
        relative_alphas: Sequence[float] = RELATIVE_ALPHAS,
        n_folds: int = 5,
        selection: Selection = "squared_error",
        fit_intercept: bool = True,
        seed: int = 0,
        device: Device = None,
    ) -> None:
        self.bands = bands
        self.gammas = gammas
        self.relative_alphas = relative_alphas
        self.n_folds = n_folds
        self.selection = selection
        self.fit_intercept = fit_intercept
        self.seed = seed
        self.device = device

    def fit(self, X: ArrayLike, Y: ArrayLike, groups: ArrayLike | None = None) -> "BandedRidgeCV":
        """As :meth:`StoryRidgeCV.fit`."""
        design, targets, folds = self._prepare(X, Y, groups)
        problem = self._banded(torch.as_tensor(design, device=self.device))
        gammas = self.gammas
        if isinstance(gammas, int):
            gammas = dirichlet_gammas(gammas, len(self.bands), self.seed)
        search = search_bands(problem, targets, folds, gammas, self.relative_alphas, selection=self.selection)
        found = refit_bands(problem, targets, search)
        self.coef_ = found.total
        self.gammas_, self.alphas_ = found.gammas, found.alphas
        self.cv_scores_, self.search_, self.notes_ = search.cv_scores, search, search.notes
        return self

    def _banded(self, design: torch.Tensor) -> BandedProblem:
        columns = [list(band) for band in self.bands.values()]
        flat = [j for band in columns for j in band]
        if not flat or len(set(flat)) != len(flat) or not all(0 <= j < design.shape[1] for j in flat):
            raise UserError(f"bands must be disjoint columns of X, 0 to {design.shape[1] - 1}, at least one")
        grams, crosses = [], []
        for band in columns:
            rows = design[:, band]
            unit = float((rows**2).sum()) / len(rows)
            unit = unit if unit > 0 else 1.0
            cross = design.new_zeros(design.shape[1], len(design))
            cross[band] = rows.T / unit
            grams.append(rows @ rows.T / unit)
            crosses.append(cross)
        return BandedProblem(tuple(self.bands), torch.stack(grams), torch.stack(crosses))


class FractionalRidgeCV(_StoryModel):
    """Fractional ridge regression (Rokem & Kay 2020), one fraction per target chosen by leaving whole stories out.

    Parameters
    ----------
    fractions : in (0, 1]: length of the weights relative to least squares.

    The others are those of :class:`StoryRidgeCV`.

    Attributes
    ----------
    coef_ : (n_features, n_targets) float32.
    fractions_, alphas_ : (n_targets,); cv_scores_ (n_targets,).
    """

    def __init__(
        self,
        fractions: Sequence[float] = FRACTIONS,
        *,
        n_folds: int = 5,
        selection: Selection = "squared_error",
        scope: Scope = "target",
        fit_intercept: bool = True,
        device: Device = None,
    ) -> None:
        self.fractions = fractions
        self.n_folds = n_folds
        self.selection = selection
        self.scope = scope
        self.fit_intercept = fit_intercept
        self.device = device

    def fit(self, X: ArrayLike, Y: ArrayLike, groups: ArrayLike | None = None) -> "FractionalRidgeCV":
        """As :meth:`StoryRidgeCV.fit`."""
        design, targets, folds = self._prepare(X, Y, groups)
        problem = _problem(design, self.device)
        found = fit_fractional(problem, targets, folds, self.fractions, selection=self.selection, scope=self.scope)
        self.coef_ = found.test_predictions
        self.fractions_, self.alphas_, self.cv_scores_ = found.fractions, found.alphas, found.cv_scores
        return self
