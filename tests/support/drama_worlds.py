# SPDX-License-Identifier: Apache-2.0
"""Simulated dramas of a size for tests, and what can be said of them without the code under test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from voxelboard.benchmark.protocol import V1, Protocol
from voxelboard.benchmark.readers.base import Segment
from voxelboard.benchmark.readers.drama_base import PresentedRuns, check_title_folds
from voxelboard.benchmark.readers.simulated_drama import DramaSpec, SimulatedDrama
from voxelboard.benchmark.tasks.drama_encode import DramaEncoding, LevelFeatures, encode_drama, fit_film_confounds
from voxelboard.benchmark.tasks.encode import ConfoundFold
from voxelboard.benchmark.tasks.preparation import Cohort, cohorts
from voxelboard.benchmark.tasks.scoring import HeldOutResponses

CPU = torch.device("cpu")


@dataclass(frozen=True)
class DramaWorld:
    """A simulated drama, prepared: one cohort, its confounds."""

    spec: DramaSpec
    protocol: Protocol = V1

    @cached_property
    def data(self) -> SimulatedDrama:
        return SimulatedDrama(self.spec)

    @cached_property
    def cohort(self) -> Cohort:
        def rule(train: Sequence[Segment]) -> np.ndarray:
            return check_title_folds(self.data.runs, train, self.data.split.test_segments, self.data.inner_folds)

        (cohort,) = cohorts(PresentedRuns(self.data), self.data.subjects, self.protocol, inner_folds=rule)
        return cohort

    @cached_property
    def confounds(self) -> ConfoundFold:
        return fit_film_confounds(self.data.runs, self.data.levels, self.cohort, self.protocol, CPU)

    def encode(self, features: LevelFeatures, **options: object) -> DramaEncoding:
        shared = (self.data.runs, self.cohort, self.confounds, self.data.scored_rois, self.protocol, CPU)
        return encode_drama(features, *shared, **options)

    def oracle(self) -> dict[str, Mapping[str, np.ndarray]]:
        """Level -> run -> (1, n_trs, n_meanings) what is planted."""
        return {
            level: {name: run.latents[level][None].astype(np.float32) for name, run in self.data.runs.items()}
            for level in self.data.levels
        }

    def test(self, subject: str) -> HeldOutResponses:
        runs = self.cohort.folds[0].test_responses[subject]
        return HeldOutResponses(runs, None, self.data.rois, self.data.scored_rois, "repeats")

    def mean_response(self, subject: str) -> np.ndarray:
        """(n_test_rows, n_voxels)."""
        return np.concatenate([run.mean(axis=0) for run in self.test(subject).segments])
