# SPDX-License-Identifier: Apache-2.0
"""Ceilings of a data set as its literature reports them: to compare with, beside the pooled ones that scores are divided by.

Each run is high-passed as in the protocol and z-scored; nothing is trimmed. Without the filter drift hides the agreement of
listeners whose release is not filtered (LIFG of Alice: .14 instead of .21).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.filters import high_pass
from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.protocol import V1, Protocol
from voxelboard.benchmark.readers.base import NarrativeData
from voxelboard.benchmark.statistics.ceilings import explainable_variance, voxel_cc_max
from voxelboard.benchmark.tasks.encode import for_rows

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class LiteratureCeiling:
    """Mean over the voxels of one region in one subject; a voxel without reliable signal counts as 0 in CCmax.

    measure : ``explainable variance`` (bias-corrected, Sahani and Linden 2003, as the Gallant laboratory's tutorials),
        ``CCmax`` (Schoppe et al. 2016) or ``leave-one-out ISC`` (Nastase et al. 2019).
    n : repeats, or subjects.
    """

    subject: str
    roi: str
    measure: str
    value: float
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
    cutoff = for_rows(protocol, data.stories).design.high_pass_s
    stories = tuple(dict.fromkeys(segment.story for segment in data.split.test_segments))
    if data.ceiling_kind == "repeats":
        for subject in subjects:
            yield from _from_repeats(data, subject, stories, cutoff)
        return
    everybody: FloatArray = np.zeros(1)
    for subject in data.subjects:  # each is read, added and forgotten
        everybody = everybody + _scaled(data, subject, stories, cutoff)
    for subject in subjects:
        own = _scaled(data, subject, stories, cutoff)
        others = _z(everybody - own)
        correlation = (own * others).mean(axis=0)
        yield from _by_roi(data, subject, "leave-one-out ISC", correlation, len(data.subjects))


def _from_repeats(
    data: NarrativeData, subject: str, stories: tuple[str, ...], cutoff: float
) -> Iterator[LiteratureCeiling]:
    runs = data.responses(subject).runs
    repeats = {story: runs[story] for story in stories}
    n_repeats = min(len(run) for run in repeats.values())
    scaled = np.concatenate(
        [
            np.stack([_z(high_pass(repeat, data.stories[story].tr, cutoff)) for repeat in run[:n_repeats]])
            for story, run in repeats.items()
        ],
        axis=1,
    )
    yield from _by_roi(data, subject, "explainable variance", explainable_variance(scaled), n_repeats)
    ceiling = voxel_cc_max(scaled)
    yield from _by_roi(data, subject, "CCmax", np.where(ceiling.defined, ceiling.values, 0.0), n_repeats)


def _by_roi(data: NarrativeData, subject: str, measure: str, values: FloatArray, n: int) -> Iterator[LiteratureCeiling]:
    labels = data.responses(subject).rois
    for roi in data.scored_rois:
        yield LiteratureCeiling(subject, roi, measure, float(values[labels == roi].mean()), n)


def _scaled(data: NarrativeData, subject: str, stories: tuple[str, ...], cutoff: float) -> FloatArray:
    """(n_rows of all test stories, n_voxels): the mean over repeats, filtered and z-scored story by story."""
    runs = data.responses(subject).runs
    return np.concatenate(
        [_z(high_pass(runs[story].mean(axis=0), data.stories[story].tr, cutoff)) for story in stories]
    )


def _z(values: FloatArray) -> FloatArray:
    centred = values - values.mean(axis=0)
    scaled: FloatArray = centred / centred.std(axis=0)
    return scaled
