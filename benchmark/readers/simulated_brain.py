# SPDX-License-Identifier: Apache-2.0
"""From the latents of simulated stories to voxels: feature spaces, haemodynamics, tuning and noise.

The generator of statistics.md, section 3: a voxel is a mixture of four feature spaces with known shares of its
explainable variance, smeared by its own haemodynamic response, plus autocorrelated noise of known power.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve
from scipy.special import gammaln

from voxelboard.benchmark.stimuli.simulated import SpokenStory, ar1, sum_to_grid

FloatArray = NDArray[np.float64]

SPACES = ("low", "lex", "syn", "sem")
# Nominal shares of explainable variance by space. Unique shares are smaller where delays make spaces predict each other.
ROI_SHARES: Mapping[str, tuple[float, float, float, float]] = {
    "AC": (0.75, 0.15, 0.05, 0.05),
    "pSTS": (0.25, 0.40, 0.20, 0.15),
    "IFG": (0.10, 0.20, 0.45, 0.25),
    "AG": (0.05, 0.25, 0.10, 0.60),
    "PCC": (0.05, 0.10, 0.05, 0.80),
    "NULL": (0.0, 0.0, 0.0, 0.0),
}
_HRF_SECONDS = 30.0
MAX_DELAY_S = 1.5


def hrf(step: float, delay: float) -> FloatArray:
    """Double-gamma haemodynamic response, unit norm, every ``step`` seconds, later by ``delay`` seconds.

    Peak at 5 s, undershoot at 15 s of a sixth: the canonical shape of Friston et al. (1998), *NeuroImage* 7.
    """
    t = np.arange(0, _HRF_SECONDS, step) - delay
    positive = np.maximum(t, 1e-9)

    def gamma_density(shape: float) -> FloatArray:
        return np.where(t > 0, np.exp((shape - 1) * np.log(positive) - positive - gammaln(shape)), 0.0)

    response = gamma_density(6.0) - gamma_density(16.0) / 6.0
    response /= np.sqrt((response**2).sum())
    return response


def grid_spaces(
    stories: Sequence[SpokenStory], latents: Sequence[Mapping[str, FloatArray]], step: float, n_steps: Sequence[int]
) -> list[dict[str, FloatArray]]:
    """The four spaces of each story on a grid of ``step`` seconds, standardised over all stories and orthogonal.

    ``latents`` are standardised word latents. Each space is orthogonalised to those before it in ``SPACES``, over the
    whole grid, so that a nominal share is a share of its own.

    Returns
    -------
    per story, space -> (n_steps, n_columns)
    """
    tables: dict[str, list[FloatArray]] = {space: [] for space in SPACES}
    for story, words, n in zip(stories, latents, n_steps, strict=True):
        letters = np.array([len(word) for word in story.words], dtype=np.float64)
        counts = np.column_stack([np.ones(len(letters)), letters])
        tables["low"].append(np.column_stack([sum_to_grid(counts, story.onsets, n, step), story.spectrum]))
        for space in SPACES[1:]:
            tables[space].append(sum_to_grid(words[space], story.onsets, n, step))
    cuts = np.cumsum(n_steps)[:-1]
    earlier: FloatArray | None = None
    split: dict[str, list[FloatArray]] = {}
    for space in SPACES:
        table = standardise(np.concatenate(tables[space]))
        if earlier is not None:
            table = table - earlier @ np.linalg.lstsq(earlier, table, rcond=None)[0]
        earlier = table if earlier is None else np.column_stack([earlier, table])
        split[space] = np.split(table, cuts)
    return [{space: split[space][k] for space in SPACES} for k in range(len(stories))]


def standardise(table: FloatArray) -> FloatArray:
    """Columns to mean 0 and variance 1; constant columns to 0."""
    scale = table.std(axis=0)
    standardised: FloatArray = (table - table.mean(axis=0)) / np.where(scale > 0, scale, 1.0)
    return standardised


def convolve_spaces(space: Mapping[str, FloatArray], step: float, delay: float, every: int) -> FloatArray:
    """(n_trs, n_columns) all spaces side by side, HRF-convolved, sampled at the start of each TR."""
    drive = np.column_stack(list(space.values()))
    smeared = fftconvolve(drive, hrf(step, delay)[:, None], axes=0)[: len(drive)]
    return np.asarray(smeared[::every], dtype=np.float64)


def scan_noise(
    n_trs: int, n_voxels: int, tr: float, phi: float, amplitudes: tuple[float, float, float], rng: np.random.Generator
) -> FloatArray:
    """(n_trs, n_voxels) unit-variance noise of one run.

    First-order autoregressive noise, drifts of 200 s or slower, three shared physiological sources and motion spikes
    common to all voxels. ``amplitudes`` = (drift, physiological, share of TRs with a spike).
    """
    drift, physiological, spike_share = amplitudes
    noise = ar1(n_trs, n_voxels, phi, rng)
    noise += drift * _slow_drift(n_trs, n_voxels, tr, rng)
    noise += physiological * ar1(n_trs, 3, 0.7, rng) @ rng.standard_normal((3, n_voxels))
    spikes = rng.random(n_trs) < spike_share
    noise[spikes] += rng.normal(0, 3, (int(spikes.sum()), 1))
    noise /= noise.std(axis=0)
    return noise


def _slow_drift(n_trs: int, n_voxels: int, tr: float, rng: np.random.Generator) -> FloatArray:
    n_cosines = max(1, int(2 * n_trs * tr / 200.0))
    orders = np.arange(1, n_cosines + 1)
    cosines = np.cos(np.pi * (np.arange(n_trs)[:, None] + 0.5) * orders / n_trs)
    drift = cosines @ (rng.standard_normal((n_cosines, n_voxels)) / orders[:, None])
    return np.asarray(drift / drift.std(axis=0).mean(), dtype=np.float64)
