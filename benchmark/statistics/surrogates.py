# SPDX-License-Identifier: Apache-2.0
"""Other nulls than permuted blocks: circular shifts, random phases, and sign flips of paired differences."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import InvalidNumbers, UserError
from voxelboard.benchmark.statistics.nulls import (
    MEMORY_BYTES,
    IntArray,
    NullTest,
    Progress,
    check_series,
    correlation_source,
    stream_nulls,
)
from voxelboard.benchmark.statistics.scores import FloatArray


def circular_shift_test(
    predictions: NDArray[Any],
    responses: NDArray[Any],
    *,
    tr: float,
    n_draws: int = 1000,
    seed: int,
    min_shift_trs: int = 10,
    segments: IntArray | None = None,
    progress: Progress | None = None,
) -> NullTest:
    """Correlation of each voxel against circular shifts of its response, which keep its autocorrelation fully.

    One segment has fewer shifts than a test usually draws: all of them are used, once, and ``n_draws`` is ignored.
    Several segments are shifted independently, ``n_draws`` times.

    Parameters
    ----------
    predictions, responses : (n_trs, n_voxels).
    min_shift_trs : shifts below it, in either direction, are too close to the observed alignment.
    segments : (n_trs,) contiguous segments.
    """
    check_series(predictions, responses, tr, segments)
    bounds = _segment_bounds(len(predictions), segments)
    shifts = _draw_shifts(bounds, min_shift_trs, n_draws, seed)

    def nulls(p: FloatArray, y: FloatArray) -> Iterator[NDArray[Any]]:
        total = np.zeros((len(shifts), p.shape[1]))
        for (start, stop), rows in zip(bounds, shifts.T, strict=True):
            n = stop - start
            spectrum = np.fft.rfft(p[start:stop], axis=0) * np.conj(np.fft.rfft(y[start:stop], axis=0))
            total += np.fft.irfft(spectrum, n=n, axis=0)[rows]  # row k: sum_t p[t] y[t - k]
        yield total

    chunk = max(16, MEMORY_BYTES // (8 * (6 * len(predictions) + 2 * len(shifts))))
    method = f"circular shift, at least {min_shift_trs} TRs, {len(bounds)} segments"
    source = correlation_source(predictions, responses, nulls)
    return stream_nulls(source, predictions.shape[1], len(shifts), chunk=chunk, method=method, progress=progress)


def _draw_shifts(bounds: list[tuple[int, int]], least: int, n_draws: int, seed: int) -> IntArray:
    """(n_draws, n_segments) shifts in TRs."""
    shortest = min(stop - start for start, stop in bounds)
    if shortest < 2 * least + 1:
        raise UserError(
            f"a segment of {shortest} TRs has no circular shift of at least {least} TRs in both directions",
            f"use a least shift of at most {(shortest - 1) // 2} TRs",
        )
    if len(bounds) == 1:
        return np.arange(least, shortest - least + 1, dtype=np.int64)[:, None]
    rng = np.random.default_rng([seed, least, *(stop - start for start, stop in bounds)])
    return np.stack([rng.integers(least, stop - start - least + 1, n_draws) for start, stop in bounds], axis=1)


def phase_randomisation_test(
    predictions: NDArray[Any],
    responses: NDArray[Any],
    *,
    tr: float,
    n_draws: int = 1000,
    seed: int,
    segments: IntArray | None = None,
    progress: Progress | None = None,
) -> NullTest:
    """Correlation of each voxel against predictions with random Fourier phases (Theiler et al. 1992).

    A draw's phases are shared by all voxels. With cross-spectrum ``a + ib`` of prediction and response, a surrogate's
    correlation is ``sum_f a cos(phase) - b sin(phase)``: two matrix products, no surrogate is ever built.
    """
    check_series(predictions, responses, tr, segments)
    bounds = _segment_bounds(len(predictions), segments)
    rng = np.random.default_rng([seed, n_draws, *(stop - start for start, stop in bounds)])
    phases = [_draw_phases(stop - start, n_draws, rng) for start, stop in bounds]

    def nulls(p: FloatArray, y: FloatArray) -> Iterator[NDArray[Any]]:
        total = np.zeros((n_draws, p.shape[1]))
        for (start, stop), (cosines, sines) in zip(bounds, phases, strict=True):
            n = stop - start
            spectrum = np.fft.rfft(p[start:stop], axis=0) * np.conj(np.fft.rfft(y[start:stop], axis=0)) / n
            spectrum[1 : (n + 1) // 2] *= 2  # each stands for itself and its mirror frequency
            total += cosines @ spectrum.real - sines @ spectrum.imag
        yield total

    chunk = max(16, MEMORY_BYTES // (8 * (4 * len(predictions) + 3 * n_draws)))
    source, method = correlation_source(predictions, responses, nulls), "phase randomisation"
    return stream_nulls(source, predictions.shape[1], n_draws, chunk=chunk, method=method, progress=progress)


def phase_randomised(series: NDArray[Any], *, seed: int) -> FloatArray:
    """A surrogate of one stretch of series, (n_trs, n_series): the same spectra and cross-spectra, other times.

    All series get the same random phases, so that their correlations with each other stay (Prichard & Theiler 1994). Means
    stay as they are.
    """
    values = np.asarray(series, dtype=np.float64)
    cosines, sines = _draw_phases(len(values), 1, np.random.default_rng([seed, len(values)]))
    turned = np.fft.rfft(values, axis=0) * (cosines + 1j * sines).T
    surrogate: FloatArray = np.fft.irfft(turned, n=len(values), axis=0)
    return surrogate


def _draw_phases(n: int, n_draws: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Cosines and sines, each (n_draws, n // 2 + 1); the constant keeps its phase, the Nyquist term only its sign."""
    phases = rng.uniform(0, 2 * np.pi, (n_draws, n // 2 + 1))
    phases[:, 0] = 0.0
    if n % 2 == 0:
        phases[:, -1] = np.pi * (phases[:, -1] > np.pi)
    return np.cos(phases), np.sin(phases)


def _segment_bounds(n_trs: int, segments: IntArray | None) -> list[tuple[int, int]]:
    if segments is None:
        return [(0, n_trs)]
    starts = np.flatnonzero(np.diff(segments, prepend=segments[0] - 1))
    if len(starts) != len(np.unique(segments)):
        raise ValueError("segments must be contiguous")
    return list(zip(starts.tolist(), [*starts[1:].tolist(), n_trs], strict=True))


def sign_flip_test(
    differences: FloatArray,
    *,
    n_draws: int = 1000,
    seed: int,
    inflation: float = 1.0,
    progress: Progress | None = None,
) -> NullTest:
    """Paired test of two models, voxel by voxel: block differences with random signs, the same for all voxels.

    Swapping single TRs between models instead gives false-positive rates of .14-.17, blocks of 15-25 TRs .056-.062
    (statistics.md P4). One-sided (first model better); test the negated differences for the other side.

    Parameters
    ----------
    differences : (n_blocks, n_voxels) of block sums or influence values, first model minus second, blocks of 15 TRs or
        more.
    inflation : the variance of a sum of neighbouring blocks over that of independent ones.
    """
    if not np.isfinite(differences).all():
        raise InvalidNumbers("differences hold NaN or infinite values")
    n_blocks, n_voxels = differences.shape
    rng = np.random.default_rng([seed, n_blocks])
    signs = rng.integers(0, 2, (n_draws, n_blocks)) * 2.0 - 1.0

    def source(here: slice) -> tuple[FloatArray, Iterator[NDArray[Any]]]:
        # of unit norm, so that maxima over voxels compare like with like
        norm = np.sqrt((differences[:, here] ** 2).sum(axis=0) * n_blocks)
        scaled = differences[:, here] / np.where(norm > 0, norm, 1.0)
        return scaled.sum(axis=0) / np.sqrt(inflation), iter([signs @ scaled])

    chunk = max(16, MEMORY_BYTES // (8 * (n_blocks + 3 * n_draws)))
    method = f"sign flips of {n_blocks} blocks"
    return stream_nulls(source, n_voxels, n_draws, chunk=chunk, method=method, progress=progress)
