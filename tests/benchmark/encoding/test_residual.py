# SPDX-License-Identifier: Apache-2.0
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from voxelboard.benchmark.encoding.designs import Problem, SegmentedDesign, SegmentRows, primal_problem
from voxelboard.benchmark.encoding.residual import (
    Residualised,
    confound_basis,
    project_out,
    residualise,
    sd_ratio,
)
from voxelboard.benchmark.encoding.ridge import fit_ridge
from voxelboard.benchmark.errors import InvalidNumbers, UserError

LAMBDAS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


class Confounded:
    """A model whose features are a mixture of confounds and of something of their own."""

    def __init__(self, share: float = 0.7, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        lengths = [90, 80, 100, 95, 85, 90]
        confounds = {i: rng.standard_normal((n, 5)) for i, n in enumerate(lengths)}
        self.own = {i: rng.standard_normal((n, 8)) for i, n in enumerate(lengths)}
        mix = rng.standard_normal((5, 60)), rng.standard_normal((8, 60))
        model = {i: share * confounds[i] @ mix[0] + (1 - share) * self.own[i] @ mix[1] for i in confounds}
        segments = [SegmentRows(i, 0, n) for i, n in enumerate(lengths)]
        self.train, self.test = segments[:5], segments[5:]
        self.design = SegmentedDesign(model, (1, 2, 3), 5, 2.0, 120.0)
        self.confound_design = SegmentedDesign(confounds, (1, 2, 3), 5, 2.0, 120.0)
        scales = self.confound_design.inverse_scales(self.train)
        self.C, self.C_test = (self.confound_design.rows(s, scales) for s in (self.train, self.test))
        self.folds = np.repeat(np.arange(5), [n - 10 for n in lengths[:5]])

    def problem(self, form: Any) -> Problem:
        return self.design.problem(self.train, self.test, form=form)

    def residualised(self, form: Any) -> Residualised:
        return residualise(self.problem(form), self.C, self.C_test, self.folds, LAMBDAS)


@pytest.fixture(scope="module")
def confounded() -> Confounded:
    return Confounded()


def by_scikit_learn(w: Confounded) -> tuple[float, NDArray[Any], NDArray[Any]]:
    """The definition of statistics.md 2.3 with scikit-learn's ridge: chosen lambda, residuals of train and test."""
    primal = w.problem("primal")
    M, M_test = primal.train.numpy(), primal.test.numpy()
    unit = (w.C**2).sum() / w.C.shape[1]
    residuals = []
    for value in LAMBDAS:
        residual = M.copy()
        for f in np.unique(w.folds):
            rows = w.folds == f
            fit = Ridge(alpha=value * unit, fit_intercept=False).fit(w.C[~rows], M[~rows])
            residual[rows] -= fit.predict(w.C[rows])
        residuals.append(residual)
    best = int(np.argmin([(r**2).sum() for r in residuals]))
    whole = Ridge(alpha=LAMBDAS[best] * unit, fit_intercept=False).fit(w.C, M)
    return LAMBDAS[best], residuals[best], M_test - whole.predict(w.C_test)


def test_equals_the_definition_by_scikit_learn(confounded: Confounded) -> None:
    value, train, test = by_scikit_learn(confounded)
    found = confounded.residualised("primal")
    assert found.relative_lambda == value
    np.testing.assert_allclose(found.problem.train.numpy(), train, atol=1e-9)
    np.testing.assert_allclose(found.problem.test.numpy(), test, atol=1e-9)
    assert found.sd_ratio == pytest.approx(np.sqrt((test**2).sum(1).mean() / (train**2).sum(1).mean()))
    power = float((confounded.problem("primal").train ** 2).sum())
    assert found.cross_fitted_error.min() == pytest.approx((train**2).sum() / power)


def test_both_forms_give_the_same_problem_and_the_same_predictions(confounded: Confounded) -> None:
    primal, dual = confounded.residualised("primal"), confounded.residualised("dual")
    assert primal.relative_lambda == dual.relative_lambda
    np.testing.assert_allclose(primal.cross_fitted_error, dual.cross_fitted_error, rtol=1e-9)
    expected = primal.problem.to_dual()
    size = float(expected.train.abs().max())
    for name in ("train", "test", "test_norms"):
        assert float((getattr(dual.problem, name) - getattr(expected, name)).abs().max()) < 1e-11 * size
    assert primal.sd_ratio == pytest.approx(dual.sd_ratio, rel=1e-9)
    Y = np.random.default_rng(0).standard_normal((len(confounded.folds), 40)).astype(np.float32)
    a, b = (fit_ridge(r.problem, Y, confounded.folds, [0.1, 1.0, 10.0]) for r in (primal, dual))
    np.testing.assert_array_equal(a.alpha_index, b.alpha_index)
    np.testing.assert_allclose(a.test_predictions, b.test_predictions, atol=1e-5)


def test_model_of_confounds_alone_keeps_next_to_nothing_and_is_not_rescaled() -> None:
    pure = Confounded(share=1.0)
    found = pure.residualised("dual")
    before = pure.problem("dual").mean_row_power
    assert found.relative_lambda == LAMBDAS[0]
    assert found.problem.mean_row_power < 1e-4 * before
    rich = Confounded(share=0.5).residualised("dual")
    assert rich.problem.mean_row_power > 0.1 * before


def test_residual_predictions_do_not_see_what_confounds_explain(confounded: Confounded) -> None:
    rng = np.random.default_rng(1)
    weights = rng.standard_normal((confounded.C.shape[1], 200))
    signal, truth = confounded.C @ weights, confounded.C_test @ weights
    Y = signal + 3 * signal.std() * rng.standard_normal(signal.shape)

    def pooled_r(problem: Problem, basis: NDArray[np.float64]) -> float:
        alphas = np.logspace(-3, 4, 10).tolist()
        P = project_out(fit_ridge(problem, Y, confounded.folds, alphas).test_predictions, basis)
        return float((P * truth).sum() / np.sqrt((P**2).sum() * (truth**2).sum() + 1e-12))

    basis = confound_basis(confounded.C_test, [len(truth)], 0.2)
    none = basis[:, :0]
    residual = confounded.residualised("dual").problem
    assert pooled_r(confounded.problem("dual"), none) > 0.7
    # the penalty leaves a share of each confound in the residual, and a ridge finds it where features have no noise
    # (0.40 here): that is what the projection of the test side is for
    assert 0.1 < pooled_r(residual, none) < 0.5
    assert abs(pooled_r(residual, basis)) < 0.12


def test_extrapolating_confounds_raise_the_sd_ratio(confounded: Confounded) -> None:
    plain = confounded.residualised("dual")
    assert 0.9 < plain.sd_ratio < 1.15
    wild = residualise(confounded.problem("dual"), confounded.C, 6 * confounded.C_test, confounded.folds, LAMBDAS)
    assert wild.sd_ratio > 4


def test_sd_ratio_without_rows_or_power_is_nan() -> None:
    assert np.isnan(sd_ratio(primal_problem(np.ones((4, 2)), np.ones((0, 2)))))
    assert np.isnan(sd_ratio(primal_problem(np.zeros((4, 2)), np.ones((3, 2)))))


def test_residualising_a_model_without_columns_or_by_zero_confounds(confounded: Confounded) -> None:
    n, n_test = len(confounded.folds), len(confounded.C_test)
    empty = primal_problem(np.zeros((n, 0)), np.zeros((n_test, 0)))
    assert residualise(empty, confounded.C, confounded.C_test, confounded.folds, LAMBDAS).problem.n_columns == 0
    nothing = residualise(
        confounded.problem("dual"), 0 * confounded.C, 0 * confounded.C_test, confounded.folds, LAMBDAS
    )
    torch.testing.assert_close(nothing.problem.train, confounded.problem("dual").train, rtol=1e-12, atol=1e-12)


def test_test_basis_is_bounded_orthonormal_and_spans_slow_confounds() -> None:
    rng = np.random.default_rng(0)
    confounds = rng.standard_normal((120, 4)).cumsum(axis=0)
    basis = confound_basis(confounds, [70, 50], 0.2)
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-12)
    assert basis.shape == (120, 8)
    left = confounds - basis @ (basis.T @ confounds)
    assert np.abs(left).max() < 1e-9 * np.abs(confounds).max()
    slopes = np.concatenate([np.gradient(confounds[:70], axis=0), np.gradient(confounds[70:], axis=0)])
    assert np.abs(slopes - basis @ (basis.T @ slopes)).max() < 1e-9 * np.abs(slopes).max()
    assert confound_basis(rng.standard_normal((120, 60)), [120], 0.2).shape == (120, 24)
    assert confound_basis(np.zeros((120, 3)), [120], 0.2).shape == (120, 0)


def test_projection_takes_the_confounds_out_and_leaves_the_rest() -> None:
    rng = np.random.default_rng(0)
    confounds = rng.standard_normal((100, 3))
    basis = confound_basis(confounds, [100], 0.2)
    P = rng.standard_normal((100, 5000)).astype(np.float32)
    found = project_out(P, basis)
    assert found.dtype == np.float32
    assert np.abs(basis.T @ found).max() < 1e-5
    expected = P - basis @ np.linalg.lstsq(basis, P, rcond=None)[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(project_out(found, basis), found, atol=1e-6)


def test_wrong_shapes_and_values_are_refused(confounded: Confounded) -> None:
    problem = confounded.problem("dual")
    C, T, folds = confounded.C, confounded.C_test, confounded.folds
    for train, test, groups, lambdas in (
        (C[1:], T, folds, LAMBDAS),
        (C, T[:, 1:], folds, LAMBDAS),
        (C, T, np.zeros_like(folds), LAMBDAS),
        (C, T, folds, (0.0,)),
        (C, T, folds, ()),
    ):
        with pytest.raises(UserError):
            residualise(problem, train, test, groups, lambdas)
    with pytest.raises(InvalidNumbers):
        residualise(problem, C * np.nan, T, folds, LAMBDAS)
    with pytest.raises(UserError, match="rows"):
        confound_basis(T, [3], 0.2)
    with pytest.raises(UserError, match="max_share"):
        confound_basis(T, [len(T)], 1.2)
    with pytest.raises(UserError, match="rows of predictions"):
        project_out(np.zeros((3, 2)), np.zeros((4, 1)))
