# SPDX-License-Identifier: Apache-2.0
"""The self-test must fail when the measurement is broken: each way to break it, and the invariants that see it."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from voxelboard.benchmark.encoding import residual
from voxelboard.benchmark.encoding.designs import Problem, SegmentedDesign, SegmentRows, primal_problem
from voxelboard.benchmark.features.resample import RESAMPLERS, lanczos, tr_sum
from voxelboard.benchmark.models import pooling
from voxelboard.benchmark.readers.base import Split
from voxelboard.benchmark.readers.simulated import SimulatedNarrative
from voxelboard.benchmark.selftest import ablations, ceilings
from voxelboard.benchmark.selftest.suite import run_selftest
from voxelboard.benchmark.statistics import adaptivity, geometry, partition, permutation, ranking
from voxelboard.benchmark.statistics.nulls import NullTest
from voxelboard.benchmark.statistics.scores import Scores
from voxelboard.benchmark.tasks import cells, cohort_scores, encode, preparation, scoring

Break = Callable[[pytest.MonkeyPatch], None]


def z_scored_on_all_stories(patch: pytest.MonkeyPatch) -> None:
    """Features are scaled by all stories, test stories included."""
    real = SegmentedDesign.inverse_scales

    def scales(self: SegmentedDesign, train: Any, device: Any = None) -> np.ndarray:
        return real(self, [SegmentRows(name, 0, len(table)) for name, table in self.features.items()])

    patch.setattr(SegmentedDesign, "inverse_scales", scales)


def shuffled_trs(patch: pytest.MonkeyPatch) -> None:
    """TRs of all stories are dealt at random to training and test rows."""
    real = preparation._prepare
    order: dict[int, np.ndarray] = {}

    def deal(rows: np.ndarray) -> np.ndarray:
        return rows[order.setdefault(len(rows), np.random.default_rng(0).permutation(len(rows)))]

    def prepare(*arguments: Any) -> tuple[preparation.PreparedFold, ...]:
        return tuple(shuffle(found) for found in real(*arguments))

    def shuffle(found: preparation.PreparedFold) -> preparation.PreparedFold:
        members = list(found.test_responses)
        means = [np.concatenate([run.mean(axis=0) for run in found.test_responses[name]]) for name in members]
        rows = deal(np.concatenate([found.responses, np.concatenate(means, axis=1)]))
        n_train, widths = len(found.responses), [mean.shape[1] for mean in means]
        parts = np.split(rows[n_train:], np.cumsum(widths)[:-1], axis=1)
        tests = {name: (np.stack([part, part]),) for name, part in zip(members, parts, strict=True)}
        return replace(found, responses=rows[:n_train], test_responses=tests)

    def problem(self: SegmentedDesign, train: Any, test: Any, **options: Any) -> Problem:
        scales = self.inverse_scales(train)
        rows = deal(self.rows([*train, *test], scales))
        n_train = int(self.n_rows(train).sum())
        return primal_problem(rows[:n_train], rows[n_train:])

    patch.setattr(preparation, "_prepare", prepare)
    patch.setattr(SegmentedDesign, "problem", problem)


def shuffled_inner_folds(patch: pytest.MonkeyPatch) -> None:
    real = preparation._prepare

    def prepare(*arguments: Any) -> tuple[preparation.PreparedFold, ...]:
        rng = np.random.default_rng(0)
        return tuple(replace(found, inner_folds=rng.permutation(found.inner_folds)) for found in real(*arguments))

    patch.setattr(preparation, "_prepare", prepare)


def training_on_the_test_story(patch: pytest.MonkeyPatch) -> None:
    real = SimulatedNarrative._fixed_split

    def split(self: SimulatedNarrative) -> Split:
        ((train, test),) = real(self).folds
        return Split((((*train, *test), test),))

    patch.setattr(SimulatedNarrative, "_fixed_split", split)


def canary_that_sleeps(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(cohort_scores, "check_time_only", lambda scores, protocol: 0.0)


def layer_chosen_on_test(patch: pytest.MonkeyPatch) -> None:
    class OnTest(encode.BestLayers):
        def __init__(self, cohort: preparation.Cohort, n_test: int) -> None:
            super().__init__(cohort, n_test)
            tests = cohort.folds[0].test_responses
            means = [np.concatenate([run.mean(axis=0) for run in tests[name]]) for name in cohort.columns]
            self.test = np.concatenate(means, axis=1).astype(np.float64)

        def offer(self, layer: int, fit: Any, predictions: np.ndarray) -> None:
            p = predictions.astype(np.float64)
            sums = [(p * self.test).sum(axis=0), (p**2).sum(axis=0), (self.test**2).sum(axis=0)]
            c, q, y2 = (total[None] for total in sums)
            fake: Any = SimpleNamespace(inner=SimpleNamespace(c=c, q=q, y2=y2))
            super().offer(layer, fake, predictions)

    patch.setattr(encode, "BestLayers", OnTest)


def naive_permutation(patch: pytest.MonkeyPatch) -> None:
    real = permutation.draw_block_permutations

    def draw(n_trs: int, n_draws: int, *, seed: int, **_: Any) -> permutation.BlockDraws:
        return real(n_trs, n_draws, seed=seed, block_trs=1)

    patch.setattr(permutation, "draw_block_permutations", draw)


def clipped_ceiling(patch: pytest.MonkeyPatch) -> None:
    real = scoring.segment_statistics

    def statistics(*arguments: Any, **options: Any) -> Any:
        found = real(*arguments, **options)
        power = np.maximum(found.s.sum(axis=0), 0) / found.n_blocks
        return replace(found, s=np.broadcast_to(power, found.s.shape).copy())

    patch.setattr(scoring, "segment_statistics", statistics)


def delays_across_stories(patch: pytest.MonkeyPatch) -> None:
    def reach(
        self: SegmentedDesign, segment: Any, keep: np.ndarray, scales: np.ndarray, device: Any = None
    ) -> torch.Tensor:
        names = list(self.features)
        joined = np.concatenate([np.asarray(self.features[name], dtype=np.float64) for name in names])
        offset = sum(len(self.features[name]) for name in names[: names.index(segment.story)])
        rows = np.arange(segment.start + self.trim - max(self.delays), segment.stop - self.trim - min(self.delays))
        found = joined[np.maximum(rows + offset, 0)][:, keep] * scales[keep]
        return torch.as_tensor(found - found.mean(axis=0))

    patch.setattr(SegmentedDesign, "_reach", reach)


def rescaled_residuals(patch: pytest.MonkeyPatch) -> None:
    real = residual._residual_primal

    def rescaled(*arguments: Any) -> Problem:
        found = real(*arguments)
        size = found.train.std(dim=0, correction=0).clamp_min(1e-12)
        test = found.test / size
        return Problem("primal", found.train / size, test, (test**2).sum(1), found.n_columns)

    patch.setattr(residual, "_residual_primal", rescaled)


def clipped_unique_variance(patch: pytest.MonkeyPatch) -> None:
    real = partition.unique_fractions

    def clipped(full: Any, reduced: Any) -> Scores:
        found = real(full, reduced)
        return Scores(np.maximum(found.values, 0), found.defined)

    patch.setattr(partition, "unique_fractions", clipped)


def p_without_one(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(NullTest, "p", property(lambda self: self.exceedances / self.n_draws))


def permutation_with_leftovers(patch: pytest.MonkeyPatch) -> None:
    real = permutation.BlockDraws.rotated

    def rotated(self: permutation.BlockDraws, k: int) -> np.ndarray:
        rows = real(self, k).copy()
        rows[self.n_blocks * self.block_trs :] = 0  # what is left over is never filled
        return rows

    patch.setattr(permutation.BlockDraws, "rotated", rotated)


def sums_over_words(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(RESAMPLERS, "tr_mean", tr_sum)


def words_of_the_future(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(RESAMPLERS, "tr_mean", lanczos)


def sums_over_tokens(patch: pytest.MonkeyPatch) -> None:
    real = torch.nn.functional.embedding_bag
    summed = SimpleNamespace(embedding_bag=lambda *arguments, mode: real(*arguments, mode="sum"))
    patch.setattr(pooling, "functional", summed)


def pairs_without_correction(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ranking, "holm", lambda p: p)


def confounds_read_the_test_words(patch: pytest.MonkeyPatch) -> None:
    """Bin edges come from all stories."""
    real = encode.fit_confounds
    bins = encode.confound_bins

    def fit(stories: Any, *arguments: Any) -> Any:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(encode, "confound_bins", lambda _, policy: bins(list(stories.values()), policy))
            return real(stories, *arguments)

    patch.setattr("voxelboard.benchmark.selftest.worlds.fit_confounds", fit)


def entries_permuted_one_by_one(patch: pytest.MonkeyPatch) -> None:
    """The entries of an RDM are shuffled as if they were independent."""

    def test(model: np.ndarray, brains: np.ndarray, *, n_draws: int, seed: int) -> geometry.GeometryTest:
        targets = geometry._unit(np.atleast_2d(brains))
        own, rng = geometry._unit(model[None])[0], np.random.default_rng(seed)
        null = np.stack([targets @ rng.permutation(own) for _ in range(n_draws)])
        return geometry.GeometryTest(targets @ own, null, "entries")

    patch.setattr(geometry, "condition_permutation_test", test)


def distances_within_repeats(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(geometry, "crossvalidated_distances", lambda patterns: pdist(patterns.mean(axis=0), "sqeuclidean"))


def optimistic_ties(patch: pytest.MonkeyPatch) -> None:
    def ranks(similarity: np.ndarray, truth: Any = None) -> np.ndarray:
        own = np.diag(similarity)[:, None]
        return (similarity > own).sum(axis=1).astype(np.float64)

    patch.setattr(geometry, "match_ranks", ranks)


def ceiling_of_repeats_from_others(patch: pytest.MonkeyPatch) -> None:
    """Kinds of ceilings are mixed: the others' mean is used as if it were the subject's own repeats."""
    real = ceilings.segment_statistics

    def statistics(predictions: Any, responses: Any, *, kind: Any, **options: Any) -> Any:
        return real(predictions, responses, kind="repeats")

    patch.setattr(ceilings, "segment_statistics", statistics)


def alpha_by_correlation(patch: pytest.MonkeyPatch) -> None:
    real = encode.fit_ridge

    def fit(*arguments: Any, **options: Any) -> Any:
        return real(*arguments, **{**options, "selection": "correlation"})

    patch.setattr(encode, "fit_ridge", fit)


def every_try_counts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(adaptivity, "ladder_margin", lambda *arguments, **options: 0.0)


def explained_fraction_clipped(patch: pytest.MonkeyPatch) -> None:
    """Delta-FVE is clipped at 0 and at the floor's own: each null becomes positive."""
    real = cells.unique_fve_influence

    def clipped(*arguments: Any) -> Any:
        return {roi: np.full_like(values, max(values.mean(), 0.0) + 0.05) for roi, values in real(*arguments).items()}

    patch.setattr(cells, "unique_fve_influence", clipped)


def unique_parts_from_the_floor_alone(patch: pytest.MonkeyPatch) -> None:
    """The unique part of a space is taken to be what it explains by itself."""
    patch.setattr(partition, "unique_fractions", lambda full, reduced: partition.unit_explained_fractions(reduced))


def columns_dropped(patch: pytest.MonkeyPatch) -> None:
    """A subspace is taken away without a surrogate in its place."""

    def dropped(features: np.ndarray, part: slice, seed: int) -> np.ndarray:
        return np.delete(features, part, axis=1)

    patch.setattr(ablations, "without", dropped)


def surrogates_that_keep_the_signal(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("voxelboard.benchmark.statistics.surrogates.phase_randomised", lambda series, seed: series)


def every_block_of_every_subject_is_independent(patch: pytest.MonkeyPatch) -> None:
    """Intervals count only the residual: neither subjects nor stimuli have an effect of their own."""
    real = ranking.two_way_variance

    def variance(z: np.ndarray) -> Any:
        found = real(z)
        zero = np.zeros_like(found.total)
        return replace(found, subjects=zero, blocks=zero, total=found.residual)

    patch.setattr(ranking, "two_way_variance", variance)


MUTATIONS: tuple[tuple[Break, tuple[str, ...]], ...] = (
    (shuffled_trs, ("E2",)),
    (shuffled_inner_folds, ("E4",)),
    (training_on_the_test_story, ("E1", "E4")),
    (canary_that_sleeps, ("E1",)),
    (z_scored_on_all_stories, ("E5",)),
    (confounds_read_the_test_words, ("E5",)),
    (layer_chosen_on_test, ("D1", "E5")),
    (naive_permutation, ("A1",)),
    (clipped_ceiling, ("B3", "B6")),
    (delays_across_stories, ("E6",)),
    (rescaled_residuals, ("F5",)),
    (clipped_unique_variance, ("F1",)),
    (p_without_one, ("E8",)),
    (permutation_with_leftovers, ("E8",)),
    (sums_over_words, ("F7",)),
    (words_of_the_future, ("E7",)),
    (sums_over_tokens, ("I6",)),
    (pairs_without_correction, ("H1",)),
    (entries_permuted_one_by_one, ("A6",)),
    (distances_within_repeats, ("A7",)),
    (optimistic_ties, ("A8",)),
    (ceiling_of_repeats_from_others, ("B7",)),
    (alpha_by_correlation, ("D4",)),
    (every_try_counts, ("D5",)),
    (explained_fraction_clipped, ("F2",)),
    (unique_parts_from_the_floor_alone, ("F3",)),
    (columns_dropped, ("G2", "G4")),
    (surrogates_that_keep_the_signal, ("G1",)),
    (every_block_of_every_subject_is_independent, ("H1",)),
)


# Limits are of the wall clock: the longest takes 17 s of one core, and a machine may be shared by twenty programs.
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("broken", "ids"), MUTATIONS, ids=[broken.__name__ for broken, _ in MUTATIONS])
def test_a_broken_measurement_is_seen(broken: Break, ids: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch)
    found = {finding.id: finding.passed for finding in run_selftest(only=ids)}
    assert found == dict.fromkeys(ids, False)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_quick_form_holds_on_the_code_as_it_is() -> None:
    findings = list(run_selftest())
    assert {f.id: [figure for figure in f.figures if not figure.passed] for f in findings if not f.passed} == {}
    assert len(findings) == 52
