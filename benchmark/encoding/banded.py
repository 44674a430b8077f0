# SPDX-License-Identifier: Apache-2.0
"""Banded ridge: a weight per feature space and an alpha per target, by random search over the weights.

The search is himalaya's (Dupré la Tour et al. 2022): the same Dirichlet draws, the same update rule, the same scores.
Other than there all targets of all subjects share the factorisations of a draw, nothing is refitted during the search,
and the scores of every draw are kept, so that the best model without a band, or among any subset of draws, costs a
refit and no search.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.alpha_search import Search
from voxelboard.benchmark.encoding.designs import Device, Problem, SegmentedDesign, SegmentLike
from voxelboard.benchmark.encoding.operators import Precision, make_operators
from voxelboard.benchmark.encoding.reference import himalaya_backend
from voxelboard.benchmark.encoding.ridge import (
    DEFAULT_TARGET_BLOCK,
    all_statistics,
    check_arguments,
    sort_by_fold,
)
from voxelboard.benchmark.encoding.screening import Screening
from voxelboard.benchmark.encoding.selection import Selection, choose_alpha
from voxelboard.benchmark.encoding.streaming import Responses, TargetStream
from voxelboard.benchmark.errors import UserError

FloatArray = NDArray[np.float64]

# shares of the first of two bands, the ends included: the grid of the Delta-FVE simulations (statistics.md F1, F2)
_TWO_BAND_SHARES = (0.0, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99, 1.0)


@dataclass(frozen=True, eq=False)
class BandedProblem:
    """Gram matrices of several feature spaces on the same rows.

    Attributes
    ----------
    names : (n_bands,).
    grams : (n_bands, n_train, n_train) float64; crosses : (n_bands, n_test, n_train). On one device.
    """

    names: tuple[str, ...]
    grams: torch.Tensor
    crosses: torch.Tensor

    @property
    def n_train(self) -> int:
        """Training rows."""
        return int(self.grams.shape[1])

    def mixed(self, gamma: FloatArray) -> torch.Tensor:
        """sum_b gamma_b K_b, (n_train, n_train)."""
        return torch.einsum("b,bij->ij", torch.as_tensor(gamma, device=self.grams.device), self.grams)


def stack_bands(problems: Mapping[str, Problem], *, normalise: bool = True) -> BandedProblem:
    """One problem of several, which must have the same rows.

    ``normalise`` divides each Gram by its trace(K) / n_train: bands of any width then compete on equal terms, and
    alphas are in the units of :func:`fit_ridge`.
    """
    duals = [problem.to_dual() for problem in problems.values()]
    if not duals or len({(dual.n_train, dual.n_test) for dual in duals}) != 1:
        sizes = [(dual.n_train, dual.n_test) for dual in duals]
        raise UserError(f"bands {list(problems)} have (n_train, n_test) {sizes}; expected the same rows for all")
    units = [dual.mean_row_power if normalise else 1.0 for dual in duals]
    units = [unit if unit > 0 else 1.0 for unit in units]
    grams = torch.stack([dual.train.double() / unit for dual, unit in zip(duals, units, strict=True)])
    crosses = torch.stack([dual.test.double() / unit for dual, unit in zip(duals, units, strict=True)])
    return BandedProblem(tuple(problems), grams, crosses)


def banded_problem(
    designs: Mapping[str, SegmentedDesign],
    train: Sequence[SegmentLike],
    test: Sequence[SegmentLike],
    *,
    device: Device = None,
) -> BandedProblem:
    """The normalised Grams of several designs on one split of segments."""
    return stack_bands({name: d.problem(train, test, form="dual", device=device) for name, d in designs.items()})


def dirichlet_gammas(n_draws: int, n_bands: int, seed: int, concentration: Sequence[float] = (0.1, 1.0)) -> FloatArray:
    """(n_draws, n_bands) band weights on the simplex: himalaya's draws for this seed, the first one uniform."""
    from himalaya.kernel_ridge import generate_dirichlet_samples

    with himalaya_backend("numpy"):
        gammas = generate_dirichlet_samples(n_draws, n_bands, concentration=list(concentration), random_state=seed)
    gammas = np.asarray(gammas, dtype=np.float64)
    gammas[0] = 1 / n_bands
    return gammas


def two_band_gammas() -> FloatArray:
    """(9, 2) weights of two bands, from the second alone to the first alone."""
    shares = np.array(_TWO_BAND_SHARES)
    return np.stack([shares, 1 - shares], axis=1)


@dataclass(frozen=True, eq=False)
class BandedSearch:
    """Scores of every draw. Arrays are numpy, on the host.

    Attributes
    ----------
    gammas : (n_draws, n_bands); alpha_grid : (n_alphas,), in the units of the Grams.
    cv_scores : (n_draws, n_targets) float64 at the best alpha of the draw, as :attr:`RidgeFit.cv_scores`.
    alpha_index : (n_draws, n_targets) into ``alpha_grid``.
    notes : what was solved in another way than asked.
    """

    gammas: FloatArray
    alpha_grid: FloatArray
    cv_scores: FloatArray
    alpha_index: NDArray[np.intp]
    notes: tuple[str, ...] = ()

    def best(self, allowed: NDArray[np.bool_] | None = None) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Draw and alpha of each target, both (n_targets,) indices, among the ``allowed`` (n_draws,) draws.

        himalaya's rule: a later draw wins only if it is better by more than the rounding of float32.
        """
        draws = np.arange(len(self.gammas)) if allowed is None else np.flatnonzero(allowed)
        if len(draws) == 0:
            raise UserError("no draw is allowed", "add draws without the band, as two_band_gammas() does")
        draw = np.full(self.cv_scores.shape[1], draws[0])
        score = self.cv_scores[draws[0]].copy()
        for candidate in draws[1:]:
            better = self.cv_scores[candidate] > score + np.finfo(np.float32).eps
            draw[better] = candidate
            score[better] = self.cv_scores[candidate][better]
        return draw, self.alpha_index[draw, np.arange(len(draw))]


@dataclass(frozen=True, eq=False)
class BandedPredictions:
    """Predictions of the test rows by one model per target.

    Attributes
    ----------
    total : (n_test, n_targets) float32, the sum of ``bands`` (n_bands, n_test, n_targets).
    gammas : (n_targets, n_bands) weights used; alphas : (n_targets,).
    """

    total: NDArray[np.float32]
    bands: NDArray[np.float32]
    gammas: FloatArray
    alphas: FloatArray


def search_bands(
    problem: BandedProblem,
    responses: Responses,
    folds: NDArray[np.integer],
    gammas: FloatArray,
    alphas: Sequence[float],
    *,
    selection: Selection = "squared_error",
    target_block: int | None = None,
    precision: Precision = "float64",
    screening: Screening | None = None,
    search: Search = "every",
) -> BandedSearch:
    """Score every draw of band weights with its best alpha, for every target, by left-out folds.

    Parameters
    ----------
    problem : of :func:`banded_problem`.
    responses, folds, selection, target_block, precision, screening, search : as in :func:`fit_ridge`.
    gammas : (n_draws, n_bands) not negative, each with a positive sum.
    alphas : positive, in the units of the Grams (of mean_row_power 1 when normalised).

    Raises
    ------
    UserError
        for shapes that do not fit, negative weights, and as :func:`fit_ridge`.
    """
    draws = np.asarray(gammas, dtype=np.float64)
    if draws.ndim != 2 or draws.shape[1] != len(problem.names) or not np.isfinite(draws).all():
        raise UserError(f"gammas have shape {draws.shape}, expected (n_draws, n_bands={len(problem.names)}), finite")
    if (draws < 0).any() or (draws.sum(axis=1) <= 0).any():
        raise UserError("each draw of gammas needs weights that are not negative and not all zero")
    order, slices, _ = sort_by_fold(folds)
    none = problem.grams.new_zeros(0, problem.n_train)
    first = Problem("dual", problem.grams[0], none, none[:, 0], 0)
    check_arguments(first, responses, folds, alphas, screening, "target", search)
    where = problem.grams.device
    index = torch.as_tensor(order, device=where)
    ordered = BandedProblem(problem.names, problem.grams[:, index][:, :, index], problem.crosses)
    stream = TargetStream(responses, order, where, target_block or DEFAULT_TARGET_BLOCK)
    grid = np.asarray(alphas, dtype=np.float64)
    scores = np.empty((len(draws), stream.n_targets))
    chosen = np.empty(scores.shape, dtype=np.intp)
    notes: list[str] = []
    for i, gamma in enumerate(draws):
        mixed = Problem("dual", ordered.mixed(gamma), none, none[:, 0], 0)
        operators = make_operators(
            mixed,
            torch.arange(len(order), device=where),
            slices,
            grid.tolist(),
            centred=selection == "correlation",
            precision=precision,
        )
        found, _, remarks = all_statistics(operators, stream, grid, selection, screening, search, inner=False)
        choice = choose_alpha(found.c, found.q, found.y2, grid, selection, "target", len(order), found.scored)
        scores[i], chosen[i] = choice.scores, choice.index
        notes += [f"draw {i}: {remark}" for remark in remarks]
    return BandedSearch(draws, grid, scores, chosen, tuple(notes))


def refit_bands(
    problem: BandedProblem,
    responses: Responses,
    search: BandedSearch,
    *,
    allowed: NDArray[np.bool_] | None = None,
    without: str | None = None,
    target_block: int | None = None,
) -> BandedPredictions:
    """Predict the test rows with each target's best draw and alpha: one decomposition per draw in use.

    Parameters
    ----------
    allowed : (n_draws,) the draws to choose from; ``search.gammas[:, b] == 0`` gives the best model without band b.
    without : name of a band whose weight is set to 0 *after* the choice; alpha and the other weights stay.
    """
    if without is not None and without not in problem.names:
        raise UserError(f"unknown band {without!r}; allowed: {', '.join(problem.names)}")
    draw, alpha_index = search.best(allowed)
    alphas = search.alpha_grid[alpha_index]
    keep = np.array([name != without for name in problem.names], dtype=np.float64)
    used = search.gammas * keep
    where = problem.grams.device
    stream = TargetStream(responses, np.arange(problem.n_train), where, target_block or DEFAULT_TARGET_BLOCK)
    bands = np.zeros((len(problem.names), problem.crosses.shape[1], stream.n_targets), dtype=np.float32)
    for i in np.unique(draw):
        if not used[i].any():
            continue  # nothing is left of the model: it predicts 0
        values, vectors = torch.linalg.eigh(problem.mixed(used[i]))
        null = values <= values[-1] * len(values) * torch.finfo(torch.float64).eps
        values, vectors = values[~null], vectors[:, ~null]
        weights = torch.as_tensor(used[i], device=where)
        factors = (torch.einsum("b,btn->btn", weights, problem.crosses) @ vectors).float()
        rotation = vectors.T.float().contiguous()
        for targets, block in stream.some_targets(np.flatnonzero(draw == i)):
            alpha = torch.ones(block.shape[1], dtype=torch.float64, device=where)
            alpha[: len(targets)] = torch.as_tensor(alphas[targets], device=where)
            dual = (rotation @ block) / (values[:, None] + alpha).float()
            bands[:, :, targets] = (factors @ dual)[..., : len(targets)].cpu().numpy()
    return BandedPredictions(bands.sum(axis=0), bands, used[draw], alphas)
