# SPDX-License-Identifier: Apache-2.0
"""Letter B: a perfect model scores 1, a model of known quality its quality, and noise has no ceiling."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.readers.base import Segment
from voxelboard.benchmark.readers.simulated import SimulationSpec
from voxelboard.benchmark.readers.simulated_brain import scan_noise
from voxelboard.benchmark.selftest.findings import Figure, Measurement
from voxelboard.benchmark.selftest.series import TR
from voxelboard.benchmark.selftest.worlds import SimulatedWorld, Workbench
from voxelboard.benchmark.statistics.ceilings import explainable_variance, ncsnr, ncsnr_noise_ceiling, nsd_ceiling
from voxelboard.benchmark.statistics.scores import segment_statistics
from voxelboard.benchmark.stimuli.simulated import ar1
from voxelboard.benchmark.tasks.preparation import prepare_segment
from voxelboard.benchmark.tasks.scoring import voxel_statistics

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]

# Standard deviation of one world's figure, measured over 20 worlds of other seeds.
_WORLD_SD = {2: 0.0075, 5: 0.0055, 10: 0.0025}  # H by number of repeats
_POWER_SD = 0.027
_NOISE = (0.6, 0.3, 0.01)  # drift, physiology and spikes, as in the embedded data set


def repeated_world(bench: Workbench, n_repeats: int, k: int) -> SimulatedWorld:
    """Five subjects who heard one test story ``n_repeats`` times; hardly any training."""
    spec = SimulationSpec(
        seed=bench.seed + 300 + k, n_subjects=5, n_train=2, train_trs=60, n_repeats=n_repeats, n_voxels=60
    )
    return bench.share(f"repeats {n_repeats} {k}", lambda: SimulatedWorld(spec))


def _graded(world: SimulatedWorld, quality: float, rng: np.random.Generator) -> Float32Array:
    """(n_test_rows, n_voxels) predictions that correlate ``quality`` with every voxel's noise-free response, exactly."""
    found = np.zeros((len(next(iter(world.tests.values())).segments[0][0]), world.cohort.n_voxels), dtype=np.float32)
    for subject in world.data.subjects:
        (clean,) = world.signal(subject)
        basis = rng.standard_normal(clean.shape)
        power = np.maximum((clean**2).sum(axis=0), 1e-12)
        basis -= basis.mean(axis=0)
        basis -= clean * ((clean * basis).sum(axis=0) / power)
        basis *= np.sqrt(power / (basis**2).sum(axis=0))
        found[:, world.cohort.columns[subject]] = quality * clean + np.sqrt(1 - quality**2) * basis
    return found


def _pooled(bench: Workbench, quality: float, n_repeats: int, n_worlds: int, stream: int) -> list[float]:
    worlds = [repeated_world(bench, n_repeats, k) for k in range(n_worlds)]
    rng = bench.rng(2, stream, n_repeats)
    return [world.score(world.tables([_graded(world, quality, rng)])) for world in worlds]


def perfect_model(bench: Workbench) -> Measurement:
    """B1: the noise-free responses as predictions."""
    n_worlds = bench.pick(2, 8)
    figures = []
    for n_repeats, goal in ((5, 0.02), (10, 0.005)):
        scores = _pooled(bench, 1.0, n_repeats, n_worlds, 1)
        error = 3 * _WORLD_SD[n_repeats] / np.sqrt(n_worlds)
        figures.append(
            Figure(f"H of the truth, {n_repeats} repeats", float(np.mean(scores)), 1 - goal, 1 + goal, float(error))
        )
    return Measurement(tuple(figures), f"{n_worlds} worlds of 5 subjects, 300 voxels each")


def known_quality(bench: Workbench) -> Measurement:
    """B2: predictions that correlate .6, .3 and 0 with the noise-free response, two repeats, no mask."""
    n_worlds = bench.pick(2, 8)
    figures = []
    for k, quality in enumerate((0.6, 0.3, 0.0)):
        scores = _pooled(bench, quality, 2, n_worlds, 20 + k)
        error = 3 * _WORLD_SD[2] / np.sqrt(n_worlds)
        figures.append(Figure(f"H - {quality:g}", float(np.mean(scores)) - quality, -0.01, 0.01, float(error)))
    return Measurement(tuple(figures), f"{n_worlds} worlds of 5 subjects, 2 repeats")


def signal_power(bench: Workbench) -> Measurement:
    """B3: pooled signal power against the planted one, two repeats, voxels without signal included."""
    n_worlds = bench.pick(2, 8)
    ratios, negative = [], []
    for k in range(n_worlds):
        world = repeated_world(bench, 2, k)
        estimated = planted = 0.0
        for subject, test in world.tests.items():
            clean = np.concatenate(world.signal(subject))
            stats = voxel_statistics(clean.astype(np.float32), test, world.protocol.score)
            estimated += float(stats.s.sum())
            planted += float((clean**2).sum())
            negative.append(float((stats.s.sum(axis=0)[test.rois == "NULL"] < 0).mean()))
        ratios.append(estimated / planted)
    return Measurement(
        (
            Figure(
                "pooled signal power over planted",
                float(np.mean(ratios)),
                0.97,
                1.03,
                3 * _POWER_SD / float(np.sqrt(n_worlds)),
            ),
            Figure("voxels without signal below 0", float(np.mean(negative)), 0.3, 0.7),
        ),
        f"{n_worlds} worlds, 2 repeats",
    )


def image_ceiling(bench: Workbench) -> Measurement:
    """B4: the noise ceiling of NSD's betas at a planted signal-to-noise ratio."""
    snr2, n_voxels = 0.25, bench.pick(400, 2000)
    error = float(np.sqrt(400 / n_voxels))  # sd at 400 voxels: .0023 of the bias, .0035 of the ratio (12 seeds)
    figures = []
    for n_trials in (2, 3):
        rng = bench.rng(2, 4, n_trials)
        signal = rng.standard_normal((800, 1, n_voxels)) * np.sqrt(snr2)
        betas = (signal + rng.standard_normal((800, n_trials, n_voxels))).reshape(-1, n_voxels)
        betas = ((betas - betas.mean(axis=0)) / betas.std(axis=0)).reshape(800, n_trials, n_voxels)
        truth = snr2 / (snr2 + 1 / n_trials)
        ratio, _ = ncsnr(betas)
        bias = float(ncsnr_noise_ceiling(ratio, n_trials).mean()) - truth
        figures.append(Figure(f"bias of the ceiling, {n_trials} trials", bias, -0.01, 0.01, 0.007 * error))
        pooled = nsd_ceiling(betas, n_trials).estimate or float("nan")
        figures.append(
            Figure(
                f"pooled over planted, {n_trials} trials", pooled / float(np.sqrt(truth)), 0.99, 1.01, 0.0105 * error
            )
        )
    return Measurement(tuple(figures), f"{n_voxels} voxels, 800 images")


def _silent(rng: np.random.Generator, n_voxels: int, n_repeats: int = 5, n_trs: int = 250) -> Float32Array:
    """(n_repeats, n_trs, n_voxels) scans of a brain that hears nothing."""
    runs = [scan_noise(n_trs, n_voxels, TR, 0.5, _NOISE, rng) for _ in range(n_repeats)]
    return np.stack(runs).astype(np.float32)


def onset_transients(bench: Workbench) -> Measurement:
    """B5: a transient at run onset, common to all repeats, must not look explainable after the trims."""
    n = bench.pick(600, 3000)
    runs = _silent(bench.rng(2, 5), n)
    runs = runs + (2.0 * np.exp(-np.arange(runs.shape[1]) / 2.0)[:, None] * np.ones(n)).astype(np.float32)
    segment = Segment("story", 0, runs.shape[1])
    shares = {}
    for trim in (V1.design.trim_trs, 0):
        prepared = prepare_segment(runs, segment, replace(V1.design, trim_trs=trim), TR)
        shares[trim] = float((explainable_variance(prepared) > 0.05).mean())
    kept = shares[V1.design.trim_trs]
    return Measurement(
        (
            Figure("null voxels with explainable variance above .05", kept, high=0.05),
            Figure("the same without trims (teeth)", shares[0], low=0.1),
            Figure("trimmed TRs at each end", V1.design.trim_trs, low=5),
        ),
        f"{n} voxels",
    )


def silent_roi(bench: Workbench) -> Measurement:
    """B6: voxels without signal have no explainable variance, and their ROI enters no score."""
    n = bench.pick(1500, 6000)
    prepared = prepare_segment(_silent(bench.rng(2, 6), n), Segment("story", 0, 250), V1.design, TR)
    direct = float(explainable_variance(prepared).mean())
    world = repeated_world(bench, 2, 0)
    power = [
        voxel_statistics(np.concatenate(test.segments, axis=1).mean(axis=0), test, world.protocol.score)
        .s[:, test.rois == "NULL"]
        .sum()
        / ((test.rois == "NULL").sum() * test.segments[0].shape[1])
        for test in world.tests.values()
    ]
    return Measurement(
        (
            Figure("mean explainable variance, 5 repeats", direct, -0.005, 0.005),
            Figure("signal power of the NULL ROI, 2 repeats", float(np.mean(power)), -0.005, 0.005, 0.012),
            Figure("NULL ROIs in the headline", float("NULL" in world.data.scored_rois), 0, 0),
        ),
        f"{n} voxels; 5 subjects",
    )


def other_listeners(bench: Workbench) -> Measurement:
    """B7: where listeners share 60 % of their tuning, a ceiling from the others is not the ceiling from repeats."""
    n_worlds, n_trs, n_voxels, n_subjects, shared = bench.pick(4, 30), 250, 200, 8, 0.6
    shares, oracle = [], []
    for k in range(n_worlds):
        rng = bench.rng(2, 7, k)
        common = ar1(n_trs, n_voxels, 0.5, rng)
        signals = [
            np.sqrt(shared) * common + np.sqrt(1 - shared) * ar1(n_trs, n_voxels, 0.5, rng) for _ in range(n_subjects)
        ]
        runs = [
            np.sqrt(0.5) * signal + np.stack([ar1(n_trs, n_voxels, 0.5, rng) for _ in range(2)]) for signal in signals
        ]
        power = {"repeats": 0.0, "inter_subject": 0.0}
        scores = []
        for i, (signal, run) in enumerate(zip(signals, runs, strict=True)):
            others = np.mean([r.mean(axis=0) for j, r in enumerate(runs) if j != i], axis=0)
            power["repeats"] += segment_statistics(signal, run, kind="repeats").s.sum()
            stats = segment_statistics(signal, run, kind="inter_subject", others=others)
            power["inter_subject"] += stats.s.sum()
            c, q, s = (float(table.sum()) for table in (stats.c, stats.q, stats.s))
            scores.append(c / np.sqrt(q * s))
        shares.append(power["inter_subject"] / power["repeats"])
        oracle.append(float(np.mean(scores)))
    return Measurement(
        (
            Figure("signal power shared with others, over that of repeats", float(np.mean(shares)), 0.55, 0.65, 0.03),
            Figure("H of the truth, ceiling from others (teeth)", float(np.mean(oracle)), low=1.15),
        ),
        f"{n_worlds} worlds of {n_subjects} subjects who share {shared:g} of their signal",
    )
