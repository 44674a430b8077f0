# SPDX-License-Identifier: Apache-2.0
"""The simulated drama: several titles, episodes and runs with 20 s of overlap; folds that keep titles apart."""

from dataclasses import replace

import numpy as np
import pytest

from voxelboard.benchmark.errors import DataError, UserError
from voxelboard.benchmark.readers.base import Segment
from voxelboard.benchmark.readers.cards import FilmSplit, load_card
from voxelboard.benchmark.readers.drama_base import (
    PresentedRuns,
    check_levels,
    check_title_folds,
    last_runs_split,
    title_folds,
)
from voxelboard.benchmark.readers.registry import open_dataset
from voxelboard.benchmark.readers.simulated_drama import ROI_SHARES, DramaSpec, SimulatedDrama
from voxelboard.benchmark.stimuli.annotations import LEVEL_NAMES, LEVELS
from voxelboard.benchmark.stimuli.simulated_drama import content_entries, tell_episode, translate

SPEC = DramaSpec(n_subjects=2, n_voxels=4, n_runs=3, run_trs=90)


@pytest.fixture(scope="module")
def drama() -> SimulatedDrama:
    return SimulatedDrama(SPEC)


def test_runs_repeat_the_20_seconds_before_them(drama: SimulatedDrama) -> None:
    first, second = drama.runs["harbour_run-01"], drama.runs["harbour_run-02"]
    assert (first.n_trs, first.skip_trs) == (90, 0)
    assert (second.n_trs, second.skip_trs) == (110, 20)
    for level in LEVEL_NAMES:
        for one, other in zip(first.annotations[level].texts, second.annotations[level].texts, strict=True):
            assert one[-20:] == other[:20]
    scored = sum(run.n_trs - run.skip_trs for run in drama.runs.values())
    assert scored == 5 * 3 * 90  # five episodes of four titles: every second once
    assert drama.runs["orchard_run-04"].skip_trs == 0  # the second episode of a title starts anew


def test_every_level_has_its_annotators_and_gaps(drama: SimulatedDrama) -> None:
    for level in LEVELS:
        present = np.concatenate([run.annotations[level.name].present for run in drama.runs.values()], axis=1)
        assert len(present) == level.n_annotators
        share = present.mean()
        assert share > 0.5 if level.name == "speech" else share > 0.9
    assert not drama.runs["harbour_run-01"].annotations["speech"].present.all()


def test_the_last_run_of_each_title_is_test_and_was_seen_several_times(drama: SimulatedDrama) -> None:
    test = [segment.story for segment in drama.split.test_segments]
    assert test == ["harbour_run-03", "orchard_run-06", "nightshift_run-03", "observatory_run-03"]
    responses = drama.responses("sim01")
    assert responses.runs["orchard_run-06"].shape[0] == SPEC.n_repeats
    assert responses.runs["orchard_run-05"].shape[0] == 1


def test_planted_power_and_silence(drama: SimulatedDrama) -> None:
    truth = drama.truth("sim01")
    whole = np.concatenate(list(truth.signal.values()))
    np.testing.assert_allclose(whole.var(axis=0), truth.snr / (1 + truth.snr), atol=1e-4)
    assert (whole[:, drama.rois == "NULL"] == 0).all()
    assert all(sum(shares) == pytest.approx(1.0) or roi == "NULL" for roi, shares in ROI_SHARES.items())


def test_an_episode_is_the_same_for_the_same_seed() -> None:
    one, other, third = (tell_episode(100, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.annotations["object"].texts == other.annotations["object"].texts
    assert one.annotations["object"].texts != third.annotations["object"].texts


def test_the_second_language_has_a_word_of_its_own_for_each_word() -> None:
    english = [word for word in content_entries() if word.isascii()]
    assert len({translate(word) for word in english}) == len(english)
    assert all(content_entries()[translate(word)] == content_entries()[word] for word in english)


def test_the_card_says_what_the_generator_makes() -> None:
    card, data = load_card("simulated-drama"), open_dataset("simulated-drama", "drama")
    assert isinstance(card.split, FilmSplit)
    listed = {
        run: n for title in card.split.titles.values() for episode in title.episodes for run, n in episode.runs.items()
    }
    assert listed == {name: run.n_trs for name, run in data.runs.items()}
    tested = [run for title in card.split.titles.values() for episode in title.episodes for run in episode.test]
    assert tested == [segment.story for segment in data.split.test_segments]
    assert {title: entry.fold for title, entry in card.split.titles.items()} == {
        run.title: data.inner_folds[name] for name, run in data.runs.items()
    }
    assert (card.subjects, card.scored_rois) == (data.subjects, data.scored_rois)


def test_a_few_training_runs_are_of_different_titles(drama: SimulatedDrama) -> None:
    ((train, _),) = PresentedRuns(drama).split.folds
    assert {drama.runs[segment.story].title for segment in train[:4]} == {run.title for run in drama.runs.values()}


def test_test_title_in_a_training_fold_is_refused(drama: SimulatedDrama) -> None:
    ((train, test),) = drama.split.folds
    with pytest.raises(DataError, match="test runs in a training fold: harbour_run-03"):
        check_title_folds(drama.runs, (*train, test[0]), test, drama.inner_folds)
    torn = {**drama.inner_folds, "harbour_run-01": 3}
    with pytest.raises(DataError, match="titles in more than one inner fold: harbour"):
        check_title_folds(drama.runs, train, test, torn)
    with pytest.raises(DataError, match="all training titles are in one inner fold"):
        check_title_folds(drama.runs, train, test, dict.fromkeys(drama.runs, 0))
    assert len(set(check_title_folds(drama.runs, train, test, drama.inner_folds).tolist())) == 4


def test_bad_splits_and_levels_are_refused(drama: SimulatedDrama) -> None:
    with pytest.raises(DataError, match="does not have: nowhere"):
        last_runs_split(drama.runs, ["nowhere"])
    with pytest.raises(DataError, match="titles without an inner fold: orchard"):
        title_folds(drama.runs, {"harbour": 0, "nightshift": 1, "observatory": 2})
    run = drama.runs["harbour_run-01"]
    without = {"r": run.with_annotations({"speech": run.annotations["speech"]})}
    with pytest.raises(DataError, match="no annotation of level object"):
        check_levels(without, LEVEL_NAMES)


def test_bad_presets_and_subjects_are_refused(drama: SimulatedDrama) -> None:
    with pytest.raises(UserError, match="Did you mean 'tiny'"):
        open_dataset("simulated-drama:tini")
    with pytest.raises(UserError, match="not a seed"):
        open_dataset("simulated-drama:tiny:x")
    with pytest.raises(UserError, match="is of the task drama, not narrative"):
        open_dataset("simulated-drama", "narrative")
    with pytest.raises(UserError, match="unknown subject"):
        drama.responses("sim09")
    with pytest.raises(UserError, match="60 s or more"):
        replace(SPEC, run_trs=10)


def test_segments_leave_the_overlap_out(drama: SimulatedDrama) -> None:
    segments = {segment.story: segment for part in drama.split.folds[0] for segment in part}
    assert segments["harbour_run-02"] == Segment("harbour_run-02", 20, 110)
