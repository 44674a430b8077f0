# SPDX-License-Identifier: Apache-2.0
"""Pictures and sound of a film on the clock of its seconds. Films are under copyright, so you bring your own copy."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import gcd
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError

Picture = NDArray[np.uint8]  # (height, width, 3)
Float32Array = NDArray[np.float32]

_PICTURES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True, eq=False)
class Frames:
    """The pictures of a run.

    Attributes
    ----------
    source : (n_frames, height, width, 3) uint8, may be a memory map, or the files of the frames in order.
    fps : frames a second.
    """

    source: Picture | Sequence[Path]
    fps: float

    @property
    def n_seconds(self) -> int:
        return int(len(self.source) / self.fps)

    def pair(self, second: int) -> tuple[Picture, Picture]:
        """The first and the middle frame of a second, as Nakagi et al. 2024 take them."""
        return self._read(self._first(second)), self._read(self._first(second) + int(self.fps / 2))

    def pairs(self, n_seconds: int) -> Iterator[tuple[Picture, Picture]]:
        """The pair of each second; raises DataError for a film that is shorter."""
        if self.n_seconds < n_seconds:
            raise DataError(
                f"{len(self.source)} frames at {self.fps:g} a second are {self.n_seconds} s, shorter than the run "
                f"({n_seconds} s)",
                "check the frame rate, and that film and annotation are the same cut",
            )
        return (self.pair(second) for second in range(n_seconds))

    def _first(self, second: int) -> int:
        return min(round(second * self.fps), len(self.source) - 1)

    def _read(self, number: int) -> Picture:
        frame = self.source[min(number, len(self.source) - 1)]
        if not isinstance(frame, Path):
            return np.asarray(frame)
        from PIL import Image

        with Image.open(frame) as image:
            return np.asarray(image.convert("RGB"))


@dataclass(frozen=True, eq=False)
class Sound:
    """The sound of a run: (n_samples,) float32 of one channel at ``rate`` samples a second."""

    samples: Float32Array
    rate: int

    def resampled(self, rate: int) -> "Sound":
        """At another rate, with an anti-aliasing filter."""
        if rate == self.rate:
            return self
        from scipy.signal import resample_poly

        common = gcd(rate, self.rate)
        return Sound(resample_poly(self.samples, rate // common, self.rate // common).astype(np.float32), rate)

    def windows(self, n_seconds: int) -> Float32Array:
        """(n_seconds, rate): the second that ends when each second starts; second 0 gets itself.

        What was heard up to the moment, as the delays assume, and nothing of what follows.

        Raises
        ------
        DataError
            for sound that is more than a second shorter than the run; what is missing of the last second is silence.
        """
        missing = n_seconds * self.rate - len(self.samples)
        if missing > self.rate:
            raise DataError(
                f"{len(self.samples) / self.rate:.1f} s of sound for a run of {n_seconds} s",
                "check that sound and annotation are of the same cut",
            )
        samples = np.pad(self.samples, (0, max(missing, 0)))[: n_seconds * self.rate].reshape(n_seconds, self.rate)
        return np.concatenate([samples[:1], samples[:-1]])


def read_frames(path: Path, fps: float) -> Frames:
    """Frames of a run: an ``.npy`` file (n_frames, height, width, 3) uint8, or a folder of numbered pictures.

    Raises
    ------
    MissingPrerequisite
        when there is neither, and for pictures without Pillow.
    DataError
        for an array of another shape or type.
    """
    if fps <= 0:
        raise UserError(f"{fps} frames a second; expected more than 0")
    if path.suffix == ".npy" and path.is_file():
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3:
            raise DataError(
                f"{path.name}: {array.dtype} of shape {array.shape}, expected uint8 (n_frames, height, width, 3)"
            )
        return Frames(array, fps)
    files = sorted(file for file in path.glob("*") if file.suffix.lower() in _PICTURES) if path.is_dir() else []
    if not files:
        raise MissingPrerequisite(
            f"there are no frames at {path}",
            "expected an .npy file or a folder of .png or .jpg, e.g. ffmpeg -i film.mp4 FOLDER/%06d.png",
        )
    return Frames(files, fps)


def read_sound(path: Path) -> Sound:
    """Sound of a run: a WAV file (PCM or float), several channels averaged.

    Raises
    ------
    MissingPrerequisite
        when there is no such file.
    DataError
        for a file that is no WAV, or empty.
    """
    from scipy.io import wavfile

    if not path.is_file():
        raise MissingPrerequisite(f"there is no sound at {path}", "e.g. ffmpeg -i film.mp4 -ac 1 -ar 16000 FILE.wav")
    try:
        rate, samples = wavfile.read(path)
    except ValueError as error:
        raise DataError(
            f"{path.name} is not a WAV file: {error}", "convert it: ffmpeg -i FILE -ar 16000 out.wav"
        ) from error
    if samples.size == 0:
        raise DataError(f"{path.name} is empty")
    scale = float(np.iinfo(samples.dtype).max) if np.issubdtype(samples.dtype, np.integer) else 1.0
    mono = samples.astype(np.float32).reshape(len(samples), -1).mean(axis=1) / scale
    return Sound(mono.astype(np.float32), int(rate))
