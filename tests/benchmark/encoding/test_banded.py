# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from himalaya.kernel_ridge import generate_dirichlet_samples, solve_multiple_kernel_ridge_random_search
from himalaya.scoring import correlation_score, l2_neg_loss
from sklearn.linear_model import Ridge
from sklearn.model_selection import PredefinedSplit

from voxelboard.benchmark.encoding.banded import (
    BandedProblem,
    dirichlet_gammas,
    refit_bands,
    search_bands,
    stack_bands,
    two_band_gammas,
)
from voxelboard.benchmark.encoding.designs import primal_problem
from voxelboard.benchmark.encoding.reference import himalaya_backend
from voxelboard.benchmark.encoding.ridge import fit_ridge
from voxelboard.benchmark.errors import UserError

ALPHAS = np.logspace(-3, 3, 7)
N, N_TEST, N_TARGETS = 200, 40, 60


class Bands:
    """Three bands; targets are driven by the first, the second, both, or none."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.X = [rng.standard_normal((N + N_TEST, p)) for p in (30, 80, 50)]
        self.Y = 2.0 * rng.standard_normal((N, N_TARGETS))
        for v in range(N_TARGETS):
            for b in {0: [0], 1: [1], 2: [0, 1], 3: []}[v % 4]:
                self.Y[:, v] += self.X[b][:N] @ rng.standard_normal(self.X[b].shape[1]) / 4
        self.folds = np.repeat(np.arange(5), N // 5)
        problems = {name: primal_problem(x[:N], x[N:]) for name, x in zip("abc", self.X, strict=True)}
        self.problem = stack_bands(problems)


@pytest.fixture(scope="module")
def bands() -> Bands:
    return Bands()


def test_draws_are_himalayas() -> None:
    with himalaya_backend("numpy"):
        expected = np.array(generate_dirichlet_samples(11, 3, concentration=[0.1, 1.0], random_state=4))
    expected[0] = 1 / 3
    np.testing.assert_array_equal(dirichlet_gammas(11, 3, seed=4), expected)


@pytest.mark.parametrize(("selection", "score"), [("correlation", correlation_score), ("squared_error", l2_neg_loss)])
def test_search_and_refit_equal_himalaya(bands: Bands, selection: Any, score: Any) -> None:
    gammas = dirichlet_gammas(12, 3, seed=1)
    search = search_bands(bands.problem, bands.Y, bands.folds, gammas, ALPHAS.tolist(), selection=selection)
    found = refit_bands(bands.problem, bands.Y, search)
    with himalaya_backend():
        _, dual, scores, alphas = solve_multiple_kernel_ridge_random_search(
            bands.problem.grams,
            torch.as_tensor(bands.Y.astype(np.float32)).double(),
            n_iter=12,
            random_state=1,
            alphas=torch.as_tensor(ALPHAS),
            score_func=score,
            cv=PredefinedSplit(bands.folds),
            return_weights="dual",
            progress_bar=False,
            return_alphas=True,
        )
    assert np.abs(search.cv_scores - scores.numpy()).max() < 1e-6 * max(1.0, float(scores.abs().max()))
    np.testing.assert_array_equal(found.alphas, alphas.numpy())
    weighted = torch.as_tensor(found.gammas / found.alphas[:, None]).T
    expected = torch.einsum("btn,nv,bv->tv", bands.problem.crosses, dual, weighted).numpy()
    np.testing.assert_allclose(found.total, expected, atol=1e-5)


def test_refit_is_ridge_on_weighted_bands(bands: Bands) -> None:
    gammas = dirichlet_gammas(8, 3, seed=2)
    search = search_bands(bands.problem, bands.Y, bands.folds, gammas, ALPHAS.tolist())
    found = refit_bands(bands.problem, bands.Y, search)
    units = [np.sqrt((x[:N] ** 2).sum() / N) for x in bands.X]
    for v in range(0, N_TARGETS, 7):
        weighted = [np.sqrt(g) * x / u for g, x, u in zip(found.gammas[v], bands.X, units, strict=True)]
        X = np.concatenate(weighted, axis=1)
        oracle = Ridge(alpha=found.alphas[v], fit_intercept=False).fit(X[:N], bands.Y[:, v])
        np.testing.assert_allclose(found.total[:, v], oracle.predict(X[N:]), atol=1e-5)
        ends = np.cumsum([0, *(x.shape[1] for x in bands.X)])
        for b in range(3):
            part = weighted[b][N:] @ oracle.coef_[ends[b] : ends[b + 1]]
            np.testing.assert_allclose(found.bands[b][:, v], part, atol=1e-5)


def test_bands_share_their_weight_by_what_drives_a_target(bands: Bands) -> None:
    search = search_bands(bands.problem, bands.Y, bands.folds, dirichlet_gammas(24, 3, seed=0), ALPHAS.tolist())
    found = refit_bands(bands.problem, bands.Y, search)
    kind = np.arange(N_TARGETS) % 4
    assert found.gammas[kind == 0].mean(0).argmax() == 0
    assert found.gammas[kind == 1].mean(0).argmax() == 1
    assert found.gammas[kind < 3, 2].mean() < 0.2


def test_one_band_is_ridge(bands: Bands) -> None:
    problem = primal_problem(bands.X[1][:N], bands.X[1][N:])
    alone = stack_bands({"b": problem})
    search = search_bands(alone, bands.Y, bands.folds, np.ones((1, 1)), ALPHAS.tolist())
    expected = fit_ridge(problem, bands.Y, bands.folds, ALPHAS.tolist())
    np.testing.assert_array_equal(search.alpha_index[0], expected.alpha_index)
    np.testing.assert_allclose(search.cv_scores[0], expected.cv_scores, rtol=1e-6)
    np.testing.assert_allclose(refit_bands(alone, bands.Y, search).total, expected.test_predictions, atol=1e-5)


def test_model_without_a_band_costs_no_search(bands: Bands) -> None:
    two = BandedProblem(("model", "confounds"), bands.problem.grams[:2], bands.problem.crosses[:2])
    search = search_bands(two, bands.Y, bands.folds, two_band_gammas(), ALPHAS.tolist())
    reduced = refit_bands(two, bands.Y, search, allowed=search.gammas[:, 0] == 0)
    confounds = fit_ridge(primal_problem(bands.X[1][:N], bands.X[1][N:]), bands.Y, bands.folds, ALPHAS.tolist())
    np.testing.assert_allclose(reduced.total, confounds.test_predictions, atol=1e-5)
    assert np.abs(reduced.bands[0]).max() == 0
    np.testing.assert_array_equal(reduced.alphas, ALPHAS[confounds.alpha_index])


def test_leaving_a_band_out_keeps_the_other_weights_and_alpha(bands: Bands) -> None:
    search = search_bands(bands.problem, bands.Y, bands.folds, dirichlet_gammas(6, 3, seed=3), ALPHAS.tolist())
    full, left = (refit_bands(bands.problem, bands.Y, search, without=w) for w in (None, "b"))
    np.testing.assert_array_equal(full.alphas, left.alphas)
    np.testing.assert_array_equal(left.gammas, full.gammas * [1, 0, 1])
    v = 5
    weights = left.gammas[v]
    gram = np.einsum("b,bij->ij", weights, bands.problem.grams.numpy())
    cross = np.einsum("b,bij->ij", weights, bands.problem.crosses.numpy())
    expected = cross @ np.linalg.solve(gram + left.alphas[v] * np.eye(N), bands.Y[:, v])
    np.testing.assert_allclose(left.total[:, v], expected, atol=1e-5)


def test_screening_finds_the_same_models(bands: Bands) -> None:
    gammas = dirichlet_gammas(5, 3, seed=5)
    plain = search_bands(bands.problem, bands.Y, bands.folds, gammas, ALPHAS.tolist())
    screened = search_bands(bands.problem, bands.Y, bands.folds, gammas, ALPHAS.tolist(), screening="bfloat16")
    np.testing.assert_array_equal(plain.alpha_index, screened.alpha_index)
    assert plain.cv_scores.tobytes() == screened.cv_scores.tobytes()


def test_a_band_of_zeros_and_the_ends_of_the_simplex_are_harmless(bands: Bands) -> None:
    dead = replace(bands.problem, grams=bands.problem.grams.clone(), crosses=bands.problem.crosses.clone())
    dead.grams[2] = 0
    dead.crosses[2] = 0
    search = search_bands(dead, bands.Y, bands.folds, np.eye(3), ALPHAS.tolist())
    found = refit_bands(dead, bands.Y, search, allowed=np.array([False, False, True]))
    assert np.isfinite(search.cv_scores).all()
    assert np.abs(found.total).max() == 0


@pytest.mark.parametrize("gammas", [np.ones((2, 2)), np.zeros((1, 3)), -np.ones((1, 3)), np.full((1, 3), np.nan)])
def test_impossible_gammas_are_refused(bands: Bands, gammas: Any) -> None:
    with pytest.raises(UserError, match="gammas"):
        search_bands(bands.problem, bands.Y, bands.folds, gammas, ALPHAS.tolist())


def test_unknown_bands_rows_and_draws_are_refused(bands: Bands) -> None:
    search = search_bands(bands.problem, bands.Y, bands.folds, np.eye(3), [1.0])
    with pytest.raises(UserError, match="unknown band"):
        refit_bands(bands.problem, bands.Y, search, without="z")
    with pytest.raises(UserError, match="no draw"):
        search.best(np.zeros(3, dtype=bool))
    with pytest.raises(UserError, match="same rows"):
        stack_bands(
            {
                "a": primal_problem(np.ones((4, 1)), np.ones((1, 1))),
                "b": primal_problem(np.ones((5, 1)), np.ones((1, 1))),
            }
        )
