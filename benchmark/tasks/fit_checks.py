# SPDX-License-Identifier: Apache-2.0
"""What the fits of a model say about themselves: features that change between training and test, grids that are too short."""

from collections.abc import Sequence
from typing import Protocol as Structure

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.ridge import RidgeFit
from voxelboard.benchmark.protocol import Protocol
from voxelboard.benchmark.records import Checks

# Voxels that inner cross-validation predicts count for the grid of alphas: one of noise rightly takes the largest.
_RELIABLE_R = 0.1
_EDGE_LIMIT = 0.05  # statistics.md, letter I
_FEWEST_RELIABLE = 20  # voxels, each counted once a fold and layer

EdgeCount = tuple[int, int]


def edge_count(fit: RidgeFit, voxels: NDArray[np.generic] | slice) -> EdgeCount:
    """Of the voxels that inner cross-validation predicts: how many take an alpha at an end of its grid, and all of them."""
    c, q, y2 = (sums.sum(axis=0) for sums in (fit.inner.c, fit.inner.q, fit.inner.y2))
    reliable = (c > _RELIABLE_R * np.sqrt(q * y2))[voxels]
    return int((fit.at_grid_edge[voxels] & reliable).sum()), int(reliable.sum())


def edge_alarms(counts: Sequence[EdgeCount]) -> list[str]:
    """An alarm where the grid of alphas is too short for voxels that can be predicted; counts of all folds and layers."""
    edges, reliable = (sum(column) for column in zip(*counts, strict=True))
    if reliable < _FEWEST_RELIABLE or edges <= _EDGE_LIMIT * reliable:
        return []
    share = f"{100 * edges / reliable:.0f} % of the predictable voxels (allowed {100 * _EDGE_LIMIT:.0f} %)"
    return [f"alpha lies at an end of its grid for {share}"]


def worst_ratio(ratios: Sequence[float]) -> float | None:
    """The ratio of test to training SD of residual features that is farthest from 1; None where all are undefined."""
    finite = [ratio for ratio in ratios if np.isfinite(ratio)]
    return max(finite, key=lambda ratio: abs(np.log(ratio))) if finite else None


def ratio_alarms(ratio: float | None, allowed: tuple[float, float], features: str, test: str) -> list[str]:
    """An alarm where the worst ratio lies outside of the protocol's range."""
    low, high = allowed
    if ratio is None or low <= ratio <= high:
        return []
    return [f"{features} features have {ratio:.2f} times the training SD on {test} (allowed {low}-{high})"]


class FitReceipts(Structure):
    """What an encoding of stories or films keeps of its fits."""

    sd_ratios: list[float]
    edge_shares: dict[str, list[float]]
    reliable_edges: dict[str, list[EdgeCount]]


def subject_checks(subject: str, encoding: FitReceipts, oasm: float, noise: float, protocol: Protocol) -> Checks:
    """Canaries and receipts of one subject of a time series; ``oasm``: share that time alone explains, ``noise``: r."""
    worst = worst_ratio(encoding.sd_ratios)
    alarms = ratio_alarms(worst, protocol.score.residual_sd_range, "confound-free", "test data")
    alarms += edge_alarms(encoding.reliable_edges[subject])
    edges = float(np.mean(encoding.edge_shares[subject]))
    return Checks(oasm=oasm, noise_brain=noise, residual_sd_ratio=worst, alpha_edge_share=edges, alarms=tuple(alarms))
