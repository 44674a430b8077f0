# SPDX-License-Identifier: Apache-2.0
"""Letter E: nothing of the test data, of the future or of another story reaches what it must not reach."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.designs import SegmentedDesign, primal_problem
from voxelboard.benchmark.encoding.filters import high_pass
from voxelboard.benchmark.encoding.ridge import fit_ridge
from voxelboard.benchmark.errors import InvalidNumbers
from voxelboard.benchmark.features.extract import resample_states
from voxelboard.benchmark.models.baselines import ContextNoise
from voxelboard.benchmark.protocol import LANCZOS, V1, Protocol
from voxelboard.benchmark.readers.base import Responses, Segment, Split
from voxelboard.benchmark.selftest.findings import Figure, Measurement
from voxelboard.benchmark.selftest.ranking import MIDDLE_LAYER, planted_llm
from voxelboard.benchmark.selftest.worlds import CPU, AlteredData, Float32Array, Workbench, World, digest
from voxelboard.benchmark.statistics.permutation import block_permutation_test, draw_block_permutations
from voxelboard.benchmark.statistics.scores import voxel_correlation
from voxelboard.benchmark.statistics.surrogates import circular_shift_test
from voxelboard.benchmark.tasks.canaries import time_only_features
from voxelboard.benchmark.tasks.cohort_scores import ModelFeatures
from voxelboard.benchmark.tasks.encode import ConfoundFold, Encoding, segmented
from voxelboard.benchmark.tasks.narrative import Narrative

FloatArray = NDArray[np.float64]


def _time_only(world: World) -> dict[str, Float32Array]:
    columns = time_only_features(world.data.stories, world.protocol.score.oasm_sigma_trs)
    return {name: table[None].astype(np.float32) for name, table in columns.items()}


def time_only_canary(bench: Workbench) -> Measurement:
    """E1: a feature that knows only the time scores 0, and a split that lets it score is stopped."""
    world = bench.small()
    encoding = world.encode(_time_only(world))
    train, test = world.data.split.folds[0]
    leaky = AlteredData(world.data, split=Split(((tuple(dict.fromkeys((*train, *test))), test),)))
    features = world.features(ContextNoise(8, bench.seed))
    try:
        for _ in Narrative().run(leaky, leaky.subjects[:1], ModelFeatures(features), world.protocol, CPU):
            pass
        stopped = False
    except InvalidNumbers as error:
        stopped = "when a TR happened" in str(error)  # and not because another canary saw it
    return Measurement(
        (
            Figure("H of the time alone", world.score(world.tables(encoding.predictions["raw"])), -0.005, 0.005),
            Figure("largest prediction from it", float(np.abs(encoding.predictions["raw"][0]).max()), 0, 0),
            Figure("leaky split stopped by the canary", stopped, 1, 1),
        ),
        "3 subjects",
    )


def noise_brain(bench: Workbench) -> Measurement:
    """E2: models predict a brain of noise with r 0."""
    world, limit = bench.quiet(), V1.score.noise_brain_limit
    models = {
        "language model": world.features(planted_llm(0.9, 40, bench.seed), MIDDLE_LAYER),
        "context noise": world.features(ContextNoise(40, bench.seed)),
    }
    figures = []
    for name, features in models.items():
        responses, predictions = world.noise_correlation(world.encode(features).predictions["raw"])
        r = voxel_correlation(predictions, responses)
        figures.append(Figure(f"mean r, {name}", float(r.mean()), -limit, limit))
    return Measurement(tuple(figures), "512 noise voxels, 240 test rows")


def shuffled_gap(bench: Workbench) -> Measurement:
    """E3: how much shuffled TRs would give to features that know nothing; the split of the protocol gives none."""
    world = bench.quiet()
    fold = world.cohort.folds[0]
    noise = fold.responses[:, world.cohort.columns["noise brain"]]
    models = {"time alone": _time_only(world), "context noise": world.features(ContextNoise(200, bench.seed))}
    figures = []
    for name, features in models.items():
        responses, predictions = world.noise_correlation(world.encode(features).predictions["raw"])
        held_out = float(voxel_correlation(predictions, responses).mean())
        shuffled = _shuffled_correlation(world, features, noise, bench.rng(5, 3))
        figures.append(Figure(f"r of {name}, shuffled TRs (teeth)", shuffled, low=0.1))
        figures.append(Figure(f"r of {name}, stories left out", held_out, -0.02, 0.02))
    return Measurement(tuple(figures), "512 noise voxels")


def _shuffled_correlation(
    world: World, features: Mapping[str, Float32Array], responses: Float32Array, rng: np.random.Generator
) -> float:
    """Mean r where half of the training stories' TRs, drawn at random, predict the other half."""
    tr = next(iter(world.data.stories.values())).tr
    design = segmented({name: table[0] for name, table in features.items()}, world.protocol, tr)
    train = world.cohort.folds[0].train
    rows = design.rows(train, design.inverse_scales(train))
    order = rng.permutation(len(rows))
    here, there = order[::2], order[1::2]
    fit = fit_ridge(
        primal_problem(rows[here], rows[there]),
        responses[here],
        np.arange(len(here)) % 5,
        world.protocol.encoding.relative_alphas,
    )
    return float(voxel_correlation(fit.test_predictions, responses[there]).mean())


def whole_segments(bench: Workbench) -> Measurement:
    """E4: training and test share no story, and inner folds hold whole segments."""
    shared = split = 0
    for world in (bench.small(), bench.quiet()):
        for fold in world.cohort.folds:
            shared += len({s.story for s in fold.train} & {s.story for s in fold.test})
            n_rows = [s.stop - s.start - 2 * world.protocol.design.trim_trs for s in fold.train]
            parts = np.split(fold.inner_folds, np.cumsum(n_rows)[:-1])
            split += sum(len(np.unique(part)) > 1 for part in parts)
    return Measurement(
        (
            Figure("stories on both sides", shared, 0, 0),
            Figure("training segments in several inner folds", split, 0, 0),
        ),
        "2 data sets",
    )


def _training_side(encoding: Encoding, confounds: tuple[ConfoundFold, ...]) -> list[NDArray[np.generic]]:
    """Everything that is learned or chosen."""
    found: list[NDArray[np.generic]] = [np.array(shares) for shares in encoding.edge_shares.values()]
    for row in encoding.inner:
        found += [np.array(encoding.inner[row][unit]) for unit in encoding.inner[row]]
        found += [np.array(encoding.chosen[row][unit]) for unit in encoding.chosen[row]]
    return found + [fold.train for fold in confounds]


def _everything(encoding: Encoding, confounds: tuple[ConfoundFold, ...]) -> list[NDArray[np.generic]]:
    """What is learned or chosen, and every prediction."""
    found = _training_side(encoding, confounds)
    for folds in encoding.predictions.values():
        found += folds
    for fold in confounds:
        found += [fold.test, fold.floor, *fold.bases]
    return found


def poisoned_test(bench: Workbench) -> Measurement:
    """E5: other test responses change no prediction; other test features change nothing that is learned or chosen."""
    world = bench.small()
    test_stories = {segment.story for segment in world.data.split.test_segments}
    features = world.features(planted_llm(0.4, 16, bench.seed))

    def poison(responses: Responses) -> Responses:
        runs = dict(responses.runs)
        for name in test_stories:
            noise = bench.rng(5, 5, len(runs[name])).standard_normal(runs[name].shape)
            runs[name] = (50 * noise.cumsum(axis=1)).astype(np.float32)
        return replace(responses, runs=runs)

    other = World(AlteredData(world.data, poison), world.protocol)
    before, after = world.encode(features), other.encode(features)
    fixed = [digest(*_everything(encoding, w.confounds)) for encoding, w in ((before, world), (after, other))]
    rng = bench.rng(5, 6)
    wild = {
        name: (1000 * table + rng.standard_normal(table.shape)).astype(np.float32) if name in test_stories else table
        for name, table in features.items()
    }
    learned = [digest(*_training_side(e, world.confounds)) for e in (before, world.encode(wild))]
    longer = {
        name: replace(story, words=tuple(word * 3 for word in story.words)) if name in test_stories else story
        for name, story in world.data.stories.items()
    }
    reworded = World(AlteredData(world.data, stories=longer), world.protocol)
    confounds = [digest(*(fold.train for fold in w.confounds)) for w in (world, reworded)]
    return Measurement(
        (
            Figure("predictions changed by test responses", float(fixed[0] != fixed[1]), 0, 0),
            Figure("choices changed by test features", float(learned[0] != learned[1]), 0, 0),
            Figure("training confounds changed by test words", float(confounds[0] != confounds[1]), 0, 0),
        ),
        "3 subjects, 3 layers, SHA-256",
    )


def story_boundaries(bench: Workbench) -> Measurement:
    """E6: another end of a story changes no design row of the next one, with the protocol's trims and without."""
    world = bench.small()
    features = {name: table[0] for name, table in world.features(ContextNoise(6, bench.seed)).items()}
    names = list(features)
    edited = dict(features)
    edited[names[1]] = features[names[1]] + np.float32(10)
    tr = world.data.stories[names[0]].tr
    others = [
        segment for fold in world.data.split.folds for part in fold for segment in part if segment.story != names[1]
    ]
    figures = []
    for trim in (world.protocol.design.trim_trs, 0):
        protocol = replace(world.protocol, design=replace(world.protocol.design, trim_trs=trim))
        designs = [segmented(table, protocol, tr) for table in (features, edited)]
        scales = designs[0].inverse_scales(others)
        before, after = (design.rows(others, scales) for design in designs)
        gram = [_dual_gram(design, others) for design in designs]
        largest = max(float(np.abs(before - after).max()), float(np.abs(gram[0] - gram[1]).max()))
        figures.append(Figure(f"largest change, trim {trim}", largest, 0, 0))
    return Measurement(tuple(figures), f"{len(others)} stories, rows and Gram")


def _dual_gram(design: SegmentedDesign, segments: Sequence[Segment]) -> FloatArray:
    problem = design.problem(segments[:-1], segments[-1:], form="dual")
    return np.concatenate([problem.train.numpy(), problem.test.numpy()])


def causality(bench: Workbench) -> Measurement:
    """E7: words after TR 60 change no design row before 61; Lanczos reaches back, so it is not scored."""
    world = bench.small()
    story = next(iter(world.data.stories.values()))
    states = ContextNoise(6, bench.seed).states(story, V1.context)
    edited = states.copy()
    edited[:, story.word_trs >= 60] += 1

    def first(protocol: Protocol) -> int:
        """The first row of the design that an edit of the later words changes."""
        # the filter spreads any change over all rows, and so does the mean that it takes out: steps between rows do not
        plain = replace(protocol, design=replace(protocol.design, high_pass_s=math.inf, trim_trs=0))
        designs = [
            segmented({story.name: resample_states(x, story, plain)[0]}, plain, story.tr) for x in (states, edited)
        ]
        segment = Segment(story.name, 0, story.n_trs)
        scales = designs[0].inverse_scales([segment])
        before, after = (np.diff(design.rows([segment], scales), axis=0) for design in designs)
        return 1 + int(np.flatnonzero(np.abs(after - before).max(axis=1) > 1e-6)[0])

    return Measurement(
        (
            Figure("first design row changed", first(V1), 61, 61),
            Figure("the same with Lanczos (teeth)", first(LANCZOS), high=60),
            Figure("Lanczos protocols on the ranked board", float(LANCZOS.scored), 0, 0),
        ),
        "1 story",
    )


def permutations(bench: Workbench) -> Measurement:
    """E8: every permutation uses each TR once, and no p value is 0."""
    broken = 0
    for n_trs, block_trs in ((250, 25), (287, 25), (101, 25), (63, 7)):
        rows = np.array(list(draw_block_permutations(n_trs, 60, seed=bench.seed, block_trs=block_trs).indices()))
        broken += int((np.sort(rows, axis=1) != np.arange(n_trs)).any(axis=1).sum())
    series = high_pass(bench.rng(5, 8).standard_normal((250, 20)), 2.0, 120.0)
    n_draws = 99
    blocks = block_permutation_test(series, series, tr=2.0, n_draws=n_draws, seed=bench.seed)
    shifts = circular_shift_test(series, series, tr=2.0, seed=bench.seed)
    return Measurement(
        (
            Figure("draws that are no bijection, of 240", broken, 0, 0),
            Figure("smallest p times (1 + draws), blocks", float(blocks.p.min()) * (1 + n_draws), low=1 - 1e-9),
            Figure("smallest p times (1 + draws), shifts", float(shifts.p.min()) * (1 + shifts.n_draws), low=1 - 1e-9),
        ),
        "4 series lengths",
    )
