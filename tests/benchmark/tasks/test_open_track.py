# SPDX-License-Identifier: Apache-2.0
"""Entries that commit to layer, context or pooling are scored with exactly that, in a table of their own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.evaluate import evaluate
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.records import Record
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.submission import Submission, load_submission
from voxelboard.benchmark.submission_schema import Committed
from voxelboard.benchmark.tasks.open_track import committed_layer, committed_settings
from voxelboard.leaderboard.aggregate import aggregate

DATA = "simulated-narrative:tiny"


def opened(entry: Submission, **committed: Any) -> Submission:
    return entry.model_copy(
        update={"track": "open", "committed": Committed(**committed), "name": f"{entry.label}-open"}
    )


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXELBOARD_CACHE", str(tmp_path / "store"))


def run(entry: Submission, output: Path | None = None) -> Record:
    (record,) = evaluate(entry, data=DATA, subjects=("sim01",), output=output, device="cpu")
    return record


def test_the_committed_layer_is_the_one_that_is_scored(tmp_path: Path) -> None:
    planted = load_submission("planted-q0.9")
    free, fixed = run(planted, tmp_path / "r"), run(opened(planted, layer=2), tmp_path / "r")
    for roi, profile in fixed.layers.items():
        assert profile.chosen == (2,)
        assert len(profile.test) == len(free.layers[roi].test)
        assert profile.test[2].estimate == pytest.approx(free.layers[roi].test[2].estimate, abs=1e-12)
        assert profile.test[0].estimate is None
        assert "committed to layer 2" in (profile.test[0].reason or "")
    held = [profile.test[2].estimate for profile in free.layers.values() if profile.test[2].estimate is not None]
    assert fixed.scores["unique"].estimate == pytest.approx(np.mean(held), abs=1e-12)
    assert fixed.checks.main_layer == 2
    assert "layer 2," in fixed.scores["capacity_unique"].estimator
    assert fixed.model.committed == {"layer": 2}
    assert fixed.protocol == free.protocol  # the analysis is the protocol's
    (board,) = aggregate(tmp_path / "r")
    tracks = {table.column.track: [row.entry.submission for row in table.rows] for table in board.tables}
    assert tracks == {"fixed": [planted.label], "open": [f"{planted.label}-open"]}


def test_a_layer_that_the_model_does_not_have_is_refused() -> None:
    with pytest.raises(UserError, match=r"committed\.layer is 9, but the model has the layers 0 to 3"):
        run(opened(load_submission("planted-q0.9"), layer=9))


@pytest.mark.parametrize(("key", "value"), [("pooling", "last"), ("context_words", 32)])
def test_a_commitment_that_means_nothing_is_refused(key: str, value: Any) -> None:
    entry = opened(load_submission("planted-q0.9"), **{key: value})
    with pytest.raises(UserError, match=f"committed.{key} means nothing for loader 'simulated'"):
        committed_settings(entry, Settings(V1))


def test_words_see_at_most_the_committed_context() -> None:
    entry = opened(load_submission("gpt2"), context_words=33, pooling="last")
    settings = committed_settings(entry, Settings(V1))
    context = settings.protocol.context
    seen = [word - context.chunk_start(word) for word in range(200)]
    assert max(seen) == 33
    assert min(seen[50:]) == 17
    assert settings.protocol.design.token_pooling == "last"
    assert committed_layer(entry, 13) is None
    assert committed_settings(load_submission("gpt2"), Settings(V1)).protocol == V1
