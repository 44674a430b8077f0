# SPDX-License-Identifier: Apache-2.0
"""Attribution methods of a real (tiny, random) language model on brains that follow them: what was planted is found.

Each voxel is a random mixture of one table of features at the protocol's delays, plus white noise of half its variance (SNR 2).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest
import tiny_language
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.features.attributions import Attributions, attribution_features
from voxelboard.benchmark.features.methods import METHODS
from voxelboard.benchmark.features.store import FeatureStore
from voxelboard.benchmark.models.language import LanguageModel
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.readers.base import CeilingKind, Responses, Segment, Split, StaticVectors
from voxelboard.benchmark.records import Estimate, Facet
from voxelboard.benchmark.stimuli.stories import Story, make_story
from voxelboard.benchmark.tasks.base import CellResult
from voxelboard.benchmark.tasks.cohort_scores import ModelFeatures
from voxelboard.benchmark.tasks.narrative import Narrative

REGIONS = ("HG", "HS", "STG", "STS", "IFG", "LatS")
N_VOXELS, N_TRS, N_REPEATS = 8, 120, 6
METHOD_OF = {
    "HG": "gradient_norm",
    "HS": "gradient_x_input_signed",
    "STG": "erasure_mask",
    "STS": "erasure_delete",
    "IFG": "attention",
    "LatS": "activations",
}
pytestmark = pytest.mark.timeout(600)  # for the fixtures, on a busy machine
QUICK = replace(
    V1,
    score=replace(V1.score, noise_brain_voxels=64, noise_brain_limit=0.05),
    attribution=replace(V1.attribution, n_draws=200),
)
Tables = Mapping[str, NDArray[np.float32]]  # story -> (n_trs, n_features)


@dataclass
class PlantedBrain:
    """Satisfies ``NarrativeData``: one subject, six regions with an order."""

    stories: dict[str, Story]
    runs: dict[str, NDArray[np.float32]]
    split: Split
    name: str = "planted-hierarchy"
    version: str = "1"
    kind: str = "simulated"
    task: str = "narrative"
    ceiling_kind: CeilingKind = "repeats"
    subjects: tuple[str, ...] = ("s0",)
    scored_rois: tuple[str, ...] = REGIONS
    roi_order: tuple[str, ...] = REGIONS
    static_vectors: StaticVectors | None = None

    def responses(self, subject: str) -> Responses:
        return Responses(subject, self.runs, np.repeat(REGIONS, N_VOXELS))


@dataclass(frozen=True)
class Scene:
    """A model, the stories, and all that the model explains of them."""

    lm: LanguageModel
    stories: dict[str, Story]
    attributions: Attributions


def _stories(rng: np.random.Generator) -> dict[str, Story]:
    lexicon = ["".join(rng.choice(list("abcdefgh"), size=n)) for n in rng.integers(2, 6, size=50)]
    stories = {}
    for name in [*(f"train{i}" for i in range(5)), "test"]:
        onsets = np.sort(rng.uniform(0, N_TRS * 2.0 - 1, N_TRS))
        words = rng.choice(lexicon, size=N_TRS).tolist()
        stories[name] = make_story(name, words, onsets, onsets + 0.2, n_trs=N_TRS, tr=2.0)
    return stories


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    stories = _stories(np.random.default_rng(5))
    text = " ".join(word for story in stories.values() for word in story.words)
    folder = tiny_language.save_language_model(
        tmp_path_factory.mktemp("lm"), "gpt2", text=text, vocab_size=400, n_layer=5, initializer_range=0.2
    )
    lm = tiny_language.language_model(folder)
    store = FeatureStore(tmp_path_factory.mktemp("store"))
    return Scene(lm, stories, attribution_features(lm, stories, tuple(METHODS), QUICK, store))


def brain(scene: Scene, drives: Mapping[str, Tables] | None, seed: int = 0, snr: float = 2.0) -> PlantedBrain:
    """Responses of regions driven by feature tables (region -> story -> table); None: noise alone."""
    rng = np.random.default_rng([seed, 11])
    parts = []
    for region in REGIONS:
        if drives is None:
            parts.append({name: np.zeros((N_TRS, N_VOXELS)) for name in scene.stories})
            continue
        tables = {name: np.asarray(table, dtype=np.float64) for name, table in drives[region].items()}
        every = np.concatenate(list(tables.values()))
        spread = np.where(every.std(0) > 1e-8, every.std(0), np.inf)
        weights = rng.standard_normal((4, every.shape[1], N_VOXELS))
        signal = {}
        for name, table in tables.items():
            z = (table - every.mean(0)) / spread
            late = [np.vstack([np.zeros((d, z.shape[1])), z[:-d]]) for d in QUICK.design.delays_trs]
            signal[name] = sum(x @ w for x, w in zip(late, weights, strict=True))
        scale = np.concatenate(list(signal.values())).std(0)
        parts.append({name: np.sqrt(snr) * value / scale for name, value in signal.items()})
    runs = {}
    for name in scene.stories:
        truth = np.concatenate([part[name] for part in parts], axis=1)
        n_repeats = N_REPEATS if name == "test" else 1
        runs[name] = (truth + rng.standard_normal((n_repeats, *truth.shape))).astype(np.float32)
    segments = tuple(Segment(name, 0, N_TRS) for name in scene.stories)
    return PlantedBrain(scene.stories, runs, Split(((segments[:-1], segments[-1:]),)))


LAYERED = ("activations", "attention", "conductance")


def score(scene: Scene, data: PlantedBrain, methods: tuple[str, ...] = ()) -> CellResult:
    """The cell of the states and of some methods; the states are one layer, to be quick."""

    def give(stories: Mapping[str, Story]) -> Attributions:
        assert set(stories) == set(scene.stories)
        return replace(scene.attributions, features={name: scene.attributions.features[name] for name in methods})

    states = {name: table[2:3] for name, table in scene.attributions.features["activations"].items()}
    model = ModelFeatures(states, explain=give if methods else None)
    (result,) = Narrative().run(data, data.subjects, model, QUICK, torch.device("cpu"))
    return result


def facet(result: CellResult, axis: str, value: str, roi: str | None = None) -> dict[str, Estimate]:
    (found,) = [f for f in result.facets if (f.axis, f.value, f.roi) == (axis, value, roi)]
    return found.scores


def number(estimate: Estimate) -> float:
    assert estimate.estimate is not None, estimate.reason
    return estimate.estimate


@pytest.fixture(scope="module")
def layers_planted(scene: Scene) -> CellResult:
    """Region k follows the conductance of layer k."""
    tables = scene.attributions.features["conductance"]
    drives = {roi: {name: table[k] for name, table in tables.items()} for k, roi in enumerate(REGIONS)}
    return score(scene, brain(scene, drives), ("activations", "conductance"))


@pytest.fixture(scope="module")
def methods_planted(scene: Scene) -> CellResult:
    """Each region follows one method, that of ``METHOD_OF``."""
    features = scene.attributions.features
    drives = {roi: {name: table[-1] for name, table in features[m].items()} for roi, m in METHOD_OF.items()}
    return score(scene, brain(scene, drives), tuple(name for name in METHODS if name in METHOD_OF.values()))


@pytest.fixture(scope="module")
def nothing_planted(scene: Scene) -> CellResult:
    return score(scene, brain(scene, None), LAYERED)


def test_layers_planted_in_regions_are_recovered_in_order(layers_planted: CellResult) -> None:
    order = facet(layers_planted, "hierarchy", "conductance")["order"]
    assert number(order) == pytest.approx(1.0)
    assert order.low is not None
    assert order.low > 0.7
    gain = facet(layers_planted, "hierarchy", "conductance")["preference_gain"]
    assert gain.low is not None
    assert gain.low > 0
    preferred = layers_planted.arrays["preferred_layer__conductance"]
    planted = np.repeat(np.arange(6), N_VOXELS)
    assert (preferred == planted).mean() > 0.8
    for k, roi in enumerate(REGIONS):
        by_layer = [number(facet(layers_planted, "conductance layer", str(layer), roi)["unique"]) for layer in range(6)]
        assert int(np.argmax(by_layer)) == k
        depth = facet(layers_planted, "hierarchy", "conductance", roi)["preferred_depth"]
        assert number(depth) == pytest.approx(k / 5, abs=0.12)


def test_methods_planted_in_regions_are_recovered(methods_planted: CellResult) -> None:
    for roi, planted in METHOD_OF.items():
        scores = {name: number(facet(methods_planted, "method", name, roi)["unique"]) for name in METHOD_OF.values()}
        assert max(scores, key=lambda name: scores[name]) == planted, (roi, scores)
        versus = facet(methods_planted, "method", planted, roi).get("versus_activations")
        if planted == "activations":
            assert versus is None
            others = [facet(methods_planted, "method", name, roi)["versus_activations"] for name in METHOD_OF.values()
                      if name != planted]  # fmt: skip
            assert all(other.high is not None and other.high < 0 for other in others)
        else:
            assert versus is not None
            assert versus.low is not None
            assert versus.low > 0
        assert number(facet(methods_planted, "method", planted, roi)["unique_fve"]) > 0


def test_a_brain_of_noise_prefers_nothing(nothing_planted: CellResult) -> None:
    for method in LAYERED:
        scores = facet(nothing_planted, "hierarchy", method)
        assert scores["order"].estimate is None or scores["order"].low <= 0 <= scores["order"].high
        # no region has signal power: its depths are noise, and the record gives no score of any layer or method
        assert scores["preference_gain"].estimate is None
        assert scores["preference_gain"].reason
    assert all(facet(nothing_planted, "method", name)["unique"].estimate is None for name in LAYERED)


def test_signal_that_no_layer_explains_gives_scores_around_zero_and_no_preference(scene: Scene) -> None:
    """A brain with reliable responses that have nothing to do with the model: every interval covers 0."""
    rng = np.random.default_rng(9)
    noise = {name: rng.standard_normal((N_TRS, 6)).astype(np.float32) for name in scene.stories}
    result = score(scene, brain(scene, dict.fromkeys(REGIONS, noise), seed=3), LAYERED)
    covered = []
    for method in LAYERED:
        for roi in REGIONS:
            unique = facet(result, "method", method, roi)["unique"]
            assert unique.low is not None
            assert unique.high is not None
            covered.append(unique.low <= 0 <= unique.high)
    assert np.mean(covered) >= 0.9
    for method in LAYERED:
        gain = facet(result, "hierarchy", method)["preference_gain"]
        assert gain.low is not None
        assert gain.high is not None
        assert gain.low <= 0.02
        order = facet(result, "hierarchy", method)["order"]
        assert order.estimate is None or order.low <= 0 <= order.high


def test_the_headline_and_all_other_scores_are_the_same_with_and_without(scene: Scene) -> None:
    tables = scene.attributions.features["conductance"]
    data = brain(scene, {roi: {name: table[2] for name, table in tables.items()} for roi in REGIONS})
    plain, explained = score(scene, data), score(scene, data, ("activations", "gradient_norm"))
    assert plain.scores == explained.scores
    assert plain.by_roi == explained.by_roi
    assert plain.layers == explained.layers
    assert plain.checks == explained.checks
    assert plain.facets == ()
    for name, array in plain.arrays.items():
        np.testing.assert_array_equal(explained.arrays[name], array)
    assert explained.attribution is not None
    assert explained.attribution.methods == ("activations", "gradient_norm")
    assert explained.attribution.completeness_worst is not None
    assert explained.attribution.completeness_worst <= QUICK.attribution.completeness_tolerance
    assert explained.attribution.completeness_missed == 0


def test_every_facet_has_an_interval_or_a_reason(layers_planted: CellResult) -> None:
    def sound(f: Facet) -> bool:
        return all(e.reason or (e.low is not None and e.low <= e.estimate <= e.high) for e in f.scores.values())

    assert all(sound(f) for f in layers_planted.facets)
    methods = {f.value for f in layers_planted.facets if f.axis == "method"}
    assert methods == {"activations", "conductance"}
    magnitude = facet(layers_planted, "hierarchy", "activations")["magnitude"]
    assert -1 <= number(magnitude) <= 1
    np.testing.assert_array_equal(layers_planted.arrays["layer_magnitude__conductance"] > 0, True)


def test_the_facet_statistics_give_the_facet_again(layers_planted: CellResult) -> None:
    table = layers_planted.arrays["facet_stats__conductance"].astype(np.float64).sum(axis=0)  # (n_rois, 3)
    for k, roi in enumerate(REGIONS):
        c, q, s = table[k]
        expected = c / np.sqrt(q * s)
        assert number(facet(layers_planted, "method", "conductance", roi)["unique"]) == pytest.approx(expected)
