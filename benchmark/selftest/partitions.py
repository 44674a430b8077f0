# SPDX-License-Identifier: Apache-2.0
"""Letter F, variance: unique parts are those of the noise-free signal, of two spaces and of four."""

from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.designs import primal_problem
from voxelboard.benchmark.encoding.filters import high_pass
from voxelboard.benchmark.encoding.ridge import fit_ridge
from voxelboard.benchmark.readers.simulated import PRESETS
from voxelboard.benchmark.readers.simulated_brain import SPACES
from voxelboard.benchmark.selftest.findings import Figure, Measurement
from voxelboard.benchmark.selftest.ranking import FRESH, SCORED, Lineup, lineup
from voxelboard.benchmark.selftest.worlds import SimulatedWorld, Tables, Workbench, only_segments
from voxelboard.benchmark.statistics import partition
from voxelboard.benchmark.statistics.scores import pool_rois
from voxelboard.benchmark.tasks import cells
from voxelboard.benchmark.tasks.encode import segmented
from voxelboard.benchmark.tasks.preparation import rows_of
from voxelboard.benchmark.tasks.scoring import voxel_statistics

FloatArray = NDArray[np.float64]

_WORLD_SD = 0.012  # of one model's Delta-FVE minus its value on fresh stories, measured over 8 worlds


def _unique(joint: Tables, floor: Tables) -> float:
    """Mean over subjects and ROIs of the explained fraction that the joint prediction adds to the floor."""
    return float(np.mean([partition.unique_fractions(joint[s], floor[s]).values.mean() for s in joint]))


def _of(found: Lineup, name: str) -> tuple[float, float, float]:
    """Delta-FVE as a record says it, on the noise-free responses of the same story, and on those of fresh stories."""
    world = found.world
    joint, floor = found.encodings[name].predictions["joint"], [confound.floor for confound in world.confounds]
    tables = [only_segments(world.tables(folds), SCORED) for folds in (joint, floor)]
    values = []
    for subject in world.data.subjects:
        influence = cells.unique_fve_influence(tables[0][subject], tables[1][subject], world.protocol.score)
        values += [float(each.mean()) for each in influence.values()]
    clean = [world.true_tables(folds) for folds in (joint, floor)]
    same, fresh = (_unique(*(only_segments(t, keep) for t in clean)) for keep in (SCORED, FRESH))
    return float(np.mean(values)), same, fresh


def tracked_truth(bench: Workbench) -> Measurement:
    """F2: Delta-FVE of language models, untrained ones and noise, against what the same predictors explain without noise."""
    lines = [lineup(bench, k) for k in range(bench.pick(1, 8))]
    found = np.array([[_of(line, name) for name in (*line.planted, "untrained", "noise")] for line in lines])
    estimate, same, fresh = np.moveaxis(found, -1, 0)  # (n_worlds, n_models) each
    error = 3 * _WORLD_SD / float(np.sqrt(len(lines)))
    return Measurement(
        (
            Figure(
                "largest |estimate - value without noise|", float(np.abs((estimate - same).mean(0)).max()), high=0.015
            ),
            Figure("estimate - value on fresh stories", float((estimate - fresh)[:, :-2].mean()), -0.015, 0.015, error),
            Figure("untrained and noise", float(estimate[:, -2:].mean()), -0.03, 0.005, error / 4),
            Figure("the strongest model (teeth)", float(estimate[:, -3].mean()), low=0.1),
        ),
        f"{found.shape[1]} models x {len(lines)} worlds",
    )


def four_spaces(bench: Workbench) -> Measurement:
    """F3: unique parts of low-level, lexical, syntactic and semantic features, against the noise-free population."""
    figures = []
    sizes = ((10, 0.75), (25, 0.9)) if bench.full else ((12, 0.75),)
    for n_train, slope_goal in sizes:
        spec = replace(PRESETS["ci"], n_train=n_train, n_subjects=2, n_test=4, snr=0.5, seed=bench.seed + 900)
        estimate, truth = _space_parts(SimulatedWorld(spec))
        r = float(np.corrcoef(estimate, truth)[0, 1])
        slope = float(np.polyfit(truth, estimate, 1)[0])
        figures.append(Figure(f"correlation, {n_train} training stories", r, low=0.97))
        figures.append(Figure(f"slope, {n_train} training stories", slope, low=slope_goal, high=1.1))
    return Measurement(tuple(figures), "4 spaces x 5 ROIs x 2 subjects")


def _space_parts(world: SimulatedWorld) -> tuple[FloatArray, FloatArray]:
    """Unique fractions by subject, ROI and space: measured, and of the population, both flat."""
    data, (fold,) = world.data, world.cohort.folds
    stories = data.stories
    tr = next(iter(stories.values())).tr
    every = [*fold.train, *fold.test]
    rows = {}
    for space in SPACES:
        columns = {name: _at_trs(data.grid(name)[space], story.n_trs) for name, story in stories.items()}
        design = segmented(columns, world.protocol, tr)
        rows[space] = design.rows(every, design.inverse_scales(fold.train))
    n_train = len(fold.responses)
    estimate, truth = [], []
    subsets = [SPACES, *combinations(SPACES, len(SPACES) - 1)]
    alphas = world.protocol.encoding.relative_alphas
    predictions, population = {}, {}
    for subset in subsets:
        table = np.concatenate([rows[space] for space in subset], axis=1)
        problem = primal_problem(table[:n_train], table[n_train:])
        predictions[subset] = fit_ridge(problem, fold.responses, fold.inner_folds, alphas).test_predictions
        left, singular, _ = np.linalg.svd(table, full_matrices=False)
        population[subset] = left[:, singular > 1e-8 * singular[0]]
    for subject, test in world.tests.items():
        own = world.cohort.columns[subject]
        clean = _whole_signal(world, subject)
        scored = [
            pool_rois(voxel_statistics(predictions[s][:, own], test, world.protocol.score), test.rois, test.scored)
            for s in subsets
        ]
        for space in SPACES:
            without = next(i for i, s in enumerate(subsets) if space not in s)
            estimate.append(partition.unique_fractions(scored[0], scored[without]).values)
            explained = [((population[subsets[i]].T @ clean) ** 2).sum(axis=0) for i in (0, without)]
            gain, power = explained[0] - explained[1], (clean**2).sum(axis=0)
            truth.append(
                np.array([gain[test.rois == roi].sum() / power[test.rois == roi].sum() for roi in test.scored])
            )
    return np.concatenate(estimate), np.concatenate(truth)


def _at_trs(grid: FloatArray, n_trs: int) -> FloatArray:
    """Sum of a fine grid over each TR."""
    summed: FloatArray = grid.reshape(n_trs, -1, grid.shape[1]).sum(axis=1)
    return summed


def _whole_signal(world: SimulatedWorld, subject: str) -> FloatArray:
    """(n_rows of all segments, n_voxels) noise-free responses, prepared like a design, on the scale of the test story."""
    (fold,), signal, policy = world.cohort.folds, world.data.signal(subject), world.protocol.design
    parts = []
    for segment in (*fold.train, *fold.test):
        tr = world.data.stories[segment.story].tr
        parts.append(
            high_pass(signal[segment.story][rows_of(segment, policy)].astype(np.float64), tr, policy.high_pass_s)
        )
    return np.concatenate(parts)
