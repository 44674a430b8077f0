# SPDX-License-Identifier: Apache-2.0
"""Canaries: analyses that must find nothing. They run inside every evaluation and stop it when they find something.

Source: statistics.md E1 and E2; the time-only feature (OASM) after Hadidi et al. 2025.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.designs import primal_problem
from voxelboard.benchmark.encoding.ridge import fit_ridge
from voxelboard.benchmark.errors import InvalidNumbers
from voxelboard.benchmark.protocol import Protocol
from voxelboard.benchmark.readers.base import Timed
from voxelboard.benchmark.tasks.encode import common_tr, replace_delays, segmented
from voxelboard.benchmark.tasks.preparation import Cohort
from voxelboard.benchmark.tasks.scoring import HeldOutResponses, correlation_influence

FloatArray = NDArray[np.float64]


def time_only_features(stories: Mapping[str, Timed], sigma_trs: float) -> dict[str, FloatArray]:
    """Story -> (n_trs, n_trs of all stories): the identity of each TR, smoothed in time with a Gaussian."""
    total = sum(story.n_trs for story in stories.values())
    features, first = {}, 0
    for name, story in stories.items():
        distance = np.arange(story.n_trs)[:, None] - np.arange(story.n_trs)[None, :]
        columns = np.zeros((story.n_trs, total))
        columns[:, first : first + story.n_trs] = np.exp(-0.5 * (distance / sigma_trs) ** 2)
        features[name] = columns
        first += story.n_trs
    return features


def time_only_predictions(
    stories: Mapping[str, Timed], cohort: Cohort, protocol: Protocol, device: torch.device
) -> list[NDArray[np.float32]]:
    """Predictions of each fold's test rows from a feature that knows only when a TR happened.

    With whole stories left out the test rows are orthogonal to all training rows, so every prediction is exactly 0 and
    nothing is fitted.
    """
    predictions = []
    for fold in cohort.folds:
        n_test = sum(run.shape[1] for run in next(iter(fold.test_responses.values())))
        shared = {segment.story for segment in fold.train} & {segment.story for segment in fold.test}
        if not shared:
            predictions.append(np.zeros((n_test, cohort.n_voxels), dtype=np.float32))
            continue
        used = {name: stories[name] for name in {segment.story for segment in (*fold.train, *fold.test)}}
        features = time_only_features(used, protocol.score.oasm_sigma_trs)
        design = segmented(features, replace_delays(protocol, (0,)), common_tr(used))
        # Not scaled by training data: a TR far from all training TRs has next to no training SD. One alpha: the inner
        # folds know nothing of time either and would choose the largest, which hides a leak.
        unscaled = np.ones(design.n_features)
        problem = primal_problem(design.rows(fold.train, unscaled), design.rows(fold.test, unscaled), device)
        fit = fit_ridge(problem, fold.responses, fold.inner_folds, (1.0,))
        predictions.append(fit.test_predictions)
    return predictions


def check_time_only(explained: Mapping[str, float], protocol: Protocol) -> dict[str, float]:
    """The share of variance that the time-only feature explains for each subject, if the split does not leak.

    A share of variance and not a correlation: where segments of one story are left out, its predictions are next to 0
    and their correlation with anything is noise.

    Raises
    ------
    InvalidNumbers
        when a share exceeds the protocol's limit.
    """
    limit = protocol.score.oasm_limit
    for subject, share in explained.items():
        if share > limit:
            raise InvalidNumbers(
                f"canary: a feature that knows only when a TR happened explains {share:.4f} of the variance of "
                f"subject {subject} (limit {limit}): the split leaks time between training and test data"
            )
    return dict(explained)


def check_noise_brain(test: HeldOutResponses, predictions: NDArray[np.float32], protocol: Protocol) -> float:
    """Mean r of a model's predictions on a brain of noise; ``predictions`` (n_test_rows, n_noise_voxels).

    Raises
    ------
    InvalidNumbers
        when it exceeds the protocol's limit: something of the test data reached the training.
    """
    _, correlations = correlation_influence(predictions, test, protocol.score)
    mean = float(correlations.mean(dtype=np.float64))
    if abs(mean) > protocol.score.noise_brain_limit:
        raise InvalidNumbers(
            f"canary: the model predicts a brain of noise with r = {mean:.4f} "
            f"(limit {protocol.score.noise_brain_limit}): the test data leak into the training"
        )
    return mean
