# SPDX-License-Identifier: Apache-2.0
"""Many models on one data set: responses and confounds are prepared once, every model is then a few fits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.protocol import Protocol
from voxelboard.benchmark.readers.base import NarrativeData
from voxelboard.benchmark.statistics.gates import gate_subjects
from voxelboard.benchmark.statistics.influence import unit_influence
from voxelboard.benchmark.statistics.scores import BlockStatistics, coarsen
from voxelboard.benchmark.tasks.encode import (
    BestLayers,
    ConfoundFold,
    Features,
    common_tr,
    fit_confounds,
    fit_unique,
    project,
    segmented,
)
from voxelboard.benchmark.tasks.held_out import held_out_responses
from voxelboard.benchmark.tasks.preparation import Cohort, cohorts
from voxelboard.benchmark.tasks.scoring import HeldOutResponses, by_roi, by_voxel, correlation_influence, roi_statistics

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SubjectScores:
    """One model, one subject, beyond the confounds.

    stats : block statistics by scored ROI. voxel_r : (n_voxels,) correlation of each voxel.
    """

    stats: BlockStatistics
    voxel_r: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Group:
    cohort: Cohort
    confounds: tuple[ConfoundFold, ...]
    tests: Mapping[str, HeldOutResponses]


class PreparedData:
    """A narrative data set, ready to score any number of models by the protocol.

    Parameters
    ----------
    n_train : training segments of each fold that are used, the first ones that all subjects have; None for all.
    """

    def __init__(self, data: NarrativeData, protocol: Protocol, device: torch.device, n_train: int | None = None):
        # no canary is asked here, so one voxel of noise is enough; the subjects' voxels do not depend on it
        protocol = replace(protocol, score=replace(protocol.score, noise_brain_voxels=1))
        self.data = data
        self.protocol = protocol
        self._device = device
        self._groups = []
        shared = None if n_train is None else _shared_stories(data)
        for cohort in cohorts(data, data.subjects, protocol, n_train, shared):
            tests = {subject: held_out_responses(data, cohort, subject) for subject in cohort.subjects}
            confounds = fit_confounds(data.stories, cohort, protocol, device, floor=False)
            self._groups.append(_Group(cohort, confounds, tests))

    @property
    def subjects(self) -> tuple[str, ...]:
        found = {subject for group in self._groups for subject in group.cohort.subjects}
        return tuple(subject for subject in self.data.subjects if subject in found)

    @property
    def stories(self) -> tuple[str, ...]:
        """The stories that are used, in the order of the data set."""
        used = {
            segment.story
            for group in self._groups
            for fold in group.cohort.folds
            for segment in (*fold.train, *fold.test)
        }
        return tuple(name for name in self.data.stories if name in used)

    @property
    def voxel_rois(self) -> dict[str, NDArray[np.str_]]:
        """Subject -> (n_voxels,) labels."""
        return {subject: group.cohort.rois[subject] for group in self._groups for subject in group.cohort.subjects}

    def score(self, features: Features) -> dict[str, SubjectScores]:
        """Subject -> scores of a model; ``features`` is story -> (n_layers, n_trs, n_features).

        Layer and alphas are chosen inside the training data, for each model and ROI by itself (task narrative).
        """
        found = {}
        for group in self._groups:
            predictions = self._predict(features, group)
            for subject, test in group.tests.items():
                folds = [fold[:, group.cohort.columns[subject]] for fold in predictions]
                stats = roi_statistics(by_roi(folds, test.rois), test, self.protocol.score)
                _, voxel_r = correlation_influence(by_voxel(folds), test, self.protocol.score)
                found[subject] = SubjectScores(stats, voxel_r)
        return {subject: found[subject] for subject in self.subjects}

    def _predict(self, features: Features, group: _Group) -> list[NDArray[np.float32]]:
        """(n_test_rows, n_voxels) of each fold: what the task narrative predicts beyond the confounds, and nothing else."""
        tr = common_tr(self.data.stories)
        predictions = []
        for fold, confound in zip(group.cohort.folds, group.confounds, strict=True):
            used = dict.fromkeys(segment.story for segment in (*fold.train, *fold.test))
            best = BestLayers(group.cohort, sum(len(basis) for basis in confound.bases))
            for layer in range(len(next(iter(features.values())))):
                design = segmented({name: features[name][layer] for name in used}, self.protocol, tr)
                problem = design.problem(fold.train, fold.test, device=self._device)
                fit = fit_unique(problem, fold, confound, self.protocol).fit
                best.offer(layer, fit, project(fit.test_predictions, confound.bases))
            predictions.append(best.predictions)
        return predictions


def _shared_stories(data: NarrativeData) -> tuple[str, ...]:
    """Stories that every subject heard: subjects with the same stories share their designs."""
    heard = [set(data.responses(subject).runs) for subject in data.subjects]
    return tuple(name for name in data.stories if all(name in stories for stories in heard))


def stack_influence(
    models: Sequence[Mapping[str, BlockStatistics]], subjects: Sequence[str], protocol: Protocol
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """(n_subjects, n_blocks, n_seeds, n_rois) influence values of H_u, and (n_rois,) which regions enter.

    Blocks have the inference length. The gate is that of the board: every subject against its own signal power, or all
    against the pooled one, or the region does not enter and has zeros. It looks at responses alone, so it is the same for all
    models.

    Parameters
    ----------
    models : of one kind, differing in their seed; subject -> block statistics by region.
    """
    values = []
    enters: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
    for model in models:
        long = [coarsen(model[subject], protocol.score.inference_block_trs) for subject in subjects]
        gated = gate_subjects(long, n_standard_errors=protocol.score.gate_standard_errors)
        enters = np.asarray(gated.scored.all(axis=0), dtype=np.bool_)
        values.append(np.stack([_influence(stats, enters) for stats in gated.subjects]))
    return np.stack(values, axis=2), enters


def _influence(stats: BlockStatistics, enters: NDArray[np.bool_]) -> FloatArray:
    """(n_blocks, n_rois) influence values, zeros for regions that do not enter."""
    values = np.zeros((stats.n_blocks, stats.n_units))
    if enters.any():
        kept = replace(stats, c=stats.c[:, enters], q=stats.q[:, enters], s=stats.s[:, enters])
        values[:, enters] = unit_influence(kept)
    return values
