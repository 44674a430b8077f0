# SPDX-License-Identifier: Apache-2.0
"""The sound of a story at its TRs: envelope and spectral energy, for the confound band (statistics.md 2.3)."""

from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import wavfile

from voxelboard.benchmark.errors import DataError, MissingPrerequisite

FloatArray = NDArray[np.float64]

N_BANDS = 8
_FRAME_S = 0.05
_LOWEST_HZ, _HIGHEST_HZ = 100.0, 8000.0  # what carries speech; above the Nyquist frequency a band is silent


def read_acoustics(path: Path, *, n_trs: int, tr: float, start_s: float = 0.0, n_bands: int = N_BANDS) -> FloatArray:
    """(n_trs, 1 + n_bands): root-mean-square envelope, then the amplitude of log-spaced bands, mean over each TR.

    A causal mean over the sound of the TR itself, as for words. Read through a memory map, one TR at a time.

    Parameters
    ----------
    path : a PCM or float WAV file, any number of channels (their mean is taken).
    tr, start_s : seconds; ``start_s`` is where in the file the first TR starts, negative if the scan starts first. Where the
        file has no sound, it is silent.

    Raises
    ------
    MissingPrerequisite
        for a file that is not there.
    DataError
        for one that is no WAV file, or ends before half of the TRs.
    """
    if not path.is_file():
        raise MissingPrerequisite(f"there is no sound file {path}", "correct `audio:` in dataset.yaml, or leave it out")
    try:
        rate, samples = wavfile.read(path, mmap=True)
    except ValueError as error:
        raise DataError(
            f"{path} is not a WAV file: {error}", "convert it, for example `ffmpeg -i IN OUT.wav`"
        ) from error
    if len(samples) / rate < start_s + n_trs * tr / 2:
        raise DataError(
            f"{path} holds {len(samples) / rate:.0f} s of sound for {n_trs * tr:.0f} s of responses",
            "check that it is the sound of this story, and first_row_s",
        )
    scale = float(np.iinfo(samples.dtype).max) if np.issubdtype(samples.dtype, np.integer) else 1.0
    edges = np.geomspace(_LOWEST_HZ, _HIGHEST_HZ, n_bands + 1)
    found = np.zeros((n_trs, 1 + n_bands))
    for row in range(n_trs):
        first, last = (round((start_s + tr * k) * rate) for k in (row, row + 1))
        heard = np.asarray(samples[max(first, 0) : max(last, 0)], dtype=np.float64) / scale
        if len(heard):
            mono = heard.mean(axis=1) if heard.ndim == 2 else heard
            found[row] = _amplitudes(mono, rate, edges)
    return found


def _amplitudes(mono: FloatArray, rate: int, edges: FloatArray) -> FloatArray:
    """(1 + n_bands,) root mean square of a stretch of sound, whole and by band."""
    width = max(2, round(_FRAME_S * rate))
    n_frames = -(-len(mono) // width)
    frames = np.zeros((n_frames, width))
    frames.flat[: len(mono)] = mono
    # Parseval: the power of a frame is the sum over its frequencies, the inner ones counted twice
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2 / width
    power[:, 1 : (width + 1) // 2] *= 2
    spectrum = power.sum(axis=0) / len(mono)
    frequencies = np.fft.rfftfreq(width, 1 / rate)
    bands = [spectrum[(frequencies >= a) & (frequencies < b)].sum() for a, b in pairwise(edges.tolist())]
    amplitudes: FloatArray = np.sqrt(np.array([float((mono**2).mean()), *bands]))
    return amplitudes
