# SPDX-License-Identifier: Apache-2.0
"""Choosing alpha from the sufficient statistics of left-out folds."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import UserError

Selection = Literal["squared_error", "correlation"]
Scope: TypeAlias = Literal["target", "global"] | NDArray[np.str_] | NDArray[np.intp]
FloatArray = NDArray[np.float64]


class InnerStatistics(NamedTuple):
    """Sums over the rows of each left-out fold, (n_folds, n_targets) float64 each.

    The prediction ``p`` of a fold is made at the alpha that the *other* folds choose, so the statistics carry no
    optimism from the choice of alpha. With ``selection="correlation"`` p and y are centred within the fold.
    """

    c: FloatArray  # sum p * y
    q: FloatArray  # sum p ** 2
    y2: FloatArray  # sum y ** 2
    sse: FloatArray  # sum (y - p) ** 2


@dataclass(frozen=True, eq=False)
class AlphaChoice:
    """Indices into the alpha grid: for all folds (n_targets,), without each fold (n_folds, n_targets)."""

    index: NDArray[np.intp]
    held_out: NDArray[np.intp]
    scores: FloatArray  # (n_targets,) at the chosen alpha: mean fold correlation, or minus the mean squared error


def choose_alpha(
    c: NDArray[np.floating],
    q: NDArray[np.floating],
    y2: FloatArray,
    alphas: FloatArray,
    selection: Selection,
    scope: Scope,
    n_rows: int,
    scored: NDArray[np.bool_] | None = None,
) -> AlphaChoice:
    """The alpha of each target, and the one it would have without each fold.

    Squared errors are summed over folds; correlations are averaged over folds, each with weight one, as himalaya does
    (a constant prediction counts as 0). With labels or "global" they are summed over the targets that share an
    alpha. Among equal scores the largest alpha wins.

    Parameters
    ----------
    c, q : (n_alphas, n_folds, n_targets); y2 : (n_folds, n_targets), see :class:`InnerStatistics`.
    scored : None, or (n_alphas, n_targets) the pairs to choose from.
    """
    gains = fold_gains(c, q, y2, selection)
    total = _of_scored(gains.sum(axis=1), scored)
    groups = target_groups(scope, gains.shape[2])
    index = _best(total, alphas, groups)
    scores = np.take_along_axis(total, index[None], axis=0)[0]
    scores = scores / (gains.shape[1] if selection == "correlation" else n_rows)
    return AlphaChoice(index, held_out_alphas(gains, alphas, scope, scored), scores)


def held_out_alphas(
    gains: FloatArray, alphas: FloatArray, scope: Scope, scored: NDArray[np.bool_] | None = None
) -> NDArray[np.intp]:
    """(n_folds, n_targets) the alpha that the other folds choose; ``gains`` as from :func:`fold_gains`."""
    groups = target_groups(scope, gains.shape[2])
    total = gains.sum(axis=1)
    folds = range(gains.shape[1])
    return np.stack([_best(_of_scored(total - gains[:, f], scored), alphas, groups) for f in folds])


def _of_scored(total: FloatArray, scored: NDArray[np.bool_] | None) -> FloatArray:
    """Totals (n_alphas, n_targets) that nothing but scored pairs can win."""
    return total if scored is None else np.where(scored, total, -np.inf)


def fold_gains(c: NDArray[np.floating], q: NDArray[np.floating], y2: FloatArray, selection: Selection) -> FloatArray:
    """(n_alphas, n_folds, n_targets) float64 of what is maximised, summed over folds."""
    if selection == "squared_error":
        gains: FloatArray = 2.0 * c.astype(np.float64) - q.astype(np.float64) - y2
        return gains
    if selection == "correlation":
        return correlation(c.astype(np.float64), q.astype(np.float64), y2)
    raise UserError(f"unknown selection {selection!r}; allowed: squared_error, correlation")


def correlation(c: FloatArray, q: FloatArray, y2: FloatArray) -> FloatArray:
    """C / sqrt(q * y2), 0 where either is constant."""
    power = q * y2
    return np.divide(c, np.sqrt(power), out=np.zeros_like(c), where=power > 0)


def inner_statistics(
    c: NDArray[np.floating], q: NDArray[np.floating], y2: FloatArray, held_out: NDArray[np.intp]
) -> InnerStatistics:
    """Statistics of each fold at the alpha chosen without it."""
    picked = [np.take_along_axis(x, held_out[None], axis=0)[0].astype(np.float64) for x in (c, q)]
    return InnerStatistics(picked[0], picked[1], y2, y2 - 2.0 * picked[0] + picked[1])


def target_groups(scope: Scope, n_targets: int) -> list[NDArray[np.intp]] | None:
    """Targets that share an alpha; None when each has its own."""
    if isinstance(scope, str):
        if scope == "target":
            return None
        if scope == "global":
            return [np.arange(n_targets)]
        raise UserError(f"unknown scope {scope!r}; allowed: target, global, or one label per target")
    labels = np.asarray(scope)
    if labels.shape != (n_targets,):
        raise UserError(f"scope labels have shape {labels.shape}, expected ({n_targets},)")
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]


def _best(total: FloatArray, alphas: FloatArray, groups: list[NDArray[np.intp]] | None) -> NDArray[np.intp]:
    """(n_targets,) index of the largest total (n_alphas, n_targets)."""
    order = np.argsort(-alphas, kind="stable")  # largest first: argmax then resolves ties to the larger alpha
    if groups is None:
        return np.asarray(order[total[order].argmax(axis=0)], dtype=np.intp)
    best = np.empty(total.shape[1], dtype=np.intp)
    for members in groups:
        # sorted before summing: the same bytes in any order of subjects
        best[members] = order[np.sort(total[:, members], axis=1).sum(axis=1)[order].argmax()]
    return best
