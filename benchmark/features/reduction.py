# SPDX-License-Identifier: Apache-2.0
"""Fewer columns, and fewer delays: projections fitted on training rows alone, and delays that are averaged.

Both commute with each other and with the filter, because all are linear; the order here is scale, project, delay.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import UserError

FloatArray = NDArray[np.float64]
Method = Literal["none", "pca", "srp"]

_SEED = 42  # of sklearn's solvers; Nakagi et al. 2024 use the same


@dataclass(frozen=True)
class Reduction:
    """How a feature space is made narrower.

    Attributes
    ----------
    method : none, pca (principal components of the training rows), or srp (sparse random projection).
    n_components : of the PCA; a space that is not wider stays as it is.
    eps : distortion of distances that the random projection may have (Johnson-Lindenstrauss), which sets its width.
    """

    method: Method = "none"
    n_components: int = 1280
    eps: float = 0.1

    def __post_init__(self) -> None:
        if self.n_components < 1 or not 0 < self.eps < 1:
            raise UserError(f"{self.n_components} components, eps {self.eps}; allowed: 1 or more, between 0 and 1")


@dataclass(frozen=True, eq=False)
class Projector:
    """A linear map of features, fitted on training rows: ``(x - centre) @ axes``; the identity without axes."""

    centre: FloatArray | None
    axes: NDArray[np.floating] | None

    def __call__(self, features: NDArray[np.floating]) -> NDArray[np.floating]:
        """(n_rows, n_components) of (n_rows, n_features)."""
        if self.axes is None:
            return features
        centred = features if self.centre is None else features - self.centre
        projected: NDArray[np.floating] = centred @ self.axes
        return projected


def fit_projector(train: NDArray[np.floating], reduction: Reduction) -> Projector:
    """Fit a projector on training rows; rows of the test set never enter.

    Memory: sklearn's solvers hold a copy of ``train`` (n_train, n_features) in its precision.

    Parameters
    ----------
    train : (n_train, n_features).
    """
    n_train, n_features = train.shape
    if reduction.method == "none":
        return Projector(None, None)
    if reduction.method == "pca":
        k = min(reduction.n_components, n_train)
        if n_features <= k:
            return Projector(None, None)
        from sklearn.decomposition import PCA

        fitted = PCA(n_components=k, random_state=_SEED).fit(train)
        return Projector(np.asarray(fitted.mean_, dtype=np.float64), np.asarray(fitted.components_.T))
    from sklearn.random_projection import SparseRandomProjection, johnson_lindenstrauss_min_dim

    width = int(johnson_lindenstrauss_min_dim(n_train, eps=reduction.eps))
    if n_features <= width:
        return Projector(None, None)
    projection = SparseRandomProjection(n_components=width, random_state=_SEED).fit(train)
    return Projector(None, np.asarray(projection.components_.T.toarray()))


def average_delays(features: NDArray[np.floating], delays: Sequence[int]) -> NDArray[np.floating]:
    """Mean over shifts of the features, zeros before the start: row t is the mean of rows t - d.

    The delay model of Nakagi et al. 2024: one weight a feature, where FIR delays (``SegmentedDesign.delays``) have one
    for each delay.

    Parameters
    ----------
    features : (n_trs, n_features) of one run.
    delays : TRs, 0 or more.
    """
    if not delays or min(delays) < 0:
        raise UserError(f"delays {tuple(delays)}; expected one or more, none negative")
    shifted = np.zeros(features.shape, dtype=np.result_type(features.dtype, np.float32))
    for delay in delays:
        shifted[delay:] += features[: max(0, len(features) - delay)]
    mean: NDArray[np.floating] = shifted / len(delays)
    return mean


def delays_in_trs(seconds: Sequence[float], tr: float) -> tuple[int, ...]:
    """Delays in whole TRs; raises UserError for one that is none."""
    trs = [second / tr for second in seconds]
    if any(abs(value - round(value)) > 1e-6 for value in trs):
        raise UserError(f"delays of {list(seconds)} s are not whole TRs of {tr} s")
    return tuple(round(value) for value in trs)


def scale_features(
    features: Mapping[str, NDArray[np.floating]], inverse_scales: FloatArray
) -> dict[str, NDArray[np.floating]]:
    """Run -> (n_trs, n_kept) the features that are not constant, in units of their training sd."""
    keep = np.flatnonzero(inverse_scales)
    return {name: table[:, keep] * inverse_scales[keep].astype(table.dtype) for name, table in features.items()}
