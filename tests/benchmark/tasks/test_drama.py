# SPDX-License-Identifier: Apache-2.0
"""The task drama against planted truths: what each level explains alone and beyond the others, and what must be nothing."""

from dataclasses import replace

import numpy as np
import pytest
from drama_worlds import CPU, DramaWorld

from voxelboard.benchmark.encoding.filters import high_pass
from voxelboard.benchmark.environment import Stopwatch
from voxelboard.benchmark.features.annotation_features import annotation_features
from voxelboard.benchmark.features.store import FeatureStore
from voxelboard.benchmark.models.simulated import planted_model
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.readers.base import facts_of
from voxelboard.benchmark.readers.simulated_drama import DramaSpec
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.statistics.permutation import block_permutation_test
from voxelboard.benchmark.statistics.scores import voxel_correlation
from voxelboard.benchmark.stimuli.annotations import LEVEL_NAMES, Annotation
from voxelboard.benchmark.submission import Submission, baseline_submissions, load_submission
from voxelboard.benchmark.tasks import load_task
from voxelboard.benchmark.tasks.base import MeasuredCell, RunContext
from voxelboard.benchmark.tasks.drama_encode import level_problem
from voxelboard.benchmark.tasks.drama_scores import NO_LEVEL, winning_level
from voxelboard.benchmark.tasks.drama_sources import open_drama_sources
from voxelboard.benchmark.tasks.encode import project
from voxelboard.benchmark.tasks.scoring import roi_statistics

# Fewer draws and twins than the scored protocol: what is tested does not depend on them.
QUICK = replace(
    V1,
    name="quick",
    drama=replace(V1.drama, n_draws=8),
    score=replace(V1.score, n_twins=1, noise_brain_voxels=256),
    diagnostics=replace(V1.diagnostics, n_permutations=200),
)
SMALL = DramaSpec(n_subjects=1, n_voxels=8, n_runs=4, run_trs=150, snr=1.0)


@pytest.fixture(scope="module")
def world() -> DramaWorld:
    return DramaWorld(SMALL, QUICK)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return FeatureStore(tmp_path_factory.mktemp("store"))


def _by_roi(world: DramaWorld, voxels: np.ndarray) -> np.ndarray:
    return np.array([voxels[world.data.rois == roi].mean() for roi in world.data.scored_rois])


def _explained(world: DramaWorld, predictions: np.ndarray, signal: np.ndarray) -> np.ndarray:
    """(n_rois,) explained fraction of ``signal``."""
    gain = (2 * predictions * signal - predictions**2).sum(axis=0)
    rois = [world.data.rois == roi for roi in world.data.scored_rois]
    return np.array([gain[roi].sum() / (signal[:, roi] ** 2).sum() for roi in rois])


def _population_unique(world: DramaWorld) -> np.ndarray:
    """(n_levels, n_rois) what each level explains beyond the others and the confounds in the responses without noise.

    Ordinary least squares over all runs, test runs included: no ridge, no cross-validation, no search. Predictions of
    the test runs are projected off the confounds, as those of every model are.
    """
    fold = world.cohort.folds[0]
    signal = world.data.signal("sim01")
    trim = V1.design.trim_trs
    stacked = [
        high_pass(signal[s.story][s.start + trim : s.stop - trim], 1.0, V1.design.high_pass_s)
        for s in (*fold.train, *fold.test)
    ]
    Y = np.concatenate(stacked)
    n_test = sum(len(part) for part in stacked[-len(fold.test) :])
    designs = {}
    for level, tables in world.oracle().items():
        problem = level_problem({n: t[0] for n, t in tables.items()}, fold.train, fold.test, V1, 1.0, CPU)
        designs[level] = np.concatenate([problem.train.numpy(), problem.test.numpy()])
    confounds = np.concatenate([world.confounds.train, world.confounds.test])

    def explained(levels: list[str]) -> np.ndarray:
        base = confounds @ np.linalg.lstsq(confounds, Y, rcond=None)[0]
        X = np.concatenate([confounds, *(designs[level] for level in levels)], axis=1)
        beyond = (X @ np.linalg.lstsq(X, Y, rcond=None)[0] - base)[-n_test:]
        return _explained(world, project(beyond.astype(np.float32), world.confounds.bases), Y[-n_test:])

    whole = explained(list(designs))
    return np.stack([whole - explained([other for other in designs if other != level]) for level in designs])


def test_unique_share_of_each_level_comes_back_in_each_region(world: DramaWorld) -> None:
    encoding = world.encode(world.oracle())
    at, signal = world.cohort.columns["sim01"], world.mean_response("sim01")
    test = world.test("sim01")
    stats = roi_statistics(encoding.unique[:, at], test, V1.score)
    power = stats.s.sum(axis=0)

    def explained(predictions: np.ndarray) -> np.ndarray:
        gain = (2 * predictions * signal - predictions**2).sum(axis=0)
        return np.array([gain[world.data.rois == roi].sum() for roi in world.data.scored_rois]) / power

    whole = explained(encoding.unique[:, at])
    found = np.stack([whole - explained(encoding.without[level][:, at]) for level in LEVEL_NAMES])
    truth = _population_unique(world)
    for level, roi in enumerate((0, 1, 3, 4, 5)):  # where each level has its largest share, see ROI_SHARES
        assert found[level].argmax() == truth[level].argmax() == roi, LEVEL_NAMES[level]
    assert np.abs(found - truth).max() < 0.1
    assert np.corrcoef(found.ravel(), truth.ravel())[0, 1] > 0.97


def test_a_level_twice_is_not_unique_while_the_split_still_adds_up(world: DramaWorld) -> None:
    oracle = world.oracle()
    encoding = world.encode({**oracle, "again": oracle["speech"]})
    signal, at = world.mean_response("sim01"), world.cohort.columns["sim01"]
    joint = voxel_correlation(encoding.unique[:, at], signal)
    for level in ("speech", "again"):
        unique = joint - voxel_correlation(encoding.without[level][:, at], signal)
        assert np.abs(_by_roi(world, unique)).max() < 0.01
    whole = encoding.unique[:, at].astype(np.float64)
    norm = np.sqrt(((whole - whole.mean(0)) ** 2).sum(0) * ((signal - signal.mean(0)) ** 2).sum(0))
    centred = signal - signal.mean(axis=0)
    splits = [(table[:, at] * centred).sum(axis=0) / norm for table in encoding.bands.values()]
    np.testing.assert_allclose(np.sum(splits, axis=0), joint, atol=1e-6)
    assert _by_roi(world, splits[0] + splits[-1])[0] > 0.15  # but the split gives the two what speech has


def test_missing_text_in_half_of_the_seconds_does_no_harm(world: DramaWorld, store: FeatureStore) -> None:
    model = planted_model("planted-q0.9-d24-l2-s1")
    whole = annotation_features(model, world.data.runs, LEVEL_NAMES, store)
    rng = np.random.default_rng(0)

    def silenced(annotation: Annotation) -> Annotation:
        empty = rng.random(annotation.n_seconds) < 0.5
        return Annotation(
            tuple(tuple("" if e else t for t, e in zip(row, empty, strict=True)) for row in annotation.texts)
        )

    runs = {
        name: run.with_annotations({**run.annotations, "timeplace": silenced(run.annotations["timeplace"])})
        for name, run in world.data.runs.items()
    }
    halved = {**whole, **annotation_features(model, runs, ["timeplace"], store)}
    at, signal = world.cohort.columns["sim01"], world.mean_response("sim01")
    before, after = (
        _by_roi(world, voxel_correlation(world.encode(f, leave_out=False).unique[:, at], signal))
        for f in (whole, halved)
    )
    elsewhere = [roi != "RSC" for roi in world.data.scored_rois]  # where time and place are not planted
    assert (after - before)[elsewhere].min() > -0.02
    assert np.isfinite(after).all()


def _map_of(world: DramaWorld, features: dict[str, np.ndarray]) -> np.ndarray:
    """(n_voxels,) r of one level alone over the scored voxels of all subjects."""
    ((_, table),) = world.encode({"it": features}, leave_out=False).alone.items()
    maps = []
    for subject in world.data.subjects:
        r = voxel_correlation(table[:, world.cohort.columns[subject]], world.mean_response(subject))
        maps.append(r[world.data.rois != "NULL"])
    return np.concatenate(maps)


def test_twins_in_two_languages_and_halves_of_the_annotators_give_the_same_map(
    world: DramaWorld, store: FeatureStore
) -> None:
    model = planted_model("planted-q0.8-d24-l1-s1")
    runs = world.data.runs
    english, japanese = (
        _map_of(world, annotation_features(model, runs, [n], store)[n]) for n in ("speech", "speech@jp")
    )
    assert np.corrcoef(english, japanese)[0, 1] > 0.8
    halves = [
        _map_of(world, annotation_features(model, runs, ["object"], store, annotators=part)["object"]) for part in "AB"
    ]
    assert np.corrcoef(halves[0], halves[1])[0, 1] > 0.8
    assert np.corrcoef(english, halves[0])[0, 1] < 0.5  # different levels do not


def test_a_null_world_gives_the_nominal_rate_of_false_positives() -> None:
    """Correlations of a model with brains that nothing drives; i.i.d. shuffling on the same data must fail."""
    world = DramaWorld(DramaSpec(n_subjects=2, n_voxels=60, n_runs=3, run_trs=120, snr=0.0))
    encoding = world.encode(world.oracle(), leave_out=False)
    rates = {}
    for block in (1, 10, V1.drama.permutation_block_trs):
        p = []
        for subject in world.data.subjects:
            test = block_permutation_test(
                encoding.alone["story"][:, world.cohort.columns[subject]],
                world.mean_response(subject),
                tr=1.0,
                n_draws=200,
                seed=1,
                block_trs=block,
            )
            p.append(test.p)
        rates[block] = float((np.concatenate(p) < 0.05).mean())
    print(rates)
    assert 0.02 <= rates[V1.drama.permutation_block_trs] <= 0.075
    assert rates[1] > 0.12


def test_winning_level() -> None:
    unique = {"speech": np.array([0.1, 0.0, -0.1, 0.3]), "object": np.array([0.05, 0.2, -0.2, 0.1])}
    found = winning_level(unique, np.array([True, True, True, False]))
    assert found.tolist() == ["speech", "object", NO_LEVEL, NO_LEVEL]


def _planted(q: str) -> Submission:
    """A shipped planted model, with fewer and narrower layers."""
    shipped = load_submission(f"voxelboard/planted-q{q}")
    model = shipped.model.model_copy(update={"id": f"planted-q{q}-d20-l2-s3"})
    return shipped.model_copy(update={"model": model})


def _measure(world: DramaWorld, submission: Submission, store: FeatureStore) -> MeasuredCell:
    context = RunContext(Settings(QUICK), store, CPU, Stopwatch())
    (cell,) = load_task("drama").measure(submission, world.data, ["sim01"], context)
    return cell


def test_the_task_scores_planted_models_in_their_order(world: DramaWorld, store: FeatureStore) -> None:
    cells = {q: _measure(world, _planted(q), store) for q in ("0.3", "0.9")}
    high, low = (cells[q].result.scores["unique"] for q in ("0.9", "0.3"))
    assert high.low > low.estimate
    assert abs(cells["0.9"].result.scores["twin_unique"].estimate) < 0.05
    result = cells["0.9"].result
    assert result.scores["unique_fve"].estimate > 0.02
    assert result.checks.oasm == 0
    assert set(result.layers) == set(LEVEL_NAMES)
    assert {(f.value, f.roi) for f in result.facets} == {
        (level, roi) for level in LEVEL_NAMES for roi in (None, *world.data.scored_rois)
    }
    speech = next(f for f in result.facets if f.value == "speech" and f.roi == "AC").scores
    assert speech["loo_r"].low > 0.05
    assert speech["loo_fve"].estimate > 0
    joint = result.scores["unique_r"].estimate
    split = sum(f.scores["split_r"].estimate for f in result.facets if f.roi is None)
    assert split == pytest.approx(joint, abs=1e-6)
    assert set(result.arrays["voxel_winner"].tolist()) <= {*LEVEL_NAMES, NO_LEVEL}
    assert cells["0.9"].dataset.n_train == len(world.cohort.folds[0].responses)


def test_every_mandatory_row_can_be_built(world: DramaWorld, store: FeatureStore) -> None:
    context = RunContext(Settings(QUICK), store, CPU, Stopwatch())
    for row in load_task("drama").mandatory_rows(facts_of(world.data)):
        if row.model.id != "cross-subject":  # the world has one viewer
            features = open_drama_sources(row, world.data, context).features()
            assert all(
                len(table) == world.data.runs[run].n_trs
                for level in features.values()
                for run, (table,) in level.items()
            )


@pytest.mark.parametrize("name", ["confounds", "context-noise"])
def test_rows_without_content_score_nothing(name: str, world: DramaWorld, store: FeatureStore) -> None:
    (row,) = [row for row in baseline_submissions(simulated=True) if row.label == f"voxelboard/{name}"]
    estimate = _measure(world, row, store).result.scores["unique"]
    assert abs(estimate.estimate) < 0.05
    assert estimate.low < 0.02


def test_limit_keeps_runs_of_several_titles(world: DramaWorld, store: FeatureStore) -> None:
    context = RunContext(Settings(QUICK, limit=4), store, CPU, Stopwatch())
    (cell,) = load_task("drama").measure(_planted("0.9"), world.data, ["sim01"], context)
    assert cell.result.n_train == 4 * (150 - 10)


def test_same_world_same_bytes() -> None:
    spec = replace(SMALL, n_voxels=2, run_trs=80)
    first, second = (DramaWorld(spec) for _ in range(2))
    assert {n: r.sha256 for n, r in first.data.runs.items()} == {n: r.sha256 for n, r in second.data.runs.items()}
    assert first.data.responses("sim01").sha256() == second.data.responses("sim01").sha256()
    encodings = [world.encode(world.oracle(), leave_out=False) for world in (first, second)]
    np.testing.assert_array_equal(encodings[0].unique, encodings[1].unique)
