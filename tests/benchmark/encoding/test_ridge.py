# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

import voxelboard.benchmark.encoding.screening as screening_module
from voxelboard.benchmark.encoding.designs import Problem, SegmentedDesign, SegmentRows, primal_problem
from voxelboard.benchmark.encoding.reference import SOLVERS, himalaya_backend
from voxelboard.benchmark.encoding.ridge import RidgeFit, fit_ridge
from voxelboard.benchmark.encoding.screening import DTYPES, rounded
from voxelboard.benchmark.errors import InvalidNumbers, UserError

ALPHAS = np.logspace(-3, 4, 10)


def ridge(X: NDArray[Any], Y: NDArray[Any], X_new: NDArray[Any], alpha: float) -> NDArray[np.float64]:
    return Ridge(alpha=alpha, fit_intercept=False).fit(X, Y.astype(np.float64)).predict(X_new)


class Brute:
    """scikit-learn's ridge for each fold and alpha, float64."""

    def __init__(self, world: Any, selection: str) -> None:
        X, Y, folds = world.X, world.responses.astype(np.float64), world.folds
        self.alphas = ALPHAS * (X**2).sum() / len(X)
        shape = (len(ALPHAS), len(np.unique(folds)), Y.shape[1])
        self.c, self.q, self.y2, gains = (np.zeros(shape) for _ in range(4))
        for f in np.unique(folds):
            rows = folds == f
            for a, alpha in enumerate(self.alphas):
                p, y = ridge(X[~rows], Y[~rows], X[rows], alpha), Y[rows]
                if selection == "correlation":
                    p, y = p - p.mean(0), y - y.mean(0)
                    gains[a, f] = [np.corrcoef(p[:, v], y[:, v])[0, 1] for v in range(Y.shape[1])]
                else:
                    gains[a, f] = -((y - p) ** 2).sum(0)
                self.c[a, f], self.q[a, f], self.y2[a, f] = (p * y).sum(0), (p**2).sum(0), (y**2).sum(0)
        total = gains.sum(1)
        self.index = total.argmax(0)
        self.margin = np.sort(total, axis=0)[-1] - np.sort(total, axis=0)[-2]
        self.held_out = np.stack([(total - gains[:, f]).argmax(0) for f in range(shape[1])])
        paths = np.stack([ridge(X, Y, world.X_test, alpha) for alpha in self.alphas])
        self.predictions = paths[self.index, :, np.arange(Y.shape[1])].T

    def inner(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.take_along_axis(table, self.held_out[None], axis=0)[0]


@pytest.fixture(scope="module", params=["squared_error", "correlation"])
def selection(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=["world", "narrow"])
def case(request: pytest.FixtureRequest, selection: str) -> tuple[Any, Brute]:
    world = request.getfixturevalue(request.param)
    return world, Brute(world, selection)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("form", ["dual", "primal"])
def test_equals_scikit_learn_fold_by_fold(case: tuple[Any, Brute], selection: Any, solver: str, form: str) -> None:
    world, brute = case
    fit = SOLVERS[solver](getattr(world, form), world.responses, world.folds, ALPHAS.tolist(), selection=selection)
    assert len(np.unique(brute.index)) > 4  # the oracle uses most of the grid, or this test shows little
    np.testing.assert_array_equal(fit.alpha_index, brute.index)
    np.testing.assert_allclose(fit.alphas, brute.alphas[brute.index], rtol=1e-12)
    error = np.abs(fit.test_predictions - brute.predictions) / brute.predictions.std(0)
    assert np.median(error) < 1e-6
    assert error.max() < 2e-5
    for name in ("c", "q", "y2"):
        expected = brute.inner(getattr(brute, name))
        assert np.abs(getattr(fit.inner, name) - expected).max() < 2e-6 * np.abs(brute.y2).max(), name
    np.testing.assert_allclose(fit.inner.sse, fit.inner.y2 - 2 * fit.inner.c + fit.inner.q, rtol=1e-12)
    assert fit.notes == ()


@pytest.mark.parametrize("form", ["dual", "primal"])
def test_options_do_not_change_the_alphas(narrow: Any, form: str, selection: Any) -> None:
    def fit(**options: Any) -> RidgeFit:
        return fit_ridge(
            getattr(narrow, form), narrow.responses, narrow.folds, ALPHAS.tolist(), selection=selection, **options
        )

    plain = fit()
    for screening in DTYPES:
        screened = fit(screening=screening)
        assert "scored in float32" in screened.notes[-1]
        np.testing.assert_array_equal(screened.alpha_index, plain.alpha_index)
        assert screened.test_predictions.tobytes() == plain.test_predictions.tobytes()
        if form == "dual":
            assert screened.inner.c.tobytes() == plain.inner.c.tobytes()
            assert screened.inner.q.tobytes() == plain.inner.q.tobytes()
        else:  # without screening a narrow design is scored in feature space: the same sums in another order
            for found, expected in ((screened.inner.c, plain.inner.c), (screened.inner.q, plain.inner.q)):
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_float32_factors_cost_little_accuracy(world: Any, selection: Any) -> None:
    plain = fit_ridge(world.dual, world.responses, world.folds, ALPHAS.tolist(), selection=selection)
    rough = fit_ridge(
        world.dual, world.responses, world.folds, ALPHAS.tolist(), selection=selection, precision="float32"
    )
    # alphas may differ at near ties, which cost nothing
    np.testing.assert_allclose(rough.cv_scores, plain.cv_scores, atol=5e-6 * np.abs(plain.cv_scores).max())
    same = rough.alpha_index == plain.alpha_index
    assert same.mean() > 0.99
    error = np.abs(rough.test_predictions - plain.test_predictions)[:, same] / plain.test_predictions[:, same].std(0)
    assert error.max() < 1e-4
    assert np.median(error) < 2e-6


def test_tfloat32_keeps_ten_bits_of_fraction_and_rounds_to_even() -> None:
    step = 2.0**-10
    given = torch.tensor(
        [1.0, 1 + step, 1 + 0.49 * step, 1 + 0.51 * step, 1 + 0.5 * step, 1 + 1.5 * step, -1 - step, 0.0]
    )
    expected = torch.tensor([1.0, 1 + step, 1.0, 1 + step, 1.0, 1 + 2 * step, -1 - step, 0.0])
    assert torch.equal(rounded(given, "tfloat32"), expected)
    assert torch.equal(rounded(given * 2.0**-40, "tfloat32"), expected * 2.0**-40)


def test_tfloat32_contests_fewer_pairs_than_bfloat16(world_factory: Callable[..., Any]) -> None:
    world = world_factory(100, 1300, seed=3)

    def share(screening: Any) -> float:
        note = fit_ridge(world.dual, world.responses, world.folds, ALPHAS.tolist(), screening=screening).notes[-1]
        return float(note.split(":")[1].split("%")[0])

    assert share("tfloat32") < share("bfloat16")


def test_screening_scores_only_the_contested_pairs_again(world_factory: Callable[..., Any]) -> None:
    world = world_factory(100, 2100, seed=3)
    plain = fit_ridge(world.dual, world.responses, world.folds, ALPHAS.tolist())
    screened = fit_ridge(world.dual, world.responses, world.folds, ALPHAS.tolist(), screening="bfloat16")
    share = float(screened.notes[-1].split(":")[1].split("%")[0]) / 100
    assert share < 0.5
    np.testing.assert_array_equal(screened.alpha_index, plain.alpha_index)
    assert screened.inner.sse.tobytes() == plain.inner.sse.tobytes()


@pytest.mark.parametrize("form", ["dual", "primal"])
def test_same_bytes_for_any_block_size_and_order_of_subjects(world_factory: Callable[..., Any], form: str) -> None:
    world = world_factory(12, 1300, seed=1)
    Y = world.responses
    problem = getattr(world, form)

    def run(responses: NDArray[np.float32], **options: Any) -> RidgeFit:
        return fit_ridge(problem, responses, world.folds, ALPHAS.tolist(), **options)

    first = run(Y)
    for block in (1, 512, 700, 1 << 20):
        again = run(Y, target_block=block)
        assert again.test_predictions.tobytes() == first.test_predictions.tobytes()
        assert all(a.tobytes() == b.tobytes() for a, b in zip(again.inner, first.inner, strict=True))
    swap = np.r_[433:1300, 0:433]  # the second and third "subject" before the first
    labels = np.repeat(np.arange(13), 100)
    for scope, swapped in (("target", "target"), ("global", "global"), (labels, labels[swap])):
        straight, moved = run(Y, scope=scope), run(Y[:, swap], scope=swapped)
        assert moved.test_predictions.tobytes() == np.ascontiguousarray(straight.test_predictions[:, swap]).tobytes()
        for a, b in zip(moved.inner, straight.inner, strict=True):
            assert a.tobytes() == np.ascontiguousarray(b[:, swap]).tobytes()


def test_alphas_in_several_passes_give_the_same_bytes(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fit_ridge(world.dual, world.responses, world.folds, ALPHAS.tolist())
    monkeypatch.setattr(screening_module, "OPERATOR_BYTES", 1)  # one alpha at a time
    again = fit_ridge(world.dual, world.responses, world.folds, ALPHAS.tolist())
    assert again.test_predictions.tobytes() == first.test_predictions.tobytes()
    assert again.inner.sse.tobytes() == first.inner.sse.tobytes()


def test_rows_and_folds_in_any_order(world: Any) -> None:
    shuffle = np.random.default_rng(0).permutation(world.dual.n_train)
    index = torch.as_tensor(shuffle)
    mixed = Problem("dual", world.dual.train[index][:, index], world.dual.test[:, index], world.dual.test_norms, 400)
    options: dict[str, Any] = {"relative_alphas": ALPHAS.tolist(), "weights": True}
    straight = fit_ridge(world.dual, world.responses, world.folds, **options)
    moved = fit_ridge(mixed, world.responses[shuffle], world.folds[shuffle] + 7, **options)
    np.testing.assert_array_equal(moved.alpha_index, straight.alpha_index)
    np.testing.assert_allclose(moved.test_predictions, straight.test_predictions, atol=1e-5)
    assert moved.fold_ids.tolist() == [7, 8, 9, 10, 11]
    assert straight.weights is not None
    assert moved.weights is not None
    np.testing.assert_allclose(moved.weights, straight.weights[shuffle], atol=1e-6)


def test_weights_reproduce_the_predictions_in_both_forms(world: Any, narrow: Any) -> None:
    for problem, w in ((world.dual, world), (world.primal, world), (narrow.primal, narrow), (narrow.dual, narrow)):
        fit = fit_ridge(problem, w.responses, w.folds, ALPHAS.tolist(), weights=True)
        assert fit.weights is not None
        assert fit.weights.shape == (problem.train.shape[1], 300)
        # at small alphas float32 dual weights are large and their products cancel; primal ones do not
        atol = 5e-3 if problem.form == "dual" else 2e-5
        np.testing.assert_allclose(problem.test.numpy() @ fit.weights, fit.test_predictions, atol=atol)


@pytest.mark.parametrize("solver", SOLVERS)
def test_shared_alphas_follow_the_summed_error(world: Any, solver: str) -> None:
    brute = Brute(world, "squared_error")
    total = (2 * brute.c - brute.q - brute.y2).sum(1)
    labels = np.arange(300) // 60
    shared = SOLVERS[solver](world.dual, world.responses, world.folds, ALPHAS.tolist(), scope=labels)
    for label in range(5):
        assert set(shared.alpha_index[labels == label]) == {total[:, labels == label].sum(1).argmax()}
    one = SOLVERS[solver](world.dual, world.responses, world.folds, ALPHAS.tolist(), scope="global")
    assert set(one.alpha_index) == {total.sum(1).argmax()}


def test_replacing_the_test_side_changes_nothing_that_is_chosen(world: Any) -> None:
    poisoned = Problem("dual", world.dual.train, -5 * world.dual.test, world.dual.test_norms, 400)
    a, b = (fit_ridge(p, world.responses, world.folds, ALPHAS.tolist()) for p in (world.dual, poisoned))
    assert a.alphas.tobytes() == b.alphas.tobytes()
    assert a.inner.sse.tobytes() == b.inner.sse.tobytes()


@pytest.mark.parametrize("solver", SOLVERS)
def test_constant_target_takes_the_largest_alpha_and_predicts_zero(world: Any, solver: str) -> None:
    responses = world.responses.copy()
    responses[:, 7] = 0
    fit = SOLVERS[solver](world.dual, responses, world.folds, ALPHAS.tolist(), selection="correlation")
    assert np.abs(fit.test_predictions[:, 7]).max() == 0
    assert np.isfinite(fit.cv_scores).all()
    if solver == "shared":  # himalaya takes the first alpha there
        assert fit.alpha_index[7] == len(ALPHAS) - 1
        assert fit.at_grid_edge[7]


@pytest.mark.parametrize("solver", SOLVERS)
def test_fewer_rows_than_delays(solver: str) -> None:
    """Stories of three TRs under delays up to four: the last delay holds nothing, the others are as ever."""
    rng = np.random.default_rng(0)
    features = {i: rng.standard_normal((3, 2)) for i in range(3)}
    segments = [SegmentRows(i, 0, 3) for i in range(3)]
    design = SegmentedDesign(features, (1, 2, 3, 4), 0, 2.0, np.inf)
    primal, dual = (design.problem(segments[:2], segments[2:], form=form) for form in ("primal", "dual"))
    assert float(primal.train[:, 4:].abs().max()) < 1e-15
    responses, folds = rng.standard_normal((6, 5)).astype(np.float32), np.arange(6) // 3
    found = [SOLVERS[solver](problem, responses, folds, [0.1, 1.0]) for problem in (primal, dual)]
    weights = [
        Ridge(alpha=a, fit_intercept=False).fit(primal.train, y).coef_
        for a, y in zip(found[0].alphas, responses.T, strict=True)
    ]
    for fit in found:
        np.testing.assert_array_equal(fit.alpha_index, found[0].alpha_index)
        np.testing.assert_allclose(fit.test_predictions, primal.test.numpy() @ np.array(weights).T, atol=1e-5)


def test_ties_take_the_larger_alpha_in_any_order_of_the_grid(world: Any) -> None:
    """A design of constant columns: every alpha predicts nothing, so all scores are equal."""
    problem = primal_problem(np.zeros((20, 3)), np.zeros((4, 3)))
    for grid in ([0.1, 1.0, 10.0], [10.0, 0.1, 1.0]):
        for selection in ("squared_error", "correlation"):
            fit = fit_ridge(problem, np.ones((20, 3)), np.arange(20) // 5, grid, selection=selection)
            assert set(fit.alphas) == {10.0}
    twice = fit_ridge(world.dual, world.responses, world.folds, [1.0, 1.0])
    assert set(twice.alpha_index) == {0}  # of equal alphas the first


def test_design_without_columns_predicts_zero() -> None:
    problem = primal_problem(np.zeros((20, 0)), np.zeros((4, 0)))
    fit = fit_ridge(problem, np.ones((20, 3)), np.arange(20) // 5, [0.1, 1.0])
    assert np.abs(fit.test_predictions).max() == 0
    np.testing.assert_allclose(fit.cv_scores, -1)


@pytest.mark.parametrize("form", ["dual", "primal"])
def test_duplicate_columns_and_tiny_alphas_are_the_minimum_norm_fit(narrow: Any, form: str) -> None:
    X, X_test = np.tile(narrow.X, 2), np.tile(narrow.X_test, 2)
    problem = primal_problem(X, X_test)
    problem = problem.to_dual() if form == "dual" else problem
    fit = fit_ridge(problem, narrow.responses, narrow.folds, [1e-25])
    expected = X_test @ (np.linalg.pinv(X) @ narrow.responses.astype(np.float64))
    assert fit.notes  # how it was solved is said
    assert "eigenvalues" in fit.notes[-1]
    np.testing.assert_allclose(fit.test_predictions, expected, atol=2e-5 * np.abs(expected).max())
    rows = narrow.folds == 2
    left_out = X[rows] @ (np.linalg.pinv(X[~rows]) @ narrow.responses[~rows].astype(np.float64))
    c = (left_out * narrow.responses[rows]).sum(0)
    np.testing.assert_allclose(fit.inner.c[2], c, atol=1e-4 * np.abs(c).max())


def test_float32_factors_fall_back_to_float64_and_say_so(world: Any) -> None:
    fit = fit_ridge(world.dual, world.responses, world.folds, [1e-7, 1.0], precision="float32")
    exact = fit_ridge(world.dual, world.responses, world.folds, [1e-7, 1.0])
    assert any("float32" in note for note in fit.notes)
    np.testing.assert_array_equal(fit.alpha_index, exact.alpha_index)


def test_duplicating_permuting_and_rescaling_all_columns_changes_nothing(world: Any) -> None:
    X, X_test = world.X, world.X_test
    order = np.random.default_rng(0).permutation(X.shape[1])
    plain = fit_ridge(primal_problem(X, X_test), world.responses, world.folds, ALPHAS.tolist())
    for A, B in (
        (X[:, order], X_test[:, order]),
        (-X, -X_test),
        (np.tile(X, 2), np.tile(X_test, 2)),
        (9 * X, 9 * X_test),
    ):
        other = fit_ridge(primal_problem(A, B), world.responses, world.folds, ALPHAS.tolist())
        np.testing.assert_array_equal(other.alpha_index, plain.alpha_index)
        np.testing.assert_allclose(other.test_predictions, plain.test_predictions, atol=2e-6)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"relative_alphas": [0.0, 1.0]}, "positive"),
        ({"relative_alphas": [-1.0]}, "positive"),
        ({"relative_alphas": [np.nan]}, "positive"),
        ({"relative_alphas": []}, "positive"),
        ({"folds": "one"}, "one fold"),
        ({"folds": "short"}, "folds have shape"),
        ({"responses": "short"}, "responses have shape"),
        ({"scope": "voxel"}, "unknown scope"),
        ({"scope": np.zeros(3, dtype=int)}, "labels have shape"),
        ({"selection": "r2"}, "unknown selection"),
    ],
)
def test_what_cannot_be_fitted_is_refused(world: Any, solver: str, change: dict[str, Any], match: str) -> None:
    arguments: dict[str, Any] = {"responses": world.responses, "folds": world.folds, "relative_alphas": [1.0]}
    named = {"one": np.zeros_like(world.folds), "short": world.folds[1:]}
    for key, value in change.items():
        arguments[key] = named[value] if key == "folds" else value
    if change.get("responses"):
        arguments["responses"] = world.responses[1:]
    with pytest.raises(UserError, match=match):
        SOLVERS[solver](world.dual, **arguments)


@pytest.mark.parametrize("solver", SOLVERS)
def test_nan_is_named_and_never_silent(world: Any, solver: str) -> None:
    responses = world.responses.copy()
    responses[3, 17] = np.nan
    with pytest.raises(InvalidNumbers, match="target 17"):
        SOLVERS[solver](world.dual, responses, world.folds, [1.0])
    broken = Problem("dual", world.dual.train * np.nan, world.dual.test, world.dual.test_norms, 400)
    with pytest.raises(InvalidNumbers, match="design"):
        SOLVERS[solver](broken, world.responses, world.folds, [1.0])
    with pytest.raises(InvalidNumbers, match="design"):
        primal_problem(np.full((4, 2), np.inf), np.zeros((1, 2)))


def test_memory_mapped_and_tensor_responses(world: Any, tmp_path: Any) -> None:
    plain = fit_ridge(world.dual, world.responses, world.folds, ALPHAS.tolist())
    np.save(tmp_path / "y.npy", world.responses.astype(np.float64))
    mapped = np.load(tmp_path / "y.npy", mmap_mode="r", allow_pickle=False)
    for responses in (mapped, torch.as_tensor(world.responses)):
        again = fit_ridge(world.dual, responses, world.folds, ALPHAS.tolist(), target_block=512)
        assert again.test_predictions.tobytes() == plain.test_predictions.tobytes()


def test_himalayas_backend_comes_back_after_an_error() -> None:
    from himalaya.backend import get_backend

    before = get_backend()
    with pytest.raises(RuntimeError, match="boom"), himalaya_backend("torch"):
        raise RuntimeError("boom")
    assert get_backend() is before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_equals_cpu(world: Any) -> None:
    cpu = fit_ridge(world.dual, world.responses, world.folds, ALPHAS.tolist())
    gpu = fit_ridge(world.dual, world.responses, world.folds, ALPHAS.tolist(), device="cuda")
    np.testing.assert_array_equal(cpu.alpha_index, gpu.alpha_index)
    np.testing.assert_allclose(gpu.test_predictions, cpu.test_predictions, atol=1e-5)
