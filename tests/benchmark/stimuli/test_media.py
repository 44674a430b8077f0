# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError
from voxelboard.benchmark.stimuli.media import Frames, Sound, read_frames, read_sound


def _numbered(n: int) -> np.ndarray:
    return np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 4, 5, 3))


def test_first_and_middle_frame_of_each_second() -> None:
    film = Frames(_numbered(90), 30)
    assert [(int(a.max()), int(b.max())) for a, b in film.pairs(3)] == [(0, 15), (30, 45), (60, 75)]
    odd = Frames(_numbered(75), 25)
    assert [(int(a.max()), int(b.max())) for a, b in odd.pairs(3)] == [(0, 12), (25, 37), (50, 62)]
    with pytest.raises(DataError, match=r"3 s, shorter than the run \(4 s\)"):
        film.pairs(4)


def test_frames_from_files(tmp_path: Path) -> None:
    np.save(tmp_path / "film.npy", _numbered(12))
    assert read_frames(tmp_path / "film.npy", 4).n_seconds == 3
    np.save(tmp_path / "grey.npy", np.zeros((12, 4, 5), dtype=np.uint8))
    with pytest.raises(DataError, match="expected uint8"):
        read_frames(tmp_path / "grey.npy", 4)
    with pytest.raises(MissingPrerequisite, match="no frames"):
        read_frames(tmp_path / "nothing", 4)
    with pytest.raises(UserError, match="more than 0"):
        read_frames(tmp_path / "film.npy", 0)
    image = pytest.importorskip("PIL.Image", reason="pictures need Pillow")
    (tmp_path / "pictures").mkdir()
    for number, frame in enumerate(_numbered(8)):
        image.fromarray(np.ascontiguousarray(frame)).save(tmp_path / "pictures" / f"{number:06d}.png")
    first, middle = read_frames(tmp_path / "pictures", 4).pair(1)
    assert (int(first.max()), int(middle.max())) == (4, 6)


def test_sound_windows_end_when_their_second_starts(tmp_path: Path) -> None:
    samples = np.repeat(np.arange(4, dtype=np.float32), 100)
    windows = Sound(samples, 100).windows(4)
    assert windows.shape == (4, 100)
    assert windows[:, 0].tolist() == [0, 0, 1, 2]
    assert Sound(samples[:350], 100).windows(4)[3, 0] == 2
    with pytest.raises(DataError, match=r"4.0 s of sound for a run of 9 s"):
        Sound(samples, 100).windows(9)


def test_wav_files(tmp_path: Path) -> None:
    tone = np.sin(2 * np.pi * 5 * np.arange(800) / 400)
    wavfile.write(tmp_path / "two.wav", 400, np.stack([tone, tone], axis=1).astype(np.float32))
    sound = read_sound(tmp_path / "two.wav")
    np.testing.assert_allclose(sound.samples, tone, atol=1e-6)
    wavfile.write(tmp_path / "pcm.wav", 400, (tone * 32767).astype(np.int16))
    np.testing.assert_allclose(read_sound(tmp_path / "pcm.wav").samples, tone, atol=1e-4)
    slow = sound.resampled(200)
    assert (slow.rate, len(slow.samples)) == (200, 400)
    np.testing.assert_allclose(slow.samples[50:350], tone[::2][50:350], atol=0.02)
    (tmp_path / "no.wav").write_bytes(b"nothing")
    with pytest.raises(DataError, match="not a WAV"):
        read_sound(tmp_path / "no.wav")
    with pytest.raises(MissingPrerequisite, match="ffmpeg"):
        read_sound(tmp_path / "gone.wav")
