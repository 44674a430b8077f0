# SPDX-License-Identifier: Apache-2.0
"""The Gram matrix of delayed, filtered rows as sums of shifted blocks of the undelayed one.

A Gram matrix is symmetric: products are computed, shifted, summed and filtered on and below its diagonal alone, and mirrored at the
end. Of ``n`` training rows that leaves little more than half of the ``2 n^2 n_features`` operations of the plain product.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch

# Rows of one product. A block is computed as far as its last row's diagonal: smaller ones waste less above the diagonal,
# larger ones run nearer to the peak.
_PRODUCT_ROWS = 384


def add_products(undelayed: torch.Tensor, reach: torch.Tensor) -> None:
    """Add ``reach @ reach[:n_train].T`` to (n_reach, n_train) ``undelayed``, on and below its diagonal at least.

    ``reach`` is (n_reach, n_features), training rows first. Blocks of training rows hold no test row.
    """
    n_train = undelayed.shape[1]
    starts = [*range(0, n_train, _PRODUCT_ROWS), *range(n_train, len(reach), _PRODUCT_ROWS), len(reach)]
    for first, stop in pairwise(starts):
        width = min(stop, n_train)
        undelayed[first:stop, :width].addmm_(reach[first:stop], reach[:width].T)


def delayed_gram(
    undelayed: torch.Tensor,
    n_rows: Sequence[int],
    n_train_segments: int,
    lags: Sequence[int],
    bases: Sequence[torch.Tensor],
) -> torch.Tensor:
    """Inner products of all delayed, filtered rows with those of the training segments.

    Parameters
    ----------
    undelayed : (n_reach, n_reach_train), from :func:`add_products`; each segment has ``n_rows + max(lags)`` rows.
    n_rows : of each segment, training segments first.
    lags : where the rows of each delay start in the reach of a segment; the smallest is 0.
    bases : of each segment (n_rows, n_cosines), what the filter removes.

    Returns
    -------
    (sum of n_rows, sum of n_rows of the training segments) float64; the part of the training rows is symmetric.
    """
    span, n_train = max(lags), sum(n_rows[:n_train_segments])
    gram = torch.empty(sum(n_rows), n_train, dtype=torch.float64, device=undelayed.device)
    rows, reaches = _slices(n_rows), _slices([n + span for n in n_rows])
    for g, (mine, reach) in enumerate(zip(rows, reaches, strict=True)):
        n_others = min(g + 1, n_train_segments)
        strip = undelayed[reach, : reaches[n_others - 1].stop].double()
        total = sum_shifted(strip, lags, n_rows[g], strip.shape[1] - span)
        if g < n_train_segments:
            _mirror(total[:, reach.start :])
        total.addmm_(bases[g], bases[g].T @ total, alpha=-1)
        for other in range(n_others):
            left = reaches[other].start
            gram[mine, rows[other]] = total[:, left : left + n_rows[other]]
    for h, mine in enumerate(rows[:n_train_segments]):
        below = gram[mine.start :, mine]
        below.addmm_(below @ bases[h], bases[h].T, alpha=-1)
        _mirror(gram[mine, mine])
        gram[mine, mine.stop :] = gram[mine.stop : n_train, mine].T
    return gram


def sum_shifted(undelayed: torch.Tensor, lags: Sequence[int], n_rows: int, n_columns: int) -> torch.Tensor:
    """(n_rows, n_columns) the sum over lags of the block of ``undelayed`` that starts at ``(lag, lag)``."""
    total = undelayed[lags[0] : lags[0] + n_rows, lags[0] : lags[0] + n_columns].clone()
    for lag in lags[1:]:
        total += undelayed[lag : lag + n_rows, lag : lag + n_columns]
    return total


def filtered_norms(undelayed: torch.Tensor, lags: Sequence[int], basis: torch.Tensor) -> torch.Tensor:
    """(n_rows,) float64 squared lengths of the delayed, filtered rows of one segment from its own undelayed products."""
    n_rows = len(basis)
    total = sum_shifted(undelayed.double(), lags, n_rows, n_rows)
    total.addmm_(basis, basis.T @ total, alpha=-1)
    total.addmm_(total @ basis, basis.T, alpha=-1)
    return torch.diagonal(total).clone()


def _slices(lengths: Sequence[int]) -> list[slice]:
    found, first = [], 0
    for length in lengths:
        found.append(slice(first, first + length))
        first += length
    return found


def _mirror(block: torch.Tensor) -> None:
    """Copy what lies below the diagonal of a square block to above it, in place."""
    lower = block.tril(-1)
    block.tril_().add_(lower.T)
