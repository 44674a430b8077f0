# SPDX-License-Identifier: Apache-2.0
"""Take one property out of a representation and keep the rest: cross-validated residuals (Oota et al. 2023).

States are predicted from the property's labels by ridge, fold by fold from the other folds, and what is predicted is
subtracted. What is returned are the residuals (the source's script saved the labels instead). A probe then tells whether a
linear reader can still find the property.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from voxelboard.benchmark.errors import InvalidNumbers, UserError

FloatArray = NDArray[np.float64]

# The grid of the source, in units of the labels' mean square times rows.
RELATIVE_LAMBDAS = tuple(10.0**k for k in range(-6, 10))


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
    residuals: NDArray[np.float32] = np.empty(y.shape, dtype=np.float32)
    explained = total = 0.0
    for fold in numbers:
        test = folds == fold
        others = folds[~test]
        lambdas = _choose(x[~test], y[~test], others, relative_lambdas)
        predicted = _predict(x[~test], y[~test], x[test], lambdas)
        mean = y[~test].mean(axis=0)
        residuals[test] = y[test] - predicted
        total += float(((y[test] - mean) ** 2).sum())
        explained += float(((y[test] - mean) ** 2).sum() - (residuals[test].astype(np.float64) ** 2).sum())
    return Removed(residuals, explained / total if total > 0 else 0.0)


def remove_from_new(
    states: NDArray[np.floating],
    labels: NDArray[np.floating],
    folds: NDArray[np.integer],
    new_states: NDArray[np.floating],
    new_labels: NDArray[np.floating],
    relative_lambdas: Sequence[float] = RELATIVE_LAMBDAS,
) -> NDArray[np.float32]:
    """(n_new, n_features) new rows without what the map of the given rows says of them: the map is never fit to new rows.

    Parameters
    ----------
    states, labels, folds : of the rows that are fit, as in :func:`remove_property`.
    new_states, new_labels : (n_new, n_features), (n_new, n_labels).
    """
    x, y = np.asarray(labels, dtype=np.float64), np.asarray(states, dtype=np.float64)
    lambdas = _choose(x, y, folds, relative_lambdas)
    left: NDArray[np.float32] = (new_states - _predict(x, y, np.asarray(new_labels, dtype=np.float64), lambdas)).astype(
        np.float32
    )
    return left


def _choose(x: FloatArray, y: FloatArray, folds: NDArray[np.integer], lambdas: Sequence[float]) -> FloatArray:
    """(n_features,) the lambda of the least squared error over left-out folds."""
    errors = np.zeros((len(lambdas), y.shape[1]))
    for fold in np.unique(folds):
        test = folds == fold
        ridge = _Ridge(x[~test], y[~test])
        for k, value in enumerate(lambdas):
            errors[k] += ((y[test] - ridge.predict(x[test], np.full(y.shape[1], value))) ** 2).sum(axis=0)
    chosen: FloatArray = np.asarray(lambdas, dtype=np.float64)[errors.argmin(axis=0)]
    return chosen


class _Ridge:
    """Ridge with an intercept, a lambda for each feature; through the eigenvectors of the few labels."""

    def __init__(self, x: FloatArray, y: FloatArray) -> None:
        self._centre, scale = x.mean(axis=0), x.std(axis=0)
        self._keep = scale > 1e-12 * np.abs(x).max(initial=1.0)
        self._scale = scale
        self._mean = y.mean(axis=0)
        self._n = len(x)
        z = self._standardised(x)
        values, vectors = np.linalg.eigh(z.T @ z) if self._keep.any() else (np.zeros(0), np.zeros((0, 0)))
        self._vectors: FloatArray = vectors
        self._values = np.maximum(values, 0.0)[:, None]
        self._moments = self._vectors.T @ (z.T @ (y - self._mean))

    def _standardised(self, x: FloatArray) -> FloatArray:
        standardised: FloatArray = (x[:, self._keep] - self._centre[self._keep]) / self._scale[self._keep]
        return standardised

    def predict(self, x: FloatArray, lambdas: FloatArray) -> FloatArray:
        """Predictions of the rows of ``x``, each column at its penalty."""
        weights = self._vectors @ (self._moments / (self._values + lambdas * self._n))
        predicted: FloatArray = self._mean + self._standardised(x) @ weights
        return predicted


def _predict(x: FloatArray, y: FloatArray, x_test: FloatArray, lambdas: FloatArray) -> FloatArray:
    return _Ridge(x, y).predict(x_test, lambdas)


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
        hits += int((_predict(x[~test], targets[~test], x[test], power).argmax(axis=1) == index[test]).sum())
    return hits / len(index)


def chance_accuracy(classes: NDArray[np.integer]) -> float:
    """What a probe reaches that always says the most frequent class."""
    return float(np.unique(classes, return_counts=True)[1].max() / len(classes))
