# SPDX-License-Identifier: Apache-2.0
"""The task ablation on brains whose truth is planted: who follows nouns loses them, and nobody else does."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from voxelboard.benchmark.features.extract import extract_features
from voxelboard.benchmark.features.resample import tr_sum
from voxelboard.benchmark.features.store import FeatureStore
from voxelboard.benchmark.models.baselines import baseline_model
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.readers.registry import open_dataset
from voxelboard.benchmark.readers.simulated import SimulationSpec
from voxelboard.benchmark.readers.simulated_ablation import SimulatedAblation
from voxelboard.benchmark.records import Facet
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.statistics.influence import unit_influence
from voxelboard.benchmark.statistics.intervals import single_subject_interval, two_way_interval
from voxelboard.benchmark.statistics.scores import coarsen
from voxelboard.benchmark.stimuli.perturbations import tag_word
from voxelboard.benchmark.stimuli.perturbed_stories import perturb_story, tagged_words
from voxelboard.benchmark.submission import baseline_submissions
from voxelboard.benchmark.tasks.ablation import Ablation
from voxelboard.benchmark.tasks.base import MeasuredCell, RunContext
from voxelboard.benchmark.tasks.conditions import (
    INTACT,
    condition_statistics,
    removal_conditions,
    removal_statistics,
)
from voxelboard.benchmark.tasks.held_out import held_out_responses
from voxelboard.benchmark.tasks.preparation import cohorts
from voxelboard.benchmark.tasks.recompute import stored_condition, stored_statistics
from voxelboard.benchmark.tasks.scoring import HeldOutResponses

SPEC = SimulationSpec(n_subjects=5, n_train=10, train_trs=150, test_trs=240, n_voxels=12, n_repeats=4, snr=0.3)
PROTOCOL = replace(
    V1,
    ablation=replace(
        V1.ablation, conditions=("noun", "verb", "random-noun", "random-verb", "swap-noun", "swap-verb", "constant")
    ),
    score=replace(V1.score, noise_brain_voxels=16, noise_brain_limit=0.2),
    diagnostics=replace(V1.diagnostics, n_permutations=20),
)


ROIS = ("NOUN", "VERB", "BOTH", "NULL")


@pytest.fixture(scope="module")
def brains() -> SimulatedAblation:
    return SimulatedAblation(SPEC)


@pytest.fixture(scope="module")
def deltas(brains: SimulatedAblation, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, np.ndarray]]:
    """ROI (and NULL) -> condition -> (n_subjects, n_blocks) influence values of the delta, for the lexicon's vectors."""
    model = baseline_model("static", 1, 0, brains.static_vectors)
    store = FeatureStore(tmp_path_factory.mktemp("store"))
    intact = extract_features(model, brains.stories, PROTOCOL, store)
    perturbed = {
        name: extract_features(
            model, {"test01": perturb_story(brains.stories["test01"], name, 10, PROTOCOL.seed)}, PROTOCOL, store
        )
        for name in PROTOCOL.ablation.conditions
    }
    (cohort,) = cohorts(brains, brains.subjects, PROTOCOL)
    tests = {}
    for subject in brains.subjects:
        test = held_out_responses(brains, cohort, subject)
        # total variance instead of the signal's, so that the region without signal has a denominator too
        tests[subject] = HeldOutResponses(test.segments, None, test.rois, ROIS, "none")
    chosen = {subject: dict.fromkeys(ROIS, (0,)) for subject in brains.subjects}
    found = condition_statistics(
        intact, perturbed, brains.stories, cohort, tests, chosen, PROTOCOL, torch.device("cpu")
    )
    removed, _ = removal_statistics(intact, brains.stories, cohort, tests, chosen, PROTOCOL, torch.device("cpu"))
    conditions = (*PROTOCOL.ablation.conditions, *removal_conditions(PROTOCOL))
    influence = {
        subject: {name: unit_influence(coarsen(one.stats, 15)) for name, one in (by_name | removed[subject]).items()}
        for subject, by_name in found.items()
    }
    return {
        roi: {
            name: np.stack([by_name[INTACT][:, k] - by_name[name][:, k] for by_name in influence.values()])
            for name in conditions
        }
        | {INTACT: np.stack([by_name[INTACT][:, k] for by_name in influence.values()])}
        for k, roi in enumerate(ROIS)
    }


def test_a_brain_of_nouns_loses_nouns_and_not_verbs(deltas: dict[str, dict[str, np.ndarray]]) -> None:
    for roi, own, other in (("NOUN", "noun", "verb"), ("VERB", "verb", "noun")):
        intact = float(deltas[roi][INTACT].mean())
        assert intact > 0.1  # a pooled r, noise included
        lost, kept = two_way_interval(deltas[roi][f"swap-{own}"]), two_way_interval(deltas[roi][f"swap-{other}"])
        assert lost.estimate > 0.75 * intact  # the tagger misses some
        assert lost.low > 0
        assert abs(kept.estimate) < 0.15 * lost.estimate
        # a tag takes the noise of the other class out of the predictions as well: never a loss
        lost, kept = two_way_interval(deltas[roi][own]), two_way_interval(deltas[roi][other])
        assert lost.low > 0
        assert lost.estimate > 0.75 * intact
        assert kept.estimate < 0.05 * lost.estimate
        # beyond the loss of as many random words
        beyond = two_way_interval(deltas[roi][own] - deltas[roi][f"random-{own}"])
        assert beyond.low > 0


def test_a_planted_property_is_found_before_its_removal_and_not_after(brains: SimulatedAblation) -> None:
    """States that say how many nouns a TR has, beside 20 dimensions of noise."""
    rng = np.random.default_rng(0)
    direction, states = rng.standard_normal((4, 20)), {}
    for name, story in brains.stories.items():
        nouns = np.array([[tag_word(tag, "noun") is not None] for tag in tagged_words(story, 10).tags], dtype=float)
        counts = np.minimum(tr_sum(nouns, story)[:, 0].astype(int), 3)
        states[name] = (rng.standard_normal((story.n_trs, 20)) + 2 * direction[counts])[None].astype(np.float32)
    (cohort,) = cohorts(brains, brains.subjects[:1], PROTOCOL)
    subject = brains.subjects[0]
    tests = {subject: held_out_responses(brains, cohort, subject)}
    chosen = {subject: dict.fromkeys(brains.scored_rois, (0,))}
    found, probes = removal_statistics(states, brains.stories, cohort, tests, chosen, PROTOCOL, torch.device("cpu"))
    assert set(found[subject]) == set(removal_conditions(PROTOCOL)) == set(probes)
    noun, control = probes["residual-noun"], probes["random-residual-noun"]
    chance = noun.chance.mean()
    assert noun.intact.mean() > chance + 0.3
    assert noun.removed.mean() == pytest.approx(chance, abs=0.04)  # 240 rows: one standard error is .03
    # labels at the wrong time: nothing to be found, and the right ones stay where they are
    assert control.intact.mean() == pytest.approx(control.chance.mean(), abs=0.04)


def test_labels_at_the_wrong_time_take_next_to_nothing_along(deltas: dict[str, dict[str, np.ndarray]]) -> None:
    for roi in ROIS:
        for name in ("noun", "verb"):
            assert abs(two_way_interval(deltas[roi][f"random-residual-{name}"]).estimate) < 0.05


def test_a_brain_of_both_loses_something_with_either(deltas: dict[str, dict[str, np.ndarray]]) -> None:
    assert two_way_interval(deltas["BOTH"]["noun"]).low > 0
    assert two_way_interval(deltas["BOTH"]["verb"]).low > 0


def test_a_brain_that_nothing_drives_loses_nothing(deltas: dict[str, dict[str, np.ndarray]]) -> None:
    for name in ("noun", "verb", "random-noun", "swap-noun", "swap-verb"):
        interval = two_way_interval(deltas["NULL"][name])
        assert interval.low <= 0 <= interval.high


def test_one_word_throughout_predicts_nothing(deltas: dict[str, dict[str, np.ndarray]]) -> None:
    for roi in ("NOUN", "VERB", "BOTH"):
        left = deltas[roi][INTACT] - deltas[roi]["constant"]
        assert abs(left.mean()) < 0.1  # noise: what is left is where words are, without the confounds


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[MeasuredCell]:
    from voxelboard.benchmark.environment import Stopwatch

    data = SimulatedAblation(replace(SPEC, n_subjects=1, n_train=6, train_trs=120, test_trs=120))
    (static,) = [row for row in baseline_submissions(simulated=True) if row.label == "voxelboard/static"]
    store = FeatureStore(tmp_path_factory.mktemp("store"))
    context = RunContext(Settings(PROTOCOL, "cpu"), store, torch.device("cpu"), Stopwatch())
    return list(Ablation().measure(static, data, data.subjects, context))


def facets(cell: MeasuredCell, condition: str) -> Iterator[Facet]:
    return (facet for facet in cell.result.facets if facet.value == condition)


def test_a_cell_has_the_headline_of_the_intact_text_and_a_facet_a_condition_and_roi(
    cells: list[MeasuredCell],
) -> None:
    (cell,) = cells
    conditions = (*PROTOCOL.ablation.conditions, *removal_conditions(PROTOCOL))
    assert {facet.value for facet in cell.result.facets} == set(conditions)
    assert len(cell.result.facets) == len(conditions) * 4
    intact = cell.result.scores["unique"].estimate or 0.0
    for condition in conditions:
        overall = next(facets(cell, condition))
        assert overall.roi is None
        delta, unique = overall.scores["delta"].estimate, overall.scores["unique"].estimate
        assert delta == pytest.approx(intact - (unique or 0.0), abs=1e-6)
        assert ("beyond_control" in overall.scores) == (condition in ("noun", "verb", "residual-noun", "residual-verb"))
        assert ("probe_removed_above_chance" in overall.scores) == ("residual" in condition)
        assert cell.result.arrays[f"voxel_delta__{condition}"].shape == cell.result.arrays["voxel_roi"].shape
        n_rois = len(cell.result.arrays["rois"])
        assert cell.result.arrays[f"condition_stats__{condition}"].shape[1:] == (n_rois, 2)


def test_deltas_are_recomputed_from_the_shipped_statistics(cells: list[MeasuredCell]) -> None:
    (cell,) = cells
    arrays = cell.result.arrays
    intact = unit_influence(coarsen(stored_statistics(arrays, "unique"), 15))
    noun = unit_influence(stored_condition(arrays, "noun", V1.score))
    roi = arrays["rois"].tolist().index("NOUN")
    expected = single_subject_interval(intact[:, roi] - noun[:, roi])
    (facet,) = [f for f in facets(cell, "noun") if f.roi == "NOUN"]
    assert facet.scores["delta"].estimate == pytest.approx(expected.estimate, abs=1e-5)
    assert facet.scores["delta"].low == pytest.approx(expected.low, abs=1e-5)


def test_rows_that_read_no_words_are_not_rows_of_this_task() -> None:
    from voxelboard.benchmark.readers.base import facts_of

    data = open_dataset("simulated-ablation:tiny", "ablation")
    labels = {row.label for row in Ablation().mandatory_rows(facts_of(data))}
    assert "voxelboard/static" in labels
    assert not labels & {"voxelboard/confounds", "voxelboard/cross-subject"}


def test_narrative_data_can_be_read_perturbed_and_not_the_other_way_round() -> None:
    from voxelboard.benchmark.errors import UserError

    assert open_dataset("simulated-narrative:tiny", "ablation").task == "narrative"
    with pytest.raises(UserError, match="of the task ablation, not narrative"):
        open_dataset("simulated-ablation:tiny", "narrative")


def test_planted_models_know_nothing_of_a_word_that_was_replaced(brains: SimulatedAblation) -> None:
    story = brains.stories["test01"]
    perturbed = perturb_story(story, "noun", 10, 0)
    replaced = np.array([word == "NNOUN" for word in perturbed.words])
    assert 0.1 < replaced.mean() < 0.4
    assert (perturbed.annotations["lex"][replaced] == 0).all()
    np.testing.assert_array_equal(perturbed.annotations["lex"][~replaced], story.annotations["lex"][~replaced])
