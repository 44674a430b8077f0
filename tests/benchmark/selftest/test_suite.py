# SPDX-License-Identifier: Apache-2.0
"""What the self-test says about what it measured, on invariants that are made up."""

import json
import math

import numpy as np
import pytest

from voxelboard.benchmark.errors import InvalidNumbers, UserError
from voxelboard.benchmark.selftest import suite
from voxelboard.benchmark.selftest.findings import Figure, Invariant, Measurement, examine, share_error
from voxelboard.benchmark.selftest.suite import INVARIANTS, chosen_invariants, run_selftest
from voxelboard.benchmark.selftest.worlds import Workbench


@pytest.mark.parametrize(
    ("figure", "passed", "bound"),
    [
        (Figure("a", 0.05, 0.04, 0.065), True, "0.04 to 0.065"),
        (Figure("a", 0.07, 0.04, 0.065), False, "0.04 to 0.065"),
        (Figure("a", 0.07, 0.04, 0.065, 0.01), True, "0.04 to 0.065 (± 0.01)"),
        (Figure("a", 0.029, 0.04, 0.065, 0.01), False, "0.04 to 0.065 (± 0.01)"),
        (Figure("a", 0.0, 0, 0), True, "= 0"),
        (Figure("a", 1e-9, 0, 0), False, "= 0"),
        (Figure("a", 3.0, low=3), True, "at least 3"),
        (Figure("a", 3.1, high=3), False, "at most 3"),
        (Figure("a", 17.0), True, "reported"),
        (Figure("a", math.nan), False, "reported"),
    ],
)
def test_a_figure_is_judged_by_its_bound(figure: Figure, passed: bool, bound: str) -> None:
    assert (figure.passed, figure.bound) == (passed, bound)


def test_json_has_no_nan_and_no_infinity() -> None:
    assert Figure("a", math.nan, low=0).as_json() == {
        "name": "a",
        "value": None,
        "low": 0,
        "high": None,
        "error": 0.0,
        "passed": False,
    }


def test_numbers_of_numpy_are_written_as_json() -> None:
    figure = Figure("a", np.float32(0.5), np.int64(0), np.float64(1))
    assert json.loads(json.dumps(figure.as_json()))["value"] == 0.5


def test_a_share_error_is_three_binomial_standard_errors() -> None:
    assert share_error(0.05, 3000) == pytest.approx(3 * 0.00398, abs=1e-4)  # the ± .004 of statistics.md


def test_a_guard_of_the_pipeline_that_stops_is_a_failure() -> None:
    def stop(bench: Workbench) -> Measurement:
        raise InvalidNumbers("a canary sang")

    finding = examine(Invariant("Z1", "title", "here", "none", stop), Workbench())
    assert not finding.passed
    assert finding.stopped == finding.as_json()["stopped"] == "a canary sang"


def test_a_bug_is_not_a_finding() -> None:
    def crash(bench: Workbench) -> Measurement:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        examine(Invariant("Z1", "title", "here", "none", crash), Workbench())


def test_ids_are_unique_and_in_the_order_of_the_document() -> None:
    ids = [invariant.id for invariant in INVARIANTS]
    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids, key=lambda key: (key[0], int(key[1:])))


def test_a_letter_stands_for_its_invariants() -> None:
    assert [i.id for i in chosen_invariants(["b1", "E"])] == ["B1", *(f"E{k}" for k in range(1, 9))]
    assert chosen_invariants(None) == INVARIANTS
    with pytest.raises(UserError, match="unknown invariant 'E11'"):
        chosen_invariants(["E11"])


def test_progress_tells_what_is_checked_and_seeds_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(bench: Workbench) -> Measurement:
        return Measurement((Figure("draw", float(bench.rng(1).random())),), f"full {bench.full}")

    monkeypatch.setattr(suite, "INVARIANTS", (Invariant("Z1", "title", "here", "none", seen),))
    told: list[str] = []
    first, again, other = (
        next(iter(run_selftest(full=True, seed=seed, progress=told.append))).figures for seed in (1, 1, 2)
    )
    assert first == again != other
    assert told[0] == "1/1 Z1 title"
    with pytest.raises(UserError, match="seed is -1"):
        list(run_selftest(seed=-1))
