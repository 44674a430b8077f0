# SPDX-License-Identifier: Apache-2.0
"""A whole study at the smallest size: it resumes, pairs what belongs together, and its numbers can be recomputed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from voxelboard.benchmark.errors import DataError, UserError
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.readers.registry import open_dataset
from voxelboard.benchmark.records import load_records
from voxelboard.benchmark.statistics.deltas import delta_intervals
from voxelboard.benchmark.statistics.gates import gate_subjects
from voxelboard.benchmark.statistics.influence import unit_influence
from voxelboard.benchmark.statistics.scores import BlockStatistics, coarsen
from voxelboard.benchmark.stimuli.ablated_stories import ablate_story
from voxelboard.benchmark.stimuli.ablations import load_ablation
from voxelboard.benchmark.stimuli.corpora import CorpusRequest
from voxelboard.benchmark.stimuli.grammar import build_lexicon, generate_sentence, spell
from voxelboard.benchmark.stimuli.stories import make_story
from voxelboard.benchmark.stimuli.syntax import load_parser
from voxelboard.benchmark.studies import ablation as study
from voxelboard.benchmark.studies.ablation import (
    Reading,
    StudyModel,
    StudyPlan,
    complete_seeds,
    read_plan,
    read_scores,
    run_study,
    scores_path,
    study_models,
    study_readings,
    write_plan,
)
from voxelboard.benchmark.studies.encoding import PreparedData
from voxelboard.benchmark.studies.results import read_results, study_results, write_results
from voxelboard.benchmark.study_tables import ALL_ROIS

pytestmark = pytest.mark.timeout(300)
DATA = "simulated-narrative:tiny"


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> StudyPlan:
    folder = tmp_path_factory.mktemp("study")
    lexicon, rng = build_lexicon(), np.random.default_rng(0)
    lines = [" ".join(spell(lexicon, generate_sentence(lexicon, k % 8, rng))) + "." for k in range(900)]
    (folder / "corpus.txt").write_text("\n".join(lines), encoding="utf-8")
    request = CorpusRequest(folder / "corpus.txt", folder / "made", ("original", "noun", "random-noun"), spoken=True)
    plan = StudyPlan(folder, request, "tiny", ("gpt2",), (0, 1), (DATA,), {DATA: 4}, 2)
    write_plan(plan)
    return plan


@pytest.fixture(scope="module")
def finished(plan: StudyPlan, tmp_path_factory: pytest.TempPathFactory) -> StudyPlan:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELBOARD_CACHE", str(tmp_path_factory.mktemp("cache")))
        stopped = 0

        def stop(stage: str, done: int, total: int) -> None:
            nonlocal stopped
            stopped += stage.startswith("training 2")
            if stopped == 1:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_study(plan, V1, progress=stop)
        assert complete_seeds(plan, open_dataset(DATA, "narrative")) == ()
        with pytest.raises(DataError, match="no seed of this study is complete"):
            study_results(plan, "s", [open_dataset(DATA, "narrative")], V1)
        run_study(plan, V1)
    return plan


def test_every_reading_is_scored_and_a_second_run_does_nothing(
    finished: StudyPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert complete_seeds(finished, open_dataset(DATA, "narrative")) == (0, 1)
    names = [reading.name for reading in study_readings(finished)]
    assert names[:2] == ["gpt2-original-s0-original", "gpt2-original-s0-short"]
    assert len(names) == 2 * (2 + 2 + 2)
    assert [model.seed for model in study_models(finished)] == [0, 0, 0, 1, 1, 1]
    monkeypatch.setattr(study, "load_model", lambda *_, **__: pytest.fail("read again"))
    run_study(finished, V1)


def test_the_plan_is_read_back(finished: StudyPlan) -> None:
    assert read_plan(finished.folder) == finished
    with pytest.raises(DataError, match="holds no study"):
        read_plan(finished.folder / "made")


def test_scores_of_a_model_that_was_trained_anew_are_not_reported(finished: StudyPlan) -> None:
    data = open_dataset(DATA, "narrative")
    path = finished.folder / "models" / "gpt2-noun-s1" / "training.json"
    whole = path.read_text()
    path.write_text(json.dumps(json.loads(whole) | {"key": "another"}))
    try:
        assert complete_seeds(finished, data) == (0,)
        path.unlink()
        assert complete_seeds(finished, data) == (0,)
    finally:
        path.write_text(whole)
    assert complete_seeds(finished, data) == (0, 1)


def kept(stats: BlockStatistics, enters: np.ndarray) -> BlockStatistics:
    return replace(stats, c=stats.c[:, enters], q=stats.q[:, enters], s=stats.s[:, enters])


def test_deltas_are_paired_and_recomputed_from_the_stored_scores(finished: StudyPlan, tmp_path: Path) -> None:
    data = open_dataset(DATA, "narrative")
    results, arrays = study_results(finished, "tiny", [data], V1)
    write_results(tmp_path / "studies" / "tiny", results, arrays)
    again = read_results(tmp_path / "studies" / "tiny")
    assert again == results
    (found,) = [
        q for q in results.quantities if (q.ablation, q.text, q.kind, q.roi) == ("noun", "ablated", "delta", ALL_ROIS)
    ]
    tables = {}
    for ablation, text in (("original", "original"), ("noun", "ablated")):
        seeds = []
        for seed in (0, 1):
            scores = read_scores(scores_path(finished, DATA, Reading(StudyModel("gpt2", ablation, seed), text)))
            gated = gate_subjects([coarsen(one.stats, 15) for one in scores.values()])
            assert gated.scored.any()
            rows = [unit_influence(kept(one, gated.scored[0])).mean(axis=1) for one in gated.subjects]
            seeds.append(np.stack(rows))
        tables[ablation] = np.stack(seeds, axis=-1)
    expected = delta_intervals([tables["original"]], [tables["noun"]])[0]
    assert found.estimate == pytest.approx(expected.estimate)
    assert found.standard_error == pytest.approx(expected.se)
    score = {
        q.ablation: q.estimate for q in results.quantities if (q.text, q.kind, q.roi) == ("original", "score", ALL_ROIS)
    }
    delta = {
        q.ablation: q.estimate for q in results.quantities if (q.text, q.kind, q.roi) == ("original", "delta", ALL_ROIS)
    }
    assert delta["noun"] == pytest.approx(score["original"] - score["noun"])
    beyond = [q for q in results.quantities if q.kind == "beyond_control" and q.roi == ALL_ROIS]
    assert {(q.ablation, q.text) for q in beyond} == {("noun", "original"), ("noun", "ablated")}
    assert beyond[0].estimate == pytest.approx(delta["noun"] - delta["random-noun"])
    assert "3 fixed subjects × story blocks × 2 training seeds" in found.estimator
    assert [q.kind for q in results.quantities].count("context") >= 1
    # results of studies are no records
    assert load_records(tmp_path) == []


def test_damaged_scores_are_told(finished: StudyPlan, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="voxelboard study run"):
        read_scores(tmp_path / "x.npz")
    (tmp_path / "study.json").write_text(json.dumps({"name": 3}))
    with pytest.raises(DataError, match="voxelboard study report"):
        read_results(tmp_path)


def test_the_lean_encoding_is_that_of_the_task(finished: StudyPlan) -> None:
    from voxelboard.benchmark.features.extract import extract_features
    from voxelboard.benchmark.features.store import FeatureStore
    from voxelboard.benchmark.models.baselines import baseline_model
    from voxelboard.benchmark.tasks.cohort_scores import ModelFeatures
    from voxelboard.benchmark.tasks.narrative import Narrative

    data = open_dataset(DATA, "narrative")
    model = baseline_model("static", 1, 0, data.static_vectors)
    features = extract_features(model, data.stories, V1, FeatureStore(finished.folder / "store"))
    own = PreparedData(data, V1, torch.device("cpu")).score(features)
    protocol = replace(
        V1,
        score=replace(V1.score, noise_brain_voxels=8, noise_brain_limit=1.0),
        diagnostics=replace(V1.diagnostics, n_permutations=20),
    )
    for cell in Narrative().run(data, data.subjects, ModelFeatures(features), protocol, torch.device("cpu")):
        stats = own[cell.subject].stats
        np.testing.assert_allclose(
            np.stack([stats.c, stats.q, stats.s], axis=-1), cell.arrays["stats__unique"], rtol=1e-4, atol=1e-6
        )


def test_ablated_stories_keep_the_times_of_their_words() -> None:
    words = ["the", "old", "dog", "saw", "a", "cat"]
    story = make_story("s", words, range(6), range(1, 7), n_trs=6, tr=1.0)
    parser = load_parser()
    tagged = ablate_story(story, load_ablation("noun", parser), parser)
    assert tagged.words == ("the", "old", "NNOUN", "saw", "a", "NNOUN")
    assert tagged.onsets.tolist() == story.onsets.tolist()
    gone = ablate_story(story, load_ablation("remove-noun", parser), parser)
    assert gone.words == ("the", "old", "saw", "a")
    assert gone.onsets.tolist() == [0, 1, 3, 4]
    assert all(gone.text[a:b] == word for word, (a, b) in zip(gone.words, gone.spans, strict=True))
    with pytest.raises(DataError, match="no word is left"):
        ablate_story(make_story("s", ["dog"], [0], [1], n_trs=2, tr=1.0), load_ablation("remove-noun", parser), parser)


def test_a_study_needs_the_original(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs the version 'original'"):
        StudyPlan(tmp_path, CorpusRequest(tmp_path / "c.txt", tmp_path / "o", ("noun",)))
