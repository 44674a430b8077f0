# SPDX-License-Identifier: Apache-2.0
"""Brennan et al. 2016: 27 listeners of the first chapter of *Alice in Wonderland*, six regions of interest."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError, MissingPrerequisite, unknown_name
from voxelboard.benchmark.protocol import TaskName
from voxelboard.benchmark.readers.base import (
    CeilingKind,
    DatasetKind,
    Responses,
    StaticVectors,
    check_responses,
    leave_one_segment_out,
    require_subject,
)
from voxelboard.benchmark.readers.cards import Card, SegmentSplit
from voxelboard.benchmark.stimuli.stories import Story, make_story
from voxelboard.benchmark.stimuli.textgrid import read_textgrid, word_intervals

FloatArray = NDArray[np.float64]

REGIONS = ("LATL", "RATL", "LPTL", "LIPL", "LPreM", "LIFG")  # the columns of a file, in order
RADII = ("6mm", "10mm")
N_TRS = 362
_TEXTGRID = "stimulus/DownTheRabbitHoleFinal_exp120_pad_1.TextGrid"
_SOUND_POWER = "responses/s18-sndpwr.txt"
# The ten first volumes were discarded, so response row 0 is second 20 of the recording. Checked: the word rate of the
# TextGrid, HRF-convolved, correlates best with the published rate predictor (362 rows) at a lag of 20.0 s (r = .99).
_DISCARDED_VOLUMES = 10
# The published sound power is already HRF-convolved. Two TRs earlier, the protocol's delays of 1 to 4 TR become lags of
# -1 to +2 TR around it; unmoved they start after its peak and leave more of the sound in LPTL (R2 .035, moved .042).
_SOUND_ADVANCE_TRS = 2


class Alice2016:
    """Six regional time-courses of 27 listeners; satisfies ``NarrativeData``.

    One story, heard once by everybody: it is cut into contiguous segments that are left out in turn. The trims of the
    protocol, 5 TRs at either end of a segment, leave 10 TRs between training and test.

    Parameters
    ----------
    card : of the data set; ``options["radius"]`` is that of the regions.
    folder : that holds the card's files.

    Raises
    ------
    MissingPrerequisite, DataError
        for a TextGrid or sound power that is missing or damaged.
    """

    kind: DatasetKind
    task: TaskName = "narrative"
    ceiling_kind: CeilingKind
    static_vectors: StaticVectors | None

    def __init__(self, card: Card, folder: Path) -> None:
        if not isinstance(card.split, SegmentSplit):
            raise DataError(f"card {card.name}: this reader needs a split by segments")
        radius = card.options.get("radius", RADII[0])
        if radius not in RADII:
            raise unknown_name("radius", radius, RADII)
        self.name = card.name
        self.version = card.version
        self.kind = card.kind
        self.ceiling_kind = card.ceiling_kind
        self.subjects = card.subjects
        self.scored_rois = card.scored_rois
        self.static_vectors = None
        self._folder = folder
        self._radius = radius
        story = _read_story(card.split.story, folder, card.tr_s)
        self.stories: Mapping[str, Story] = MappingProxyType({story.name: story})
        self.split = leave_one_segment_out(story.name, story.n_trs, card.split.n_segments)

    def responses(self, subject: str) -> Responses:
        """The six regions of one subject: story -> (1, 362, 6) float32, scanner units.

        Raises
        ------
        UserError
            for an unknown subject.
        MissingPrerequisite, DataError
            for a file that is missing, of another shape, or with constant or missing values.
        """
        require_subject(self.name, subject, self.subjects)
        path = self._folder / "responses" / self._radius / f"{subject}-timecourses.txt"
        table = _read_table(path, (N_TRS, len(REGIONS)))
        (story,) = self.stories
        run = table.astype(np.float32)[None]
        responses = Responses(subject, MappingProxyType({story: run}), np.array(REGIONS))
        check_responses(responses, self.stories, min_trs=1)
        return responses


def _read_story(name: str, folder: Path, tr: float) -> Story:
    path = folder / _TEXTGRID
    tiers = [tier for tier in read_textgrid(path) if tier.name == "word"]
    if not tiers:
        raise DataError(f"{path.name} has no tier called 'word'", "get the file again")
    words = word_intervals(tiers[0])
    clock = _DISCARDED_VOLUMES * tr
    sound = _read_table(folder / _SOUND_POWER, (N_TRS, 1))
    advanced = np.concatenate([sound[_SOUND_ADVANCE_TRS:], np.repeat(sound[-1:], _SOUND_ADVANCE_TRS, axis=0)])
    return make_story(
        name,
        [word.label for word in words],
        [word.start - clock for word in words],
        [word.stop - clock for word in words],
        n_trs=N_TRS,
        tr=tr,
        acoustics=advanced,
    )


def _read_table(path: Path, shape: tuple[int, int]) -> FloatArray:
    """A text table of numbers, which must have ``shape``."""
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        raise MissingPrerequisite(f"there is no file {path}", "voxelboard data verify alice2016") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not a table of numbers: {error}", "get the file again") from error
    try:
        table = np.array([[float(cell) for cell in line.split()] for line in text.splitlines() if line.strip()])
    except ValueError as error:
        raise DataError(f"{path.name} is not a table of numbers: {error}", "get the file again") from error
    if table.shape != shape:
        raise DataError(f"{path.name}: a table of shape {table.shape}, expected {shape}", "get the file again")
    return table
