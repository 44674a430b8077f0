# SPDX-License-Identifier: Apache-2.0
"""The same questions asked of real responses: does a shuffled split leak, are null features found to be null?

Nothing is planted here, so nulls are made: features that are circularly shifted or belong to another story cannot
predict, and two models of noise cannot differ. Figures of ``lebel2023-pcs`` and ``alice2016`` are in docs/validity.md.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.designs import primal_problem
from voxelboard.benchmark.encoding.filters import high_pass
from voxelboard.benchmark.encoding.ridge import fit_ridge
from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.models.baselines import ContextNoise, RandomWordVectors
from voxelboard.benchmark.readers.base import NarrativeData, Responses, Segment, Split, leave_one_segment_out
from voxelboard.benchmark.selftest.findings import Figure, Finding, Invariant, Measurement, examine, share_error
from voxelboard.benchmark.selftest.worlds import PROTOCOL, AlteredData, Float32Array, Workbench, World
from voxelboard.benchmark.statistics.influence import unit_influence
from voxelboard.benchmark.statistics.intervals import Interval, two_way_interval
from voxelboard.benchmark.statistics.permutation import block_permutation_test
from voxelboard.benchmark.statistics.scores import (
    coarsen,
    concatenate,
    pool_rois,
    segment_statistics,
    voxel_correlation,
)
from voxelboard.benchmark.tasks.canaries import time_only_features
from voxelboard.benchmark.tasks.encode import replace_delays, segmented
from voxelboard.benchmark.tasks.preparation import prepare_segment, rows_of
from voxelboard.benchmark.tasks.scoring import by_voxel

FloatArray = NDArray[np.float64]
Series = list[tuple[FloatArray, FloatArray]]  # (predictions, responses) of each test segment, (n_rows, n_voxels) each

LEVEL = 0.05
WIDTH = 32  # of null features
N_TRAIN, N_TEST = 20, 6  # stories of a split, where there are as many
MIN_SHIFT_TRS = 20
LONG_BLOCK_TRS = 60  # two minutes: neighbours hardly know of each other
_LEAK_STORIES = 6  # the time-only feature has a column for every TR
_LEAK_SIGMA_TRS, _LEAK_ALPHA = 1.0, 0.1  # of several tried, those with which shuffled TRs leak most


class RealBench:
    """An opened data set and how much is done with it.

    ``bench.full`` asks for more splits. Stories that not every subject heard are left out, so that subjects share blocks.
    """

    def __init__(self, data: NarrativeData, bench: Workbench) -> None:
        self.data, self.bench = data, bench
        heard = [set(data.responses(subject).runs) for subject in data.subjects]
        self.stories = [name for name in data.stories if all(name in names for names in heard)]
        if not self.stories:
            raise DataError(f"{data.name}: no story was heard by all subjects")

    def split(self, k: int, *, n_tests: int = 1) -> World:
        """Random split number ``k``: whole stories, or the only one cut into segments that are left out in turn.

        ``n_tests`` : test sets of :attr:`test_size` stories, as many of them as there are stories beside the training ones.
        """
        if len(self.stories) == 1:
            (name,) = self.stories
            return self._world((name,), leave_one_segment_out(name, self.data.stories[name].n_trs, 4 + k % 4))
        size = self.test_size
        order = [self.stories[i] for i in self.bench.rng(40, k).permutation(len(self.stories))]
        first, train, more = order[:size], order[size : size + N_TRAIN], order[size + N_TRAIN :]
        tests = first + more[: min(n_tests - 1, len(more) // size) * size]
        segments = {name: Segment(name, 0, self.data.stories[name].n_trs) for name in (*train, *tests)}
        fold = tuple(tuple(segments[name] for name in names) for names in (train, tests))
        return self._world(tuple(segments), Split(((fold[0], fold[1]),)))

    @property
    def test_size(self) -> int:
        """Stories of a test set."""
        return min(N_TEST, len(self.stories) // 3)

    def _world(self, names: Sequence[str], split: Split) -> World:
        def only(responses: Responses) -> Responses:
            return replace(responses, runs={name: responses.runs[name] for name in names})

        stories = {name: self.data.stories[name] for name in names}
        return World(AlteredData(self.data, only, split=split, stories=stories), PROTOCOL)


@dataclass(frozen=True, eq=False)
class _Tested:
    """A world's test responses, and a way to score any predictions against them."""

    world: World

    def series(self, folds: Sequence[Float32Array], subject: str) -> Series:
        """Predictions of all columns of the cohort beside the responses of one subject, by segment of all folds."""
        test, columns = self.world.tests[subject], self.world.cohort.columns[subject]
        own = test.split(by_voxel([fold[:, columns] for fold in folds]))
        return [
            (p.astype(np.float64), run.mean(axis=0).astype(np.float64))
            for p, run in zip(own, test.segments, strict=True)
        ]

    def influence(self, series: Mapping[str, Series], block_trs: int | None = None) -> "_Blocks":
        """Influence values of the pooled correlation, mean over scored ROIs; blocks as long as the protocol's by default."""
        policy, rows = self.world.protocol.score, []
        for subject, parts in series.items():
            test = self.world.tests[subject]
            stats = concatenate(
                [segment_statistics(p, y[None], kind="none", block_trs=policy.stored_block_trs) for p, y in parts]
            )
            long = coarsen(pool_rois(stats, test.rois, test.scored), block_trs or policy.inference_block_trs)
            rows.append(unit_influence(long).mean(axis=1))
        return _Blocks(np.stack(rows), long.block_segment)


class _Blocks(NamedTuple):
    """Influence values z (n_subjects, n_blocks), and the number of the segment that each block lies in."""

    z: FloatArray
    segments: NDArray[np.integer]

    def minus(self, other: "_Blocks") -> "_Blocks":
        return self._replace(z=self.z - other.z)

    def neighbours(self) -> float:
        """Correlation of neighbouring blocks of a segment, mean over subjects; NaN where each segment is one block."""
        own = self.z.mean(axis=0) - self.z.mean()
        beside = self.segments[1:] == self.segments[:-1]
        return float((own[1:] * own[:-1])[beside].mean() / (own**2).mean()) if beside.any() else math.nan


def leak(real: RealBench) -> Measurement:
    """R1: a feature that knows only when a TR happened, shuffled TRs against stories (or segments) left out."""
    data, policy = real.data, PROTOCOL.design
    names = real.stories[:_LEAK_STORIES]
    segments = [Segment(name, 0, data.stories[name].n_trs) for name in names]
    if len(names) == 1:
        segments = [test for _, (test,) in leave_one_segment_out(names[0], data.stories[names[0]].n_trs, 6).folds]
    tr = data.stories[names[0]].tr
    stories = {name: data.stories[name] for name in names}
    features = time_only_features(stories, _LEAK_SIGMA_TRS)
    design = segmented(features, replace_delays(PROTOCOL, (0,)), tr)
    rows = design.rows(segments, np.ones(design.n_features))
    heard = [data.responses(subject) for subject in data.subjects]
    prepared = [[prepare_segment(r.runs[s.story], s, policy, tr).mean(axis=0) for s in segments] for r in heard]
    responses = np.concatenate([np.concatenate(parts) for parts in prepared], axis=1)
    rois = np.concatenate([r.rois for r in heard])
    lengths = [(at := rows_of(segment, policy)).stop - at.start for segment in segments]
    by_segment = np.repeat(np.arange(len(segments)) % 5, lengths)
    shuffled = real.bench.rng(41).permutation(np.arange(len(rows)) % 5)
    found = {name: _cross_validated(rows, responses, folds) for name, folds in (("s", shuffled), ("w", by_segment))}
    whole = "stories" if len(names) > 1 else "segments"
    # segments of one story share its slow responses and lie side by side: next to 0 and not exactly 0
    limit = 0.0 if len(names) > 1 else 0.02
    return Measurement(
        (
            *(
                Figure(
                    f"r of the time alone, shuffled TRs, {roi} (teeth)", float(found["s"][rois == roi].mean()), low=0.3
                )
                for roi in data.scored_rois
            ),
            Figure(f"r of the time alone, whole {whole} left out", float(found["w"].mean()), -limit, limit),
        ),
        f"{len(names)} stories, {len(rows)} TRs, {responses.shape[1]} voxels",
    )


def _cross_validated(rows: FloatArray, responses: Float32Array, folds: NDArray[np.integer]) -> FloatArray:
    """(n_voxels,) correlation over all rows of ridge predictions of left-out folds, a fixed alpha."""
    predictions = np.zeros(responses.shape)
    for fold in np.unique(folds):
        out = folds == fold
        problem = primal_problem(rows[~out], rows[out])
        inner = np.arange(int((~out).sum())) % 2
        predictions[out] = fit_ridge(problem, responses[~out], inner, (_LEAK_ALPHA,)).test_predictions
    return voxel_correlation(predictions, responses)


def _shifted(series: Series, tr: float, rng: np.random.Generator) -> Series:
    """Each segment's predictions shifted circularly by MIN_SHIFT_TRS or more: those of features shifted in the same way.

    The seam is a step, so they are filtered again.
    """
    shifts = [int(rng.integers(MIN_SHIFT_TRS, max(MIN_SHIFT_TRS + 1, len(p) - MIN_SHIFT_TRS))) for p, _ in series]
    cutoff = PROTOCOL.design.high_pass_s
    return [(high_pass(np.roll(p, shift, axis=0), tr, cutoff), y) for (p, y), shift in zip(series, shifts, strict=True)]


def _exchanged(series: Series, order: Sequence[int], tr: float) -> Series:
    """Predictions for one segment beside the responses to another, cut to the shorter one and filtered again."""
    found = []
    for (_, y), other in zip(series, order, strict=True):
        p = series[other][0]
        n = min(len(p), len(y))
        found.append(tuple(high_pass(x[:n], tr, PROTOCOL.design.high_pass_s) for x in (p, y)))
    return [(p, y) for p, y in found]


def _derangement(n: int, rng: np.random.Generator) -> list[int]:
    turn = int(rng.integers(1, n))
    order = rng.permutation(n)
    return [int(order[(np.flatnonzero(order == i)[0] + turn) % n]) for i in range(n)]


def null_features(real: RealBench) -> Measurement:
    """R2: features of word identity, shifted in time or of another story: voxel tests and intervals at the nominal rate."""
    n_splits, n_nulls = real.bench.pick(6, 24), 4
    p: dict[str, list[FloatArray]] = {"shifted": [], "of another story": []}
    outside: dict[str, list[bool]] = {name: [] for name in p}
    for k in range(n_splits):
        real.bench.progress(f"null features, split {k + 1} of {n_splits}")
        world = real.split(k)
        tested, rng = _Tested(world), real.bench.rng(42, k)
        predictions = world.encode(world.features(RandomWordVectors(WIDTH, real.bench.seed + k))).predictions["raw"]
        tr = next(iter(world.data.stories.values())).tr
        own = {subject: tested.series(predictions, subject) for subject in world.data.subjects}
        n_segments = len(next(iter(own.values())))
        for _ in range(n_nulls):
            seed = int(rng.integers(2**31))
            null = {"shifted": {s: _shifted(x, tr, np.random.default_rng(seed)) for s, x in own.items()}}
            if n_segments > 1:
                order = _derangement(n_segments, rng)
                null["of another story"] = {s: _exchanged(x, order, tr) for s, x in own.items()}
            for name, series in null.items():
                interval = two_way_interval(tested.influence(series).z)
                outside[name].append(not interval.low <= 0 <= interval.high)
                p[name].append(np.concatenate([_voxel_p(parts, tr, seed % 2**31) for parts in series.values()]))
    figures = []
    for name, values in p.items():
        if values:
            rate, n = float(np.mean(np.concatenate(values) <= LEVEL)), len(values)
            figures.append(Figure(f"voxel tests, features {name}", rate, 0.03, 0.075))
            share = float(np.mean(outside[name]))
            figures.append(
                Figure(f"intervals without 0, features {name}", share, high=0.08, error=share_error(0.05, n))
            )
    return Measurement(tuple(figures), f"{n_splits} splits x {n_nulls} nulls, {_size(real)}")


def _voxel_p(series: Series, tr: float, seed: int) -> FloatArray:
    p, y = (np.concatenate([pair[i] for pair in series]) for i in (0, 1))
    segments = np.repeat(np.arange(len(series)), [len(pair[0]) for pair in series])
    block_trs = min(25, len(p) // 4)
    return block_permutation_test(p, y, tr=tr, n_draws=199, seed=seed, block_trs=block_trs, segments=segments).p


class _TestSet(NamedTuple):
    """A paired difference on one test set of a fit: in the protocol's blocks, in long ones, and on all other test sets."""

    own: _Blocks
    long: _Blocks
    rest: _Blocks | None


def null_pairs(real: RealBench) -> Measurement:
    """R3: two models that cannot differ: how often does the interval of their paired difference miss 0?

    Two models of slow noise have no score on new stories, whatever was fitted: the difference is 0. Two copies of a model of
    word identity, each beside noise of its own, have the same score before they are fitted, but what the noise makes of this
    fit is there on every story. Intervals over test stimuli are about the fit at hand, so they are held against its difference
    on the other test stories too, with the error of that difference added. How far neighbouring blocks are correlated, and
    what long blocks give, says how much of a rate above the nominal one is due to blocks that are taken as independent.
    """
    n_splits, n_tests = real.bench.pick((8, 2), (60, 10))
    found: dict[str, list[_TestSet]] = {"two models of noise": [], "two noisy copies": []}
    for k in range(n_splits):
        real.bench.progress(f"null pairs, split {k + 1} of {n_splits}")
        world = real.split(1000 + k, n_tests=n_tests)
        first = real.bench.seed + 2 * k
        words = world.features(RandomWordVectors(WIDTH, 7))
        noise = [world.features(ContextNoise(WIDTH, first + i)) for i in range(2)]
        copies = [{n: np.concatenate([words[n], own[n]], axis=2) for n in words} for own in noise]
        for sets, pair in zip(found.values(), (noise, copies), strict=True):
            sets += _test_sets(real, world, pair)
    error = share_error(LEVEL, n_splits)  # test sets of one split share its fit
    figures: list[Figure] = []
    for (name, sets), high in zip(found.items(), (0.06, 0.10), strict=True):
        figures += _pair_figures(name, sets, high, error)
    return Measurement(
        tuple(figures), f"{n_splits} splits, {len(found['two models of noise'])} intervals, {_size(real)}"
    )


def _pair_figures(name: str, sets: Sequence[_TestSet], high: float, error: float) -> list[Figure]:
    missed = float(np.mean([_misses(own) for own, _, _ in sets]))
    figures = [Figure(f"intervals without 0, {name}", missed, high=high, error=error)]
    beside = [own.neighbours() for own, _, _ in sets]
    if np.isfinite(beside).all():
        figures.append(Figure(f"correlation of neighbouring blocks, {name}", float(np.mean(beside))))
    if all(rest is not None for _, _, rest in sets):
        longer = float(np.mean([_misses(long) for _, long, _ in sets]))
        figures.append(
            Figure(f"intervals without 0, {name}, blocks of {LONG_BLOCK_TRS} TRs", longer, high=high, error=error)
        )
        elsewhere = [not _agree(two_way_interval(own.z), two_way_interval(rest.z)) for own, _, rest in sets if rest]
        figures.append(
            Figure(
                f"intervals without the difference on other stories, {name}",
                float(np.mean(elsewhere)),
                high=0.06,
                error=error,
            )
        )
    return figures


def _misses(blocks: _Blocks) -> bool:
    interval = two_way_interval(blocks.z)
    return not interval.low <= 0 <= interval.high


def _agree(interval: Interval, reference: Interval) -> bool:
    own, other = ((i.high - i.low) / 2 for i in (interval, reference))
    return abs(interval.estimate - reference.estimate) <= math.hypot(own, other)


def _test_sets(real: RealBench, world: World, pair: Sequence[Mapping[str, Float32Array]]) -> list[_TestSet]:
    """The paired difference on each test set of a fit; segments of one story are one test set, without others."""
    tested = _Tested(world)
    encoded = [world.encode(features).predictions["unique"] for features in pair]
    series = [{s: tested.series(folds, s) for s in world.data.subjects} for folds in encoded]

    def paired(keep: Sequence[int], block_trs: int | None = None) -> _Blocks:
        one, other = (
            tested.influence({subject: [parts[i] for i in keep] for subject, parts in own.items()}, block_trs)
            for own in series
        )
        return one.minus(other)

    everything = range(len(world.data.split.test_segments))
    if len(world.data.split.folds) > 1 or len(everything) <= real.test_size:
        return [_TestSet(paired(everything), paired(everything, LONG_BLOCK_TRS), None)]
    found = []
    for start in range(0, len(everything), real.test_size):
        here = range(start, start + real.test_size)
        rest = [i for i in everything if i not in here]
        found.append(_TestSet(paired(here), paired(here, LONG_BLOCK_TRS), paired(rest)))
    return found


def _size(real: RealBench) -> str:
    world = real.split(0)
    folds = world.data.split.folds
    counts = f"{len(folds[0][0])} training and {len(folds[0][1])} test segments"
    return f"{len(world.data.subjects)} subjects, {counts}" + (
        f", {len(folds)} folds or more" if len(folds) > 1 else ""
    )


def real_invariants(data: NarrativeData) -> tuple[Invariant, ...]:
    """The checks of one data set, ready to be examined."""

    def real(bench: Workbench) -> RealBench:
        return bench.share("real", lambda: RealBench(data, bench))

    return (
        Invariant(
            "R1", "A feature that knows the time", "statistics.md E1", "0 left out", lambda bench: leak(real(bench))
        ),
        Invariant(
            "R2",
            "Features shifted or of another story",
            "statistics.md A1",
            "voxel rate .03 to .075, intervals .08",
            lambda bench: null_features(real(bench)),
        ),
        Invariant(
            "R3",
            "Models that cannot differ",
            "statistics.md H2",
            "0 missed at the nominal rate",
            lambda bench: null_pairs(real(bench)),
        ),
    )


def run_real(
    data: NarrativeData, *, full: bool = False, seed: int = 0, progress: Callable[[str], None] = lambda message: None
) -> Iterator[Finding]:
    """Check the measurement on one data set; ``full`` asks for more splits, ``seed`` is of everything random."""
    bench = Workbench(full=full, seed=seed, progress=progress)
    checks = real_invariants(data)
    for number, invariant in enumerate(checks):
        progress(f"{number + 1}/{len(checks)} {invariant.id} {invariant.title}")
        yield examine(invariant, bench)
