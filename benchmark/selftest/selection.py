# SPDX-License-Identifier: Apache-2.0
"""Letter D: choosing a layer, an alpha or the best of many tries does not raise a score."""

from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.models.baselines import ContextNoise
from voxelboard.benchmark.selftest.findings import Figure, Measurement
from voxelboard.benchmark.selftest.ranking import FRESH, MIDDLE_LAYER, planted_llm
from voxelboard.benchmark.selftest.worlds import CPU, Float32Array, Tables, Workbench, World, only_segments
from voxelboard.benchmark.statistics import adaptivity
from voxelboard.benchmark.tasks.encode import Encoding, encode

FloatArray = NDArray[np.float64]

N_LAYERS, FEW_LAYERS = 8, 2


@dataclass(frozen=True, eq=False)
class _Layered:
    """A model, encoded, with the block statistics of every layer."""

    world: World
    encoding: Encoding
    by_layer: dict[int, Tables]

    def unit_scores(self, n_layers: int, *, on_test: bool) -> FloatArray:
        """(n_subjects * n_rois,) scores when the first ``n_layers`` compete, in training or on the test data."""
        found = []
        for subject, test in self.world.tests.items():
            tables = [self.by_layer[layer][subject].totals() for layer in range(n_layers)]
            for i, roi in enumerate(test.scored):
                values = [float(c[i] / np.sqrt(max(q[i], 1e-12))) for c, q, _ in tables]
                inner = self.encoding.inner["unique"][subject, roi][0][:n_layers]
                layer = int(np.argmax(values if on_test else inner))
                found.append(values[layer] / float(np.sqrt(max(tables[0][2][i], 1e-12))))
        return np.array(found)


def _layered(world: World, features: dict[str, Float32Array]) -> _Layered:
    by_layer: dict[int, Tables] = {}

    def keep(_fold: int, layer: int, predictions: Float32Array) -> None:
        by_layer[layer] = world.tables([predictions])

    return _Layered(world, world.encode(features, keep), by_layer)


def _null_models(bench: Workbench) -> list[_Layered]:
    """Models whose layers are all noise."""

    def build() -> list[_Layered]:
        found = []
        for k in range(bench.pick(4, 24)):
            world = bench.nulls(k % 3)
            layers = [world.features(ContextNoise(24, seed=bench.seed + 1000 + 50 * k + i)) for i in range(N_LAYERS)]
            found.append(_layered(world, {name: np.concatenate([x[name] for x in layers]) for name in layers[0]}))
        return found

    return bench.share("null layers", build)


def layer_choice(bench: Workbench) -> Measurement:
    """D1: a model whose layers are all noise, its layer chosen inside the training data, and chosen on the test data."""
    models = _null_models(bench)
    nested = [model.world.score(model.world.tables(model.encoding.predictions["unique"])) for model in models]
    best = [float(model.unit_scores(N_LAYERS, on_test=True).mean()) for model in models]
    error = 3 * 0.007 / float(np.sqrt(len(models)))  # sd of one model's score: .007, measured over 40 of them
    return Measurement(
        (
            Figure("H_u, layer chosen in training", float(np.mean(nested)), -0.012, 0.012, error),
            Figure("H_u, layer chosen on test (teeth)", float(np.mean(best)), low=0.02),
        ),
        f"{len(models)} null models of {N_LAYERS} layers",
    )


def layer_counts(bench: Workbench) -> Measurement:
    """D2: of two equal models, the one with more layers does not win, other than where layers are chosen on test data.

    Scores of the pipeline's chosen layer where all compete; of the best inner score where only some do.
    """
    models = _null_models(bench)
    wins: dict[bool, list[float]] = {False: [], True: []}
    for a, b in permutations(models, 2):
        for on_test, found in wins.items():
            many = a.unit_scores(N_LAYERS, on_test=on_test) if on_test else _pipeline_scores(a)
            found.append(float((many > b.unit_scores(FEW_LAYERS, on_test=on_test)).mean()))
    error = 3 * 0.5 / float(np.sqrt(5 * len(models)))  # about five independent subjects and ROIs of each model
    return Measurement(
        (
            Figure(f"P({N_LAYERS} layers beat {FEW_LAYERS}), nested", float(np.mean(wins[False])), 0.38, 0.62, error),
            Figure("the same, chosen on test (teeth)", float(np.mean(wins[True])), low=0.62),
        ),
        f"{len(models)} null models, all pairs",
    )


def _pipeline_scores(model: _Layered) -> FloatArray:
    """(n_subjects * n_rois,) scores of the layers that the pipeline chose."""
    tables = model.world.tables(model.encoding.predictions["unique"])
    totals = [tables[subject].totals() for subject in model.world.tests]
    return np.concatenate([c / np.sqrt(np.maximum(q, 1e-12) * np.maximum(s, 1e-12)) for c, q, s in totals])


def no_regret(bench: Workbench) -> Measurement:
    """D3: the layer chosen in training is nearly as good on fresh noise-free stories as the best one in hindsight."""
    regrets = []
    for k in range(bench.pick(1, 8)):
        world = bench.listeners(k)
        features = world.features(planted_llm(0.7, 24, bench.seed + 60 + k))
        truths: list[FloatArray] = []

        def keep(_fold: int, _layer: int, predictions: Float32Array, found: list[FloatArray] = truths) -> None:
            tables = only_segments(world.true_tables([predictions]), FRESH)  # noqa: B023 - called before the next world
            totals = [tables[subject].totals() for subject in world.data.subjects]  # noqa: B023
            found.append(np.stack([c / np.sqrt(q * s) for c, q, s in totals]))

        encoding = world.encode(features, keep)
        profile = np.stack(truths)  # (n_layers, n_subjects, n_rois)
        chosen = [
            [encoding.chosen["unique"][subject, roi][0] for roi in world.data.scored_rois]
            for subject in world.data.subjects
        ]
        nested = np.take_along_axis(profile, np.array(chosen)[None], axis=0)[0]
        regrets.append(float((profile.max(axis=0) - nested).mean()))
    return Measurement(
        (Figure("score lost against the best layer in hindsight", float(np.mean(regrets)), 0, 0.025),),
        f"{len(regrets)} models of 3 layers, 25 subjects x ROIs each",
    )


def alpha_rule(bench: Workbench) -> Measurement:
    """D4: alpha by squared error, the protocol's rule, against alpha by each voxel's correlation; and shuffled inner folds."""
    gains, leaks = [], []
    for k in range(bench.pick(1, 6)):
        world = bench.listeners(k)
        features = world.features(planted_llm(0.5, 48, bench.seed + 70 + k), MIDDLE_LAYER)
        rule: Any = "correlation"
        other = replace(world.protocol, encoding=replace(world.protocol.encoding, alpha_selection=rule))
        by_error = world.score(world.tables(world.encode(features).predictions["raw"]))
        stories, cohort = world.data.stories, world.cohort
        by_r = encode(features, stories, cohort, world.confounds, other, CPU).predictions["raw"]
        gains.append(by_error - world.score(world.tables(by_r)))
        order = bench.rng(4, 4, k).permutation(len(cohort.folds[0].inner_folds))
        shuffled = replace(cohort, folds=(replace(cohort.folds[0], inner_folds=cohort.folds[0].inner_folds[order]),))
        loose = encode(features, stories, shuffled, world.confounds, world.protocol, CPU).predictions["raw"]
        leaks.append(world.score(world.tables(loose)) - by_error)
    return Measurement(
        (
            Figure("H by squared error - H by correlation", float(np.mean(gains)), low=0.005),
            Figure("H gained by shuffled inner folds", float(np.mean(leaks)), -0.05, 0.02),
        ),
        f"{len(gains)} worlds",
    )


def many_tries(bench: Workbench) -> Measurement:
    """D5: a team submits 100 models without merit: the best of them, and what the Ladder lets through."""
    n_teams, n = bench.pick(400, 4000), 100
    rng = bench.rng(4, 5)
    scores = rng.standard_normal((n_teams, n))
    best = scores.max(axis=1)
    final = np.array([adaptivity.ladder(row.tolist(), np.sqrt(2.0))[-1] for row in scores])
    moved = float((final > scores[:, 0]).mean())
    return Measurement(
        (
            Figure("best of 100 nulls, in standard errors (teeth)", float(best.mean()), low=2.3),
            Figure("expected best - found", adaptivity.best_of_nulls(n) - float(best.mean()), -0.1, 0.1),
            Figure("teams that move up by chance", moved, high=0.05, error=3 * float(np.sqrt(0.05 * 0.95 / n_teams))),
        ),
        f"{n_teams} teams of {n} submissions",
    )
