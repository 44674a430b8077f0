# SPDX-License-Identifier: Apache-2.0
"""A thinned search finds what a full one finds, to the byte; and how it goes about it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from voxelboard.benchmark.encoding import alpha_search, nested_pairs, screening
from voxelboard.benchmark.encoding.alpha_search import every_choice, node_indices
from voxelboard.benchmark.encoding.bootstrap import bootstrap_ridge, chunk_draws
from voxelboard.benchmark.encoding.designs import Problem, primal_problem
from voxelboard.benchmark.encoding.nested import nested_ridge
from voxelboard.benchmark.encoding.ridge import RidgeFit, fit_ridge
from voxelboard.benchmark.encoding.selection import choose_alpha
from voxelboard.benchmark.errors import InvalidNumbers, UserError

ALPHAS = np.logspace(-3, 3, 24).tolist()
N_TARGETS = 1600

# designs and responses that make smooth, flat, jagged and ill-conditioned curves
CASES: dict[str, Callable[[Any, NDArray[Any]], tuple[Problem, NDArray[Any]]]] = {
    "all signal-to-noise ratios": lambda world, Y: (world.dual, Y),
    "noise alone": lambda world, Y: (world.dual, np.random.default_rng(1).standard_normal(Y.shape).astype("f4")),
    "raw units": lambda world, Y: (world.dual, 1e4 * Y),
    "duplicate columns": lambda world, Y: (
        primal_problem(np.tile(world.X, 3), np.tile(world.X_test, 3)).to_dual(),
        Y,
    ),
    "two scales": lambda world, Y: (
        primal_problem(world.X * np.geomspace(1e-3, 1e3, world.X.shape[1]), world.X_test).to_dual(),
        Y,
    ),
    "constant targets": lambda world, Y: (world.dual, np.where(np.arange(Y.shape[1]) % 7 == 0, 0, Y)),
    "one strange subject": lambda world, Y: (
        world.dual,
        np.where(np.arange(Y.shape[1]) < 500, world.X @ np.ones((world.X.shape[1], 1), "f4"), Y).astype("f4"),
    ),
}


@pytest.fixture(scope="module")
def wide(world_factory: Callable[..., Any]) -> Any:
    return world_factory(100, N_TARGETS, seed=5)


def same(found: RidgeFit, expected: RidgeFit) -> None:
    np.testing.assert_array_equal(found.alpha_index, expected.alpha_index)
    assert found.cv_scores.tobytes() == expected.cv_scores.tobytes()
    assert found.test_predictions.tobytes() == expected.test_predictions.tobytes()
    for a, b in zip(found.inner, expected.inner, strict=True):
        assert a.tobytes() == b.tobytes()


def share(fit: RidgeFit) -> float:
    return float(fit.notes[-1].split(": ")[1].split("%")[0]) / 100


@pytest.mark.parametrize("selection", ["squared_error", "correlation"])
@pytest.mark.parametrize("case", CASES)
def test_thinned_is_full_to_the_byte(wide: Any, case: str, selection: Any) -> None:
    problem, Y = CASES[case](wide, wide.responses)
    expected = fit_ridge(problem, Y, wide.folds, ALPHAS, selection=selection)
    thinned = fit_ridge(problem, Y, wide.folds, ALPHAS, selection=selection, search="thinned")
    same(thinned, expected)
    assert share(thinned) < (0.8 if selection == "squared_error" else 0.95)


@pytest.mark.parametrize("screening", ["bfloat16", "float16"])
def test_thinned_and_screened(wide: Any, screening: Any) -> None:
    options: dict[str, Any] = {"selection": "squared_error", "precision": "float32"}
    expected = fit_ridge(wide.dual, wide.responses, wide.folds, ALPHAS, **options)
    found = fit_ridge(wide.dual, wide.responses, wide.folds, ALPHAS, screening=screening, search="thinned", **options)
    same(found, expected)
    assert share(found) < 0.7


@pytest.mark.parametrize("selection", ["squared_error", "correlation"])
@pytest.mark.parametrize("screening", [None, "bfloat16"])
def test_one_choice_has_the_same_bytes_and_less_to_score(wide: Any, screening: Any, selection: Any) -> None:
    def run(inner: bool) -> RidgeFit:
        options: dict[str, Any] = {"selection": selection, "precision": "float32", "screening": screening}
        return fit_ridge(wide.dual, wide.responses, wide.folds, ALPHAS, search="thinned", inner=inner, **options)

    full = fit_ridge(wide.dual, wide.responses, wide.folds, ALPHAS, selection=selection, precision="float32")
    six, one = run(True), run(False)
    same(six, full)
    np.testing.assert_array_equal(one.alpha_index, full.alpha_index)
    assert one.cv_scores.tobytes() == full.cv_scores.tobytes()
    assert one.test_predictions.tobytes() == full.test_predictions.tobytes()
    assert one.inner.c.shape == one.inner.sse.shape == (0, N_TARGETS)
    assert len(one.fold_ids) == 0
    assert share(one) < share(six)


def test_what_was_not_scored_exactly_cannot_win() -> None:
    """A rough gain may lie above the exact one of the pair that beats it: errors that two alphas share are not counted."""
    c, y2 = np.array([[[1.0]], [[3.0]]]), np.array([[4.0]])
    scored = np.array([[True], [False]])
    for selection in ("squared_error", "correlation"):
        choose = [choose_alpha(c, c**0, y2, np.array([1.0, 2.0]), selection, "target", 1, s) for s in (None, scored)]  # type: ignore[arg-type]
        assert [choice.index.tolist() for choice in choose] == [[1], [0]]


def test_thinned_in_blocks_and_in_any_order_of_subjects(wide: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(Y: NDArray[Any], **options: Any) -> RidgeFit:
        return fit_ridge(wide.dual, Y, wide.folds, ALPHAS, search="thinned", **options)

    first = run(wide.responses)
    same(run(wide.responses, target_block=1), first)
    with monkeypatch.context() as patch:
        patch.setattr(screening, "OPERATOR_BYTES", 1)  # matrices of one alpha at a time, built again when needed again
        same(run(wide.responses), first)
    swap = np.r_[700:N_TARGETS, 0:700]
    moved = run(np.ascontiguousarray(wide.responses[:, swap]))
    assert moved.test_predictions.tobytes() == np.ascontiguousarray(first.test_predictions[:, swap]).tobytes()


@pytest.mark.parametrize("selection", ["squared_error", "correlation"])
def test_nested_and_bootstrap(wide: Any, selection: Any) -> None:
    draws = chunk_draws(len(wide.folds), 4, 10, 6, seed=0)
    for fit in (
        lambda search: nested_ridge(
            wide.dual, wide.responses, wide.folds, ALPHAS, selection=selection, precision="float32", search=search
        ),
        lambda search: bootstrap_ridge(
            wide.dual, wide.responses, draws, ALPHAS, selection=selection, precision="float32", search=search
        ),
    ):
        full, thinned = fit("every"), fit("thinned")
        np.testing.assert_array_equal(thinned.alpha_index, full.alpha_index)
        attribute = "predictions" if hasattr(full, "predictions") else "test_predictions"
        assert getattr(thinned, attribute).tobytes() == getattr(full, attribute).tobytes()
        for a, b in zip(getattr(thinned, "inner", ()), getattr(full, "inner", ()), strict=True):
            assert all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


def test_nested_keeps_its_bytes_within_little_memory(wide: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = nested_ridge(wide.dual, wide.responses, wide.folds, ALPHAS[::2], search="every")
    monkeypatch.setattr(nested_pairs, "OPERATOR_BYTES", 1)  # one pair of folds and one alpha at a time
    for search in ("every", "thinned"):
        again = nested_ridge(wide.dual, wide.responses, wide.folds, ALPHAS[::2], search=search)  # type: ignore[arg-type]
        assert again.predictions.tobytes() == first.predictions.tobytes()


def test_few_alphas_a_decade_or_few_targets_are_scored_in_full(wide: Any) -> None:
    coarse = fit_ridge(wide.dual, wide.responses, wide.folds, np.logspace(-3, 4, 7).tolist(), search="thinned")
    assert share(coarse) == 1
    assert share(fit_ridge(wide.dual, wide.responses[:, :900], wide.folds, ALPHAS, search="thinned")) == 1


def test_the_error_is_measured_where_nothing_was_fitted(wide: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an allowance for the error, alphas are missed: the allowance is what keeps the promise."""
    noise = np.random.default_rng(0).standard_normal(wide.responses.shape).astype("f4")

    def run(search: Any) -> RidgeFit:
        return fit_ridge(wide.dual, noise, wide.folds, ALPHAS, selection="correlation", search=search)

    expected = run("every")
    monkeypatch.setattr(alpha_search, "_SAFETY", 0.0)
    assert (run("thinned").alpha_index != expected.alpha_index).any()


def test_nodes_are_the_ends_and_no_farther_apart_than_allowed() -> None:
    grid = np.logspace(1, 6, 20)
    assert node_indices(grid).tolist() == [0, 4, 8, 12, 16, 19]
    shuffled = np.random.default_rng(0).permutation(20)
    assert sorted(grid[shuffled][node_indices(grid[shuffled])]) == sorted(grid[[0, 4, 8, 12, 16, 19]])
    assert node_indices(np.array([1.0, 100.0, 1e4])).tolist() == [0, 1, 2]
    assert node_indices(np.array([3.0])).tolist() == [0]


def test_choices_leave_out_each_fold() -> None:
    assert every_choice(2).tolist() == [[1, 1], [0, 1], [1, 0]]


def test_bad_input_is_refused(wide: Any) -> None:
    with pytest.raises(UserError, match="unknown search"):
        fit_ridge(wide.dual, wide.responses, wide.folds, ALPHAS, search="best")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="alpha of each target"):
        fit_ridge(wide.dual, wide.responses, wide.folds, ALPHAS, scope="global", search="thinned")
    bad = wide.responses.copy()
    bad[3, 1500] = np.nan
    with pytest.raises(InvalidNumbers, match="target 1500"):
        fit_ridge(wide.dual, bad, wide.folds, ALPHAS, search="thinned")
