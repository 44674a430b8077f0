# SPDX-License-Identifier: Apache-2.0
"""Take one property out of a representation and keep the rest: cross-validated residuals (Oota et al. 2023).

States are predicted from the property's labels by ridge, fold by fold from the other folds, and what is predicted is
subtracted. All of it is computed from sums over the rows of each fold, which are gone through once. What is returned are the residuals (the source's script saved the labels instead). A probe then tells whether a
linear reader can still find the property.
"""

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from voxelboard.benchmark.errors import InvalidNumbers, UserError

FloatArray = NDArray[np.float64]

# The grid of the source, in units of the labels' mean square times rows.
RELATIVE_LAMBDAS = tuple(10.0**k for k in range(-6, 10))
_CONSTANT = 1e-10  # a label that varies less, as a share of its mean square, does not


class Removed(NamedTuple):
    """What is left of a representation.

    residuals : (n_rows, n_features) float32.
    share : of the variance of the states that the property explained in left-out folds, over all features.
    """

    residuals: NDArray[np.float32]
    share: float


def remove_property(
    states: NDArray[np.floating],
    labels: NDArray[np.floating],
    folds: NDArray[np.integer],
    relative_lambdas: Sequence[float] = RELATIVE_LAMBDAS,
) -> Removed:
    """States without what a linear map of the labels says of them.

    Parameters
    ----------
    states : (n_rows, n_features), words or TRs.
    labels : (n_rows, n_labels), numbers or one-hot; standardised here with the rows of the other folds.
    folds : (n_rows,) fold of each row, contiguous blocks or whole stories.
    relative_lambdas : one is chosen for each feature, by the squared error of the folds that are not left out.

    Raises
    ------
    UserError
        for shapes that do not fit and fewer than three folds.
    InvalidNumbers
        for NaN or infinite values.
    """
    x = np.asarray(labels, dtype=np.float64)
    x = x[:, None] if x.ndim == 1 else x
    y = np.asarray(states, dtype=np.float64)
    numbers = np.unique(folds)
    if y.ndim != 2 or len(x) != len(y) or np.shape(folds) != (len(y),) or len(numbers) < 3:
        raise UserError(
            f"states {np.shape(states)}, labels {np.shape(labels)}, {len(numbers)} folds",
            "give (n_rows, n_features), (n_rows, n_labels) and a fold for each row, three folds or more",
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InvalidNumbers("states or labels have NaN or infinite values")
    parts = _moments_by_fold(x, y, folds)
    whole = _total(parts.values())
    residuals: NDArray[np.float32] = np.empty(y.shape, dtype=np.float32)
    explained = total = 0.0
    for fold, left_out in parts.items():
        test = folds == fold
        others = [part for number, part in parts.items() if number != fold]
        ridge = _Ridge(whole.without(left_out))
        residuals[test] = y[test] - ridge.predict(x[test], _choose(others, relative_lambdas))
        spread = float(((y[test] - ridge.mean) ** 2).sum())
        total += spread
        explained += spread - float((residuals[test].astype(np.float64) ** 2).sum())
    return Removed(residuals, explained / total if total > 0 else 0.0)


class PropertyMap:
    """What a linear map of labels says of states, fit once, to take it from rows that it never saw."""

    def __init__(
        self,
        states: NDArray[np.floating],
        labels: NDArray[np.floating],
        folds: NDArray[np.integer],
        relative_lambdas: Sequence[float] = RELATIVE_LAMBDAS,
    ) -> None:
        """Parameters as in :func:`remove_property`: the rows that are fit."""
        x, y = np.asarray(labels, dtype=np.float64), np.asarray(states, dtype=np.float64)
        parts = list(_moments_by_fold(x, y, folds).values())
        self._ridge = _Ridge(_total(parts))
        self._lambdas = _choose(parts, relative_lambdas)

    def residuals(self, states: NDArray[np.floating], labels: NDArray[np.floating]) -> NDArray[np.float32]:
        """(n_rows, n_features) float32 new rows without what their labels (n_rows, n_labels) say of them."""
        said = self._ridge.predict(np.asarray(labels, dtype=np.float64), self._lambdas)
        left: NDArray[np.float32] = (states - said).astype(np.float32)
        return left


class _Moments(NamedTuple):
    """Sums over rows of labels x and states y, both minus ``x_origin`` and ``y_origin``: all that a ridge and its errors need.

    n : rows. x, y : (n_labels,), (n_features,). xx, xy : (n_labels, n_labels), (n_labels, n_features). yy : (n_features,).
    """

    n: int
    x: FloatArray
    y: FloatArray
    xx: FloatArray
    xy: FloatArray
    yy: FloatArray
    x_origin: FloatArray
    y_origin: FloatArray

    def with_rows(self, other: "_Moments", sign: int = 1) -> "_Moments":
        """Of these rows and the others, or (-1) of these without the others."""
        return _Moments(
            self.n + sign * other.n,
            self.x + sign * other.x,
            self.y + sign * other.y,
            self.xx + sign * other.xx,
            self.xy + sign * other.xy,
            self.yy + sign * other.yy,
            self.x_origin,
            self.y_origin,
        )

    def without(self, other: "_Moments") -> "_Moments":
        """Of these rows without the others, which are among them."""
        return self.with_rows(other, -1)


def _moments(x: FloatArray, y: FloatArray, x_origin: FloatArray, y_origin: FloatArray) -> _Moments:
    x, y = x - x_origin, y - y_origin
    return _Moments(len(x), x.sum(axis=0), y.sum(axis=0), x.T @ x, x.T @ y, (y * y).sum(axis=0), x_origin, y_origin)


def _moments_by_fold(x: FloatArray, y: FloatArray, folds: NDArray[np.integer]) -> dict[int, _Moments]:
    """Fold -> moments about the means of all rows, so that little is lost where sums of squares are subtracted."""
    origins = x.mean(axis=0), y.mean(axis=0)
    return {int(fold): _moments(x[folds == fold], y[folds == fold], *origins) for fold in np.unique(folds)}


def _total(parts: Iterable[_Moments]) -> _Moments:
    return reduce(_Moments.with_rows, parts)


def _choose(parts: Sequence[_Moments], lambdas: Sequence[float]) -> FloatArray:
    """(n_features,) the lambda of the least squared error over left-out folds."""
    whole = _total(parts)
    errors = np.zeros((len(lambdas), len(whole.y)))
    for part in parts:
        ridge = _Ridge(whole.without(part))
        errors += [ridge.squared_error(part, value) for value in lambdas]
    chosen: FloatArray = np.asarray(lambdas, dtype=np.float64)[errors.argmin(axis=0)]
    return chosen


class _Ridge:
    """Ridge with an intercept, a lambda for each feature; through the eigenvectors of the few labels.

    mean : (n_features,) of the states.
    """

    def __init__(self, of: _Moments) -> None:
        centre, square = of.x / of.n, np.diag(of.xx) / of.n
        variance = square - centre**2
        self._keep = variance > _CONSTANT * square
        self._origin = of.x_origin
        self._centre = centre[self._keep]
        self._scale: FloatArray = np.sqrt(variance[self._keep])
        self._offset = of.y / of.n
        self.mean: FloatArray = of.y_origin + self._offset
        self._n = of.n
        gram = (of.xx[np.ix_(self._keep, self._keep)] - of.n * np.outer(self._centre, self._centre)) / np.outer(
            self._scale, self._scale
        )
        cross = (of.xy[self._keep] - of.n * np.outer(self._centre, self._offset)) / self._scale[:, None]
        values, vectors = np.linalg.eigh(gram) if self._keep.any() else (np.zeros(0), np.zeros((0, 0)))
        self._vectors: FloatArray = vectors
        self._values = np.maximum(values, 0.0)[:, None]
        self._moments = self._vectors.T @ cross

    def _weights(self, lambdas: FloatArray | float) -> FloatArray:
        """(n_kept, n_features) of labels that are not standardised."""
        weights: FloatArray = self._vectors @ (self._moments / (self._values + lambdas * self._n))
        return weights / self._scale[:, None]

    def predict(self, x: FloatArray, lambdas: FloatArray) -> FloatArray:
        """Predictions of the rows of ``x``, each column at its penalty."""
        centred = (x - self._origin)[:, self._keep] - self._centre
        predicted: FloatArray = self.mean + centred @ self._weights(lambdas)
        return predicted

    def squared_error(self, of: _Moments, value: float) -> FloatArray:
        """(n_features,) sum over the rows of the moments, all columns at one penalty."""
        weights = self._weights(value)
        constant = self._offset - self._centre @ weights
        said = of.x[self._keep] @ weights
        square = (weights * (of.xx[np.ix_(self._keep, self._keep)] @ weights)).sum(axis=0)
        with_states = constant * of.y + (weights * of.xy[self._keep]).sum(axis=0)
        error: FloatArray = of.yy - 2 * with_states + of.n * constant**2 + 2 * constant * said + square
        return error


def _fitted(x: FloatArray, y: FloatArray) -> _Ridge:
    return _Ridge(_moments(x, y, x.mean(axis=0), y.mean(axis=0)))


def probe_hits(
    states: NDArray[np.floating],
    classes: NDArray[np.integer],
    new_states: NDArray[np.floating],
    new_classes: NDArray[np.integer],
    relative_lambda: float = 1e-2,
) -> NDArray[np.bool_]:
    """(n_new,) whether a linear probe finds the class of new rows, trained on the given ones (ridge to one-hot classes).

    Parameters
    ----------
    states, classes : (n_rows, n_features), (n_rows,). new_states, new_classes : (n_new, n_features), (n_new,).
    """
    names, index = np.unique(classes, return_inverse=True)
    x = np.asarray(states, dtype=np.float64)
    centre, scale = x.mean(axis=0), x.std(axis=0)
    scale[scale == 0] = 1.0
    ridge = Ridge(alpha=relative_lambda * len(x)).fit((x - centre) / scale, np.eye(len(names))[index])
    found: NDArray[np.bool_] = names[
        ridge.predict((new_states - centre) / scale).reshape(len(new_states), -1).argmax(1)
    ] == (new_classes)
    return found


def probe_accuracy(
    states: NDArray[np.floating],
    classes: NDArray[np.integer],
    folds: NDArray[np.integer],
    relative_lambda: float = 1e-2,
) -> float:
    """Share of rows whose class a linear probe finds, trained on the other folds (ridge to one-hot classes).

    Parameters
    ----------
    states : (n_rows, n_features). classes : (n_rows,). folds : (n_rows,).
    """
    names, index = np.unique(classes, return_inverse=True)
    targets = np.eye(len(names))[index]
    hits = 0
    for fold in np.unique(folds):
        test = folds == fold
        power = np.full(len(names), relative_lambda)
        x = np.asarray(states, dtype=np.float64)
        hits += int((_fitted(x[~test], targets[~test]).predict(x[test], power).argmax(axis=1) == index[test]).sum())
    return hits / len(index)


def chance_accuracy(classes: NDArray[np.integer]) -> float:
    """What a probe reaches that always says the most frequent class."""
    return float(np.unique(classes, return_counts=True)[1].max() / len(classes))
