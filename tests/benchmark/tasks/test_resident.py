# SPDX-License-Identifier: Apache-2.0
"""Responses on the device: the same results, and only where a fit has room beside them."""

from typing import Any

import numpy as np
import pytest
import torch

from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.readers.registry import open_dataset
from voxelboard.benchmark.tasks import encode as encoding
from voxelboard.benchmark.tasks.preparation import cohorts
from voxelboard.benchmark.tasks.resident import fits, moved, on_device


def test_a_copy_is_made_in_pieces_of_any_array(monkeypatch: pytest.MonkeyPatch) -> None:
    table = np.random.default_rng(0).standard_normal((50, 7)).astype(np.float32)
    table.flags.writeable = False  # as a memory map
    monkeypatch.setattr("voxelboard.benchmark.tasks.resident._BYTES_AT_ONCE", 100)
    np.testing.assert_array_equal(moved(table, torch.device("cpu")).numpy(), table)


def test_room_is_that_of_the_responses_and_a_fit() -> None:
    """LeBel's three subjects and a model of 4,096 features: 27 stories fit on 80 GB beside 14 GB of weights, 84 do not."""
    free = 64 * 2**30
    assert fits((27 * 383, 286_000), 383, 4096, V1, free)
    assert not fits((84 * 383, 286_000), 383, 4096, V1, free)


def test_on_a_cpu_they_stay_where_they_are() -> None:
    table = np.zeros((5, 3), dtype=np.float32)
    assert on_device(table, 2, 4, V1, torch.device("cpu")) is table


def test_results_do_not_depend_on_where_responses_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    data, device = open_dataset("simulated-narrative:tiny", "narrative"), torch.device("cpu")
    (cohort,) = cohorts(data, data.subjects[:1], V1)
    rng = np.random.default_rng(0)
    features = {
        name: rng.standard_normal((2, story.n_trs, 12), dtype=np.float32) for name, story in data.stories.items()
    }
    confounds = encoding.fit_confounds(data.stories, cohort, V1, device)

    def encode() -> Any:
        return encoding.encode(features, data.stories, cohort, confounds, V1, device)

    from_host = encode()
    asked: list[tuple[int, ...]] = []

    def resident(responses: np.ndarray, *_: Any) -> torch.Tensor:
        asked.append(responses.shape)
        return moved(responses, device)

    monkeypatch.setattr(encoding, "on_device", resident)
    on_the_device = encode()
    assert asked == [fold.responses.shape for fold in cohort.folds]
    for row, folds in from_host.predictions.items():
        for one, other in zip(folds, on_the_device.predictions[row], strict=True):
            assert one.tobytes() == other.tobytes()
    assert from_host.chosen == on_the_device.chosen
