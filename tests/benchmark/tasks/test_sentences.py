# SPDX-License-Identifier: Apache-2.0
"""The narrative task on sentences: planted models in their order, a real format, and what a shuffled split would say."""

import math

import numpy as np
import pytest
import sentence_twins as twins
import torch

from voxelboard.benchmark.protocol import V1, Protocol
from voxelboard.benchmark.readers.cards import load_card
from voxelboard.benchmark.readers.pereira2018 import open_pereira2018
from voxelboard.benchmark.readers.sentence_sets import SentenceRow, SentenceSet
from voxelboard.benchmark.readers.simulated_sentences import open_simulated_sentences
from voxelboard.benchmark.stimuli.stories import make_story
from voxelboard.benchmark.tasks.cohort_scores import ModelFeatures
from voxelboard.benchmark.tasks.encode import for_rows, row_unit
from voxelboard.benchmark.tasks.narrative import Narrative


def score(data, features, protocol: Protocol, subjects=None):
    """Unique score of each subject."""
    model = ModelFeatures(features)
    return list(Narrative().run(data, subjects or data.subjects, model, protocol, torch.device("cpu")))


def test_rows_of_sentences_have_no_delays_trims_or_drift():
    data = open_simulated_sentences("tiny")
    design = for_rows(V1, data.stories).design
    assert (design.delays_trs, design.trim_trs, design.high_pass_s) == ((0,), 0, math.inf)
    assert V1.design.trim_trs == 5
    story = make_story("s", ["a"], [0.0], [0.5], n_trs=3, tr=1.0)
    assert for_rows(V1, {"s": story}) is V1
    with pytest.raises(Exception, match="different rows"):
        row_unit({**data.stories, "s": story})
    assert "sentences" in V1.constants("narrative")


def test_the_planted_signal_is_found_and_noise_is_not(quick):
    data = open_simulated_sentences("tiny")
    rng = np.random.default_rng(3)
    truth = {name: data.signal("sim01")[name][None].astype(np.float32) for name in data.stories}
    noise = {name: rng.standard_normal(table.shape).astype(np.float32) for name, table in truth.items()}
    (found,) = score(data, truth, quick, ("sim01",))
    assert (
        0.8 < found.scores["normalised"].estimate < 1.05
    )  # the noise-free responses explain all but ridge's shrinkage
    (nothing,) = score(data, noise, quick, ("sim01",))
    unique = nothing.scores["unique"]
    assert unique.low < 0 < unique.high
    assert abs(unique.estimate) < 0.05
    assert found.n_test == sum(story.n_trs for story in data.stories.values())
    assert found.checks.oasm == 0


def test_a_public_format_is_scored(tmp_path, quick):
    twins.write_pereira(tmp_path)
    data = open_pereira2018(load_card("pereira2018"), tmp_path, "")
    rng = np.random.default_rng(5)
    features = {
        name: rng.standard_normal((2, story.n_trs, 5)).astype(np.float32) for name, story in data.stories.items()
    }
    results = score(data, features, quick)
    assert [result.subject for result in results] == list(twins.PEOPLE)
    assert all(np.isfinite(result.scores["raw_r"].estimate) for result in results)
    assert {result.scores["unique"].unit for result in results} == {"pooled r"}


class _Leaky:
    """Passages of four sentences whose amplitudes hold nothing but what is common to the passage."""

    def __init__(self, shuffled: bool) -> None:
        rng = np.random.default_rng(17)
        n_passages, n_each = 60, 4
        rows = [SentenceRow(f"word{p} number {k}.", f"p{p}", f"g{p}") for p in range(n_passages) for k in range(n_each)]
        passage = np.repeat(np.arange(n_passages), n_each)
        common = rng.standard_normal((n_passages, 12))[passage]
        amplitudes = (common + rng.standard_normal((len(rows), 12))).astype(np.float32)
        # a model that knows in which passage a sentence stands, and nothing else
        code = rng.standard_normal((n_passages, 40))[passage].astype(np.float32)
        card = load_card("pereira2018")
        labels = np.full(12, "language")
        self.data = SentenceSet(
            card, "leaky", rows, ("a",), lambda subject: (amplitudes[None], labels), n_folds=6, shuffled=shuffled
        )
        self.features = {name: code[kept][None] for name, kept in self.data._rows_of.items()}


def test_a_shuffled_split_rewards_knowing_the_passage(quick):
    """Why passages are left out together: the same model of the same data, once so and once shuffled."""
    grouped, shuffled = _Leaky(shuffled=False), _Leaky(shuffled=True)
    assert (grouped.data.leak, shuffled.data.leak) == (False, True), "records carry it, and the board ranks no leak"
    (honest,) = score(grouped.data, grouped.features, quick)
    (leaking,) = score(shuffled.data, shuffled.features, quick)
    assert abs(honest.scores["raw_r"].estimate) < 0.08
    assert leaking.scores["raw_r"].estimate > 0.25
