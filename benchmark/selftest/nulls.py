# SPDX-License-Identifier: Apache-2.0
"""Letter A: what predicts nothing is found to predict nothing, at the nominal rate."""

import numpy as np
from numpy.typing import NDArray
from scipy import stats as distributions

from voxelboard.benchmark.encoding.filters import high_pass
from voxelboard.benchmark.errors import InvalidNumbers
from voxelboard.benchmark.models.baselines import ContextNoise
from voxelboard.benchmark.selftest.findings import Figure, Measurement, share_error
from voxelboard.benchmark.selftest.series import TR, slow_drift, smooth_predictions
from voxelboard.benchmark.selftest.worlds import Workbench
from voxelboard.benchmark.statistics.fdr import discover
from voxelboard.benchmark.statistics.intervals import two_way_interval
from voxelboard.benchmark.statistics.permutation import JointUnit, block_permutation_test, joint_permutation_test
from voxelboard.benchmark.stimuli.simulated import ar1

FloatArray = NDArray[np.float64]

LEVEL = 0.05
N_TRS = 250
CUTOFF_S = 120.0


def _filtered(series: FloatArray) -> FloatArray:
    return high_pass(series, TR, CUTOFF_S)


def _rate(p: FloatArray) -> float:
    return float((np.asarray(p) <= LEVEL).mean())


def voxel_tests(bench: Workbench) -> Measurement:
    """A1: block permutation on HRF-smooth predictions and drifting AR noise, against the permutation of single TRs."""
    n, n_draws = bench.pick(3000, 12000), bench.pick(499, 1000)
    rates = {}
    for name, phi, block_trs in (("HRF", 0.0, 25), ("context", 0.5, 25), ("single", 0.5, 1)):
        rng = bench.rng(1, 1, int(10 * phi))
        predictions = _filtered(smooth_predictions(N_TRS, n, phi, rng))
        responses = _filtered(ar1(N_TRS, n, 0.5, rng) + slow_drift(N_TRS, n, 0.6, rng))
        if block_trs > 1:
            test = block_permutation_test(predictions, responses, tr=TR, n_draws=n_draws, seed=bench.seed)
        else:
            predictions, responses = predictions[:, :1500], responses[:, :1500]
            test = block_permutation_test(predictions, responses, tr=TR, n_draws=99, seed=bench.seed, block_trs=1)
        rates[name] = _rate(test.p)
    return Measurement(
        (
            Figure("false positives, HRF-smooth", rates["HRF"], 0.04, 0.065, share_error(LEVEL, n)),
            Figure("false positives, as slow as context", rates["context"], 0.04, 0.065, share_error(LEVEL, n)),
            Figure("false positives, single TRs (teeth)", rates["single"], low=0.11),
        ),
        f"{n} voxels, {n_draws} draws",
    )


def drifting_series(bench: Workbench) -> Measurement:
    """A2: a position ramp against slow drift: refused unfiltered, calibrated once filtered."""
    n = bench.pick(1500, 5000)
    rng = bench.rng(1, 2)
    ramp = np.linspace(-1, 1, N_TRS)[:, None] + 0.3 * ar1(N_TRS, n, 0.5, rng)
    responses = ar1(N_TRS, n, 0.5, rng) + slow_drift(N_TRS, n, 1.0, rng)
    refused = 0
    for p, y in ((ramp, _filtered(responses)), (_filtered(ramp), responses)):
        try:
            block_permutation_test(p[:, :50], y[:, :50], tr=TR, n_draws=19, seed=0)
        except InvalidNumbers:
            refused += 1
    test = block_permutation_test(_filtered(ramp), _filtered(responses), tr=TR, n_draws=299, seed=bench.seed)
    return Measurement(
        (
            Figure("drifting inputs refused, of 2", refused, 2, 2),
            Figure("false positives after the filter", _rate(test.p), high=0.065, error=share_error(LEVEL, n)),
        ),
        f"{n} voxels",
    )


def model_test(bench: Workbench) -> Measurement:
    """A3: does a model beat 0, eight subjects and one stimulus: joint permutation against the test over subjects."""
    n_worlds, n_voxels = bench.pick(150, 1000), 6
    rng = bench.rng(1, 3)
    joint, by_subject = np.empty(n_worlds), np.empty(n_worlds)
    for k in range(n_worlds):
        feature, stimulus = (smooth_predictions(N_TRS, 3, 0.5, rng) for _ in range(2))
        mixing, tuning = rng.standard_normal((2, 3, n_voxels))
        units = []
        for _ in range(8):
            p = feature @ (mixing + 0.5 * rng.standard_normal((3, n_voxels)))
            y = 0.6 * stimulus @ (tuning + 0.5 * rng.standard_normal((3, n_voxels)))
            units.append(JointUnit(_filtered(p), _filtered(y + ar1(N_TRS, n_voxels, 0.5, rng)), signal_power=100.0))
        joint[k] = joint_permutation_test(units, tr=TR, n_draws=99, seed=bench.seed + k).p
        scores = [np.sum(u.predictions * u.responses) / np.sqrt(np.sum(u.predictions**2)) for u in units]
        by_subject[k] = distributions.ttest_1samp(scores, 0, alternative="greater").pvalue
    return Measurement(
        (
            Figure("false positives, joint permutation", _rate(joint), high=0.07, error=share_error(LEVEL, n_worlds)),
            Figure("false positives, t over subjects (teeth)", _rate(by_subject), low=0.15),
        ),
        f"{n_worlds} worlds of 8 subjects",
    )


def null_submissions(bench: Workbench) -> Measurement:
    """A4: slow noise through the whole pipeline: mean score, and how often its two-way interval lies above 0."""
    n_worlds, each = bench.pick(3, 10), bench.pick(8, 14)
    z: dict[str, list[FloatArray]] = {"raw": [], "unique": []}
    for w in range(n_worlds):
        world = bench.nulls(w)
        for k in range(each):
            encoding = world.encode(world.features(ContextNoise(32, seed=bench.seed + 50 * w + k)))
            for row, found in z.items():
                found.append(world.influence(world.tables(encoding.predictions[row])))
    n, figures = n_worlds * each, []
    for row, name in (("raw", "H"), ("unique", "H_u")):
        means = [float(table.mean()) for table in z[row]]
        above = [two_way_interval(table, confidence=1 - 2 * LEVEL).low > 0 for table in z[row]]
        figures += [
            Figure(f"mean {name}", float(np.mean(means)), -0.005, 0.005, _error(means)),
            Figure(f"share with {name} above 0", float(np.mean(above)), high=0.075, error=share_error(LEVEL, n)),
        ]
    return Measurement(tuple(figures), f"{n} null submissions in {n_worlds} worlds")


def false_discoveries(bench: Workbench) -> Measurement:
    """A5: 2000 spatially correlated voxels, a tenth live, draws too few to count."""
    n_worlds, n, n_live = bench.pick(6, 40), 2000, 200
    live = np.arange(n) < n_live
    wrong, found, counted = [], [], 0
    for k in range(n_worlds):
        rng = bench.rng(1, 5, k)
        predictions = smooth_predictions(N_TRS, n, 0.0, rng)
        field = np.repeat(ar1(N_TRS, n // 5, 0.5, rng), 5, axis=1)  # neighbours share half of their noise
        noise = (field + ar1(N_TRS, n, 0.5, rng)) / np.sqrt(2)
        responses = _filtered(noise + 0.35 * predictions * live)
        test = block_permutation_test(_filtered(predictions), responses, tr=TR, n_draws=99, seed=bench.seed + k)
        result = discover(test, q=LEVEL, n_expected=n_live)
        counted += result.p_kind == "counted"
        wrong.append((result.rejected & ~live).sum() / max(1, int(result.rejected.sum())))
        found.append(result.rejected[live].mean())
    return Measurement(
        (
            Figure("false discovery rate at q = .05", float(np.mean(wrong)), high=0.08, error=_error(wrong)),
            Figure("power at 99 draws", float(np.mean(found)), low=0.8),
            Figure("analyses that counted too few draws", counted, 0, 0),
        ),
        f"{n_worlds} worlds of {n} voxels",
    )


def _error(values: list[float]) -> float:
    return 3 * float(np.std(values)) / float(np.sqrt(len(values)))
