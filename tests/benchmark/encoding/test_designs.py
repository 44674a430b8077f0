# SPDX-License-Identifier: Apache-2.0
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from voxelboard.benchmark.encoding.designs import SegmentedDesign, SegmentRows
from voxelboard.benchmark.encoding.filters import high_pass
from voxelboard.benchmark.errors import InvalidNumbers, UserError

SEGMENTS = [SegmentRows("a", 0, 60), SegmentRows("b", 0, 45), SegmentRows("b", 45, 90), SegmentRows("c", 3, 50)]


def features(n_features: int = 30, seed: int = 0) -> dict[Any, Any]:
    rng = np.random.default_rng(seed)
    lengths = {"a": 60, "b": 90, "c": 55}
    return {k: (5 + rng.standard_normal((n, n_features))).astype(np.float32) for k, n in lengths.items()}


def by_hand(design: SegmentedDesign, segment: SegmentRows, inverse_scales: np.ndarray) -> np.ndarray:
    """The definition, row by row: scale, delay with zeros before the story, trim, filter."""
    story = design.features[segment.story].astype(np.float64) * inverse_scales
    rows = []
    for t in range(segment.start + design.trim, segment.stop - design.trim):
        lagged = [story[t - d] if 0 <= t - d < len(story) else np.zeros(story.shape[1]) for d in design.delays]
        rows.append(np.concatenate(lagged))
    return high_pass(np.array(rows), design.tr, design.cutoff_s)


@pytest.mark.parametrize("delays", [(1, 2, 3, 4), (0,), (3, 1), (-2, 0, 5)])
@pytest.mark.parametrize("trim", [0, 2])
def test_rows_are_the_definition(delays: tuple[int, ...], trim: int) -> None:
    design = SegmentedDesign(features(), delays, trim, 2.0, 60.0)
    scales = design.inverse_scales(SEGMENTS[:3])
    expected = np.concatenate([by_hand(design, segment, scales) for segment in SEGMENTS])
    np.testing.assert_allclose(design.rows(SEGMENTS, scales), expected, atol=1e-11)


@pytest.mark.parametrize("delays", [(1, 2, 3, 4), (0,), (3, 1), (-2, 0, 5)])
@pytest.mark.parametrize("trim", [0, 2])
def test_shifted_gram_equals_the_gram_of_the_delayed_design(delays: tuple[int, ...], trim: int) -> None:
    design = SegmentedDesign(features(), delays, trim, 2.0, 60.0)
    dual = design.problem(SEGMENTS[:3], SEGMENTS[3:], form="dual")
    primal = design.problem(SEGMENTS[:3], SEGMENTS[3:], form="primal")
    size = float(primal.to_dual().train.abs().max())
    assert float((dual.train - primal.to_dual().train).abs().max()) <= 1e-12 * size
    assert float((dual.test - primal.to_dual().test).abs().max()) <= 1e-12 * size
    assert float((dual.test_norms - primal.test_norms).abs().max()) <= 1e-12 * size
    assert dual.mean_row_power == pytest.approx(primal.mean_row_power, rel=1e-12)
    assert dual.n_columns == primal.n_columns == 30 * len(delays)


def test_float32_gemm_stays_within_its_stated_error() -> None:
    design = SegmentedDesign(features(700), (1, 2, 3, 4), 5, 2.0, 60.0)
    exact = design.problem(SEGMENTS[:3], SEGMENTS[3:])
    rough = design.problem(SEGMENTS[:3], SEGMENTS[3:], gemm_dtype=torch.float32)
    assert exact.form == "dual"
    assert exact.train.dtype == rough.train.dtype == torch.float64
    difference = float((exact.train - rough.train).abs().max() / exact.train.abs().max())
    assert 0 < difference < 2e-6


def test_more_features_than_one_chunk_and_a_large_offset() -> None:
    table = {k: np.tile(x, 40) for k, x in features(30).items()}  # 1,200 features, more than one chunk
    shifted = {k: x + np.float32(4096) for k, x in table.items()}
    few = SegmentedDesign(features(30), (1, 2), 2, 2.0, 60.0).problem(SEGMENTS[:3], SEGMENTS[3:], form="dual")
    many = SegmentedDesign(table, (1, 2), 2, 2.0, 60.0).problem(SEGMENTS[:3], SEGMENTS[3:], form="dual")
    torch.testing.assert_close(many.train, 40 * few.train, rtol=1e-11, atol=1e-9)
    moved = SegmentedDesign(shifted, (1, 2), 2, 2.0, 60.0).problem(SEGMENTS[:3], SEGMENTS[3:], form="dual")
    # float32 keeps 2e-4 of a feature at 4096; nothing beyond that is lost
    assert float((moved.train - many.train).abs().max() / many.train.abs().max()) < 1e-3


def test_many_segments_and_blocks_of_products_are_symmetric() -> None:
    rng = np.random.default_rng(3)
    table = {i: rng.standard_normal((int(n), 600)).astype(np.float32) for i, n in enumerate(rng.integers(30, 150, 12))}
    segments = [SegmentRows(i, 0, len(x)) for i, x in table.items()]
    design = SegmentedDesign(table, (1, 2, 3, 4), 3, 2.0, 60.0)
    dual = design.problem(segments[:9], segments[9:], form="dual")
    primal = design.problem(segments[:9], segments[9:], form="primal")
    assert dual.n_train > 600  # more than one block of rows
    assert torch.equal(dual.train, dual.train.T)
    expected = primal.to_dual()
    for found, wanted in ((dual.train, expected.train), (dual.test, expected.test)):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-11 * float(expected.train.abs().max()))
    torch.testing.assert_close(dual.test_norms, primal.test_norms, rtol=1e-10, atol=0)


def test_read_only_and_half_precision_features_are_read() -> None:
    table = {k: x.astype(np.float16) for k, x in features(60).items()}
    for values in table.values():
        values.flags.writeable = False
    half = SegmentedDesign(table, (1, 2), 2, 2.0, 60.0).problem(SEGMENTS[:3], SEGMENTS[3:], form="dual")
    single = {k: x.astype(np.float32) for k, x in table.items()}
    full = SegmentedDesign(single, (1, 2), 2, 2.0, 60.0).problem(SEGMENTS[:3], SEGMENTS[3:], form="dual")
    assert torch.equal(half.train, full.train)


def test_scale_is_the_sd_of_filtered_training_rows_and_ignores_test_rows() -> None:
    table = features(4)
    design = SegmentedDesign(table, (1, 2), 2, 2.0, math.inf)
    scales = design.inverse_scales(SEGMENTS[:1])
    np.testing.assert_allclose(1 / scales, table["a"][2:58].astype(np.float64).std(0), rtol=1e-12)
    table["b"] = table["b"] * 100
    table["c"] = table["c"] * np.float32(0.01)
    np.testing.assert_array_equal(scales, design.inverse_scales(SEGMENTS[:1]))


def test_constant_features_are_dropped_and_feature_scale_does_not_matter() -> None:
    table = features(6)
    for story in table.values():
        story[:, 1] = 3e7
        story[:, 4] *= 1e4
    design = SegmentedDesign(table, (1, 2), 2, 2.0, 60.0)
    assert np.flatnonzero(design.inverse_scales(SEGMENTS[:3]) == 0).tolist() == [1]
    rescaled = {k: x * np.float32(1024) for k, x in table.items()}
    a = design.problem(SEGMENTS[:3], SEGMENTS[3:])
    b = SegmentedDesign(rescaled, (1, 2), 2, 2.0, 60.0).problem(SEGMENTS[:3], SEGMENTS[3:])
    assert a.n_columns == 10
    torch.testing.assert_close(a.train, b.train, rtol=1e-10, atol=1e-10)


def test_editing_one_story_changes_no_row_of_the_next() -> None:
    table = features()
    design = SegmentedDesign(table, (1, 2, 3, 4), 0, 2.0, 60.0)
    scales = design.inverse_scales(SEGMENTS)
    before = design.rows(SEGMENTS[1:], scales)
    edited = replace(design, features={**table, "a": table["a"] + np.float32(9)})
    assert np.abs(edited.rows(SEGMENTS[1:], scales) - before).max() == 0
    assert np.abs(edited.rows(SEGMENTS[:1], scales) - design.rows(SEGMENTS[:1], scales)).max() > 1


def test_editing_the_test_story_changes_no_training_number() -> None:
    table = features()
    design = SegmentedDesign(table, (1, 2, 3, 4), 2, 2.0, 60.0)
    edited = replace(design, features={**table, "c": table["c"][::-1].copy()})
    a, b = (d.problem(SEGMENTS[:3], SEGMENTS[3:], form="dual") for d in (design, edited))
    assert torch.equal(a.train, b.train)
    assert not torch.equal(a.test, b.test)


def test_a_design_without_varying_features_is_a_problem_without_columns() -> None:
    table = {k: np.ones_like(x) for k, x in features().items()}
    problem = SegmentedDesign(table, (1, 2), 2, 2.0, 60.0).problem(SEGMENTS[:3], SEGMENTS[3:])
    assert (problem.form, problem.n_columns, tuple(problem.train.shape)) == ("primal", 0, (56 + 41 + 41, 0))
    assert problem.mean_row_power == 0


def test_story_shorter_than_the_largest_delay_is_zero_padded() -> None:
    table = {"long": np.random.default_rng(0).standard_normal((50, 3)), "short": np.ones((4, 3))}
    design = SegmentedDesign(table, (1, 6), 0, 2.0, math.inf)
    train = [SegmentRows("long", 0, 50)]
    primal = design.problem(train, [SegmentRows("short", 0, 4)], form="primal")
    dual = design.problem(train, [SegmentRows("short", 0, 4)], form="dual")
    assert float(primal.test[:, 3:].abs().max()) == 0  # delay 6 never reaches into a story of 4 rows
    torch.testing.assert_close(dual.test, primal.to_dual().test)


@pytest.mark.parametrize(
    ("segment", "match"),
    [
        (SegmentRows("nobody", 0, 50), "no features"),
        (SegmentRows("a", 0, 61), "outside"),
        (SegmentRows("a", 10, 14), "no row left"),
    ],
)
def test_impossible_segments_are_refused(segment: SegmentRows, match: str) -> None:
    design = SegmentedDesign(features(), (1, 2), 2, 2.0, 60.0)
    with pytest.raises(UserError, match=match):
        design.problem(SEGMENTS[:3], [segment])


def test_bad_features_and_delays_are_refused() -> None:
    table = features()
    with pytest.raises(UserError, match="delays"):
        SegmentedDesign(table, (1, 1), 2, 2.0, 60.0)
    with pytest.raises(UserError, match="n_features"):
        SegmentedDesign({**table, "a": table["a"][:, 1:]}, (1,), 2, 2.0, 60.0)
    table["a"][3, 3] = np.nan
    with pytest.raises(InvalidNumbers, match="'a'"):
        SegmentedDesign(table, (1,), 2, 2.0, 60.0)
