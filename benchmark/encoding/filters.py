# SPDX-License-Identifier: Apache-2.0
"""DCT high-pass filter of the rows of a segment: the same projection for design and responses."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxelboard.benchmark.errors import UserError

FloatArray = NDArray[np.float64]


def high_pass_basis(n_trs: int, tr: float, cutoff_s: float) -> FloatArray:
    """Orthonormal cosines of what the filter removes: the constant and every period of ``cutoff_s`` or longer.

    Cosine ``j`` of the DCT-II has the period ``2 * n_trs * tr / j`` seconds, so ``j`` runs from 0 (the constant) to
    ``floor(2 * n_trs * tr / cutoff_s)``. An infinite cutoff removes the mean alone.

    Returns
    -------
    (n_trs, n_cosines) float64, ``basis.T @ basis`` is the identity.

    Raises
    ------
    UserError
        for a TR or a cutoff that is not positive, and where the filter would leave nothing.
    """
    if n_trs < 1 or not (tr > 0 and math.isfinite(tr)) or not cutoff_s > 0:
        raise UserError(f"cannot filter {n_trs} rows with TR {tr} s and cutoff {cutoff_s} s; all must be positive")
    n_cosines = 1 + math.floor(2 * n_trs * tr / cutoff_s)
    if n_cosines >= n_trs:
        raise UserError(
            f"a {cutoff_s} s high-pass takes {n_cosines} cosines from {n_trs} rows of {tr} s and leaves nothing",
            "use longer segments, trim less, or raise the cutoff above four TRs",
        )
    phase = np.pi * (np.arange(n_trs) + 0.5) / n_trs
    basis = np.cos(np.outer(phase, np.arange(n_cosines))) * math.sqrt(2 / n_trs)
    basis[:, 0] = math.sqrt(1 / n_trs)
    return np.asarray(basis, dtype=np.float64)


def high_pass(y: ArrayLike, tr: float, cutoff_s: float) -> FloatArray:
    """Remove the constant and all slow cosines from each column.

    Parameters
    ----------
    y : (n_trs, n_columns), any real dtype; one segment, already trimmed.
    tr, cutoff_s : seconds.

    Returns
    -------
    (n_trs, n_columns) float64 with mean zero.
    """
    values = np.asarray(y, dtype=np.float64)
    # without its mean a large offset does not cost digits in the projection
    values = values - values.mean(axis=0)
    basis = high_pass_basis(len(values), tr, cutoff_s)
    filtered: FloatArray = values - basis @ (basis.T @ values)
    return filtered


def trim_and_high_pass(y: ArrayLike, start: int, stop: int, *, trim: int, tr: float, cutoff_s: float) -> FloatArray:
    """Rows ``start + trim`` to ``stop - trim - 1`` of a run, then :func:`high_pass`. Trimming comes first.

    Parameters
    ----------
    y : (n_trs, n_columns), the whole run.

    Returns
    -------
    (stop - start - 2 * trim, n_columns) float64.
    """
    values = np.asarray(y)
    if not 0 <= start < stop <= len(values) or trim < 0 or stop - start <= 2 * trim:
        raise UserError(f"rows {start}:{stop} trimmed by {trim} at both ends do not lie in a run of {len(values)} rows")
    return high_pass(values[start + trim : stop - trim], tr, cutoff_s)
