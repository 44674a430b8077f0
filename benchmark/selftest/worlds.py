# SPDX-License-Identifier: Apache-2.0
"""Simulated data sets, taken through the real pipeline."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.filters import high_pass
from voxelboard.benchmark.errors import InvalidNumbers
from voxelboard.benchmark.features.extract import resample_states
from voxelboard.benchmark.models.base import WordModel
from voxelboard.benchmark.protocol import V1, Protocol, TaskName
from voxelboard.benchmark.readers.base import (
    CeilingKind,
    DatasetKind,
    NarrativeData,
    Responses,
    Split,
    StaticVectors,
)
from voxelboard.benchmark.readers.simulated import PRESETS, SimulatedNarrative, SimulationSpec
from voxelboard.benchmark.statistics.ranking import influence_tables
from voxelboard.benchmark.statistics.scores import BlockStatistics, coarsen, concatenate, pool_rois, segment_statistics
from voxelboard.benchmark.stimuli.stories import Story
from voxelboard.benchmark.tasks.encode import ConfoundFold, Encoding, encode, fit_confounds
from voxelboard.benchmark.tasks.held_out import held_out_responses
from voxelboard.benchmark.tasks.preparation import NOISE_BRAIN, Cohort, cohorts, rows_of
from voxelboard.benchmark.tasks.scoring import HeldOutResponses, roi_statistics

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
Features = Mapping[str, Float32Array]  # story -> (n_layers, n_trs, n_features)
Tables = dict[str, BlockStatistics]  # subject -> block statistics, ROIs as units
Progress = Callable[[str], None]
T = TypeVar("T")

CPU = torch.device("cpu")
# A scored run has a brain of noise of 512 voxels; checks that do not look at it do without.
PROTOCOL = replace(V1, name="selftest", score=replace(V1.score, noise_brain_voxels=8))


class AlteredData:
    """A data set with other responses, and perhaps another split or other stories; satisfies ``NarrativeData``."""

    kind: DatasetKind
    task: TaskName = "narrative"
    ceiling_kind: CeilingKind
    static_vectors: StaticVectors | None

    def __init__(
        self,
        original: NarrativeData,
        alter: Callable[[Responses], Responses] = lambda responses: responses,
        *,
        split: Split | None = None,
        stories: Mapping[str, Story] | None = None,
        subjects: tuple[str, ...] | None = None,
    ) -> None:
        self.name, self.version, self.kind = f"{original.name}, altered", original.version, original.kind
        self.ceiling_kind, self.static_vectors = original.ceiling_kind, original.static_vectors
        self.scored_rois = original.scored_rois
        self.split = split or original.split
        self.stories = stories or original.stories
        self.subjects = subjects or original.subjects
        self._original, self._alter = original, alter

    def responses(self, subject: str) -> Responses:
        """The altered responses of one subject."""
        return self._alter(self._original.responses(subject))


class World:
    """A data set after preparation, with its confounds: what all models of a check share."""

    def __init__(self, data: NarrativeData, protocol: Protocol = PROTOCOL) -> None:
        self.data = data
        self.protocol = protocol
        self.cohort: Cohort = cohorts(data, data.subjects, protocol)[0]

    @cached_property
    def confounds(self) -> tuple[ConfoundFold, ...]:
        """The confound designs, floors and projectors of each fold."""
        return fit_confounds(self.data.stories, self.cohort, self.protocol, CPU)

    @cached_property
    def tests(self) -> dict[str, HeldOutResponses]:
        """Subject -> its test responses."""
        return {subject: held_out_responses(self.data, self.cohort, subject) for subject in self.data.subjects}

    def features(self, model: WordModel, layer: int | None = None) -> dict[str, Float32Array]:
        """Story -> (n_layers, n_trs, n_features); ``layer`` keeps that one alone."""
        keep = slice(None) if layer is None else slice(layer, layer + 1)
        context = self.protocol.context
        return {
            name: resample_states(model.states(story, context)[keep], story, self.protocol)
            for name, story in self.data.stories.items()
        }

    def encode(
        self, features: Features, each_layer: Callable[[int, int, Float32Array], None] | None = None
    ) -> Encoding:
        """The protocol's encoding of all subjects."""
        return encode(features, self.data.stories, self.cohort, self.confounds, self.protocol, CPU, each_layer)

    def tables(self, folds: Sequence[Float32Array]) -> Tables:
        """Block statistics of each subject; ``folds`` are predictions of one outer fold, (n_test_rows, n_voxels)."""
        (predictions,) = folds
        return {
            subject: roi_statistics(predictions[:, self.cohort.columns[subject]], test, self.protocol.score)
            for subject, test in self.tests.items()
        }

    def score(self, tables: Tables) -> float:
        """The macro score over gated ROIs and subjects, as the board computes it."""
        return float(self.influence(tables).mean())

    def influence(self, tables: Tables) -> FloatArray:
        """(n_subjects, n_blocks) influence values of the macro score."""
        policy = self.protocol.score
        long = [coarsen(tables[subject], policy.inference_block_trs) for subject in self.data.subjects]
        z, _ = influence_tables([long], policy=policy)
        own: FloatArray = z[0]
        return own

    def noise_correlation(self, folds: Sequence[Float32Array]) -> tuple[FloatArray, Float32Array]:
        """Mean response and predictions of the noise brain, each (n_test_rows, n_noise_voxels)."""
        (predictions,) = folds
        runs = self.cohort.folds[0].test_responses[NOISE_BRAIN]
        return np.concatenate([run.mean(axis=0) for run in runs]), predictions[:, self.cohort.columns[NOISE_BRAIN]]


class SimulatedWorld(World):
    """A world of the generator, whose noise-free responses are known."""

    data: SimulatedNarrative

    def __init__(self, spec: SimulationSpec, protocol: Protocol = PROTOCOL) -> None:
        super().__init__(SimulatedNarrative(spec), protocol)
        self._signals: dict[str, list[FloatArray]] = {}

    def signal(self, subject: str) -> list[FloatArray]:
        """The noise-free part of the prepared test responses, (n_rows, n_voxels) for each test segment."""
        if subject not in self._signals:
            self._signals[subject] = self._clean(subject)
        return self._signals[subject]

    def _clean(self, subject: str) -> list[FloatArray]:
        policy, found = self.protocol.design, []
        responses, signal = self.data.responses(subject), self.data.signal(subject)
        for segment in self.data.split.test_segments:
            rows, tr = rows_of(segment, policy), self.data.stories[segment.story].tr
            runs = responses.runs[segment.story][:, rows].astype(np.float64)
            spread = np.stack([high_pass(run, tr, policy.high_pass_s).std(axis=0) for run in runs])
            clean = high_pass(signal[segment.story][rows], tr, policy.high_pass_s)
            found.append(clean * (1 / spread).mean(axis=0))
        return found

    def true_tables(self, folds: Sequence[Float32Array]) -> Tables:
        """As :meth:`tables`, against the noise-free responses."""
        (predictions,) = folds
        found = {}
        for subject, test in self.tests.items():
            own = test.split(predictions[:, self.cohort.columns[subject]])
            parts = [
                segment_statistics(part, clean[None], kind="none", block_trs=self.protocol.score.stored_block_trs)
                for part, clean in zip(own, self.signal(subject), strict=True)
            ]
            found[subject] = pool_rois(concatenate(parts), test.rois, test.scored)
        return found


def only_segments(tables: Tables, keep: Sequence[int]) -> Tables:
    """The blocks of some test segments."""
    found = {}
    for subject, stats in tables.items():
        rows = np.isin(stats.block_segment, keep)
        found[subject] = replace(
            stats, c=stats.c[rows], q=stats.q[rows], s=stats.s[rows], block_segment=stats.block_segment[rows]
        )
    return found


def plain_score(tables: Tables) -> float:
    """Mean over subjects and ROIs without a gate: for noise-free responses."""
    scores = []
    for stats in tables.values():
        c, q, s = stats.totals()
        if not (s > 0).all():
            raise InvalidNumbers("a ROI has no signal")
        scores.append(np.mean(c / np.sqrt(np.where(q > 0, q, 1.0) * s)))
    return float(np.mean(scores))


def digest(*arrays: NDArray[np.generic]) -> str:
    """SHA-256 of the bytes of arrays of plain numbers."""
    found = hashlib.sha256()
    for array in arrays:
        if array.dtype.hasobject:
            raise TypeError("an array of objects has no bytes of its own")
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


@dataclass
class Workbench:
    """One run of the self-test: how much is simulated, from which seed, and what checks share.

    Attributes
    ----------
    full : more simulations and tighter allowances.
    seed : of everything random.
    """

    full: bool = False
    seed: int = 0
    progress: Progress = lambda message: None
    _shared: dict[str, object] = field(default_factory=dict)

    def pick(self, quick: T, full: T) -> T:
        """The size of a simulation."""
        return full if self.full else quick

    def rng(self, *stream: int) -> np.random.Generator:
        """A generator for one use; ``stream`` tells uses apart."""
        return np.random.default_rng([self.seed, 31, *stream])

    def small(self, k: int = 0) -> SimulatedWorld:
        """World ``k`` of the preset ``tiny``: 3 subjects, 48 voxels each, six stories."""
        return self._once(f"small {k}", lambda: SimulatedWorld(replace(PRESETS["tiny"], seed=self.seed + 100 * k)))

    def listeners(self, k: int = 0) -> SimulatedWorld:
        """World ``k`` of the size of the embedded data set (15 training stories), with two more test stories."""
        spec = replace(PRESETS["demo"], n_subjects=5, n_test=3, seed=self.seed + 100 * k + 50)
        return self._once(f"listeners {k}", lambda: SimulatedWorld(spec))

    def nulls(self, k: int = 0) -> SimulatedWorld:
        """World ``k`` for models that know nothing: few voxels and training stories, a test story of full length."""
        spec = replace(PRESETS["tiny"], n_subjects=5, test_trs=250, n_repeats=4, seed=self.seed + 100 * k + 20)
        return self._once(f"nulls {k}", lambda: SimulatedWorld(spec))

    def quiet(self) -> SimulatedWorld:
        """One listener of few voxels beside a brain of noise of the protocol's size."""
        spec = replace(PRESETS["tiny"], n_subjects=1, n_voxels=4, test_trs=250, seed=self.seed + 30)
        return self._once("quiet", lambda: SimulatedWorld(spec, V1))

    def share(self, name: str, compute: Callable[[], T]) -> T:
        """What ``compute`` gives, computed once in this run."""
        return self._once(name, compute)

    def _once(self, name: str, compute: Callable[[], T]) -> T:
        if name not in self._shared:
            self._shared[name] = compute()
        found: T = self._shared[name]  # type: ignore[assignment]  # a name is used for one type
        return found
