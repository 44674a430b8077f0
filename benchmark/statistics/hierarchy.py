# SPDX-License-Identifier: Apache-2.0
"""Layers of a model against regions of a brain: where each voxel prefers to look, and whether depth follows an order.

A voxel's preferred layer is the one with the best correlation in cross-validation *inside* the training data; the test data
only tell what that preference is worth. Its uncertainty comes from drawing the inner folds again with replacement, the
same draw for all layers and voxels, and the voxels of each region. Numpy alone; every draw is seeded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from voxelboard.benchmark.statistics.scores import BlockStatistics, FloatArray

_VOXEL_CHUNK = 4096


@dataclass(frozen=True)
class DrawInterval:
    """An estimate with the percentile interval of its bootstrap draws; ``n`` units were drawn again."""

    estimate: float
    se: float
    low: float
    high: float
    n: int


@dataclass(eq=False)
class InnerProducts:
    """What inner cross-validation says of every layer, voxel by voxel, before any choice.

    Attributes
    ----------
    c, q : (n_layers, n_inner, n_voxels) sums of prediction times response and of squared predictions over each inner fold,
        added over outer folds; y2 : (n_inner, n_voxels) sums of squared responses.

    Inner folds of several outer folds are added by number: they are dealt in one order, so equal numbers are (nearly) the same segments.
    """

    c: NDArray[np.float32]
    q: NDArray[np.float32]
    y2: FloatArray

    @classmethod
    def empty(cls, n_layers: int, n_inner: int, n_voxels: int) -> "InnerProducts":
        shape = (n_layers, n_inner, n_voxels)
        return cls(np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape[1:]))

    def add(self, layer: int, c: FloatArray, q: FloatArray, y2: FloatArray) -> None:
        """Add the statistics (n_inner, n_voxels) of one layer and outer fold."""
        n = len(c)
        self.c[layer, :n] += c.astype(np.float32)
        self.q[layer, :n] += q.astype(np.float32)
        if layer == 0:
            self.y2[:n] += y2

    def of(self, voxels: slice) -> "InnerProducts":
        """The same for some voxels."""
        return InnerProducts(self.c[..., voxels], self.q[..., voxels], self.y2[..., voxels])

    def correlations(self, weights: FloatArray | None = None) -> FloatArray:
        """(n_layers, n_voxels) pooled inner correlation; ``weights`` (n_inner,) counts folds, default each once."""
        w = np.ones(len(self.y2)) if weights is None else weights
        c, q = (np.einsum("lfv,f->lv", table, w) for table in (self.c, self.q))
        power = q * (w @ self.y2)
        found: FloatArray = np.divide(c, np.sqrt(np.maximum(power, 0)), out=np.zeros(c.shape), where=power > 0)
        return found


@dataclass(frozen=True, eq=False)
class Preference:
    """Which layer each voxel prefers.

    Attributes
    ----------
    layer : (n_voxels,) number in the table of layers, from 0; -1 where no layer predicts better than chance inside the
        training data (best inner correlation not above 0).
    n_layers : of the table.
    """

    layer: NDArray[np.int16]
    n_layers: int

    def depths(self) -> FloatArray:
        """(n_voxels,) 0 for the first layer, 1 for the last; NaN without a preference."""
        last = max(self.n_layers - 1, 1)
        return np.where(self.layer < 0, np.nan, self.layer / last)


def preferred_layers(inner: InnerProducts, weights: FloatArray | None = None) -> Preference:
    """The layer with the best inner correlation, the first of several equal ones."""
    r = inner.correlations(weights)
    layer = np.where(r.max(axis=0) > 0, r.argmax(axis=0), -1).astype(np.int16)
    return Preference(layer, len(r))


@dataclass(frozen=True, eq=False)
class DepthDraws:
    """Preferred depth of regions.

    Attributes
    ----------
    estimate : region -> mean depth over its voxels with a preference, NaN where it has none.
    draws : region -> (n_draws,) the same of drawn inner folds and voxels.
    n_inner : inner folds behind them.
    """

    estimate: Mapping[str, float]
    draws: Mapping[str, FloatArray]
    n_inner: int

    def interval(self, region: str, confidence: float) -> DrawInterval | None:
        """Depth of one region; None without a preference."""
        value = self.estimate[region]
        return None if np.isnan(value) else _percentiles(value, self.draws[region], self.n_inner, confidence)


def depth_of_regions(
    inner: InnerProducts, labels: NDArray[np.str_], regions: Sequence[str], n_draws: int, seed: int
) -> DepthDraws:
    """Mean preferred depth of each region, with draws of inner folds (shared) and of each region's voxels.

    Parameters
    ----------
    labels : (n_voxels,) the region of each voxel.

    With few folds many draws are the same set of folds; each different set is evaluated once.
    """
    rng = np.random.default_rng([seed, len(regions), len(labels)])
    n_inner = len(inner.y2)
    counts = rng.multinomial(n_inner, np.full(n_inner, 1 / n_inner), size=n_draws)
    sets, which = np.unique(counts, axis=0, return_inverse=True)
    depths = np.stack([_depths_under(inner, weights.astype(np.float64)) for weights in sets])  # (n_sets, n_voxels)
    observed = _depths_under(inner, np.ones(n_inner))
    estimate, draws = {}, {}
    for region in regions:
        here = np.flatnonzero(labels == region)
        own = observed[here]
        estimate[region] = float(np.nanmean(own)) if np.isfinite(own).any() else float("nan")
        drawn = np.full(n_draws, np.nan)
        for draw in range(n_draws):
            values = depths[which[draw], rng.choice(here, size=len(here))]
            if np.isfinite(values).any():
                drawn[draw] = np.nanmean(values)
        draws[region] = drawn
    return DepthDraws(estimate, draws, n_inner)


def _depths_under(inner: InnerProducts, weights: FloatArray) -> FloatArray:
    n_voxels = inner.c.shape[-1]
    parts = [inner.of(slice(first, first + _VOXEL_CHUNK)) for first in range(0, n_voxels, _VOXEL_CHUNK)]
    return np.concatenate([preferred_layers(part, weights).depths() for part in parts])


def order_correlation(
    depths: DepthDraws, order: Sequence[str | tuple[str, ...]], confidence: float
) -> DrawInterval | None:
    """Spearman correlation of preferred depth with the order of the regions (first to last).

    A tuple holds regions of the same place, such as one region of both hemispheres; they are tied. None when fewer than
    three places have a depth or all have the same.
    """
    places = [(region, n) for n, tied in enumerate(order) for region in ((tied,) if isinstance(tied, str) else tied)]
    places = [(region, n) for region, n in places if not np.isnan(depths.estimate.get(region, np.nan))]
    held, numbers = [region for region, _ in places], np.array([float(n) for _, n in places])
    if len(set(numbers)) < 3:
        return None
    observed = np.array([[depths.estimate[region] for region in held]])
    value = float(_spearman(observed, numbers)[0])
    if np.isnan(value):
        return None
    table = np.stack([depths.draws[region] for region in held], axis=1)  # (n_draws, n_regions)
    drawn = _spearman(table[np.isfinite(table).all(axis=1)], numbers)
    return _percentiles(value, np.nan_to_num(drawn), depths.n_inner, confidence)


def _spearman(rows: FloatArray, places: FloatArray) -> FloatArray:
    """(n_rows,) rank correlation of each row with the places of its columns; NaN where a row is constant."""
    return _pearson(np.asarray(rankdata(places)), np.asarray(rankdata(rows, axis=1)))


def layer_correlation(
    magnitudes: FloatArray, layers: Sequence[BlockStatistics], weights: FloatArray, confidence: float
) -> DrawInterval | None:
    """Pearson correlation over layers between a layer's attribution magnitude and its noise-corrected score.

    Parameters
    ----------
    magnitudes : (n_layers,)
    layers : one per layer, one unit or several; the score is the mean over units.
    weights : (n_draws, n_blocks) how often each block is drawn, the same for every layer.

    None for fewer than three layers, or where scores or magnitudes do not differ.
    """
    if len(magnitudes) < 3:
        return None
    whole = np.ones((1, layers[0].n_blocks))
    value = _pearson(magnitudes, _drawn_scores(layers, whole))[0]
    if np.isnan(value):
        return None
    drawn = _pearson(magnitudes, _drawn_scores(layers, weights))
    return _percentiles(float(value), drawn, layers[0].n_blocks, confidence)


def _drawn_scores(layers: Sequence[BlockStatistics], weights: FloatArray) -> FloatArray:
    """(n_draws, n_layers) mean over units of c / sqrt(q s) of the drawn blocks; a unit without power counts 0."""
    scores = []
    for stats in layers:
        c, q, s = (weights @ table for table in (stats.c, stats.q, stats.s))
        power = np.maximum(q, 0) * np.maximum(s, 0)
        scores.append(np.divide(c, np.sqrt(power), out=np.zeros(c.shape), where=power > 0).mean(axis=1))
    return np.stack(scores, axis=1)


def _pearson(fixed: FloatArray, rows: FloatArray) -> FloatArray:
    """(n_rows,) correlation of each row with ``fixed``; NaN where one of them is constant."""
    a, b = fixed - fixed.mean(), rows - rows.mean(axis=1, keepdims=True)
    power = (a**2).sum() * (b**2).sum(axis=1)
    found: FloatArray = np.divide(b @ a, np.sqrt(power), out=np.full(len(rows), np.nan), where=power > 1e-24)
    return found


def _percentiles(value: float, draws: FloatArray, n: int, confidence: float) -> DrawInterval | None:
    finite = draws[np.isfinite(draws)]
    if len(finite) < 2:
        return None
    low, high = np.quantile(finite, [(1 - confidence) / 2, (1 + confidence) / 2])
    return DrawInterval(value, float(finite.std(ddof=1)), float(low), float(high), n)
