# SPDX-License-Identifier: Apache-2.0
"""Simulated brains that look at pictures: eight subjects, four regions whose content is known, three repeats.

The twin of the Natural Scenes Dataset (statistics.md, section 3): every subject sees images of its own and the test
images that all see, each three times. A voxel mixes what the picture looks like, which kinds of things it shows, its words,
and who does what to whom, with the shares of its region. Noise follows the noise-ceiling signal-to-noise ratio of the
voxel. Needs no download.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import UserError, unknown_name
from voxelboard.benchmark.protocol import TaskName
from voxelboard.benchmark.readers.base import CeilingKind, DatasetKind, StaticVectors, require_subject
from voxelboard.benchmark.readers.captions_data import Float32Array, ImageResponses, IntArray
from voxelboard.benchmark.stimuli.caption_grammar import MEANINGS, describe, scene_reading
from voxelboard.benchmark.stimuli.caption_meaning import SPACES, meanings, symbol_vector
from voxelboard.benchmark.stimuli.captions import CaptionedImages, captioned_images, picture_statistics
from voxelboard.benchmark.stimuli.scenes import KINDS, Scene, draw_scene, picture

FloatArray = NDArray[np.float64]

NAME = "simulated-captions"
VERSION = "1.0.0"  # of the generator: other bytes are another version
DEFAULT_PRESET = "demo"
# Share of each region's explainable variance: the picture, kinds of things, words, whole captions.
ROI_SHARES: Mapping[str, tuple[float, float, float, float]] = {
    "early": (0.80, 0.20, 0.00, 0.00),
    "ventral": (0.10, 0.50, 0.40, 0.00),
    "lateral": (0.05, 0.15, 0.30, 0.50),
    "parietal": (0.15, 0.10, 0.25, 0.50),
    "NULL": (0.0, 0.0, 0.0, 0.0),
}
SCORED_ROIS = ("early", "ventral", "lateral", "parietal")
SHARED_TUNING = 0.6  # of the variance of a voxel's tuning is that of all subjects
# Streams of random numbers under one seed.
_SCENE, _CAPTION, _PICTURE, _GROUP, _SUBJECT, _NOISE, _STATIC = 1, 2, 3, 4, 5, 6, 7
_STATIC_NOISE = 0.5  # of the word vectors that the data set offers
_CUBE = 4  # voxels along an edge of a region's cube, times the region's depth


@dataclass(frozen=True)
class CaptionSimulation:
    """Everything that determines a simulated data set of captioned images."""

    seed: int = 0
    n_subjects: int = 8
    n_test: int = 180  # images that all see
    n_train: int = 300  # images of each subject's own
    n_repeats: int = 3
    voxels_per_roi: int = 48
    ncsnr: float = 0.9  # of the mean voxel: a noise ceiling of 71 % of the variance for three repeats


PRESETS: Mapping[str, CaptionSimulation] = {
    "tiny": CaptionSimulation(n_subjects=2, n_test=60, n_train=120, voxels_per_roi=16, ncsnr=1.2),
    "demo": CaptionSimulation(),
    # ten thousand pictures to train a network from pictures to captions, three sets of test images
    "networks": CaptionSimulation(n_test=300, n_train=1250),
    "paper": CaptionSimulation(n_test=515, n_train=2000, voxels_per_roi=256, ncsnr=0.5),
}


@lru_cache(maxsize=2)
def open_simulated_captions(preset: str = DEFAULT_PRESET, seed: int = 0) -> "SimulatedCaptions":
    """The simulated data set of a preset; equal arguments give the same object."""
    if preset not in PRESETS:
        raise unknown_name(f"preset of {NAME}", preset, PRESETS)
    spec = PRESETS[preset]
    suffix = "" if preset == DEFAULT_PRESET and seed == 0 else f":{preset}" + (f":{seed}" if seed else "")
    return SimulatedCaptions(CaptionSimulation(**{**spec.__dict__, "seed": seed}), NAME + suffix)


class SimulatedCaptions:
    """Satisfies ``CaptionsData``. Everything is computed from the seed when it is asked for."""

    version = VERSION
    kind: DatasetKind = "simulated"
    task: TaskName = "captions"
    ceiling_kind: CeilingKind = "repeats"
    scored_rois: tuple[str, ...] = SCORED_ROIS
    in_correspondence = True

    def __init__(self, spec: CaptionSimulation, name: str = NAME) -> None:
        if spec.n_subjects < 1 or spec.n_repeats < 2 or spec.voxels_per_roi < 2:
            raise UserError("a simulation needs one subject, two repeats and two voxels a region or more")
        self.spec, self.name = spec, name
        self.subjects = tuple(f"sim{i + 1:02d}" for i in range(spec.n_subjects))
        self.n_repeats = spec.n_repeats
        self.test_ids: IntArray = np.arange(spec.n_test, dtype=np.int64)
        self.static_vectors: StaticVectors | None = _word_vectors(spec.seed, name)
        n_images = spec.n_test + spec.n_subjects * spec.n_train
        self.scenes: tuple[Scene, ...] = tuple(
            draw_scene(np.random.default_rng([spec.seed, _SCENE, i])) for i in range(n_images)
        )

    def train_ids(self, subject: str) -> IntArray:
        """The images that this subject alone sees."""
        start = self.spec.n_test + self._number(subject) * self.spec.n_train
        return np.arange(start, start + self.spec.n_train, dtype=np.int64)

    def n_voxels(self, subject: str) -> int:
        """Voxels of all regions."""
        require_subject(self.name, subject, self.subjects)
        return len(self.rois)

    def n_words(self) -> int:
        """Words of all captions."""
        return sum(len(caption.split()) for captions in self._said for caption in captions)

    @cached_property
    def _said(self) -> list[tuple[str, ...]]:
        return [
            tuple(describe(scene, np.random.default_rng([self.spec.seed, _CAPTION, i])))
            for i, scene in enumerate(self.scenes)
        ]

    @cached_property
    def images(self) -> CaptionedImages:
        """All images of all subjects."""
        kinds, said = list(KINDS), self._said
        shown = np.array([[kind in scene.kinds for kind in kinds] for scene in self.scenes])
        ids = np.arange(len(self.scenes))
        return captioned_images(ids, said, shown, kinds, picture_statistics(self.pixels(ids)))

    def pixels(self, ids: Sequence[int] | IntArray) -> NDArray[np.uint8]:
        """(n_ids, 64, 64, 3) RGB."""
        return np.stack(
            [picture(self.scenes[i], np.random.default_rng([self.spec.seed, _PICTURE, i])) for i in map(int, ids)]
        )

    @cached_property
    def latents(self) -> Mapping[str, FloatArray]:
        """Space -> (n_images, width): orthogonal to the spaces before it, unit variance over all images.

        low: what the picture looks like; then category, word and caption, see :mod:`..stimuli.caption_meaning`.
        """
        low = self.images.low_level
        if low is None:
            raise UserError("simulated images have pictures")  # cannot happen: images are drawn above
        raw = {"low": low, **meanings([scene_reading(scene) for scene in self.scenes])}
        found: dict[str, FloatArray] = {}
        before = np.ones((len(low), 1))
        for space in ("low", *SPACES):
            values = raw[space] - before @ np.linalg.lstsq(before, raw[space], rcond=None)[0]
            left, size, _ = np.linalg.svd(values, full_matrices=False)
            # a power-law spectrum: few directions carry most, as in real embeddings
            kept = left[:, size > 1e-8 * size[0]]
            weights = 1 / np.sqrt(1 + np.arange(kept.shape[1]))
            found[space] = kept * weights * np.sqrt(len(low) / (weights**2).sum())
            before = np.column_stack([before, values])
        return found

    @property
    def rois(self) -> NDArray[np.str_]:
        """(n_voxels,) planted region of each voxel."""
        return np.repeat(list(ROI_SHARES), self.spec.voxels_per_roi)

    def signal(self, subject: str, ids: Sequence[int] | IntArray) -> FloatArray:
        """(n_ids, n_voxels) noise-free responses, unit variance over all images; 0 in the NULL region."""
        own = np.random.default_rng([self.spec.seed, _SUBJECT, self._number(subject)])
        group = np.random.default_rng([self.spec.seed, _GROUP])
        rows = np.asarray(ids, dtype=np.intp)
        n = self.spec.voxels_per_roi
        parts = []
        for shares in ROI_SHARES.values():
            part = np.zeros((len(rows), n))
            for share, space in zip(shares, ("low", *SPACES), strict=True):
                latent = self.latents[space]
                shape = (latent.shape[1], n)
                tuning = np.sqrt(SHARED_TUNING) * group.standard_normal(shape) + np.sqrt(
                    1 - SHARED_TUNING
                ) * own.standard_normal(shape)
                response = latent @ tuning
                part += np.sqrt(share) * response[rows] / response.std(axis=0)
            parts.append(part)
        return np.concatenate(parts, axis=1)

    def ncsnr(self, subject: str) -> FloatArray:
        """(n_voxels,) planted noise-ceiling signal-to-noise ratio; 0 in the NULL region."""
        rng = np.random.default_rng([self.spec.seed, _NOISE, self._number(subject), 1])
        ratio = self.spec.ncsnr * np.sqrt(rng.gamma(4.0, 0.25, len(self.rois)))
        planted: FloatArray = np.where(self.rois == "NULL", 0.0, ratio)
        return planted

    def responses(self, subject: str) -> ImageResponses:
        """Signal plus noise of every presentation, total variance 1 (as z-scored betas have)."""
        require_subject(self.name, subject, self.subjects)
        return _responses(self, subject)

    def responses_sha256(self, subject: str) -> str:
        """Hash of a subject's responses."""
        return self.responses(subject).sha256()

    def positions(self) -> tuple[IntArray, tuple[int, int, int]]:
        """Where the voxels lie: each region a block of its own, with a gap between regions."""
        edge = _CUBE
        depth = int(np.ceil(self.spec.voxels_per_roi / edge**2))
        places = []
        for number in range(len(ROI_SHARES)):
            for voxel in range(self.spec.voxels_per_roi):
                x, y, z = voxel % edge, voxel // edge % edge, voxel // edge**2
                places.append((x + number * (edge + 2), y, z))
        return np.array(places, dtype=np.int64), ((edge + 2) * len(ROI_SHARES), edge, depth)

    def _number(self, subject: str) -> int:
        return self.subjects.index(subject)


def _word_vectors(seed: int, name: str) -> StaticVectors:
    """What the words mean, with noise: a table of word vectors of this world."""
    words = sorted(MEANINGS)
    rng = np.random.default_rng([seed, _STATIC])
    clean = np.stack([symbol_vector(MEANINGS[word]) for word in words])
    vectors = clean + _STATIC_NOISE * rng.standard_normal(clean.shape)
    return StaticVectors(f"{name} words", {word: i for i, word in enumerate(words)}, vectors.astype(np.float32))


@lru_cache(maxsize=16)
def _responses(data: SimulatedCaptions, subject: str) -> ImageResponses:
    ratio = data.ncsnr(subject)
    signal_sd, noise_sd = ratio / np.sqrt(1 + ratio**2), 1 / np.sqrt(1 + ratio**2)
    rng = np.random.default_rng([data.spec.seed, _NOISE, data.subjects.index(subject)])

    def present(ids: IntArray) -> Float32Array:
        clean = data.signal(subject, ids) * signal_sd
        noise = rng.standard_normal((data.spec.n_repeats, *clean.shape)) * noise_sd
        return (clean + noise).astype(np.float32)

    train_ids = data.train_ids(subject)
    positions, shape = data.positions()
    return ImageResponses(
        subject,
        train_ids,
        present(train_ids).mean(axis=0, dtype=np.float64).astype(np.float32),
        data.test_ids,
        present(data.test_ids),
        data.rois,
        positions,
        shape,
    )
