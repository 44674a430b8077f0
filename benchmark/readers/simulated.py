# SPDX-License-Identifier: Apache-2.0
"""The embedded data set: simulated listeners whose tuning, signal and noise are known. Needs no download."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import UserError, unknown_name
from voxelboard.benchmark.protocol import TaskName
from voxelboard.benchmark.readers.base import (
    CeilingKind,
    DatasetKind,
    Responses,
    Segment,
    Split,
    StaticVectors,
    require_subject,
)
from voxelboard.benchmark.readers.simulated_brain import (
    MAX_DELAY_S,
    ROI_SHARES,
    SPACES,
    convolve_spaces,
    grid_spaces,
    scan_noise,
)
from voxelboard.benchmark.stimuli.simulated import SpokenStory, build_world, tell_story
from voxelboard.benchmark.stimuli.stories import Story, make_story

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]

NAME = "simulated-narrative"
VERSION = "1.0.0"  # of the generator: other bytes are another version
DEFAULT_PRESET = "demo"
# Streams of random numbers under one seed; 1 is the world. Every use of a stream has a number of its own: numpy pads
# seeds with zeros, so that [seed, 5] and [seed, 5, 0] are one stream.
_STORY, _GROUP, _SUBJECT, _NOISE, _AUTOCORRELATION = 2, 3, 4, 5, 6


@dataclass(frozen=True)
class SimulationSpec:
    """Everything that determines a simulated data set."""

    seed: int = 0
    n_subjects: int = 6
    n_train: int = 15  # stories
    train_trs: int = 180
    n_test: int = 1  # stories, each presented ``n_repeats`` times
    test_trs: int = 250
    n_repeats: int = 5
    n_voxels: int = 24  # per ROI
    snr: float = 0.12  # mean signal variance over noise variance of a voxel
    tr: float = 2.0  # seconds
    oversampling: int = 4  # steps of the stimulus grid per TR
    ar_range: tuple[float, float] = (0.3, 0.6)  # a subject's noise autocorrelation at lag 1
    drift: float = 0.6  # sd, relative to the autoregressive noise
    physiological: float = 0.3
    spike_share: float = 0.01  # of TRs
    hrf_jitter_s: float = 0.6  # sd of a voxel's haemodynamic delay
    group_share: float = 0.6  # of a voxel's tuning, shared by all subjects

    def __post_init__(self) -> None:
        sizes = (self.n_subjects, self.n_train, self.train_trs, self.n_test, self.test_trs, self.n_voxels)
        if min(sizes) < 1 or self.n_repeats < 2 or self.oversampling < 1:
            raise UserError("a simulation needs at least one of each, and two presentations of its test stories")
        if min(self.train_trs, self.test_trs) * self.tr < 60:
            raise UserError(f"simulated stories must last a minute or longer, got {self.train_trs} x {self.tr} s")
        if self.snr < 0 or self.seed < 0 or not 0 <= self.group_share <= 1:
            raise UserError("snr and seed must be 0 or more, group_share between 0 and 1")


PRESETS: Mapping[str, SimulationSpec] = {
    # smoke tests
    "tiny": SimulationSpec(n_subjects=3, n_voxels=8, n_train=6, train_trs=120, test_trs=120, n_repeats=3, snr=0.25),
    "ci": SimulationSpec(n_subjects=5, n_voxels=16, n_train=10, n_repeats=4, snr=0.25),
    # the sizes with which the planted order of eight models comes back at tau .98 (statistics.md C4)
    "demo": SimulationSpec(),
    "paper": SimulationSpec(n_subjects=8, n_voxels=60, n_train=25, train_trs=250, n_repeats=5),
}


@dataclass(frozen=True, eq=False)
class SubjectTruth:
    """What no scanner tells: the planted quantities of one subject's voxels."""

    rois: NDArray[np.str_]  # (n_voxels,)
    snr: FloatArray  # (n_voxels,) signal variance over noise variance
    shares: FloatArray  # (n_voxels, 4) nominal shares of the explainable variance, in the order of ``SPACES``
    delays_s: FloatArray  # (n_voxels,) haemodynamic delay
    signal: Mapping[str, Float32Array]  # story -> (n_trs, n_voxels), on the scale of the responses

    @property
    def explainable_variance(self) -> FloatArray:
        """(n_voxels,) share of a single presentation's variance that is signal."""
        return self.snr / (1 + self.snr)


class SimulatedNarrative:
    """Simulated listeners of simulated stories; satisfies ``NarrativeData``.

    Stories are ``train01 ..`` and ``test01 ..``; subjects ``sim01 ..``. ``Story.annotations`` hold the standardised
    latents ``lex`` (n_words, 17), ``syn`` (n_words, 10: depth, closing phrases, surprisal, position, part of speech)
    and ``sem`` (n_words, 32), and the raw ``log_frequency``, ``sentence_position``, ``depth`` and
    ``surprisal`` (n_words, 1).
    Same spec, same bytes. Subjects are simulated when they are first asked for.
    """

    kind: DatasetKind
    task: TaskName = "narrative"
    ceiling_kind: CeilingKind
    static_vectors: StaticVectors | None
    # what drives voxels, and ROI -> nominal share of each space in that order
    space_names: tuple[str, ...] = SPACES
    roi_shares: Mapping[str, tuple[float, ...]] = ROI_SHARES

    def __init__(self, spec: SimulationSpec, name: str = NAME) -> None:
        self.name = name
        self.version = VERSION
        self.kind = "simulated"
        self.ceiling_kind = "repeats"
        self.spec = spec
        self.subjects = tuple(f"sim{k + 1:02d}" for k in range(spec.n_subjects))
        self.scored_rois = tuple(roi for roi in self.roi_shares if roi != "NULL")
        self.roi_order = self.scored_rois  # planted: from sounds over words and syntax to topics
        self.rois: NDArray[np.str_] = np.repeat(np.array(list(self.roi_shares)), spec.n_voxels)
        self._world = build_world(spec.seed)
        spoken = self._tell()
        tokens = {space: np.concatenate([story.latents[space] for story in spoken]) for space in SPACES[1:]}
        self._centre = {space: table.mean(axis=0) for space, table in tokens.items()}
        self._scale = {space: table.std(axis=0) + 1e-9 for space, table in tokens.items()}
        latents = [
            {space: (story.latents[space] - self._centre[space]) / self._scale[space] for space in SPACES[1:]}
            for story in spoken
        ]
        self._grids = dict(zip((story.name for story in spoken), self._space_grids(spoken, latents), strict=True))
        self.stories: Mapping[str, Story] = MappingProxyType(
            {story.name: self._as_story(story, words) for story, words in zip(spoken, latents, strict=True)}
        )
        self.split = self._fixed_split()
        self.static_vectors = self._lexicon_vectors()
        self._drives: dict[float, FloatArray] = {}
        self._truth: dict[str, SubjectTruth] = {}

    @property
    def _step(self) -> float:
        return self.spec.tr / self.spec.oversampling

    def responses(self, subject: str) -> Responses:
        """Simulated responses, scaled to unit variance in expectation: signal plus noise over the square root of 1 + SNR."""
        truth = self.truth(subject)
        spec = self.spec
        number = self.subjects.index(subject)
        phi = float(np.random.default_rng([spec.seed, _AUTOCORRELATION, number]).uniform(*spec.ar_range))
        amplitudes = (spec.drift, spec.physiological, spec.spike_share)
        runs: dict[str, Float32Array] = {}
        for k, (name, story) in enumerate(self.stories.items()):
            rng = np.random.default_rng([spec.seed, _NOISE, number, k])
            n_repeats = spec.n_repeats if k >= spec.n_train else 1
            noise = [scan_noise(story.n_trs, len(self.rois), spec.tr, phi, amplitudes, rng) for _ in range(n_repeats)]
            run = truth.signal[name] + np.stack(noise) / np.sqrt(1 + truth.snr)
            runs[name] = run.astype(np.float32)
        return Responses(subject, MappingProxyType(runs), self.rois)

    def truth(self, subject: str) -> SubjectTruth:
        """The planted quantities of one subject; raises UserError for an unknown subject."""
        require_subject(self.name, subject, self.subjects)
        if subject not in self._truth:
            self._truth[subject] = self._plant(self.subjects.index(subject))
        return self._truth[subject]

    def signal(self, subject: str) -> Mapping[str, Float32Array]:
        """Story -> (n_trs, n_voxels) the noise-free part of the responses: the oracle's prediction."""
        return self.truth(subject).signal

    def drives(self, story: str) -> dict[str, FloatArray]:
        """Space -> (n_trs, n_columns) what drives the voxels in ``story``, through the undelayed HRF."""
        if story not in self.stories:
            raise unknown_name(f"story of {self.name}", story, self.stories)
        drive = convolve_spaces(self._grids[story], self._step, 0.0, self.spec.oversampling)
        cuts = np.cumsum([self._grids[story][space].shape[1] for space in self.space_names])[:-1]
        return dict(zip(self.space_names, np.split(drive, cuts, axis=1), strict=True))

    def grid(self, story: str) -> Mapping[str, FloatArray]:
        """Space -> (n_trs * oversampling, n_columns): the orthogonal spaces of ``story`` before the HRF."""
        return self._grids[story]

    def _space_grids(
        self, spoken: Sequence[SpokenStory], latents: Sequence[Mapping[str, FloatArray]]
    ) -> list[dict[str, FloatArray]]:
        """For each story space -> (n_trs * oversampling, n_columns), in the order of ``space_names``."""
        n_steps = [story.n_trs * self.spec.oversampling for story in spoken]
        return grid_spaces(spoken, latents, self._step, n_steps)

    def _tell(self) -> list[SpokenStory]:
        spec = self.spec
        plan = [(f"train{k + 1:02d}", spec.train_trs) for k in range(spec.n_train)]
        plan += [(f"test{k + 1:02d}", spec.test_trs) for k in range(spec.n_test)]
        return [
            tell_story(self._world, name, n_trs, spec.tr, self._step, np.random.default_rng([spec.seed, _STORY, k]))
            for k, (name, n_trs) in enumerate(plan)
        ]

    def _as_story(self, spoken: SpokenStory, latents: Mapping[str, FloatArray]) -> Story:
        spec = self.spec
        tables = dict(latents)
        tables["log_frequency"] = self._world.log_frequency[spoken.entries][:, None]
        tables["sentence_position"] = spoken.position[:, None]
        tables["depth"] = spoken.depth[:, None]
        tables["surprisal"] = spoken.surprisal[:, None]
        return make_story(
            spoken.name,
            spoken.words,
            spoken.onsets,
            spoken.onsets + spoken.durations,
            n_trs=spoken.n_trs,
            tr=spec.tr,
            text=spoken.text,
            spans=spoken.spans,
            acoustics=spoken.spectrum.reshape(spoken.n_trs, spec.oversampling, -1).sum(axis=1),
            annotations=tables,
        )

    def _fixed_split(self) -> Split:
        segments = [Segment(name, 0, story.n_trs) for name, story in self.stories.items()]
        n_train = self.spec.n_train
        return Split(folds=((tuple(segments[:n_train]), tuple(segments[n_train:])),))

    def _lexicon_vectors(self) -> StaticVectors:
        words = self._world.lexicon.words
        raw = self._world.entry_vectors(np.arange(len(words)))
        index = {word.lower(): k for k, word in enumerate(words)}
        index["an"] = index["a"]  # one entry, two spellings
        vectors = ((raw - self._centre["lex"]) / self._scale["lex"]).astype(np.float32)
        return StaticVectors(name=f"{self.name} lexicon", index=MappingProxyType(index), vectors=vectors)

    def _drive(self, delay: float) -> FloatArray:
        """(n_trs of all stories, n_columns of all spaces) through the HRF of one delay."""
        if delay not in self._drives:
            self._drives[delay] = np.concatenate(
                [convolve_spaces(grid, self._step, delay, self.spec.oversampling) for grid in self._grids.values()]
            )
        return self._drives[delay]

    def _plant(self, number: int) -> SubjectTruth:
        """Draw one subject's tuning, delays and SNR, and mix the spaces into voxels."""
        spec = self.spec
        n_voxels = len(self.rois)
        widths = [grid.shape[1] for grid in self._grids["train01"].values()]
        group = np.random.default_rng([spec.seed, _GROUP]).standard_normal((sum(widths), n_voxels))
        rng = np.random.default_rng([spec.seed, _SUBJECT, number])
        own = rng.standard_normal(group.shape)
        weights = np.sqrt(spec.group_share) * group + np.sqrt(1 - spec.group_share) * own
        jitter = np.clip(rng.normal(0, spec.hrf_jitter_s, n_voxels), -MAX_DELAY_S, MAX_DELAY_S)
        delays = np.round(jitter / self._step) * self._step
        shares = np.array([self.roi_shares[roi] for roi in self.rois])
        snr = np.where(self.rois == "NULL", 0.0, spec.snr * rng.gamma(2.0, 0.5, n_voxels))
        signal = np.zeros((sum(story.n_trs for story in self.stories.values()), n_voxels))
        starts = np.cumsum([0, *widths])
        for delay in np.unique(delays):
            at = np.flatnonzero(delays == delay)
            drive = self._drive(float(delay))
            for k in range(len(self.space_names)):
                columns = slice(starts[k], starts[k + 1])
                part = drive[:, columns] @ weights[columns][:, at]
                signal[:, at] += np.sqrt(shares[at, k]) * part / part.std(axis=0)
        scale = signal.std(axis=0)
        signal *= np.sqrt(snr / (1 + snr)) / np.where(scale > 0, scale, 1.0)
        cuts = np.cumsum([story.n_trs for story in self.stories.values()])[:-1]
        runs = dict(zip(self.stories, np.split(signal.astype(np.float32), cuts), strict=True))
        return SubjectTruth(self.rois, snr, shares, delays, MappingProxyType(runs))


@lru_cache(maxsize=4)
def open_simulated(preset: str = DEFAULT_PRESET, seed: int = 0) -> SimulatedNarrative:
    """The simulated data set of a preset, kept in this process; raises UserError for an unknown preset."""
    if preset not in PRESETS:
        raise unknown_name("preset of the simulated data set", preset, PRESETS)
    name = NAME if preset == DEFAULT_PRESET and seed == 0 else f"{NAME}:{preset}" + (f":{seed}" if seed else "")
    return SimulatedNarrative(replace(PRESETS[preset], seed=seed), name)
