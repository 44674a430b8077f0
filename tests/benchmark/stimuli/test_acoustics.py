# SPDX-License-Identifier: Apache-2.0
"""Sound at the TRs: amplitudes of pure tones in their bands, the clock, and files that cannot be read."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from voxelboard.benchmark.errors import DataError, MissingPrerequisite
from voxelboard.benchmark.stimuli.acoustics import read_acoustics

RATE, TR = 16000, 2.0


def tone(hertz: float, seconds: float, amplitude: float = 0.5) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)


def save(path: Path, samples: np.ndarray, dtype: str = "int16") -> Path:
    scaled = (samples * np.iinfo(dtype).max).astype(dtype) if dtype.startswith("int") else samples.astype(dtype)
    wavfile.write(path, RATE, scaled)
    return path


@pytest.mark.parametrize("dtype", ["int16", "int32", "float32"])
def test_a_tone_has_its_root_mean_square_in_its_own_band(tmp_path: Path, dtype: str) -> None:
    path = save(tmp_path / "a.wav", np.concatenate([tone(300, 4), tone(3000, 4, 0.25), np.zeros(4 * RATE)]), dtype)
    found = read_acoustics(path, n_trs=6, tr=TR)
    assert found.shape == (6, 9)
    np.testing.assert_allclose(found[:, 0], np.array([0.5, 0.5, 0.25, 0.25, 0, 0]) / np.sqrt(2), atol=1e-3)
    edges = np.geomspace(100, 8000, 9)
    for row, hertz, amplitude in ((0, 300, 0.5), (2, 3000, 0.25)):
        band = int(np.searchsorted(edges, hertz))
        assert found[row, band] == pytest.approx(amplitude / np.sqrt(2), rel=0.02)
        assert np.delete(found[row, 1:], band - 1).max() < 0.05 * amplitude


def test_the_clock_of_the_scan_is_kept(tmp_path: Path) -> None:
    stereo = np.stack([np.concatenate([np.zeros(3 * RATE), tone(400, 7)])] * 2, axis=1)
    path = save(tmp_path / "a.wav", stereo)
    late = read_acoustics(path, n_trs=4, tr=TR, start_s=2.0)[:, 0]
    early = read_acoustics(path, n_trs=8, tr=TR, start_s=-4.0)[:, 0]
    whole = 0.5 / np.sqrt(2)
    np.testing.assert_allclose(late, [whole / np.sqrt(2), whole, whole, whole], atol=2e-3)
    assert (early[:3] == 0).all()
    assert early[3] == pytest.approx(whole / np.sqrt(2), abs=2e-3)
    assert early[7] == 0


def test_sounds_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    with pytest.raises(MissingPrerequisite, match="no sound file"):
        read_acoustics(tmp_path / "none.wav", n_trs=3, tr=TR)
    (tmp_path / "text.wav").write_text("not a sound")
    with pytest.raises(DataError, match="is not a WAV file"):
        read_acoustics(tmp_path / "text.wav", n_trs=3, tr=TR)
    with pytest.raises(DataError, match="holds 2 s of sound for 200 s"):
        read_acoustics(save(tmp_path / "short.wav", tone(300, 2)), n_trs=100, tr=TR)
