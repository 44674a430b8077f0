# SPDX-License-Identifier: Apache-2.0
"""Letter F: what confounds can say is not counted as understanding."""

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.banded import refit_bands, search_bands, stack_bands, two_band_gammas
from voxelboard.benchmark.encoding.designs import primal_problem
from voxelboard.benchmark.encoding.residual import residualise
from voxelboard.benchmark.features.confounds import confound_bins, confound_features
from voxelboard.benchmark.features.resample import tr_sum
from voxelboard.benchmark.models.baselines import Constant, ContextNoise
from voxelboard.benchmark.models.simulated import PlantedModel
from voxelboard.benchmark.selftest.findings import Figure, Measurement, share_error
from voxelboard.benchmark.selftest.ranking import MIDDLE_LAYER, lineup, planted_llm
from voxelboard.benchmark.selftest.worlds import Workbench, World
from voxelboard.benchmark.statistics import partition
from voxelboard.benchmark.statistics.intervals import two_way_interval
from voxelboard.benchmark.statistics.scores import segment_statistics
from voxelboard.benchmark.stimuli.simulated import ar1
from voxelboard.benchmark.tasks.encode import Encoding, segmented

FloatArray = NDArray[np.float64]

LEVEL = 0.05
N_CHEAT = 6
CHEAT_GAIN = 3.0


def _confound_columns(world: World) -> dict[str, FloatArray]:
    """Story -> (n_trs, n_confounds) undelayed confounds, bins from the training stories."""
    stories, policy = world.data.stories, world.protocol.confounds
    bins = confound_bins([stories[segment.story] for segment in world.data.split.folds[0][0]], policy)
    return {name: confound_features(story, bins, policy) for name, story in stories.items()}


def null_unique(bench: Workbench) -> Measurement:
    """F1: on a brain that follows the confounds alone, banded ridge finds nothing unique in a language model."""
    n_worlds, n_voxels, n_repeats = bench.pick(1, 8), 100, 4
    means, lowest = [], []
    for k in range(n_worlds):
        world = bench.nulls(k)
        (fold,), (confound,) = world.cohort.folds, world.confounds
        rng = bench.rng(6, 1, k)
        weights = rng.standard_normal((confound.train.shape[1], n_voxels))
        scale = (confound.train @ weights).std(axis=0)
        train, clean = (rows @ weights / scale for rows in (confound.train, confound.test))
        responses = (train + 1.5 * ar1(len(train), n_voxels, 0.5, rng)).astype(np.float32)
        runs = np.stack([clean + 1.5 * ar1(len(clean), n_voxels, 0.5, rng) for _ in range(n_repeats)])
        tr = next(iter(world.data.stories.values())).tr
        features = {n: t[0] for n, t in world.features(planted_llm(0.7, 24, bench.seed + k), MIDDLE_LAYER).items()}
        design = segmented(features, world.protocol, tr)
        bands = stack_bands(
            {
                "model": design.problem(fold.train, fold.test),
                "confounds": primal_problem(confound.train, confound.test),
            }
        )
        alphas = world.protocol.encoding.relative_alphas
        search = search_bands(bands, responses, fold.inner_folds, two_band_gammas(), alphas)
        both = refit_bands(bands, responses, search).total
        alone = refit_bands(bands, responses, search, allowed=search.gammas[:, 0] == 0).total
        full, reduced = (segment_statistics(p, runs, kind="repeats") for p in (both, alone))
        unique = partition.unique_fractions(full, reduced).values
        means.append(float(unique.mean()))
        lowest.append(float(unique.min()))
    error = 3 * 0.0035 / float(np.sqrt(n_worlds))  # sd of one world: .0035, measured over 10
    return Measurement(
        (
            Figure("unique explained fraction", float(np.mean(means)), -0.03, 0.005, error),
            Figure("lowest voxel: nothing is clipped", float(np.mean(lowest)), high=-0.005),
        ),
        f"{n_worlds} worlds of {n_voxels} voxels",
    )


def null_headline(bench: Workbench) -> Measurement:
    """F4: H_u of untrained models and of noise, whose raw H may be large, and how often its two-way interval lies above 0."""
    n_worlds, n_models = bench.pick(1, 8), bench.pick(3, 8)
    scores: dict[str, list[float]] = {"untrained": [], "noise": []}
    above: dict[str, list[bool]] = {name: [] for name in scores}
    raw = []
    for k in range(n_worlds):
        found = lineup(bench, k)
        world, first = found.world, bench.seed + 700 + 20 * k
        for name, kept in scores.items():
            kept.append(found.score(name, "unique"))
        raw.append(found.score("untrained", "raw"))
        for i in range(n_models - 1):
            twin = world.features(planted_llm(0.9, 48, first + i, trained=False), MIDDLE_LAYER)
            noise = world.features(ContextNoise(48, first + i))
            for name, features in (("untrained", twin), ("noise", noise)):
                tables = world.tables(world.encode(features).predictions["unique"])
                scores[name].append(world.score(tables))
                interval = two_way_interval(world.influence(tables), confidence=1 - 2 * LEVEL)
                above[name].append(interval.low > 0)
    figures = []
    for name, kept in scores.items():
        error = 3 * 0.009 / float(np.sqrt(len(kept)))  # sd of one null model's H_u: .009 (noise), measured over 30
        figures.append(Figure(f"H_u, {name}", float(np.mean(kept)), -0.01, 0.01, error))
        if not bench.full:
            continue  # two models say nothing of a rate
        share = float(np.mean(above[name]))
        figures.append(Figure(f"share above 0, {name}", share, high=LEVEL, error=share_error(LEVEL, len(above[name]))))
    figures.append(Figure("raw H of an untrained model (teeth)", float(np.mean(raw)), low=0.05))
    return Measurement(tuple(figures), f"{n_worlds * n_models} models of each kind")


def appended_confounds(bench: Workbench) -> Measurement:
    """F5: confounds with a large gain, appended to a weak model, gain nothing; their residuals are not blown up again."""
    gains, raw_gains, shares = [], [], []
    for k in range(bench.pick(1, 8)):
        world = bench.listeners(k)
        honest = world.features(PlantedModel("q0.3", 0.3, 3, 32, bench.seed + 40 + k), MIDDLE_LAYER)
        columns = _confound_columns(world)
        spread = float(np.std(np.concatenate([table[0] for table in honest.values()])))
        size = np.std(np.concatenate(list(columns.values())), axis=0)
        chosen = np.flatnonzero(size > 0)[:N_CHEAT]
        cheat = {
            name: np.concatenate(
                [table, CHEAT_GAIN * spread * (columns[name][:, chosen] / size[chosen])[None]], axis=2
            ).astype(np.float32)
            for name, table in honest.items()
        }
        before, after = world.encode(honest), world.encode(cheat)
        gains.append(_gain(world, before, after, "unique"))
        raw_gains.append(_gain(world, before, after, "raw"))
        shares.append(_residual_share(world, {name: columns[name][:, chosen] for name in columns}))
    return Measurement(
        (
            Figure("gain in H_u", float(np.mean(gains)), high=0.005, error=0.006 / float(np.sqrt(len(gains)))),
            Figure("power that the confounds keep", float(np.mean(shares)), high=0.1),
            Figure("gain in raw H (teeth)", float(np.mean(raw_gains)), low=0.01),
        ),
        f"{len(gains)} worlds",
    )


def _gain(world: World, before: Encoding, after: Encoding, row: str) -> float:
    first, second = (world.score(world.tables(e.predictions[row])) for e in (before, after))
    return second - first


def _residual_share(world: World, columns: dict[str, FloatArray]) -> float:
    """Power of a pure confound's design after the pipeline's residualisation, over its power before."""
    (fold,), (confound,) = world.cohort.folds, world.confounds
    tr = next(iter(world.data.stories.values())).tr
    problem = segmented(columns, world.protocol, tr).problem(fold.train, fold.test, form="primal")
    residual = residualise(
        problem, confound.train, confound.test, fold.inner_folds, world.protocol.confounds.relative_lambdas
    )
    return residual.problem.mean_row_power / problem.mean_row_power


def extrapolation(bench: Workbench) -> Measurement:
    """F6: what the confounds leave of a model is as large on test data as on training data."""
    low, high = bench.small().protocol.score.residual_sd_range
    lines = [lineup(bench, k) for k in range(bench.pick(1, 8))]
    ratios = [ratio for line in lines for name in line.planted for ratio in line.encodings[name].sd_ratios]
    return Measurement(
        (
            Figure("smallest test over training SD", min(ratios), low, high),
            Figure("largest test over training SD", max(ratios), low, high),
        ),
        f"{len(ratios)} language models",
    )


def content_free(bench: Workbench) -> Measurement:
    """F7: one vector for every word says nothing when averaged, and counts words when summed."""
    n_worlds = bench.pick(1, 8)
    scores: dict[str, list[float]] = {"raw": [], "unique": [], "sum": []}
    for k in range(n_worlds):
        world, model = bench.listeners(k), Constant(4, bench.seed)
        context = world.protocol.context
        mean = world.encode(world.features(model)).predictions
        summed = {
            name: tr_sum(model.states(story, context)[0], story)[None].astype(np.float32)
            for name, story in world.data.stories.items()
        }
        total = world.encode(summed).predictions
        for name, predictions in (("raw", mean["raw"]), ("unique", mean["unique"]), ("sum", total["raw"])):
            scores[name].append(world.score(world.tables(predictions)))
    scale = 3 / float(np.sqrt(n_worlds))  # sd of one world: .008 of H, .003 of H_u, measured over 10
    return Measurement(
        (
            Figure("H of a constant, averaged", float(np.mean(scores["raw"])), -0.01, 0.01, 0.008 * scale),
            Figure("H_u of a constant, averaged", float(np.mean(scores["unique"])), -0.01, 0.01, 0.003 * scale),
            Figure("H of a constant, summed (teeth)", float(np.mean(scores["sum"])), low=0.04),
        ),
        f"{n_worlds} worlds of 5 subjects, 3 test stories",
    )
