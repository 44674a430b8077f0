# SPDX-License-Identifier: Apache-2.0
"""From TR features to a regression problem: scaling, delays inside the story, trimming, filtering.

After the scaling of features every step is a linear map of *rows*. So it is applied to the Gram matrix instead of
the design wherever the delayed design has more columns than rows: the Gram of the delayed design is a sum of shifted
Grams of the undelayed features, ``K[t, s] = sum_d K0[t - d, s - d]``, and the delayed matrix never exists.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.filters import high_pass_basis
from voxelboard.benchmark.encoding.shifted import add_products, delayed_gram, filtered_norms
from voxelboard.benchmark.errors import InvalidNumbers, UserError

Device: TypeAlias = str | torch.device | None
Form = Literal["dual", "primal"]

# columns of the undelayed features that are in float64 at a time: bounds the copy, not the result's precision
_FEATURE_CHUNK = 1024
# columns whose filtered values are in the processor's cache at a time
_CACHED_COLUMNS = 256


class SegmentLike(Protocol):
    """A stretch of one story, rows ``start`` to ``stop - 1`` before trimming."""

    @property
    def story(self) -> Hashable: ...
    @property
    def start(self) -> int: ...
    @property
    def stop(self) -> int: ...


@dataclass(frozen=True)
class SegmentRows:
    """Rows ``start`` to ``stop - 1`` of one story."""

    story: int | str
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Problem:
    """A regression of any responses on one design, in the smaller of two equivalent forms.

    Attributes
    ----------
    form : "dual" holds inner products between rows, "primal" the rows themselves.
    train : dual (n_train, n_train), the Gram matrix; primal (n_train, n_columns), the design.
    test : dual (n_test, n_train), test rows against training rows; primal (n_test, n_columns). Same device and dtype.
    test_norms : (n_test,) squared length of each test design row.
    n_columns : columns of the delayed design without constant features; 0 is allowed and predicts 0.
    """

    form: Form
    train: torch.Tensor
    test: torch.Tensor
    test_norms: torch.Tensor
    n_columns: int

    @property
    def n_train(self) -> int:
        """Training rows."""
        return int(self.train.shape[0])

    @property
    def n_test(self) -> int:
        """Test rows."""
        return int(self.test.shape[0])

    @property
    def mean_row_power(self) -> float:
        """trace(K) / n_train: the unit of the relative alphas."""
        if self.form == "dual":
            return float(torch.diagonal(self.train).sum(dtype=torch.float64)) / self.n_train
        return float((self.train.double() ** 2).sum()) / self.n_train

    def to(self, device: torch.device) -> "Problem":
        """The same problem on ``device``."""
        parts = [x.to(device) for x in (self.train, self.test, self.test_norms)]
        return Problem(self.form, parts[0], parts[1], parts[2], self.n_columns)

    def to_dual(self) -> "Problem":
        """The same problem as inner products."""
        if self.form == "dual":
            return self
        gram, cross = self.train @ self.train.T, self.test @ self.train.T
        return Problem("dual", gram, cross, self.test_norms, self.n_columns)


def primal_problem(train: NDArray[np.floating], test: NDArray[np.floating], device: Device = None) -> Problem:
    """A problem from design matrices that are at hand, float64.

    Parameters
    ----------
    train : (n_train, n_columns); test : (n_test, n_columns). Nothing is centred or scaled.
    """
    matrices = [torch.as_tensor(np.asarray(x, dtype=np.float64), device=device) for x in (train, test)]
    if any(matrix.ndim != 2 for matrix in matrices) or matrices[0].shape[1] != matrices[1].shape[1]:
        raise UserError(f"designs of shapes {np.shape(train)} and {np.shape(test)}; expected (n_trs, n_columns) twice")
    if not all(bool(torch.isfinite(matrix).all()) for matrix in matrices):
        raise InvalidNumbers("the design has NaN or infinite values")
    return Problem("primal", matrices[0], matrices[1], (matrices[1] ** 2).sum(1), int(matrices[0].shape[1]))


@dataclass(frozen=True, eq=False)
class SegmentedDesign:
    """One feature space on the TRs of every story, and how its rows become a design.

    Attributes
    ----------
    features : story -> (n_trs, n_features), undelayed, unscaled, not filtered.
    delays : TRs; row t of delay d holds the features of row t - d, zero outside the story.
    trim : rows dropped at both ends of a segment, before the filter.
    tr : seconds.
    cutoff_s : seconds, of the high-pass; ``math.inf`` removes the mean of a segment alone.
    constant_tolerance : a feature is dropped when its sd is below this share of the largest sd.
    """

    features: Mapping[Any, NDArray[np.floating]]
    delays: tuple[int, ...]
    trim: int
    tr: float
    cutoff_s: float
    constant_tolerance: float = 1e-8

    def __post_init__(self) -> None:
        if not self.delays or len(set(self.delays)) != len(self.delays):
            raise UserError(f"delays {self.delays}; expected one or more different numbers of TRs")
        widths = {np.shape(x)[1:] for x in self.features.values()}
        if len(widths) != 1 or len(next(iter(widths))) != 1:
            raise UserError(f"features of shapes {sorted(map(str, widths))}; expected (n_trs, n_features) per story")
        for story, values in self.features.items():
            if not np.isfinite(values).all():
                raise InvalidNumbers(f"the features of story {story!r} have NaN or infinite values")

    @property
    def n_features(self) -> int:
        """Columns of the undelayed features."""
        return int(np.shape(next(iter(self.features.values())))[1])

    def n_rows(self, segments: Sequence[SegmentLike]) -> NDArray[np.intp]:
        """(n_segments,) design rows of each segment; refuses segments that leave none."""
        for segment in segments:
            self._check(segment)
        return np.array([segment.stop - segment.start - 2 * self.trim for segment in segments], dtype=np.intp)

    def inverse_scales(self, train: Sequence[SegmentLike], device: Device = None) -> NDArray[np.float64]:
        """(n_features,) 1 / sd over the trimmed, filtered training rows; 0 for a constant feature.

        The sd is that of the undelayed feature and is shared by its delays. Test rows never enter. Computed on ``device``.
        """
        n_rows = int(self.n_rows(train).sum())
        if n_rows == 0:
            raise UserError("no training segments")
        power, magnitude = np.zeros(self.n_features), np.zeros(self.n_features)
        for segment in train:
            values = self.features[segment.story][segment.start : segment.stop]
            trimmed = values[self.trim : len(values) - self.trim]
            basis = self._basis(len(trimmed), device)
            for first in range(0, self.n_features, _CACHED_COLUMNS):
                columns = slice(first, first + _CACHED_COLUMNS)
                part = torch.as_tensor(np.array(trimmed[:, columns]), device=device).double()
                # without its mean a large offset does not cost digits in the projection
                part -= part.mean(0)
                part.addmm_(basis, basis.T @ part, alpha=-1)
                power[columns] += torch.linalg.vector_norm(part, dim=0).square_().cpu().numpy()
            largest = np.maximum(values.max(axis=0), -values.min(axis=0))
            magnitude = np.maximum(magnitude, largest)
        sd = np.sqrt(power / n_rows)
        # a constant of large size leaves rounding noise behind the filter: 1e-12 of it is not a signal
        keep = (sd > self.constant_tolerance * sd.max(initial=0.0)) & (sd > 1e-12 * magnitude)
        return np.divide(1.0, sd, out=np.zeros_like(sd), where=keep)

    def rows(self, segments: Sequence[SegmentLike], inverse_scales: NDArray[np.float64]) -> NDArray[np.float64]:
        """The materialised design rows of ``segments``, one below the other.

        Returns
        -------
        (n_rows, n_delays * n_kept) float64; all kept features of the first delay come first.
        """
        keep = np.flatnonzero(inverse_scales)
        n_rows = self.n_rows(segments)
        design = np.empty((int(n_rows.sum()), len(self.delays) * len(keep)))
        first = 0
        for segment, n in zip(segments, n_rows.tolist(), strict=True):
            reach = self._reach(segment, keep, inverse_scales).numpy()
            block = design[first : first + n]
            for j, delay in enumerate(self.delays):
                lag = max(self.delays) - delay
                block[:, j * len(keep) : (j + 1) * len(keep)] = reach[lag : lag + n]
            basis = high_pass_basis(n, self.tr, self.cutoff_s)
            block -= basis @ (basis.T @ block)
            first += n
        return design

    def problem(
        self,
        train: Sequence[SegmentLike],
        test: Sequence[SegmentLike],
        *,
        form: Literal["auto", "dual", "primal"] = "auto",
        device: Device = None,
        gemm_dtype: torch.dtype = torch.float64,
    ) -> Problem:
        """The regression problem of one split of segments, float64 on ``device``.

        Parameters
        ----------
        train, test : segments; the rows of the problem are in this order.
        form : "auto" takes the primal form when the delayed design has at most half as many columns as training rows
            (with more, inner folds can have fewer rows than columns, where only the dual form is accurate).
        gemm_dtype : of the product of undelayed features in the dual form. float32 takes half the time and makes
            inner predictions wrong by 1e-6 of their size instead of 2e-7 (performance.md 2.4).

        Raises
        ------
        UserError
            for a segment outside its story or too short for its trims and filter.
        """
        inverse_scales = self.inverse_scales(train, device)
        n_columns = len(self.delays) * int(np.count_nonzero(inverse_scales))
        if form == "dual" or (form == "auto" and 2 * n_columns > int(self.n_rows(train).sum())):
            return self._dual(train, test, inverse_scales, device, gemm_dtype)
        return primal_problem(self.rows(train, inverse_scales), self.rows(test, inverse_scales), device)

    def _check(self, segment: SegmentLike) -> None:
        if segment.story not in self.features:
            raise UserError(f"segment of story {segment.story!r}, which has no features")
        n_trs = len(self.features[segment.story])
        if not 0 <= segment.start < segment.stop <= n_trs:
            raise UserError(
                f"segment {segment.start}:{segment.stop} lies outside story {segment.story!r} ({n_trs} TRs)"
            )
        if segment.stop - segment.start <= 2 * self.trim:
            raise UserError(
                f"segment {segment.start}:{segment.stop} of story {segment.story!r} has no row left after "
                f"trimming {self.trim} TRs at both ends"
            )

    def _basis(self, n_rows: int, device: Device) -> torch.Tensor:
        return torch.as_tensor(high_pass_basis(n_rows, self.tr, self.cutoff_s), device=device)

    def _reach(
        self, segment: SegmentLike, keep: NDArray[np.intp], inverse_scales: NDArray[np.float64], device: Device = None
    ) -> torch.Tensor:
        """(n + span, n_kept) scaled features of every row that a delay of this segment touches, zero outside the story.

        Row ``i`` is TR ``start + trim - max(delays) + i``. Each column has its mean removed, zeros included: that adds
        one constant per column to the delayed design, which the filter takes out again, and keeps digits.
        """
        values = self.features[segment.story]
        first = segment.start + self.trim - max(self.delays)
        last = segment.stop - self.trim - min(self.delays)
        inside = slice(max(first, 0), max(min(last, len(values)), 0))
        unbroken = len(keep) > 0 and keep[-1] - keep[0] + 1 == len(keep)
        columns = slice(int(keep[0]), int(keep[-1]) + 1) if unbroken else keep
        part = torch.as_tensor(np.array(values[inside, columns]), device=device)
        reach = torch.zeros(last - first, len(keep), dtype=torch.float64, device=device)
        scales = torch.as_tensor(inverse_scales[keep], device=device)
        torch.mul(part, scales, out=reach[inside.start - first : inside.start - first + len(part)])
        reach -= reach.mean(0)
        return reach

    def _dual(
        self,
        train: Sequence[SegmentLike],
        test: Sequence[SegmentLike],
        inverse_scales: NDArray[np.float64],
        device: Device,
        gemm_dtype: torch.dtype,
    ) -> Problem:
        segments = [*train, *test]
        n_rows = self.n_rows(segments).tolist()
        undelayed, test_blocks = self._undelayed_grams(segments, len(train), inverse_scales, device, gemm_dtype)
        lags = [max(self.delays) - delay for delay in self.delays]
        bases = [self._basis(n, device) for n in n_rows]
        gram = delayed_gram(undelayed, n_rows, len(train), lags, bases)
        n_train = gram.shape[1]
        norms = [filtered_norms(own, lags, basis) for own, basis in zip(test_blocks, bases[len(train) :], strict=True)]
        n_columns = len(self.delays) * int(np.count_nonzero(inverse_scales))
        return Problem("dual", gram[:n_train], gram[n_train:], torch.cat([gram.new_zeros(0), *norms]), n_columns)

    @property
    def _span(self) -> int:
        return max(self.delays) - min(self.delays)

    def _undelayed_grams(
        self,
        segments: Sequence[SegmentLike],
        n_train_segments: int,
        inverse_scales: NDArray[np.float64],
        device: Device,
        gemm_dtype: torch.dtype,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Inner products of all reaches with those of the training segments, on and below the diagonal, and of each test reach with itself."""
        sizes = self.n_rows(segments) + self._span
        offsets = np.concatenate([[0], np.cumsum(sizes)]).tolist()
        n_train = offsets[n_train_segments]
        undelayed = torch.zeros(offsets[-1], n_train, dtype=gemm_dtype, device=device)
        own = [torch.zeros(n, n, dtype=gemm_dtype, device=device) for n in sizes[n_train_segments:].tolist()]
        kept = np.flatnonzero(inverse_scales)
        for first in range(0, len(kept), _FEATURE_CHUNK):
            columns = kept[first : first + _FEATURE_CHUNK]
            chunk = torch.empty(offsets[-1], len(columns), dtype=gemm_dtype, device=device)
            for segment, start, stop in zip(segments, offsets[:-1], offsets[1:], strict=True):
                chunk[start:stop] = self._reach(segment, columns, inverse_scales, device)
            add_products(undelayed, chunk)
            for block, start in zip(own, offsets[n_train_segments:-1], strict=True):
                rows = chunk[start : start + len(block)]
                block.addmm_(rows, rows.T)
        return undelayed, own
