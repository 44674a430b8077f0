# SPDX-License-Identifier: Apache-2.0
"""What every surrogate test keeps of its null distributions, gathered a few voxels at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import InvalidNumbers
from voxelboard.benchmark.statistics.detrending import require_detrended
from voxelboard.benchmark.statistics.scores import CONSTANT_PREDICTION, FloatArray
from voxelboard.benchmark.statistics.tails import gamma_tail, gaussian_tail

IntArray = NDArray[np.int64]
Progress = Callable[[int, int], None]  # (voxels done, voxels in all)
# For a slice of voxels: the observed statistics (n_voxels,) and the null's draws, some rows (k, n_voxels) at a time.
NullSource = Callable[[slice], tuple[FloatArray, Iterator[NDArray[Any]]]]

MEMORY_BYTES = 64 * 2**20  # working arrays of one chunk of voxels
# Draws may be float32 sums: an identity draw must count as reaching the observed value.
TIE = 1e-6


@dataclass(frozen=True, eq=False)
class NullTest:
    """Observed correlations and what is kept of their null distributions.

    Attributes
    ----------
    observed : (n_voxels,).
    exceedances : (n_voxels,) draws that reach the observed value.
    n_draws : draws in all.
    mean, sd, skew : (n_voxels,) moments of the null.
    maxima : (n_draws,) greatest null correlation over voxels.
    method : in words, with its parameters.
    """

    observed: FloatArray
    exceedances: IntArray
    n_draws: int
    mean: FloatArray
    sd: FloatArray
    skew: FloatArray
    maxima: FloatArray
    method: str

    @cached_property
    def p(self) -> FloatArray:
        """(n_voxels,) one-sided ``(1 + exceedances) / (1 + draws)`` (Phipson & Smyth 2010): never 0."""
        p: FloatArray = (1 + self.exceedances) / (1 + self.n_draws)
        return p

    @cached_property
    def p_family_wise(self) -> FloatArray:
        """(n_voxels,) p corrected over voxels by the distribution of the maximum (Nichols & Holmes 2002)."""
        ordered = np.sort(self.maxima)
        reached = self.n_draws - np.searchsorted(ordered, self.observed - TIE, side="left")
        p: FloatArray = (1 + reached) / (1 + self.n_draws)
        return p

    @cached_property
    def gaussian_p(self) -> FloatArray:
        """(n_voxels,) p from a Gaussian fitted to each voxel's null."""
        return gaussian_tail(self.observed, self.mean, self.sd)

    @cached_property
    def gamma_p(self) -> FloatArray:
        """(n_voxels,) p from a Pearson type III law fitted to each voxel's null."""
        return gamma_tail(self.observed, self.mean, self.sd, self.skew)


def stream_nulls(
    source: NullSource, n_voxels: int, n_draws: int, *, chunk: int, method: str, progress: Progress | None = None
) -> NullTest:
    """Run through all voxels, ``chunk`` at a time, and keep what a :class:`NullTest` holds."""
    observed = np.empty(n_voxels)
    exceedances = np.zeros(n_voxels, dtype=np.int64)
    powers = np.zeros((3, n_voxels))
    maxima = np.full(n_draws, -np.inf)
    for start in range(0, n_voxels, chunk):
        here = slice(start, min(start + chunk, n_voxels))
        observed[here], nulls = source(here)
        done = 0
        for null in nulls:
            rows = slice(done, done + len(null))
            exceedances[here] += (null >= (observed[here] - TIE).astype(null.dtype)).sum(axis=0)
            maxima[rows] = np.maximum(maxima[rows], null.max(axis=1))
            squares = null * null
            powers[0, here] += null.sum(axis=0, dtype=np.float64)
            powers[1, here] += squares.sum(axis=0, dtype=np.float64)
            powers[2, here] += (squares * null).sum(axis=0, dtype=np.float64)
            done += len(null)
        if progress is not None:
            progress(here.stop, n_voxels)
    mean, second, third = powers / n_draws
    sd = np.sqrt(np.maximum(second - mean**2, 0.0))
    sd = np.where(sd > TIE, sd, 0.0)
    central = third - 3 * mean * second + 2 * mean**3
    skew = np.where(sd > 0, central / np.where(sd > 0, sd, 1.0) ** 3, 0.0)
    return NullTest(observed, exceedances, n_draws, mean, sd, skew, maxima, method)


def correlation_source(
    predictions: NDArray[Any],
    responses: NDArray[Any],
    nulls: Callable[[FloatArray, FloatArray], Iterator[NDArray[Any]]],
) -> NullSource:
    """Observed correlations, and ``nulls`` of series (n_trs, n_voxels) of unit norm."""

    def source(here: slice) -> tuple[FloatArray, Iterator[NDArray[Any]]]:
        p, y = unit_norm(predictions[:, here]), unit_norm(responses[:, here])
        return np.einsum("tv,tv->v", p, y), nulls(p, y)

    return source


def unit_norm(series: NDArray[Any]) -> FloatArray:
    """Columns of ``series`` (n_trs, n_voxels) centred and of unit norm; constant columns become 0."""
    values = np.asarray(series, dtype=np.float64)
    values = values - values.mean(axis=0)
    power = (values**2).sum(axis=0)
    moving = power > CONSTANT_PREDICTION
    scaled: FloatArray = np.where(moving, values / np.sqrt(np.where(moving, power, 1.0)), 0.0)
    return scaled


def check_series(predictions: NDArray[Any], responses: NDArray[Any], tr: float, segments: IntArray | None) -> None:
    """Refuse series that no surrogate test is valid for.

    Raises
    ------
    InvalidNumbers
        for values that are not finite and for series that were not high-pass filtered.
    """
    if predictions.ndim != 2 or predictions.shape != responses.shape:
        raise ValueError(f"shapes {predictions.shape} and {responses.shape}; expected twice (n_trs, n_voxels)")
    if segments is not None and segments.shape != predictions.shape[:1]:
        raise ValueError(f"segments {segments.shape} for {len(predictions)} TRs")
    for name, series in (("predictions", predictions), ("responses", responses)):
        if not np.isfinite(series).all():
            raise InvalidNumbers(f"{name} hold NaN or infinite values")
        require_detrended(name, series, tr, segments=segments)
