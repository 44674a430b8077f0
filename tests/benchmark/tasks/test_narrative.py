# SPDX-License-Identifier: Apache-2.0
"""The narrative task on worlds whose answer is known."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from voxelboard.benchmark.environment import Stopwatch
from voxelboard.benchmark.errors import DataError, InvalidNumbers, UserError
from voxelboard.benchmark.features.store import FeatureStore
from voxelboard.benchmark.protocol import V1, Protocol
from voxelboard.benchmark.readers.base import Segment, Split
from voxelboard.benchmark.scratch import working_array
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.statistics.ceilings import leave_one_out_isc
from voxelboard.benchmark.statistics.extrapolation import fit_saturation
from voxelboard.benchmark.submission import baseline_submissions
from voxelboard.benchmark.tasks import listener_ceilings, preparation
from voxelboard.benchmark.tasks.base import CellResult, RunContext
from voxelboard.benchmark.tasks.cohort_scores import ModelFeatures
from voxelboard.benchmark.tasks.listener_ceilings import extrapolated_estimates
from voxelboard.benchmark.tasks.narrative import Narrative
from voxelboard.benchmark.tasks.preparation import cohorts
from voxelboard.benchmark.tasks.scoring import by_roi, by_voxel

World = Any
CPU = torch.device("cpu")


def driving(world: World, q: float = 1.0, seed: int = 0, n_layers: int = 1) -> dict[str, np.ndarray]:
    """Features that hold a share ``q`` of what drives the voxels, in the last of ``n_layers``."""
    rng = np.random.default_rng([seed, 5])
    features = {}
    for name, true in world.features.items():
        noise = rng.standard_normal((n_layers, *true.shape))
        noise[-1] = np.sqrt(q) * true + np.sqrt(1 - q) * noise[-1]
        features[name] = noise.astype(np.float32)
    return features


def score(
    world: World,
    features: Mapping[str, np.ndarray],
    protocol: Protocol,
    subjects: tuple[str, ...] = ("s0",),
    **options: Any,
) -> dict[str, CellResult]:
    results = Narrative().run(world, subjects, ModelFeatures(features), protocol, CPU, **options)
    return {result.subject: result for result in results}


def value(result: CellResult, name: str) -> float:
    estimate = result.scores[name].estimate
    assert estimate is not None
    return estimate


def test_the_true_features_score_one_and_their_interval_covers_it(world: Callable[..., World], quick: Protocol) -> None:
    # B1: an oracle's noise-corrected score is 1.
    sim = world(noise=0.7)
    result = score(sim, driving(sim), quick)["s0"]
    estimate = result.scores["normalised"]
    assert abs(value(result, "normalised") - 1) < 0.06
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low - 0.03 <= 1 <= estimate.high + 0.03
    assert abs(value(result, "floor")) < 0.15


def test_the_projection_costs_a_perfect_model_its_share_of_the_test_rows(
    world: Callable[..., World], quick: Protocol
) -> None:
    # Confounds drive nothing here, but the projector takes a fifth of the directions of a short test story, and with
    # them a fifth of the power: H_u of the true features is sqrt(1 - share).
    sim = world(noise=0.7)
    result = score(sim, driving(sim), quick)["s0"]
    assert abs(value(result, "unique") - np.sqrt(1 - quick.confounds.max_projection_share)) < 0.06


def test_responses_on_disk_score_as_those_in_memory(
    world: Callable[..., World], quick: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = world()
    kept = score(sim, driving(sim), quick)["s0"].arrays
    monkeypatch.setenv("VOXELBOARD_CACHE", str(tmp_path))
    monkeypatch.setattr(preparation, "working_array", partial(working_array, in_memory_bytes=0))
    mapped = score(sim, driving(sim), quick)["s0"].arrays
    assert kept.keys() == mapped.keys()
    for name, array in kept.items():
        np.testing.assert_array_equal(mapped[name], array)


def test_places_on_a_surface_reach_the_record_and_change_no_score(
    world: Callable[..., World], quick: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = world()
    features = driving(sim, n_layers=3)
    plain = score(sim, features, quick)["s0"]
    assert not {"surface", "voxel_vertex", "voxel_layer"} & set(plain.arrays)
    places = np.array([5, 6, -1, 7, 10_300, 10_301, 10_302, -1, 0, 1], dtype=np.int32)
    responses = type(sim).responses
    monkeypatch.setattr(type(sim), "responses", lambda self, s: replace(responses(self, s), vertices=places))
    drawn = score(sim, features, quick)["s0"]
    assert drawn.scores == plain.scores
    assert str(drawn.arrays["surface"]) == "fsaverage5"
    np.testing.assert_array_equal(drawn.arrays["voxel_vertex"], places)
    chosen = [drawn.layers[roi].chosen[0] for roi in ("A", "B")]
    np.testing.assert_array_equal(drawn.arrays["voxel_layer"], np.repeat([*chosen, np.nan], [4, 4, 2]))
    assert chosen == [2, 2]  # where the signal is


def test_half_of_the_drive_scores_its_root(world: Callable[..., World], quick: Protocol) -> None:
    # A feature that correlates sqrt(q) with the true one predicts at most a share q of the signal.
    sim = world(noise=0.5)
    result = score(sim, driving(sim, q=0.5), quick)["s0"]
    assert abs(value(result, "normalised") - np.sqrt(0.5)) < 0.08


def test_noise_features_score_nothing(world: Callable[..., World], quick: Protocol) -> None:
    worlds = [world(seed=seed) for seed in range(3)]
    results = [score(sim, driving(sim, q=0, seed=i), quick, ("s0", "s1")) for i, sim in enumerate(worlds)]
    scores = [value(cell, "normalised") for cells in results for cell in cells.values()]
    assert abs(np.mean(scores)) < 0.08


def test_the_ceiling_is_that_of_the_planted_signal(world: Callable[..., World], quick: Protocol) -> None:
    sim = world(noise=1.0)
    result = score(sim, driving(sim), quick)["s0"]
    inner = slice(quick.design.trim_trs, -quick.design.trim_trs)
    power = sim.truth["test"][inner, :8].var(axis=0).mean()
    planted = np.sqrt(power / (power + 1.0 / 4))  # four repeats of unit noise
    assert abs(value(result, "ceiling") - planted) < 0.06


def test_the_layer_is_chosen_where_the_signal_is(world: Callable[..., World], quick: Protocol) -> None:
    sim = world()
    result = score(sim, driving(sim, n_layers=4), quick)["s0"]
    assert {roi: profile.chosen for roi, profile in result.layers.items()} == {"A": (3,), "B": (3,)}
    for profile in result.layers.values():
        assert np.argmax(profile.inner) == 3
        assert len(profile.test) == 4


def test_test_responses_change_nothing_that_is_chosen(world: Callable[..., World], quick: Protocol) -> None:
    # E5, poison invariance: other test data, same layers, same inner scores, same alphas.
    sim = world()
    features = driving(sim, q=0.3, n_layers=3)
    before = score(sim, features, quick)["s0"]
    for runs in sim.runs.values():
        runs["test"] = np.random.default_rng(1).standard_normal(runs["test"].shape).astype(np.float32) * 50
    after = score(sim, features, quick)["s0"]
    for roi in ("A", "B"):
        assert before.layers[roi].chosen == after.layers[roi].chosen
        assert before.layers[roi].inner == after.layers[roi].inner
    assert before.checks.alpha_edge_share == after.checks.alpha_edge_share
    assert before.checks.residual_sd_ratio == after.checks.residual_sd_ratio


def test_a_subject_scores_the_same_alone_and_in_company(world: Callable[..., World], quick: Protocol) -> None:
    sim = world(n_subjects=3)
    features = driving(sim, q=0.5, n_layers=2)
    alone = score(sim, features, quick, ("s1",))["s1"]
    together = score(sim, features, quick, ("s2", "s0", "s1"))["s1"]
    assert alone.scores == together.scores
    assert alone.by_roi == together.by_roi
    for name, array in alone.arrays.items():
        np.testing.assert_array_equal(array, together.arrays[name])


def test_the_order_of_the_training_stories_changes_nothing(world: Callable[..., World], quick: Protocol) -> None:
    # To rounding: sums over rows run in another order.
    sim = world()
    features = driving(sim, q=0.5, n_layers=2)
    before = score(sim, features, quick)["s0"]
    train, test = sim.split.folds[0]
    sim.split = Split(((tuple(train[i] for i in (3, 1, 4, 0, 2)), test),))
    after = score(sim, features, quick)["s0"]
    for name in ("unique", "normalised", "floor", "raw_r"):
        assert abs(value(before, name) - value(after, name)) < 1e-5


def test_a_test_story_in_the_training_set_trips_the_canary(world: Callable[..., World], quick: Protocol) -> None:
    sim = world()
    train, test = sim.split.folds[0]
    sim.split = Split(((((*train, test[0])), test),))
    with pytest.raises(InvalidNumbers, match="when a TR happened"):
        score(sim, driving(sim, q=0.2), quick)


def test_confounds_are_taken_out_of_the_headline(world: Callable[..., World], quick: Protocol) -> None:
    # F1/F5: a brain that follows word rate alone gives raw scores, and no unique ones, to a model that counts words.
    sim = world(noise=0.5)
    counts = {
        name: np.bincount(story.word_trs, minlength=story.n_trs).astype(float) for name, story in sim.stories.items()
    }
    for runs in sim.runs.values():
        for name, run in runs.items():
            driven = np.concatenate([[0, 0], counts[name][:-2]])
            run[..., :8] = (driven / counts[name].std())[:, None] + 0.5 * run[..., :8]
    features = {name: np.stack([c, np.sqrt(c)], axis=1)[None].astype(np.float32) for name, c in counts.items()}
    result = score(sim, features, quick)["s0"]
    assert value(result, "normalised") > 0.7
    assert value(result, "floor") > 0.7
    assert abs(value(result, "unique")) < 0.1
    assert value(result, "joint_r") > 0.9 * value(result, "floor_r")


def test_single_story_data_are_cut_and_every_segment_is_tested_once(
    world: Callable[..., World], quick: Protocol
) -> None:
    sim = world("inter_subject", noise=0.7, n_subjects=4)
    pieces = [Segment(name, start, start + 60) for name in ("train0", "train1", "test") for start in (0, 60)]
    sim.split = Split(tuple((tuple(p for p in pieces if p != left), (left,)) for left in pieces))
    result = score(sim, driving(sim, n_layers=2), quick)["s0"]
    assert result.n_test == 6 * 50
    assert set(result.arrays["block_segment"].tolist()) == set(range(6))
    assert len(result.layers["A"].chosen) == 6
    # With identical tuning the shared power is all the signal power, so the true features score one.
    assert abs(value(result, "normalised") - 1) < 0.15


def test_inter_subject_ceiling_is_the_root_of_isc_to_the_mean(world: Callable[..., World], quick: Protocol) -> None:
    # With n-1 others, ISC^2 = shared/total * shared/(shared + noise/(n-1)); here both factors are planted.
    sim = world("inter_subject", noise=1.0, n_subjects=5)
    result = score(sim, driving(sim), quick)["s0"]
    inner = slice(quick.design.trim_trs, -quick.design.trim_trs)
    runs = np.stack([run["test"][0, inner, :8] for run in sim.runs.values()])
    ceiling = value(result, "ceiling")
    shared = ceiling**2
    expected = np.sqrt(shared * shared / (shared + (1 - shared) / 4))
    assert abs(leave_one_out_isc(runs)[0].mean() - expected) < 0.1


def test_ceilings_of_the_literature_stand_beside_that_of_the_score(
    world: Callable[..., World], quick: Protocol
) -> None:
    """Leave-one-out agreement and its extrapolation, with intervals; of each listener the same, whoever else is scored."""
    sim = world("inter_subject", noise=1.0, n_subjects=5)
    together = {r.subject: r for r in Narrative().run(sim, sim.subjects, ModelFeatures(driving(sim)), quick, CPU)}
    alone = score(sim, driving(sim), quick)["s0"]
    for name in ("ceiling_leave_one_out", "ceiling_extrapolated"):
        assert alone.scores[name] == together["s0"].scores[name]
        assert {alone.by_roi[roi][name].unit for roi in sim.scored_rois} == {"r"}
        assert all(r.scores[name].low < value(r, name) < r.scores[name].high for r in together.values())
    inner = slice(quick.design.trim_trs, -quick.design.trim_trs)
    runs = np.stack([run["test"][0, inner, :8] for run in sim.runs.values()])
    own = alone.by_roi[sim.scored_rois[0]]
    assert own["ceiling_leave_one_out"].estimate == pytest.approx(leave_one_out_isc(runs)[0].mean(), abs=0.03)
    # what the exponential makes of the true law of averaging, for all 4 + 6 + 4 + 1 pools of the others
    s, sizes = value(alone, "ceiling") ** 2, np.repeat([1.0, 2.0, 3.0, 4.0], [4, 6, 4, 1])
    expected, _ = fit_saturation(sizes, s / np.sqrt(s + (1 - s) / sizes))
    assert value(alone, "ceiling_extrapolated") == pytest.approx(expected, abs=0.02)
    assert value(alone, "ceiling_extrapolated") < value(alone, "ceiling") - 0.05
    assert "biased" in alone.scores["ceiling_extrapolated"].estimator


def test_the_extrapolated_ceiling_does_not_depend_on_how_many_voxels_are_read_together(
    world: Callable[..., World], quick: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = world("inter_subject", noise=1.0, n_subjects=4)
    (cohort,) = cohorts(sim, sim.subjects, quick)
    whole = extrapolated_estimates(cohort, ("s1",), sim.scored_rois, quick)["s1"]
    monkeypatch.setattr(listener_ceilings, "_VOXELS_AT_ONCE", 3)
    parts = extrapolated_estimates(cohort, ("s1",), sim.scored_rois, quick)["s1"]
    for one, other in ((whole[0], parts[0]), *((whole[1][roi], parts[1][roi]) for roi in sim.scored_rois)):
        assert other.estimate == pytest.approx(one.estimate, rel=1e-9)
        assert other.high == pytest.approx(one.high, rel=1e-9)


def test_two_listeners_are_too_few_to_extrapolate_and_repeats_need_no_others(
    world: Callable[..., World], quick: Protocol
) -> None:
    sim = world("inter_subject", noise=0.7, n_subjects=2)
    found = score(sim, driving(sim), quick)["s0"].scores["ceiling_extrapolated"]
    assert found.estimate is None
    assert found.reason == "an extrapolation over listeners needs three or more, these rows have 2"
    sim = world()
    assert not [name for name in score(sim, driving(sim), quick)["s0"].scores if name.startswith("ceiling_")]


def test_a_confound_that_training_hardly_shows_does_not_blow_up_the_residuals(
    world: Callable[..., World], quick: Protocol
) -> None:
    # F6: with the first segment of the only story left out, the story's onset is nearly constant in training.
    sim = world("inter_subject", noise=0.7, n_subjects=3)
    pieces = [Segment("train0", start, start + 40) for start in (0, 40, 80)]
    sim.split = Split(tuple((tuple(p for p in pieces if p != left), (left,)) for left in pieces))
    result = score(sim, driving(sim), quick)["s0"]
    assert result.checks.residual_sd_ratio is not None
    assert 0.6 < result.checks.residual_sd_ratio < 1.6


def test_constant_predictions_of_several_folds_stay_constant() -> None:
    dust = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32) * 1e-7
    rois = np.array(["A"] * 3 + ["B"] * 3)
    assert not by_roi([dust, dust], rois).any()
    assert not by_voxel([dust, dust]).any()
    real = dust * 1e6
    np.testing.assert_allclose((by_roi([real, real], rois)[:50, :3] ** 2).mean(), 1, rtol=1e-5)


def test_without_a_ceiling_the_score_is_a_pooled_correlation(world: Callable[..., World], quick: Protocol) -> None:
    sim = world("none", noise=1.0)
    result = score(sim, driving(sim), quick)["s0"]
    assert result.scores["unique"].unit == "pooled r"
    assert result.scores["ceiling"].estimate is None
    assert result.scores["ceiling"].reason
    assert 0.5 < value(result, "normalised") < 0.85  # about sqrt(1/2) of total variance


def test_a_grid_of_alphas_that_is_too_short_is_an_alarm(world: Callable[..., World], quick: Protocol) -> None:
    sim = world(noise=0.7)
    features = {name: np.repeat(table, 3, axis=0) for name, table in driving(sim).items()}  # 30 predictable voxels
    short = replace(quick, encoding=replace(quick.encoding, relative_alphas=(10.0, 100.0, 1000.0)))
    found = [
        [
            alarm
            for alarm in score(sim, features, protocol)["s0"].checks.alarms
            if alarm.startswith("alpha lies at an end")
        ]
        for protocol in (quick, short)
    ]
    assert found == [[], ["alpha lies at an end of its grid for 100 % of the predictable voxels (allowed 5 %)"]]


def test_untrained_twins_are_averaged(world: Callable[..., World], quick: Protocol) -> None:
    sim = world()
    twins = {seed: driving(sim, q=0.0, seed=seed) for seed in range(3)}
    model = ModelFeatures(driving(sim), twins)
    result = next(iter(Narrative().run(sim, ("s0",), model, quick, CPU)))
    assert {f"stats__twin{seed}_{row}" for seed in range(3) for row in ("raw", "unique")} <= set(result.arrays)
    assert abs(value(result, "twin_unique")) < 0.1
    assert result.scores["twin_unique"].estimator.startswith("mean of 3 untrained twins")


def test_other_listeners_predict_what_they_share(world: Callable[..., World], quick: Protocol) -> None:
    # Nine others with the same tuning average out their noise: they predict nearly all that can be predicted.
    sim = world(noise=1.0, n_subjects=10)

    def others(subject: str) -> dict[str, np.ndarray]:
        rest = [runs for name, runs in sim.runs.items() if name != subject]
        return {name: np.mean([runs[name].mean(axis=0) for runs in rest], axis=0)[None] for name in sim.stories}

    model = ModelFeatures({}, by_subject=others)
    result = next(iter(Narrative().run(sim, ("s3",), model, quick, CPU)))
    assert result.subject == "s3"
    assert value(result, "normalised") > 0.9


def test_a_limit_keeps_the_first_training_stories(world: Callable[..., World], quick: Protocol) -> None:
    sim = world()
    result = score(sim, driving(sim), quick, n_train_segments=3)["s0"]
    assert result.n_train == 3 * 110


def test_unknown_subject_names_the_nearest(world: Callable[..., World], quick: Protocol) -> None:
    sim = world()
    with pytest.raises(UserError, match="Did you mean 's0'"):
        score(sim, driving(sim), quick, ("s00",))


def test_two_training_stories_are_the_least(world: Callable[..., World], quick: Protocol) -> None:
    sim = world()
    with pytest.raises(UserError, match="fewer than two training segments"):
        score(sim, driving(sim), quick, n_train_segments=1)


def test_lanczos_is_not_a_scored_protocol() -> None:
    from voxelboard.benchmark.protocol import LANCZOS, V1

    assert not LANCZOS.scored
    assert LANCZOS.hash != V1.hash
    assert replace(V1, seed=1).hash != V1.hash


class _CountedRuns(Mapping[str, np.ndarray]):
    """Runs that count how often each is read."""

    def __init__(self, runs: dict[str, np.ndarray], reads: Counter[str]) -> None:
        self._runs, self._reads = runs, reads

    def __getitem__(self, story: str) -> np.ndarray:
        self._reads[story] += 1
        return self._runs[story]

    def __contains__(self, story: object) -> bool:
        return story in self._runs

    def __iter__(self) -> Iterator[str]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)


def test_a_run_is_read_once_however_many_folds_it_is_in(world, quick):
    data = world()
    segments = tuple(Segment(name, start, start + 60) for name in data.stories for start in (0, 60))
    folds = tuple(
        (tuple(s for s in segments if s.story != name), tuple(s for s in segments if s.story == name))
        for name in data.stories
    )
    many = replace(data, split=Split(folds), ceiling_kind="none")
    reads: Counter[str] = Counter()
    counted = replace(many, runs={"s0": _CountedRuns(data.runs["s0"], reads)})
    (cohort,) = cohorts(counted, ("s0",), quick)
    assert set(reads.values()) == {1}
    # the same numbers as fold by fold
    for (train, test), fold in zip(folds, cohort.folds, strict=True):
        alone = replace(many, split=Split(((train, test),)))
        (single,) = cohorts(alone, ("s0",), quick)
        np.testing.assert_array_equal(fold.responses, single.folds[0].responses)
        for mine, own in zip(fold.test_responses["s0"], single.folds[0].test_responses["s0"], strict=True):
            np.testing.assert_array_equal(mine, own)
        np.testing.assert_array_equal(fold.inner_folds, single.folds[0].inner_folds)


def test_bad_responses_are_told_before_a_story_is_read(world, tmp_path, monkeypatch):
    """The features of a large model take hours, a look at the responses seconds."""
    data = world()
    data.runs["s0"]["train1"][0, 3, 2] = np.nan

    def never(*args: object, **options: object) -> None:
        pytest.fail("features were extracted first")

    monkeypatch.setattr("voxelboard.benchmark.sources.extract_features", never)
    entry = next(
        row for row in baseline_submissions(simulated=True, static_vectors=False) if "random-word" in row.label
    )
    context = RunContext(Settings(V1), FeatureStore(tmp_path), torch.device("cpu"), Stopwatch())
    with pytest.raises(DataError, match=r"subject s0, story 'train1': 1 voxels with NaN"):
        next(Narrative().measure(entry, data, ("s0",), context))
