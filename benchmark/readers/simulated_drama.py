# SPDX-License-Identifier: Apache-2.0
"""The embedded drama: simulated viewers of simulated films, with planted tuning to five levels. Needs no download."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from voxelboard.benchmark.errors import UserError, unknown_name
from voxelboard.benchmark.protocol import TaskName
from voxelboard.benchmark.readers.base import CeilingKind, DatasetKind, Responses, StaticVectors
from voxelboard.benchmark.readers.drama_base import check_levels, last_runs_split, title_folds
from voxelboard.benchmark.readers.simulated_brain import hrf, scan_noise
from voxelboard.benchmark.stimuli.annotations import LEVEL_NAMES, Run, make_run
from voxelboard.benchmark.stimuli.simulated_drama import TITLES, Episode, cut_runs, drama_world, tell_episode

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]

NAME = "simulated-drama"
VERSION = "1.0.0"  # of the generator: other bytes are another version
DEFAULT_PRESET = "demo"
LOW_LEVEL = "low"
SPACES = (LOW_LEVEL, *LEVEL_NAMES)
# Nominal shares of explainable variance by space: low, speech, object, story, summary, timeplace.
ROI_SHARES: Mapping[str, tuple[float, ...]] = {
    "AC": (0.40, 0.45, 0.03, 0.07, 0.03, 0.02),
    "VC": (0.30, 0.03, 0.55, 0.05, 0.03, 0.04),
    "STS": (0.05, 0.40, 0.10, 0.30, 0.10, 0.05),
    "PCun": (0.03, 0.05, 0.07, 0.60, 0.20, 0.05),
    "mPFC": (0.02, 0.05, 0.05, 0.23, 0.60, 0.05),
    "RSC": (0.08, 0.02, 0.20, 0.05, 0.05, 0.60),
    "NULL": (0.0,) * 6,
}
# A description of what is seen runs ahead of what a viewer has made of it: with the peak of the haemodynamic response at
# 5 s the levels peak at 8 s, where the delays of 8 to 10 s that Nakagi et al. found best are centred on the response.
LEVEL_LATENCY_S = 3.0
# Streams of random numbers under one seed.
_EPISODE, _GROUP, _SUBJECT, _NOISE, _AUTOCORRELATION = 2, 3, 4, 5, 6


@dataclass(frozen=True)
class DramaSpec:
    """Everything that determines a simulated drama."""

    seed: int = 0
    n_subjects: int = 5
    n_titles: int = 4  # the second one has two episodes
    n_runs: int = 4  # of an episode, the last one of a title is test
    run_trs: int = 150  # scored rows of a run
    n_repeats: int = 3  # presentations of the test runs
    n_voxels: int = 12  # per ROI
    snr: float = 0.25  # mean signal variance over noise variance of a voxel
    ar_range: tuple[float, float] = (0.4, 0.7)  # noise autocorrelation at lag 1, at TR 1 s
    drift: float = 0.5  # sd, relative to the autoregressive noise
    physiological: float = 0.3
    spike_share: float = 0.01  # of TRs
    hrf_jitter_s: float = 0.6  # sd of a voxel's haemodynamic delay
    group_share: float = 0.6  # of a voxel's tuning, shared by all subjects

    def __post_init__(self) -> None:
        if min(self.n_subjects, self.n_voxels) < 1 or self.n_repeats < 2 or self.n_runs < 2:
            raise UserError(
                "a simulated drama needs a subject, a voxel, two runs and two presentations of its test runs"
            )
        if not 2 <= self.n_titles <= len(TITLES) or self.run_trs < 60:
            raise UserError(f"a simulated drama needs 2 to {len(TITLES)} titles and runs of 60 s or more")
        if self.snr < 0 or self.seed < 0 or not 0 <= self.group_share <= 1:
            raise UserError("snr and seed must be 0 or more, group_share between 0 and 1")


PRESETS: Mapping[str, DramaSpec] = {
    "tiny": DramaSpec(n_subjects=2, n_voxels=6, n_runs=3, run_trs=90, snr=0.5),  # smoke tests
    "demo": DramaSpec(),
    # enough data that estimates of unique shares come close to the population's
    "paper": DramaSpec(n_subjects=6, n_titles=8, n_runs=6, run_trs=300, n_voxels=24),
}


@dataclass(frozen=True, eq=False)
class DramaTruth:
    """What no scanner tells: the planted quantities of one subject's voxels."""

    rois: NDArray[np.str_]  # (n_voxels,)
    snr: FloatArray  # (n_voxels,)
    shares: FloatArray  # (n_voxels, 6) nominal shares of the explainable variance, in the order of ``SPACES``
    signal: Mapping[str, Float32Array]  # run -> (n_trs, n_voxels), on the scale of the responses


class SimulatedDrama:
    """Simulated viewers of simulated films; satisfies ``DramaData``.

    Runs are ``harbour_run-01 ..``; subjects ``sim01 ..``. ``Run.latents`` hold what each level means in each second, and
    ``Run.annotations`` the five levels and ``speech@jp``, the same speech in another language. Same spec, same bytes.
    """

    kind: DatasetKind
    ceiling_kind: CeilingKind

    def __init__(self, spec: DramaSpec, name: str = NAME) -> None:
        self.name = name
        self.version = VERSION
        self.kind = "simulated"
        self.task: TaskName = "drama"
        self.ceiling_kind = "repeats"
        self.spec = spec
        self.subjects = tuple(f"sim{k + 1:02d}" for k in range(spec.n_subjects))
        self.scored_rois = tuple(roi for roi in ROI_SHARES if roi != "NULL")
        self.rois: NDArray[np.str_] = np.repeat(np.array(list(ROI_SHARES)), spec.n_voxels)
        self.runs: Mapping[str, Run] = MappingProxyType(self._shoot())
        self.levels = check_levels(self.runs, LEVEL_NAMES)
        titles = TITLES[: spec.n_titles]
        last = {run.title: name for name, run in self.runs.items()}
        self.split = last_runs_split(self.runs, [last[title] for title in titles])
        self.inner_folds: Mapping[str, int] = title_folds(self.runs, {title: k % 4 for k, title in enumerate(titles)})
        self.static_vectors: StaticVectors | None = _lexicon_vectors()
        self._scales = self._space_scales()
        self._truth: dict[str, DramaTruth] = {}

    def responses(self, subject: str) -> Responses:
        """Signal plus noise, scaled to unit variance in expectation; the test runs were seen several times."""
        truth, spec, number = self.truth(subject), self.spec, self._number(subject)
        phi = float(np.random.default_rng([spec.seed, _AUTOCORRELATION, number]).uniform(*spec.ar_range))
        amplitudes = (spec.drift, spec.physiological, spec.spike_share)
        repeated = {segment.story for segment in self.split.test_segments}
        runs: dict[str, Float32Array] = {}
        for k, (name, run) in enumerate(self.runs.items()):
            rng = np.random.default_rng([spec.seed, _NOISE, number, k])
            n_repeats = spec.n_repeats if name in repeated else 1
            noise = [scan_noise(run.n_trs, len(self.rois), run.tr, phi, amplitudes, rng) for _ in range(n_repeats)]
            runs[name] = (truth.signal[name] + np.stack(noise) / np.sqrt(1 + truth.snr)).astype(np.float32)
        return Responses(subject, MappingProxyType(runs), self.rois)

    def truth(self, subject: str) -> DramaTruth:
        """The planted quantities of one subject; raises UserError for an unknown subject."""
        if subject not in self._truth:
            self._truth[subject] = self._plant(self._number(subject))
        return self._truth[subject]

    def signal(self, subject: str) -> Mapping[str, Float32Array]:
        """Run -> (n_trs, n_voxels) the noise-free part of the responses."""
        return self.truth(subject).signal

    def drives(self, run: str, delay_s: float = 0.0) -> dict[str, FloatArray]:
        """Space -> (n_trs, n_columns) what drives the voxels, through the HRF of one delay, in units of its own sd."""
        shot = self.runs[run]
        spaces = {LOW_LEVEL: _low_level(shot), **shot.latents}
        return {
            space: fftconvolve(
                (spaces[space] - self._scales[space][0]) / self._scales[space][1],
                hrf(shot.tr, delay_s + (0.0 if space == LOW_LEVEL else LEVEL_LATENCY_S))[:, None],
                axes=0,
            )[: shot.n_trs]
            for space in SPACES
        }

    def _number(self, subject: str) -> int:
        if subject not in self.subjects:
            raise unknown_name(f"subject of {self.name}", subject, self.subjects)
        return self.subjects.index(subject)

    def _shoot(self) -> dict[str, Run]:
        """All runs: title by title, episode by episode, cut with overlap."""
        spec, runs, number = self.spec, dict[str, Run](), 0
        for k, title in enumerate(TITLES[: spec.n_titles]):
            n_run = 0
            for _ in range(2 if k == 1 else 1):
                rng = np.random.default_rng([spec.seed, _EPISODE, number])
                number += 1
                for part, skip in cut_runs(tell_episode(spec.n_runs * spec.run_trs, rng), spec.n_runs):
                    n_run += 1
                    runs[f"{title}_run-{n_run:02d}"] = _as_run(f"{title}_run-{n_run:02d}", title, part, skip)
        return runs

    def _space_scales(self) -> dict[str, tuple[FloatArray, FloatArray]]:
        """Space -> mean and sd of its columns over all runs."""
        tables = {space: np.concatenate([run.latents[space] for run in self.runs.values()]) for space in LEVEL_NAMES}
        tables[LOW_LEVEL] = np.concatenate([_low_level(run) for run in self.runs.values()])
        return {space: (table.mean(axis=0), table.std(axis=0) + 1e-9) for space, table in tables.items()}

    def _plant(self, number: int) -> DramaTruth:
        """Draw one subject's tuning, delays and SNR, and mix the spaces into voxels."""
        spec, n_voxels = self.spec, len(self.rois)
        first = next(iter(self.runs))
        widths = {space: table.shape[1] for space, table in self.drives(first).items()}
        group = np.random.default_rng([spec.seed, _GROUP]).standard_normal((sum(widths.values()), n_voxels))
        rng = np.random.default_rng([spec.seed, _SUBJECT, number])
        weights = np.sqrt(spec.group_share) * group + np.sqrt(1 - spec.group_share) * rng.standard_normal(group.shape)
        delays = np.round(np.clip(rng.normal(0, spec.hrf_jitter_s, n_voxels), -1.5, 1.5) * 2) / 2
        shares = np.array([ROI_SHARES[roi] for roi in self.rois])
        snr = np.where(self.rois == "NULL", 0.0, spec.snr * rng.gamma(2.0, 0.5, n_voxels))
        signal = np.zeros((sum(run.n_trs for run in self.runs.values()), n_voxels))
        starts = np.cumsum([0, *widths.values()])
        for delay in np.unique(delays):
            at = np.flatnonzero(delays == delay)
            driven = [self.drives(name, float(delay)) for name in self.runs]
            for k, space in enumerate(SPACES):
                drive = np.concatenate([spaces[space] for spaces in driven])
                part = drive @ weights[starts[k] : starts[k + 1], at]
                signal[:, at] += np.sqrt(shares[at, k]) * part / part.std(axis=0)
        scale = signal.std(axis=0)
        signal *= np.sqrt(snr / (1 + snr)) / np.where(scale > 0, scale, 1.0)
        cuts = np.cumsum([run.n_trs for run in self.runs.values()])[:-1]
        runs = dict(zip(self.runs, np.split(signal.astype(np.float32), cuts), strict=True))
        return DramaTruth(self.rois, snr, shares, MappingProxyType(runs))


def _as_run(name: str, title: str, part: Episode, skip: int) -> Run:
    return make_run(
        name,
        title,
        n_trs=part.n_seconds,
        skip_trs=skip,
        annotations=part.annotations,
        acoustics=part.acoustics,
        visuals=part.visuals,
        latents=part.latents,
    )


def _low_level(run: Run) -> FloatArray:
    assert run.acoustics is not None
    assert run.visuals is not None
    return np.column_stack([run.acoustics, run.visuals])


def _lexicon_vectors() -> StaticVectors:
    """What the words mean, without error: the table of the static row."""
    world = drama_world()
    index = {word.lower(): k for k, word in enumerate(world.lexicon.words)}
    return StaticVectors(f"{NAME} lexicon", MappingProxyType(index), world.embeddings.astype(np.float32))


@lru_cache(maxsize=4)
def open_simulated_drama(preset: str = DEFAULT_PRESET, seed: int = 0) -> SimulatedDrama:
    """The simulated drama of a preset, kept in this process; raises UserError for an unknown preset."""
    if preset not in PRESETS:
        raise unknown_name("preset of the simulated drama", preset, PRESETS)
    name = NAME if preset == DEFAULT_PRESET and seed == 0 else f"{NAME}:{preset}" + (f":{seed}" if seed else "")
    return SimulatedDrama(replace(PRESETS[preset], seed=seed), name)
