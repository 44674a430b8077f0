# SPDX-License-Identifier: Apache-2.0
"""Ceilings of a data set as its literature reports them: to compare with, beside the pooled ones that scores are divided by.

Each run is high-passed as in the protocol and z-scored; nothing is trimmed. Without the filter drift hides the agreement of
listeners whose release is not filtered (LIFG of Alice: .14 instead of .21). Intervals are for this subject on other stimuli of this
kind: a jackknife over tenths of the test data.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.filters import high_pass
from voxelboard.benchmark.errors import DataError, UserError
from voxelboard.benchmark.protocol import V1, Protocol
from voxelboard.benchmark.readers.base import NarrativeData
from voxelboard.benchmark.statistics.ceilings import explainable_variance, voxel_cc_max
from voxelboard.benchmark.statistics.extrapolation import extrapolated_ceiling
from voxelboard.benchmark.statistics.intervals import Interval, jackknife_interval
from voxelboard.benchmark.statistics.scores import voxel_correlation
from voxelboard.benchmark.tasks.encode import for_rows

FloatArray = NDArray[np.float64]


_BLOCKS = 10
_POOLS = 6  # of each size for each held-out subject: the fit is over some thousand scores
# All subjects' responses are in memory together for the extrapolation.
_EXTRAPOLATION_BYTES = 4 << 30


@dataclass(frozen=True)
class LiteratureCeiling:
    """Mean over the voxels of one region in one subject; a voxel without reliable signal counts as 0 in CCmax.

    measure : ``explainable variance`` (bias-corrected, Sahani and Linden 2003, as the Gallant laboratory's tutorials),
        ``CCmax`` (Schoppe et al. 2016), ``leave-one-out ISC`` (Nastase et al. 2019), or, of all subjects together,
        ``extrapolated ISC`` (Schrimpf et al. 2021; biased, see :mod:`~voxelboard.benchmark.statistics.extrapolation`).
    value : None where the extrapolated curve does not level off.
    interval : None where there is none.
    n : repeats, or subjects.
    """

    subject: str
    roi: str
    measure: str
    value: float | None
    interval: Interval | None
    n: int


def literature_ceilings(
    data: NarrativeData, subjects: tuple[str, ...], protocol: Protocol = V1
) -> Iterator[LiteratureCeiling]:
    """The ceilings of each subject and scored region, from the test stories; subjects are read one at a time.

    Raises
    ------
    UserError
        for a data set without repeats and without subjects in correspondence.
    """
    if data.ceiling_kind == "none":
        raise UserError(f"{data.name} has neither repeats nor subjects in correspondence: no ceiling can be known")
    if data.ceiling_kind == "repeats":
        for subject in subjects:
            yield from _from_repeats(data, subject, protocol)
        return
    everybody: FloatArray = np.zeros(1)
    for subject in data.subjects:  # each is read, added and forgotten
        everybody = everybody + _scaled(data, subject, protocol)
    for subject in subjects:
        own = _scaled(data, subject, protocol)
        both = np.stack([own, _z(everybody - own)])
        yield from _by_roi(data, subject, "leave-one-out ISC", both, _agreement, len(data.subjects))


def extrapolated_ceilings(
    data: NarrativeData, subjects: tuple[str, ...], protocol: Protocol = V1
) -> Iterator[LiteratureCeiling]:
    """The extrapolated ceiling of each scored region, of all ``subjects`` together; they are in memory at once.

    Raises
    ------
    UserError
        for a data set without subjects in correspondence, and for more data than 4 GiB.
    DataError
        for fewer than three subjects.
    """
    if data.ceiling_kind != "inter_subject":
        raise UserError(
            f"the voxels of {data.name} are not in correspondence: there is nothing to extrapolate over subjects"
        )
    if len(subjects) < 3:
        raise DataError(f"extrapolation over subjects needs three or more, got {len(subjects)}", "name more --subjects")
    first = _scaled(data, subjects[0], protocol)
    if 4 * first.size * len(subjects) > _EXTRAPOLATION_BYTES:
        fitting = _EXTRAPOLATION_BYTES // (4 * first.size)
        raise UserError(
            f"{len(subjects)} subjects of {data.name} need {4 * first.size * len(subjects) / 2**30:.1f} GiB together",
            f"name {max(fitting, 3)} or fewer --subjects",
        )
    responses = np.stack([_scaled(data, subject, protocol).astype(np.float32) for subject in subjects])
    labels = data.responses(subjects[0]).rois
    for roi in data.scored_rois:
        ceiling = extrapolated_ceiling(responses[:, :, labels == roi], max_pools=_POOLS, seed=protocol.seed)
        name = f"{len(subjects)} together"
        yield LiteratureCeiling(name, roi, "extrapolated ISC", ceiling.estimate, ceiling.interval, ceiling.n)


def _from_repeats(data: NarrativeData, subject: str, protocol: Protocol) -> Iterator[LiteratureCeiling]:
    runs = data.responses(subject).runs
    repeats = {story: runs[story] for story in _test_stories(data)}
    n_repeats = min(len(run) for run in repeats.values())
    cutoff = for_rows(protocol, data.stories).design.high_pass_s
    scaled = np.concatenate(
        [
            np.stack([_z(high_pass(repeat, data.stories[story].tr, cutoff)) for repeat in run[:n_repeats]])
            for story, run in repeats.items()
        ],
        axis=1,
    )
    yield from _by_roi(data, subject, "explainable variance", scaled, explainable_variance, n_repeats)
    yield from _by_roi(data, subject, "CCmax", scaled, _cc_max, n_repeats)


def _cc_max(repeats: FloatArray) -> FloatArray:
    ceiling = voxel_cc_max(repeats)
    return np.where(ceiling.defined, ceiling.values, 0.0)


def _agreement(both: FloatArray) -> FloatArray:
    return voxel_correlation(both[1], both[0])


def _by_roi(
    data: NarrativeData,
    subject: str,
    name: str,
    series: FloatArray,
    measure: Callable[[FloatArray], FloatArray],
    n: int,
) -> Iterator[LiteratureCeiling]:
    """Means over regions of ``measure``, which takes (n, n_rows, n_voxels) ``series`` to (n_voxels,) values."""
    labels = data.responses(subject).rois
    held = {roi: labels == roi for roi in data.scored_rois}
    blocks = np.array_split(np.arange(series.shape[1]), _BLOCKS)
    everything = measure(series)
    left_out = [measure(np.delete(series, rows, axis=1)) for rows in blocks]
    for roi, voxels in held.items():
        value = float(everything[voxels].mean())
        without = np.array([values[voxels].mean() for values in left_out])
        interval = jackknife_interval(value, without, f"jackknife over {_BLOCKS} blocks of time")
        yield LiteratureCeiling(subject, roi, name, value, interval, n)


def _test_stories(data: NarrativeData) -> tuple[str, ...]:
    return tuple(dict.fromkeys(segment.story for segment in data.split.test_segments))


def _scaled(data: NarrativeData, subject: str, protocol: Protocol) -> FloatArray:
    """(n_rows of all test stories, n_voxels): the mean over repeats, filtered and z-scored story by story."""
    runs = data.responses(subject).runs
    cutoff = for_rows(protocol, data.stories).design.high_pass_s
    return np.concatenate(
        [_z(high_pass(runs[story].mean(axis=0), data.stories[story].tr, cutoff)) for story in _test_stories(data)]
    )


def _z(values: FloatArray) -> FloatArray:
    centred = values - values.mean(axis=0)
    scaled: FloatArray = centred / centred.std(axis=0)
    return scaled
