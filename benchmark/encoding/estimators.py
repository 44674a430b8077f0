# SPDX-License-Identifier: Apache-2.0
"""The encoders behind scikit-learn's conventions, for use without the harness.

>>> model = StoryRidgeCV().fit(X, Y, groups=stories)  # doctest: +SKIP
>>> r2 = model.score(X_test, Y_test)  # doctest: +SKIP

``groups`` is the story (or run) of each row. Whole stories are left out to choose hyperparameters: shuffled rows of a
slow signal lie next to their own neighbours and make everything look predictable (statistics.md E). Where no groups can
be passed (a pipeline, ``cross_val_score``), ``segments`` cuts the rows into so many contiguous pieces instead.

Inputs are checked as scikit-learn does, feature names included; what is wrong raises :class:`InvalidInput`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from voxelboard.benchmark.encoding.banded import BandedProblem, dirichlet_gammas, refit_bands, search_bands
from voxelboard.benchmark.encoding.designs import Device, Problem, primal_problem
from voxelboard.benchmark.encoding.fractional import fit_fractional
from voxelboard.benchmark.encoding.ridge import fit_ridge
from voxelboard.benchmark.encoding.selection import Scope, Selection
from voxelboard.benchmark.errors import InvalidInput

FloatArray = NDArray[np.floating]

RELATIVE_ALPHAS: tuple[float, ...] = tuple(10.0 ** (-3 + 7 * i / 9) for i in range(10))
FRACTIONS: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def story_folds(groups: ArrayLike, n_folds: int) -> NDArray[np.intp]:
    """(n_trs,) fold of each row: whole stories, dealt to the folds in the order in which they appear.

    Fewer stories than ``n_folds`` are left out one by one; one story alone is refused.
    """
    values, first, story = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    if len(values) < 2 or n_folds < 2:
        raise InvalidInput(
            f"{len(values)} stories and {n_folds} folds; 2 or more of both are needed to choose hyperparameters",
            "pass groups=, the story of each row; cut a single story into long segments",
        )
    rank = np.empty(len(values), dtype=np.intp)
    rank[np.argsort(first)] = np.arange(len(values))
    return np.asarray(rank[story] % n_folds, dtype=np.intp)


@contextmanager
def _as_invalid_input(*tables: Any) -> Iterator[None]:
    """What scikit-learn's checks of the tables find wrong, as an error of ours that is a ValueError still."""
    if any(issparse(table) for table in tables):
        raise InvalidInput("sparse input, expected dense arrays of real numbers", "pass X.toarray()")
    try:
        yield
    except ValueError as error:
        raise InvalidInput(str(error).rstrip()) from error


class _StoryModel(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # sklearn publishes no types
    """Centring, folds, prediction and score; subclasses fit ``coef_``."""

    n_folds: int
    segments: int | None
    fit_intercept: bool
    coef_: FloatArray
    X_offset_: FloatArray
    Y_offset_: FloatArray

    def __sklearn_tags__(self) -> Any:
        """Dense, real and finite X; one target or many."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def predict(self, X: ArrayLike) -> FloatArray:
        """(n_trs, n_targets) float64, float32 for such an X; (n_trs,) when fitted on one target without an axis."""
        check_is_fitted(self)
        with _as_invalid_input(X):
            design = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        found = (design - self.X_offset_) @ self.coef_ + self.Y_offset_
        predicted: FloatArray = found.astype(design.dtype, copy=False)
        return predicted[:, 0] if self.one_target_ else predicted

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: None = None) -> Any:
        """R^2 of each target, (n_targets,) float64 (not their mean: voxels are not averaged unseen); 0 for a constant one.

        A number when fitted on one target without an axis. For cross_val_score of many targets pass ``scoring="r2"``.
        """
        if sample_weight is not None:
            raise InvalidInput("sample weights are not supported")
        predicted = self.predict(X)
        truth = np.asarray(y, dtype=np.float64)
        if truth.shape != predicted.shape:
            raise InvalidInput(f"y has shape {truth.shape}, expected {predicted.shape}, that of the predictions")
        error = ((truth - predicted) ** 2).sum(axis=0)
        power = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
        scores = np.asarray(1 - np.divide(error, power, out=np.ones_like(error), where=power > 0))
        return float(scores) if self.one_target_ else scores

    def _prepare(
        self, X: ArrayLike, Y: ArrayLike, groups: ArrayLike | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.intp]]:
        """Centred X and Y and the folds. Means are those of all training rows, also inside the folds."""
        if Y is None:
            raise InvalidInput(f"{type(self).__name__} requires y to be passed, but the target y is None")
        with _as_invalid_input(X, Y):
            design = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
            targets = check_array(Y, dtype="numeric", ensure_2d=False, input_name="y")
        if targets.ndim > 2 or len(targets) != len(design):
            raise InvalidInput(
                f"X and Y have shapes {design.shape} and {targets.shape}, expected (n_trs, n_features) and "
                "(n_trs, n_targets) or (n_trs,)"
            )
        folds = self._folds(len(design), groups)
        self.one_target_ = targets.ndim == 1
        targets = targets.reshape(len(targets), -1)
        self.X_offset_ = design.mean(axis=0) if self.fit_intercept else np.zeros(design.shape[1])
        offset = targets.mean(axis=0, dtype=np.float64) if self.fit_intercept else np.zeros(targets.shape[1])
        self.Y_offset_ = offset
        return design - self.X_offset_, (targets - offset).astype(np.float32), folds

    def _folds(self, n_trs: int, groups: ArrayLike | None) -> NDArray[np.intp]:
        """(n_trs,) fold of each row."""
        if groups is None and self.segments is None:
            raise InvalidInput(
                "groups is missing",
                "pass groups=, the story of each row: whole stories are left out; or segments=10 to the constructor, which "
                "cuts the rows into contiguous pieces",
            )
        stories = np.arange(n_trs) * int(self.segments or 1) // n_trs if groups is None else np.asarray(groups)
        if stories.shape != (n_trs,):
            raise InvalidInput(f"groups have shape {stories.shape}, expected ({n_trs},): one story for each row of X")
        return story_folds(stories, self.n_folds)


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
    segments : where ``fit`` gets no groups, contiguous pieces of rows that count as stories; None refuses to guess.
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
        segments: int | None = None,
        selection: Selection = "squared_error",
        scope: Scope = "target",
        fit_intercept: bool = True,
        device: Device = None,
        target_block: int | None = None,
    ) -> None:
        self.relative_alphas = relative_alphas
        self.n_folds = n_folds
        self.segments = segments
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
    bands : name -> columns of X or a slice of them, disjoint; columns in no band are not used.
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
        bands: Mapping[str, Sequence[int] | slice],
        *,
        gammas: int | NDArray[np.float64] = 100,
        relative_alphas: Sequence[float] = RELATIVE_ALPHAS,
        n_folds: int = 5,
        segments: int | None = None,
        selection: Selection = "squared_error",
        fit_intercept: bool = True,
        seed: int = 0,
        device: Device = None,
    ) -> None:
        self.bands = bands
        self.gammas = gammas
        self.relative_alphas = relative_alphas
        self.n_folds = n_folds
        self.segments = segments
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
        n_features = design.shape[1]
        bands = self.bands.values()
        columns = [list(range(n_features)[band]) if isinstance(band, slice) else list(band) for band in bands]
        flat = [j for band in columns for j in band]
        if not flat or len(set(flat)) != len(flat) or not all(0 <= j < n_features for j in flat):
            raise InvalidInput(
                f"bands must be disjoint columns of X, 0 to n_features - 1 = {n_features - 1}, at least one"
            )
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
        segments: int | None = None,
        selection: Selection = "squared_error",
        scope: Scope = "target",
        fit_intercept: bool = True,
        device: Device = None,
    ) -> None:
        self.fractions = fractions
        self.n_folds = n_folds
        self.segments = segments
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
