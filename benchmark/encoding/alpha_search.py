# SPDX-License-Identifier: Apache-2.0
"""The alpha of each target without an exact score of every alpha: score roughly, then exactly wherever it could matter.

Rough scores come cheaply in two ways, alone or together: products in low precision (``screening``), and scores of some
alphas alone ("nodes", less than a decade apart), because the sums of a left-out fold are smooth in log alpha. From rough
scores the whole curves of a target are predicted, by weights that are fitted to targets which are scored exactly at every
alpha. On others of those targets the error is measured, never assumed. Every pair of alpha and target that could still
be the best of any choice is then scored exactly, by the products of a full search: what is chosen, and every number that
is told of it, has the bytes of the full search.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from voxelboard.benchmark.encoding.selection import FloatArray, Selection, fold_gains
from voxelboard.benchmark.encoding.streaming import FoldStatistics

Search = Literal["every", "thinned"]

# Farther apart, more pairs are contested than nodes are saved (4 to 11 nodes of 20 alphas over 5 decades were tried).
_NODE_DECADES = 1.15
# half as much again as the largest error seen, because it was seen on a part of the targets
_SAFETY = 1.5
# targets that are scored at every alpha: one product wide. Fewer than twice as many are not worth a search.
_N_SAMPLED = 576
# numbers in a table of gains of every choice: so many targets' curves are predicted at a time
_TABLE = 2**23
# what is still called a power, and the log of float32's largest number
_TINY, _LOG_LARGEST = 1e-300, 88.0


class Sums(Protocol):
    """Sums of left-out folds, as many as are asked for, written into tables whose axes are those of FoldStatistics."""

    n_folds: int
    n_targets: int
    is_rough: bool  # whether those of everywhere have a low precision

    def everywhere(self, alphas: Sequence[int], found: FoldStatistics) -> None:
        """All targets at these alphas, which are the rows of ``found``."""
        ...

    def at(self, alpha: int, targets: NDArray[np.intp], found: FoldStatistics) -> None:
        """Some targets at one alpha, exactly, into its row of ``found`` of all alphas."""
        ...


def every_choice(n_folds: int) -> FloatArray:
    """(1 + n_folds, n_folds) the folds whose gains each choice of alpha sums: all of them, and all but one."""
    return np.concatenate([np.ones((1, n_folds)), 1 - np.eye(n_folds)])


def node_indices(grid: FloatArray) -> NDArray[np.intp]:
    """The alphas to score: the ends, and between them so many that gaps stay small where the grid allows it."""
    order = np.argsort(grid, kind="stable")
    decades = np.log10(grid[order])
    kept = [0]
    for i in range(1, len(order) - 1):
        if decades[i + 1] - decades[kept[-1]] > _NODE_DECADES:
            kept.append(i)
    return np.unique(order[[*kept, len(order) - 1]])


def search_alphas(
    sums: Sums, grid: FloatArray, selection: Selection, choices: FloatArray, *, search: Search
) -> FoldStatistics:
    """Sums of every alpha, fold and target: exact where a pair is contested, rough or predicted elsewhere.

    Parameters
    ----------
    grid : (n_alphas,) absolute.
    choices : (n_choices, n_folds) weights of the folds' gains in each choice of alpha that will be made.
    """
    everything = np.arange(len(grid))
    nodes = node_indices(grid) if search == "thinned" else everything
    found = _zeros(len(grid), sums)
    few = sums.n_targets < 2 * _N_SAMPLED
    if few or (len(nodes) == len(grid) and not sums.is_rough):
        sums.everywhere(everything.tolist(), found)
        for a in everything.tolist() if sums.is_rough else []:
            sums.at(a, np.arange(sums.n_targets), found)
        return found
    known = _zeros(len(nodes), sums)
    sums.everywhere(nodes.tolist(), known)
    sampled = np.linspace(0, sums.n_targets - 1, _N_SAMPLED).astype(np.intp)
    for a in everything.tolist():
        sums.at(a, sampled, found)
    truth, seen = _taken(found, sampled), _taken(known, sampled)
    curves = _Curves.fit(
        np.log(grid), nodes, _taken(seen, _FITTED), _taken(truth, _FITTED), nodes_are_exact=not sums.is_rough
    )
    errors = _largest_errors(curves.of(_taken(seen, _MEASURED)), _taken(truth, _MEASURED), selection, choices)
    contested = np.zeros((len(grid), sums.n_targets), dtype=bool)
    others = np.setdiff1d(np.arange(sums.n_targets), sampled)
    for here in np.array_split(others, -(-len(others) * choices.shape[0] * len(grid) // _TABLE)):
        predicted = curves.of(_taken(known, here))
        contested[:, here] = _contested(*_gains_and_sizes(predicted, selection, choices), errors)
        found.c[:, :, here], found.q[:, :, here], found.y2[:, here] = predicted.c, predicted.q, predicted.y2
    if not sums.is_rough:
        contested[nodes] = False  # they are exact already
    for a in np.flatnonzero(contested.any(axis=1)).tolist():
        sums.at(a, np.flatnonzero(contested[a]), found)
    contested[:, sampled] = True
    if not sums.is_rough:
        contested[nodes] = True
    return replace(found, scored=contested)


# of the sampled targets: where the curves are fitted, and where their error is measured
_FITTED, _MEASURED = slice(0, None, 2), slice(1, None, 2)


def _zeros(n_alphas: int, sums: Sums) -> FoldStatistics:
    shape = (n_alphas, sums.n_folds, sums.n_targets)
    return FoldStatistics(np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape[1:]))


def _taken(sums: FoldStatistics, targets: NDArray[np.intp] | slice) -> FoldStatistics:
    return FoldStatistics(sums.c[:, :, targets], sums.q[:, :, targets], sums.y2[:, targets])


@dataclass(frozen=True, eq=False)
class _Curves:
    """Linear maps from the nodes to every alpha: of log q (n_alphas, n_nodes), and of c / sqrt(q).

    Both are smooth in log alpha, where c and q themselves fall by orders of magnitude. A cubic spline through the nodes is corrected
    by least squares on targets whose exact curves are known, which also averages the rounding of low precision.
    """

    nodes: NDArray[np.intp]
    power: FloatArray
    ratio: FloatArray
    nodes_are_exact: bool

    @classmethod
    def fit(
        cls,
        log_alphas: FloatArray,
        nodes: NDArray[np.intp],
        seen: FoldStatistics,
        truth: FoldStatistics,
        *,
        nodes_are_exact: bool,
    ) -> "_Curves":
        """From the same targets at the nodes, as rough as they are, and exactly at every alpha."""
        order = np.argsort(log_alphas[nodes])
        spline = np.empty((len(log_alphas), len(nodes)))
        spline[:, order] = CubicSpline(log_alphas[nodes][order], np.eye(len(nodes)))(log_alphas)
        (level, power, ratio), (true_level, true_power, true_ratio) = _smooth(seen), _smooth(truth)
        size = np.sqrt((ratio**2).mean(axis=0))
        size[size == 0] = 1
        shifted = true_power + true_level - level
        ratios = _least_squares(spline, ratio / size, true_ratio / size)
        return cls(nodes, _least_squares(spline, power, shifted), ratios, nodes_are_exact)

    def of(self, known: FoldStatistics) -> FoldStatistics:
        """Predicted at every alpha, float64; nodes stay as they are where they are exact."""
        level, power, ratio = _smooth(known)
        logs = np.minimum(np.tensordot(self.power, power, 1) + level, _LOG_LARGEST)
        c, q = np.tensordot(self.ratio, ratio, 1) * np.exp(logs / 2), np.exp(logs)
        if self.nodes_are_exact:
            c[self.nodes], q[self.nodes] = known.c, known.q
        return FoldStatistics(c, q, known.y2)


def _smooth(sums: FoldStatistics) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Log q as its mean over alphas (n_folds, n_targets) and what is beside it, and c / sqrt(q), both like c."""
    q = np.maximum(sums.q.astype(np.float64), _TINY)
    power = np.log(q)
    level = power.mean(axis=0)
    return level, power - level, sums.c / np.sqrt(q)


def _least_squares(start: FloatArray, nodes: FloatArray, truth: FloatArray) -> FloatArray:
    """``start`` (n_alphas, n_nodes) corrected so that ``start @ nodes`` comes nearest to ``truth`` over all else."""
    flat, wanted = nodes.reshape(len(nodes), -1), truth.reshape(len(truth), -1)
    products = flat @ flat.T
    products[np.diag_indices_from(products)] += 1e-9 * np.trace(products) / len(products) + _TINY
    corrected: FloatArray = start + np.linalg.solve(products, flat @ (wanted - start @ flat).T).T
    return corrected


def _gains_and_sizes(sums: FoldStatistics, selection: Selection, choices: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(n_choices, n_alphas, n_targets) each: the gain that a choice compares, and the scale of its error."""
    gains = fold_gains(sums.c, sums.q, sums.y2, selection)
    if selection == "correlation":
        sizes = np.ones_like(gains)
    else:
        q = sums.q.astype(np.float64)
        sizes = np.sqrt(q * sums.y2) + q
    return _totals(gains, choices), _totals(sizes, choices)


def _totals(table: FloatArray, choices: FloatArray) -> FloatArray:
    totals: FloatArray = np.einsum("kf,afv->kav", choices, table)
    return totals


def _largest_errors(
    predicted: FoldStatistics, truth: FoldStatistics, selection: Selection, choices: FloatArray
) -> FloatArray:
    """(n_alphas, n_alphas) bound of the error of the difference between two predicted gains, relative to their sizes.

    What two alphas have in common, such as the rounding of the responses, is in their difference no more.
    """
    gains, sizes = _gains_and_sizes(predicted, selection, choices)
    wrong = gains - _gains_and_sizes(truth, selection, choices)[0]
    found = np.zeros((gains.shape[1], gains.shape[1]))
    for a in range(len(found)):
        difference, size = np.abs(wrong - wrong[:, [a]]), sizes + sizes[:, [a]]
        relative = np.divide(difference, size, out=np.zeros_like(size), where=size > np.sqrt(_TINY))
        found[a] = relative.max(axis=(0, 2))
    return _SAFETY * found


def _contested(gains: FloatArray, sizes: FloatArray, errors: FloatArray) -> NDArray[np.bool_]:
    """(n_alphas, n_targets): pairs that could be the best of any choice, as far as the predicted best one tells."""
    mask = np.zeros(gains.shape[1:], dtype=bool)
    for gain, size in zip(gains, sizes, strict=True):
        best = gain.argmax(axis=0)[None]
        largest, its_size = (np.take_along_axis(table, best, axis=0) for table in (gain, size))
        mask |= gain + errors[:, best[0]] * (size + its_size) >= largest
    return mask
