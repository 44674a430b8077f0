# SPDX-License-Identifier: Apache-2.0
"""The guard in front of every surrogate test: drifting series are refused.

No permutation rescues non-stationary data: a position ramp against slow drift gives false-positive rates of .19-.42
under block permutation, circular shift and phase randomisation alike; after a 120-s high-pass .052-.062 (A2).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import InvalidNumbers
from voxelboard.benchmark.statistics.scores import FloatArray

# A white series has 2 tr / cut-off of its power below the cut-off (.033 at TR 2 s and 120 s), filtered ones have 0, or
# up to .015 when they were trimmed after the filter (measured: 5 TRs at both ends of 120 and 250).
MAX_LOW_FREQUENCY_SHARE = 0.02
_VOXEL_CHUNK = 2048


def drift_basis(n_trs: int, tr: float, cutoff_s: float) -> FloatArray:
    """(n_trs, n_cosines) orthonormal DCT-II regressors with periods above ``cutoff_s`` seconds, without the constant."""
    order = int(np.floor(2 * n_trs * tr / cutoff_s))
    phase = np.pi * (np.arange(n_trs)[:, None] + 0.5) * np.arange(1, order + 1) / n_trs
    basis: FloatArray = np.sqrt(2 / n_trs) * np.cos(phase)
    return basis


def low_frequency_share(
    series: NDArray[Any], tr: float, *, cutoff_s: float = 120.0, segments: NDArray[np.int64] | None = None
) -> float:
    """Share of the summed variance of all columns that lies below the high-pass cut-off.

    Parameters
    ----------
    series : (n_trs, n_voxels); each segment is centred.
    tr : seconds.
    segments : (n_trs,) segment of each TR.
    """
    labels = np.zeros(len(series), dtype=np.int64) if segments is None else segments
    slow = total = 0.0
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        basis = drift_basis(len(rows), tr, cutoff_s)
        for start in range(0, series.shape[1], _VOXEL_CHUNK):
            part = np.asarray(series[rows, start : start + _VOXEL_CHUNK], dtype=np.float64)
            part = part - part.mean(axis=0)
            slow += float(((basis.T @ part) ** 2).sum())
            total += float((part**2).sum())
    return slow / total if total > 0 else 0.0


def require_detrended(
    name: str,
    series: NDArray[Any],
    tr: float,
    *,
    cutoff_s: float = 120.0,
    segments: NDArray[np.int64] | None = None,
) -> None:
    """Raise InvalidNumbers when ``series`` (n_trs, n_voxels) still has power below the cut-off."""
    share = low_frequency_share(series, tr, cutoff_s=cutoff_s, segments=segments)
    if share > MAX_LOW_FREQUENCY_SHARE:
        raise InvalidNumbers(
            f"{name}: {100 * share:.1f} % of the variance has periods above {cutoff_s:g} s (at most "
            f"{100 * MAX_LOW_FREQUENCY_SHARE:g} % is allowed); surrogate tests are not valid on drifting series: "
            "high-pass predictions and responses first"
        )
