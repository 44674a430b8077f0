# SPDX-License-Identifier: Apache-2.0
"""The column form against the dual one (which is himalaya's, see test_banded) and against closed forms."""

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from voxelboard.benchmark.encoding.banded import dirichlet_gammas, refit_bands, search_bands, stack_bands
from voxelboard.benchmark.encoding.banded_columns import (
    ColumnBands,
    banded_weights,
    leave_band_out,
    refit_columns,
    search_columns,
    stack_columns,
)
from voxelboard.benchmark.encoding.designs import Problem, primal_problem
from voxelboard.benchmark.errors import InvalidNumbers, UserError

N, N_TEST, N_TARGETS = 240, 60, 70
WIDTHS = {"a": 12, "b": 20, "c": 9}
ALPHAS = np.logspace(-3, 3, 7).tolist()


class Bands:
    """Three bands; targets are driven by the first, the second, both, or none."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        designs = {name: rng.standard_normal((N + N_TEST, p)) for name, p in WIDTHS.items()}
        weights = {name: rng.standard_normal((p, N_TARGETS)) / np.sqrt(p) for name, p in WIDTHS.items()}
        self.Y = np.ascontiguousarray(2.0 * rng.standard_normal((N, N_TARGETS)))
        for v in range(N_TARGETS):
            for name in {0: "a", 1: "b", 2: "ab", 3: ""}[v % 4]:
                self.Y[:, v] += designs[name][:N] @ weights[name][:, v]
        self.folds = rng.permutation(np.repeat(np.arange(4), N // 4))  # rows need not be sorted by fold
        self.problems: dict[str, Problem] = {n: primal_problem(x[:N], x[N:]) for n, x in designs.items()}
        self.columns: ColumnBands = stack_columns(self.problems)
        self.gammas = dirichlet_gammas(9, 3, seed=2)


@pytest.fixture(scope="module")
def bands() -> Bands:
    return Bands()


@pytest.mark.parametrize("selection", ["correlation", "squared_error"])
def test_equals_the_dual_form(bands: Bands, selection: Any) -> None:
    dual = stack_bands(bands.problems)
    expected = search_bands(dual, bands.Y, bands.folds, bands.gammas, ALPHAS, selection=selection)
    found = search_columns(bands.columns, bands.Y, bands.folds, bands.gammas, ALPHAS, selection=selection)
    np.testing.assert_allclose(found.cv_scores, expected.cv_scores, atol=2e-6)
    assert (found.alpha_index == expected.alpha_index).mean() > 0.999
    total = refit_columns(bands.columns, bands.Y, found)
    np.testing.assert_allclose(total.total, refit_bands(dual, bands.Y, found).total, atol=2e-5)
    np.testing.assert_allclose(total.bands.sum(axis=0), total.total, atol=1e-6)


def test_one_band_is_a_plain_ridge(bands: Bands) -> None:
    alone = bands.columns.select(["b"])
    search = search_columns(alone, bands.Y, bands.folds, np.ones((1, 1)), [0.7])
    ridge = Ridge(alpha=0.7, fit_intercept=False).fit(alone.train.numpy(), bands.Y)
    np.testing.assert_allclose(
        refit_columns(alone, bands.Y, search).total, ridge.predict(alone.test.numpy()), atol=1e-5
    )
    np.testing.assert_allclose(banded_weights(alone, bands.Y, search), ridge.coef_.T, atol=1e-6)


def test_weights_give_the_predictions(bands: Bands) -> None:
    search = search_columns(bands.columns, bands.Y, bands.folds, bands.gammas, ALPHAS)
    weights = banded_weights(bands.columns, bands.Y, search)
    np.testing.assert_allclose(
        bands.columns.test.numpy() @ weights, refit_columns(bands.columns, bands.Y, search).total, atol=1e-5
    )


def test_leaving_a_band_out_searches_again_without_it(bands: Bands) -> None:
    search = search_columns(bands.columns, bands.Y, bands.folds, bands.gammas, ALPHAS)
    found = leave_band_out(bands.columns, bands.Y, bands.folds, search, "a")
    rest = bands.gammas[:, 1:] / bands.gammas[:, 1:].sum(axis=1, keepdims=True)
    without = bands.columns.without("a")
    again = search_columns(without, bands.Y, bands.folds, rest, ALPHAS)
    np.testing.assert_array_equal(found.total, refit_columns(without, bands.Y, again).total)
    driven = np.arange(N_TARGETS) % 4 == 0  # by band a alone: nothing is left without it
    whole = refit_columns(bands.columns, bands.Y, search).total
    assert (whole[:, driven] ** 2).mean() > 5 * (found.total[:, driven] ** 2).mean()


def test_compressing_bands_of_low_rank_changes_no_prediction(bands: Bands) -> None:
    rng = np.random.default_rng(5)
    mixing = rng.standard_normal((WIDTHS["a"], 40))  # 40 columns of rank 12
    wide = {
        name: primal_problem(p.train.numpy() @ mixing, p.test.numpy() @ mixing) if name == "a" else p
        for name, p in bands.problems.items()
    }
    columns = stack_columns(wide)
    small = columns.compressed()
    assert small.edges == (0, 12, 32, 41)
    whole = search_columns(columns, bands.Y, bands.folds, bands.gammas, ALPHAS)
    found = search_columns(small, bands.Y, bands.folds, bands.gammas, ALPHAS)
    np.testing.assert_allclose(found.cv_scores, whole.cv_scores, atol=1e-8)
    expected = refit_columns(columns, bands.Y, whole)
    np.testing.assert_allclose(refit_columns(small, bands.Y, found).bands, expected.bands, atol=1e-5)


def test_memory_bound_changes_nothing(bands: Bands, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = search_columns(bands.columns, bands.Y, bands.folds, bands.gammas, ALPHAS)
    monkeypatch.setattr("voxelboard.benchmark.encoding.banded_columns.KEPT_BYTES", 0)
    again = search_columns(bands.columns, bands.Y, bands.folds, bands.gammas, ALPHAS)
    np.testing.assert_array_equal(kept.cv_scores, again.cv_scores)


def test_bad_input_is_refused(bands: Bands) -> None:
    with pytest.raises(UserError, match="expected primal"):
        stack_columns({"a": bands.problems["a"].to_dual()})
    with pytest.raises(UserError, match="unknown band 'd'"):
        bands.columns.without("d")
    with pytest.raises(UserError, match="one band at least"):
        bands.columns.select(["a"]).without("a")
    with pytest.raises(UserError, match="n_bands=3"):
        search_columns(bands.columns, bands.Y, bands.folds, np.ones((2, 2)), ALPHAS)
    with pytest.raises(UserError, match="not negative"):
        search_columns(bands.columns, bands.Y, bands.folds, -bands.gammas, ALPHAS)
    with pytest.raises(UserError, match="one fold"):
        search_columns(bands.columns, bands.Y, np.zeros(N, dtype=int), bands.gammas, ALPHAS)
    broken = bands.Y.copy()
    broken[3, 5] = np.nan
    with pytest.raises(InvalidNumbers, match="target 5"):
        search_columns(bands.columns, broken, bands.folds, bands.gammas, ALPHAS)


@pytest.mark.parametrize("form", ["dual", "columns"])
@pytest.mark.parametrize("selection", ["correlation", "squared_error"])
def test_any_block_size_and_order_of_subjects(bands: Bands, form: str, selection: Any) -> None:
    targets = np.resize(np.arange(N_TARGETS), 1100)
    order = np.r_[613:1100, :613]
    problem: Any = stack_bands(bands.problems) if form == "dual" else bands.columns
    search, refit = (search_bands, refit_bands) if form == "dual" else (search_columns, refit_columns)

    def fit(Y: Any, block: int | None) -> tuple[Any, Any]:
        found = search(problem, Y, bands.folds, bands.gammas[:3], ALPHAS, selection=selection, target_block=block)
        return found.cv_scores, refit(problem, Y, found, target_block=block).bands

    Y = bands.Y[:, targets]
    (scores, predicted), moved, blocks = fit(Y, None), fit(Y[:, order], None), fit(Y, 512)
    assert scores.tobytes() == blocks[0].tobytes()
    assert predicted.tobytes() == blocks[1].tobytes()
    assert scores[:, order].tobytes() == moved[0].tobytes()
    assert predicted[..., order].tobytes() == moved[1].tobytes()
