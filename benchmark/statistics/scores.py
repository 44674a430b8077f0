# SPDX-License-Identifier: Apache-2.0
"""The noise-corrected score from additive block statistics.

Three sums say all that a score needs: prediction times response, prediction squared, signal power. They are additive
over blocks of TRs and over voxels, so a record ships them as a small table and every interval, rank and new mask is
computed from that table without a refit. Source: pooled CCnorm, after Schoppe et al. 2016 (signal power) and
Sahani & Linden 2003; no voxel mask, no ratio per voxel, no clipping.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError, InvalidNumbers, unknown_name

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

# What the denominator is made of. Another kind is another quantity: never mixed in one column (B7).
SignalKind = Literal["repeats", "inter_subject", "none"]

# Responses are z-scored, so a summed prediction variance below this is a constant prediction.
CONSTANT_PREDICTION = 1e-12
_VOXEL_CHUNK = 2048  # float64 copies of a 300-TR segment with 5 repeats stay below 60 MB


@dataclass(frozen=True, eq=False)
class BlockStatistics:
    """Additive sufficient statistics of one subject, one row per block of TRs.

    Attributes
    ----------
    c : (n_blocks, n_units) sums of centred prediction times centred mean response; a unit is a voxel or a ROI.
    q : (n_blocks, n_units) sums of squared centred predictions.
    s : (n_blocks, n_units) sums of signal power; single values may be negative.
    block_segment : (n_blocks,) number of the test segment that a block belongs to, in order.
    block_trs : TRs in a block; the last block of a segment takes the rest and may be longer.
    """

    c: FloatArray
    q: FloatArray
    s: FloatArray
    block_segment: NDArray[np.int64]
    block_trs: int

    def __post_init__(self) -> None:
        shape = self.c.shape
        if len(shape) != 2 or self.q.shape != shape or self.s.shape != shape or self.block_segment.shape != shape[:1]:
            raise ValueError(
                "block statistics need c, q, s of one shape (n_blocks, n_units) and block_segment (n_blocks,); got "
                f"{self.c.shape}, {self.q.shape}, {self.s.shape}, {self.block_segment.shape}"
            )
        if not _are_finite(self.c, self.q, self.s):
            raise InvalidNumbers("block statistics hold NaN or infinite values")

    @property
    def n_blocks(self) -> int:
        return int(self.c.shape[0])

    @property
    def n_units(self) -> int:
        return int(self.c.shape[1])

    def totals(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(c, q, s), each (n_units,), summed over blocks."""
        return self.c.sum(axis=0), self.q.sum(axis=0), self.s.sum(axis=0)

    def as_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays for an ``.npz``; :meth:`from_arrays` gives back the same bytes."""
        return {
            "c": self.c,
            "q": self.q,
            "s": self.s,
            "block_segment": self.block_segment,
            "block_trs": np.array(self.block_trs, dtype=np.int64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "BlockStatistics":
        """The inverse of :meth:`as_arrays`."""
        c, q, s = (np.asarray(arrays[name], dtype=np.float64) for name in ("c", "q", "s"))
        segments = np.asarray(arrays["block_segment"], dtype=np.int64)
        return cls(c, q, s, segments, int(arrays["block_trs"]))


class Scores(NamedTuple):
    """Scores of several units, free of NaN.

    values : (n_units,) 0 where ``defined`` is False.
    defined : (n_units,) False where the ceiling is not above zero.
    """

    values: FloatArray
    defined: BoolArray


def block_starts(n_trs: int, block_trs: int) -> NDArray[np.int64]:
    """First TR of each block; the trailing rest joins the last block."""
    if block_trs < 1 or n_trs < 1:
        raise ValueError(f"blocks of {block_trs} TRs cannot be cut from {n_trs} TRs")
    n_blocks = max(1, n_trs // block_trs)
    return np.arange(n_blocks, dtype=np.int64) * block_trs


def segment_statistics(
    predictions: NDArray[Any],
    responses: NDArray[Any],
    *,
    kind: SignalKind,
    block_trs: int = 5,
    others: NDArray[Any] | None = None,
) -> BlockStatistics:
    """Block statistics of one test segment, voxel by voxel (statistics.md 2.2).

    Parameters
    ----------
    predictions : (n_trs, n_voxels) for this segment.
    responses : (n_repeats, n_trs, n_voxels) filtered and z-scored each repeat; their mean is never z-scored again.
    kind : "repeats": unbiased signal power ``[R ybar^2 - mean_r y_r^2] / (R - 1)``; "inter_subject": response times
        ``others``, the unbiased shared signal power; "none": total variance, the score is a pooled correlation.
    others : (n_trs, n_voxels) mean response of the other subjects, z-scored like ``responses``; "inter_subject" only.

    Raises
    ------
    InvalidNumbers
        for predictions or responses that are not finite.
    DataError
        for kind "repeats" with fewer than two repeats.
    """
    _check_segment(predictions, responses, kind, others)
    n_trs, n_voxels = predictions.shape
    starts = block_starts(n_trs, block_trs)
    c, q, s = (np.empty((len(starts), n_voxels)) for _ in range(3))
    for voxels in _voxel_chunks(n_voxels):
        prediction = _centred(predictions[:, voxels])
        repeats = _centred(responses[:, :, voxels], axis=1)
        mean = repeats.mean(axis=0)
        if kind == "repeats":
            n_repeats = len(repeats)
            power = (n_repeats * mean**2 - (repeats**2).mean(axis=0)) / (n_repeats - 1)
        elif others is not None:
            power = mean * _centred(others[:, voxels])
        else:
            power = mean**2
        for table, values in ((c, prediction * mean), (q, prediction**2), (s, power)):
            table[:, voxels] = np.add.reduceat(values, starts, axis=0)
    return BlockStatistics(c, q, s, np.zeros(len(starts), dtype=np.int64), block_trs)


def _voxel_chunks(n_voxels: int) -> Iterator[slice]:
    return (slice(start, start + _VOXEL_CHUNK) for start in range(0, n_voxels, _VOXEL_CHUNK))


def _centred(values: NDArray[Any], axis: int = 0) -> FloatArray:
    values = np.asarray(values, dtype=np.float64)
    centred: FloatArray = values - values.mean(axis=axis, keepdims=True)
    return centred


def _check_segment(
    predictions: NDArray[Any], responses: NDArray[Any], kind: SignalKind, others: NDArray[Any] | None
) -> None:
    if predictions.ndim != 2 or responses.ndim != 3 or responses.shape[1:] != predictions.shape:
        raise ValueError(
            f"predictions {predictions.shape} and responses {responses.shape} do not match: expected "
            "(n_trs, n_voxels) and (n_repeats, n_trs, n_voxels)"
        )
    if kind not in ("repeats", "inter_subject", "none"):
        raise unknown_name("ceiling kind", kind, ("repeats", "inter_subject", "none"))
    if (others is not None) != (kind == "inter_subject"):
        raise ValueError(
            f"kind {kind!r}: the mean of the other subjects belongs to kind 'inter_subject', and only there"
        )
    if others is not None and others.shape != predictions.shape:
        raise ValueError(f"others {others.shape} must have the shape of predictions {predictions.shape}")
    if kind == "repeats" and len(responses) < 2:
        raise DataError(
            f"a ceiling from repeats needs two presentations of the test segment, got {len(responses)}",
            "set the ceiling kind of this data set's card to inter_subject or none",
        )
    for name, array in (("predictions", predictions), ("responses", responses), ("others", others)):
        if array is not None and not np.isfinite(array).all():
            raise InvalidNumbers(f"{name} hold NaN or infinite values")


def concatenate(parts: Sequence[BlockStatistics]) -> BlockStatistics:
    """Blocks of several segments of one subject in order; segments are numbered anew by the order of ``parts``."""
    if not parts:
        raise ValueError("no block statistics to concatenate")
    if len({(part.n_units, part.block_trs) for part in parts}) != 1:
        raise ValueError("segments must have the same units and the same block length")
    segments, offset = [], 0
    for part in parts:
        names, numbers = np.unique(part.block_segment, return_inverse=True)
        segments.append(numbers + offset)
        offset += len(names)
    c, q, s = (np.concatenate([getattr(part, name) for part in parts]) for name in ("c", "q", "s"))
    return BlockStatistics(c, q, s, np.concatenate(segments).astype(np.int64), parts[0].block_trs)


def pool_rois(stats: BlockStatistics, roi_labels: NDArray[np.str_], rois: Sequence[str]) -> BlockStatistics:
    """Sum voxels into ROIs, in the order of ``rois``.

    Parameters
    ----------
    stats : with one unit per voxel.
    roi_labels : (n_voxels,) the ROI of each voxel.

    Raises
    ------
    UserError
        for a ROI that no voxel has.
    """
    if roi_labels.shape != (stats.n_units,):
        raise ValueError(f"{roi_labels.shape} ROI labels for {stats.n_units} voxels")
    present = set(roi_labels.tolist())
    for roi in rois:
        if roi not in present:
            raise unknown_name("ROI", roi, present)
    c, q, s = (
        np.stack([table[:, roi_labels == roi].sum(axis=1) for roi in rois], axis=1)
        for table in (stats.c, stats.q, stats.s)
    )
    return replace(stats, c=c, q=q, s=s)


def _are_finite(*tables: FloatArray) -> bool:
    """A finite sum has finite terms: only where it has none are they looked at, because it may have overflowed."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = sum(float(np.add.reduce(table, axis=None)) for table in tables)
    return math.isfinite(total) or all(bool(np.isfinite(table).all()) for table in tables)


def coarsen(stats: BlockStatistics, block_trs: int) -> BlockStatistics:
    """Join blocks to longer ones, never across segments; the trailing rest joins a segment's last block.

    Cutting a segment into 15-TR blocks and joining its 5-TR blocks three by three give the same table.
    """
    if block_trs % stats.block_trs:
        raise ValueError(f"blocks of {stats.block_trs} TRs cannot be joined to blocks of {block_trs} TRs")
    first = np.flatnonzero(np.diff(stats.block_segment, prepend=-1))
    bounds = [*first.tolist(), stats.n_blocks]
    starts = np.concatenate([a + block_starts(b - a, block_trs // stats.block_trs) for a, b in pairwise(bounds)])
    c, q, s = (np.add.reduceat(table, starts, axis=0) for table in (stats.c, stats.q, stats.s))
    return BlockStatistics(c, q, s, stats.block_segment[starts], block_trs)


def noise_corrected(c: float, q: float, s: float) -> float | None:
    """``c / sqrt(q s)`` of summed statistics: the correlation with the noise-free response.

    0 for a constant prediction; None when the ceiling is not above zero (``s <= 0``). Signed, never clipped.
    """
    if s <= 0:
        return None
    if q <= CONSTANT_PREDICTION:
        return 0.0
    return float(c / np.sqrt(q * s))


def explained_fraction(c: float, q: float, s: float) -> float | None:
    """``(2c - q) / s``: fraction of the explainable variance that calibrated predictions explain (R^2-like, additive).

    Negative for predictions worse than the mean; None when the ceiling is not above zero.
    """
    return None if s <= 0 else float((2 * c - q) / s)


def unit_scores(stats: BlockStatistics) -> Scores:
    """:func:`noise_corrected` of every unit."""
    return Scores(*_by_unit(stats, noise_corrected))


def unit_explained_fractions(stats: BlockStatistics) -> Scores:
    """:func:`explained_fraction` of every unit."""
    return Scores(*_by_unit(stats, explained_fraction))


def _by_unit(stats: BlockStatistics, score: Any) -> tuple[FloatArray, BoolArray]:
    found = [score(float(c), float(q), float(s)) for c, q, s in zip(*stats.totals(), strict=True)]
    values = np.array([0.0 if value is None else value for value in found])
    return values, np.array([value is not None for value in found])


def macro_score(stats: BlockStatistics, scored: BoolArray) -> float | None:
    """Mean of the noise-corrected score over the scored ROIs, each with the same weight; None without any.

    Raises
    ------
    InvalidNumbers
        when a scored ROI has no ceiling above zero: it must not have passed the gate.
    """
    scores = unit_scores(stats)
    if not scored.any():
        return None
    if not scores.defined[scored].all():
        raise InvalidNumbers("a scored ROI has a ceiling that is not above zero")
    return float(scores.values[scored].mean())


def voxel_correlation(
    predictions: NDArray[Any], responses: NDArray[Any], segments: NDArray[np.int64] | None = None
) -> FloatArray:
    """Pearson r of each voxel; 0 where the prediction or the response is constant.

    Parameters
    ----------
    predictions, responses : (n_trs, n_voxels).
    segments : (n_trs,) segment of each TR; each segment is centred by itself.
    """
    if predictions.shape != responses.shape or predictions.ndim != 2:
        raise ValueError(f"shapes {predictions.shape} and {responses.shape}; expected twice (n_trs, n_voxels)")
    labels = np.zeros(len(predictions), dtype=np.int64) if segments is None else segments
    correlations = np.zeros(predictions.shape[1])
    for voxels in _voxel_chunks(predictions.shape[1]):
        cross, p_power, y_power = (np.zeros(len(correlations[voxels])) for _ in range(3))
        for label in np.unique(labels):
            p = _centred(predictions[labels == label, voxels])
            y = _centred(responses[labels == label, voxels])
            cross += (p * y).sum(axis=0)
            p_power += (p**2).sum(axis=0)
            y_power += (y**2).sum(axis=0)
        ok = (p_power > CONSTANT_PREDICTION) & (y_power > CONSTANT_PREDICTION)
        norm = np.sqrt(np.where(ok, p_power * y_power, 1.0))
        correlations[voxels] = np.where(ok, cross / norm, 0.0)
    return correlations
