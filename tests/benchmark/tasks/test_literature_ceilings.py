# SPDX-License-Identifier: Apache-2.0
"""Ceilings of the literature: against the planted signal, the reference functions, and the published figures."""

from pathlib import Path

import numpy as np
import pytest

from voxelboard.benchmark.encoding.filters import high_pass
from voxelboard.benchmark.errors import DataError, UserError
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.readers.alice2016 import Alice2016
from voxelboard.benchmark.readers.cards import load_card
from voxelboard.benchmark.readers.lebel2023_pcs import Lebel2023Components
from voxelboard.benchmark.readers.simulated_sentences import open_simulated_sentences
from voxelboard.benchmark.statistics.ceilings import leave_one_out_isc
from voxelboard.benchmark.tasks.literature_ceilings import extrapolated_ceilings, literature_ceilings


def by_roi(found, measure):
    return {row.roi: row.value for row in found if row.measure == measure}


def test_explainable_variance_is_the_planted_share():
    """A signal-to-noise ratio of .5 is a share of a third, and CCmax of three repeats sqrt(3 / (3 + 2))."""
    data = open_simulated_sentences("tiny")
    found = list(literature_ceilings(data, ("sim01",)))
    assert {row.roi for row in found} == set(data.scored_rois)
    variance, cc_max = by_roi(found, "explainable variance"), by_roi(found, "CCmax")
    # a third of the noise is shared by passages, but drawn anew for each repeat: it is noise
    assert np.mean(list(variance.values())) == pytest.approx(1 / 3, abs=0.04)
    assert np.mean(list(cc_max.values())) == pytest.approx(np.sqrt(3 / 5), abs=0.04)
    assert {row.n for row in found} == {3}
    assert all(row.interval.low < row.value < row.interval.high for row in found)
    with pytest.raises(UserError, match="not in correspondence"):
        next(extrapolated_ceilings(data, data.subjects))


def test_inter_subject_correlation_is_that_of_the_reference(world):
    data = world("inter_subject", n_subjects=4)
    found = list(literature_ceilings(data, data.subjects))
    runs = np.stack([data.runs[subject]["test"][0] for subject in data.subjects]).astype(np.float64)
    runs = np.stack([high_pass(run, 2.0, V1.design.high_pass_s) for run in runs])
    runs /= runs.std(axis=1, keepdims=True)
    expected = leave_one_out_isc(runs)
    labels = data.responses("s0").rois
    for row in found:
        own = expected[data.subjects.index(row.subject)][labels == row.roi].mean()
        assert row.value == pytest.approx(own, abs=1e-6)
        assert (row.measure, row.n) == ("leave-one-out ISC", 4)
        assert row.interval.low < row.value < row.interval.high
    with pytest.raises(DataError, match="three or more, got 2"):
        next(extrapolated_ceilings(data, ("s0", "s1")))
    extrapolated = list(extrapolated_ceilings(data, data.subjects))
    assert [(row.subject, row.roi) for row in extrapolated] == [("4 together", roi) for roi in data.scored_rois]
    assert all(row.interval.low < row.value < row.interval.high for row in extrapolated)


def test_alice_has_the_published_agreement(shared_data: Path) -> None:
    data = Alice2016(load_card("alice2016"), shared_data / "alice2016")
    found = list(literature_ceilings(data, data.subjects))
    means = [np.mean([row.value for row in found if row.roi == roi]) for roi in data.scored_rois]
    assert (min(means), max(means)) == (pytest.approx(0.19, abs=0.03), pytest.approx(0.42, abs=0.03))


def test_without_repeats_and_partners_there_is_none(shared_data: Path) -> None:
    data = Lebel2023Components(load_card("lebel2023-pcs"), shared_data / "lebel2023_pcs")
    with pytest.raises(UserError, match="no ceiling can be known"):
        next(literature_ceilings(data, ("UTS01",)))
