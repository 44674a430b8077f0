# SPDX-License-Identifier: Apache-2.0
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from voxelboard.benchmark.encoding.designs import Problem, primal_problem
from voxelboard.benchmark.encoding.fractional import alphas_of_fractions, decompose, fit_fractional
from voxelboard.benchmark.errors import InvalidNumbers, UserError

FRACTIONS = (0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1.0)


def weights(X: Any, y: Any, alpha: float) -> Any:
    if alpha == 0:
        return np.linalg.pinv(X) @ y
    return np.linalg.solve(X.T @ X + alpha * np.eye(X.shape[1]), X.T @ y)


def alpha_by_root_finding(X: Any, y: Any, fraction: float) -> float:
    """The definition: the ridge weights have this share of the length of the least-squares weights."""
    full = np.linalg.norm(weights(X, y, 0))

    def gap(log_alpha: float) -> float:
        return float(np.linalg.norm(weights(X, y, 10.0**log_alpha)) / full - fraction)

    return 0.0 if fraction == 1 else float(10 ** brentq(gap, -12, 12, xtol=1e-12))


@pytest.mark.parametrize("shape", [(40, 12), (30, 70)])
@pytest.mark.parametrize("form", ["primal", "dual"])
def test_alphas_equal_root_finding_on_the_definition(shape: tuple[int, int], form: str) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal(shape) * np.arange(1, shape[1] + 1) ** -1.0
    Y = rng.standard_normal((shape[0], 5))
    problem = primal_problem(X, X[:2])
    spectrum = decompose(problem if form == "primal" else problem.to_dual())
    b = spectrum.left.T @ torch.as_tensor(Y)
    found = alphas_of_fractions(spectrum.values, b, torch.tensor(FRACTIONS, dtype=torch.float64)).numpy()
    for i, fraction in enumerate(FRACTIONS):
        expected = [alpha_by_root_finding(X, Y[:, v], fraction) for v in range(5)]
        np.testing.assert_allclose(found[i], expected, rtol=1e-7)


def test_condition_numbers_of_a_million_and_tiny_fractions() -> None:
    rng = np.random.default_rng(1)
    values = torch.logspace(-6, 6, 200, dtype=torch.float64)
    b = torch.as_tensor(rng.standard_normal((200, 300)))
    fractions = torch.tensor([1e-5, 1e-3, 0.5, 0.999], dtype=torch.float64)
    alphas = alphas_of_fractions(values, b, fractions)
    lengths = ((values[:, None, None] * b[:, None] ** 2) / (values[:, None, None] + alphas) ** 2).sum(0)
    shares = (lengths / (b**2 / values[:, None]).sum(0)).sqrt()
    assert float((shares / fractions[:, None] - 1).abs().max()) < 1e-8


@pytest.mark.parametrize("selection", ["squared_error", "correlation"])
def test_fit_equals_a_loop_over_folds_fractions_and_targets(narrow: Any, selection: Any) -> None:
    X, Y, folds = narrow.X, narrow.responses[:, ::50].astype(np.float64), narrow.folds
    gains = np.zeros((len(FRACTIONS), 5, Y.shape[1]))
    for f in range(5):
        rows = folds == f
        for v in range(Y.shape[1]):
            for i, fraction in enumerate(FRACTIONS):
                alpha = alpha_by_root_finding(X[~rows], Y[~rows, v], fraction)
                p = X[rows] @ weights(X[~rows], Y[~rows, v], alpha)
                y = Y[rows, v]
                gains[i, f, v] = np.corrcoef(p, y)[0, 1] if selection == "correlation" else -((p - y) ** 2).sum()
    best = gains.sum(1).argmax(0)
    for problem in (narrow.primal, narrow.dual):
        fit = fit_fractional(problem, Y, folds, FRACTIONS, selection=selection)
        np.testing.assert_array_equal(fit.fraction_index, best)
        for v in range(Y.shape[1]):
            alpha = alpha_by_root_finding(X, Y[:, v], FRACTIONS[best[v]])
            assert fit.alphas[v] == pytest.approx(alpha, rel=1e-4)  # responses are read as float32
            np.testing.assert_allclose(
                fit.test_predictions[:, v], narrow.X_test @ weights(X, Y[:, v], alpha), atol=1e-4
            )


def test_equals_fracridge_within_its_interpolation(narrow: Any) -> None:
    fracridge = pytest.importorskip("fracridge", reason="pip install fracridge").fracridge
    Y = narrow.responses[:, ::30].astype(np.float64)
    _, alphas = fracridge(narrow.X, Y, np.array([0.2, 0.5, 0.8]), jit=False)  # with jit it warns where numba is absent
    spectrum = decompose(narrow.primal)
    b = spectrum.left.T @ torch.as_tensor(Y)
    ours = alphas_of_fractions(spectrum.values, b, torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64))
    np.testing.assert_allclose(ours.numpy(), alphas, rtol=0.05)


def test_silent_targets_and_empty_designs_predict_zero(narrow: Any) -> None:
    Y = narrow.responses[:, :4].copy()
    Y[:, 2] = 0
    fit = fit_fractional(narrow.primal, Y, narrow.folds, FRACTIONS)
    assert np.abs(fit.test_predictions[:, 2]).max() == 0
    assert fit.fractions[2] == min(FRACTIONS)
    empty = primal_problem(np.zeros((20, 0)), np.zeros((3, 0)))
    assert np.abs(fit_fractional(empty, np.ones((20, 2)), np.arange(20) // 5, [0.5]).test_predictions).max() == 0


def test_same_bytes_in_any_order_of_targets(narrow: Any) -> None:
    swap = np.r_[130:300, 0:130]
    a, b = (fit_fractional(narrow.primal, narrow.responses[:, s], narrow.folds, FRACTIONS) for s in (slice(None), swap))
    assert np.ascontiguousarray(a.fraction_index[swap]).tobytes() == b.fraction_index.tobytes()
    np.testing.assert_allclose(a.test_predictions[:, swap], b.test_predictions, atol=1e-5)


@pytest.mark.parametrize("fractions", [[], [0.0], [1.1], [-0.5], [np.nan]])
def test_impossible_fractions_are_refused(narrow: Any, fractions: list[float]) -> None:
    with pytest.raises(UserError, match="fractions") as caught:
        fit_fractional(narrow.primal, narrow.responses, narrow.folds, fractions)
    assert "above 0, up to 1" in caught.value.hint


def test_the_published_grid_is_refused_for_its_last_fraction(narrow: Any) -> None:
    with pytest.raises(UserError, match=r"of them \[1.05\] outside"):
        fit_fractional(narrow.primal, narrow.responses, narrow.folds, np.linspace(0.05, 1.05, 20).round(2).tolist())


def test_overflow_is_named(narrow: Any) -> None:
    huge = Problem("primal", narrow.primal.train, narrow.primal.test * 1e300, narrow.primal.test_norms, 48)
    with pytest.raises(InvalidNumbers, match="not finite"):
        fit_fractional(huge, narrow.responses, narrow.folds, [0.5])
