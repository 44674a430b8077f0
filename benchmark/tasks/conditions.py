# SPDX-License-Identifier: Apache-2.0
"""A model fitted to intact stories, tested on what it makes of perturbed ones.

Each condition adds the test segments once more, under names of their own and with the features of the perturbed text. They
share the fit, its alphas and its layer, all of which come from intact training stories alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.protocol import Protocol
from voxelboard.benchmark.readers.base import Segment
from voxelboard.benchmark.statistics.scores import BlockStatistics
from voxelboard.benchmark.stimuli.stories import Story
from voxelboard.benchmark.tasks.encode import Features, encode, fit_confounds
from voxelboard.benchmark.tasks.preparation import Cohort, PreparedFold
from voxelboard.benchmark.tasks.scoring import HeldOutResponses, by_roi, roi_statistics

Float32Array = NDArray[np.float32]
INTACT = "intact"


def stories_tested(cohort: Cohort) -> tuple[str, ...]:
    """The stories that hold test segments, each once."""
    return tuple(dict.fromkeys(segment.story for fold in cohort.folds for segment in fold.test))


def condition_statistics(
    intact: Features,
    perturbed: Mapping[str, Features],
    stories: Mapping[str, Story],
    cohort: Cohort,
    tests: Mapping[str, HeldOutResponses],
    protocol: Protocol,
    device: torch.device,
) -> dict[str, dict[str, BlockStatistics]]:
    """Subject -> condition -> block statistics by scored ROI, beyond the confounds; ``INTACT`` among the conditions.

    Parameters
    ----------
    intact : story -> (n_layers, n_trs, n_features), of all stories.
    perturbed : condition -> the same of the test stories.
    tests : the subjects that are scored.
    """
    names = (INTACT, *perturbed)
    features, known = dict(intact), dict(stories)
    for condition in perturbed:
        for story in stories_tested(cohort):
            # the listener heard the intact story, so its confounds are those of the intact story
            features[_renamed(story, condition)] = perturbed[condition][story]
            known[_renamed(story, condition)] = stories[story]
    extended = replace(cohort, folds=tuple(_extended(fold, list(perturbed)) for fold in cohort.folds))
    confounds = fit_confounds(known, extended, protocol, device, floor=True)
    encoding = encode(features, known, extended, confounds, protocol, device)
    found: dict[str, dict[str, BlockStatistics]] = {}
    for subject, test in tests.items():
        columns = cohort.columns[subject]
        folds = [np.split(fold[:, columns], len(names)) for fold in encoding.predictions["unique"]]
        found[subject] = {
            name: roi_statistics(by_roi([parts[k] for parts in folds], test.rois), test, protocol.score)
            for k, name in enumerate(names)
        }
    return found


def _renamed(story: str, condition: str) -> str:
    return f"{story}\x1f{condition}"


def _extended(fold: PreparedFold, conditions: Sequence[str]) -> PreparedFold:
    """The fold with its test segments once more for each condition, all of a condition together."""
    added = tuple(
        Segment(_renamed(segment.story, condition), segment.start, segment.stop)
        for condition in conditions
        for segment in fold.test
    )
    n_times = 1 + len(conditions)
    responses = {subject: runs * n_times for subject, runs in fold.test_responses.items()}
    return replace(fold, test=(*fold.test, *added), test_responses=responses)
