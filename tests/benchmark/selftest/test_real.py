# SPDX-License-Identifier: Apache-2.0
"""The checks of real data: on simulated listeners, and on the real ones where they are at hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from voxelboard.benchmark.readers.cards import load_card
from voxelboard.benchmark.readers.lebel2023_pcs import Lebel2023Components
from voxelboard.benchmark.readers.simulated import PRESETS, SimulatedNarrative
from voxelboard.benchmark.selftest import real
from voxelboard.benchmark.selftest.findings import Finding
from voxelboard.benchmark.selftest.real import RealBench, leak, run_real
from voxelboard.benchmark.selftest.worlds import Workbench

pytestmark = pytest.mark.timeout(600)  # of the wall clock, on a machine that others use


@pytest.fixture(scope="module")
def findings() -> dict[str, Finding]:
    data = SimulatedNarrative(replace(PRESETS["tiny"], n_train=9, n_subjects=1))
    return {finding.id: finding for finding in run_real(data)}


def test_the_time_leaks_under_shuffled_trs_alone(findings: dict[str, Finding]) -> None:
    *shuffled, left_out = findings["R1"].figures
    assert min(figure.value for figure in shuffled) > 0.1
    assert left_out.value == 0.0


def test_nulls_are_found_to_be_null(findings: dict[str, Finding]) -> None:
    assert {figure.name: figure.value for figure in findings["R2"].figures if not figure.passed} == {}
    assert len(findings["R2"].figures) == 4
    rates = {f.name: f.value for f in findings["R3"].figures if f.name.startswith("intervals")}
    assert list(rates) == [f"intervals without 0, {pair}" for pair in ("two models of noise", "two noisy copies")]
    assert all(0 <= rate <= 0.4 for rate in rates.values())


def test_features_that_are_not_moved_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check has teeth: predictions at their own time reject far above the nominal rate."""
    monkeypatch.setattr(real, "_shifted", lambda series, tr, rng: series)
    data = SimulatedNarrative(replace(PRESETS["tiny"], n_train=9, n_subjects=1, snr=1.0))
    found = real.null_features(RealBench(data, Workbench()))
    rates = {figure.name: figure.value for figure in found.figures}
    assert rates["voxel tests, features shifted"] > 0.15


def test_shuffled_trs_leak_on_lebel(shared_data: Path) -> None:
    data = Lebel2023Components(load_card("lebel2023-pcs"), shared_data / "lebel2023_pcs")
    found = leak(RealBench(data, Workbench()))
    first, left_out = found.figures[0].value, found.figures[-1].value
    assert first == pytest.approx(0.64, abs=0.03)  # the figure that the data set's description states
    assert np.isclose(left_out, 0.0, atol=1e-9)


def test_null_pairs_are_held_against_other_stories_where_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four training stories of ten leave two test sets of three: each fit is looked at twice, and at itself elsewhere."""
    monkeypatch.setattr(real, "N_TRAIN", 4)
    monkeypatch.setattr(Workbench, "pick", lambda self, quick, full: (2, 2))
    data = SimulatedNarrative(replace(PRESETS["tiny"], n_train=9, n_subjects=1))
    found = real.null_pairs(RealBench(data, Workbench()))
    rates = {figure.name: figure.value for figure in found.figures if figure.name.startswith("intervals")}
    kinds = (
        "intervals without 0, {}",
        "intervals without 0, {}, blocks of 60 TRs",
        "intervals without the difference on other stories, {}",
    )
    assert list(rates) == [kind.format(pair) for pair in ("two models of noise", "two noisy copies") for kind in kinds]
    assert found.n.startswith("2 splits, 4 intervals")
    assert all(rate in (0.0, 0.25, 0.5, 0.75, 1.0) for rate in rates.values())
    beside = [figure for figure in found.figures if figure.name.startswith("correlation of neighbouring blocks")]
    assert all(abs(figure.value) < 0.5 and figure.bound == "reported" for figure in beside)
    assert len(beside) == 2


def test_neighbouring_blocks_are_those_of_one_segment() -> None:
    z = np.tile([1.0, 1.0, -1.0, -1.0, -1.0, 1.0], (2, 1))
    assert real._Blocks(z, np.array([0, 0, 1, 1, 2, 2])).neighbours() == pytest.approx(1 / 3)
    assert np.isnan(real._Blocks(z, np.arange(6)).neighbours())
