# SPDX-License-Identifier: Apache-2.0
"""Blank et al. 2014, in Brain-Score's form: eight stories in fragments of two seconds, twelve language regions of five people.

The amplitudes of a fragment were measured four seconds after it: the assembly has no time any more, so a fragment is what a
sentence is elsewhere. Whole stories are left out.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError, UserError
from voxelboard.benchmark.readers.assemblies import read_assembly
from voxelboard.benchmark.readers.cards import Card
from voxelboard.benchmark.readers.sentence_sets import SHUFFLED, SentenceRow, SentenceSet

ASSEMBLY = "assy_Blank2014_fROI.nc"


def open_blank2014(card: Card, folder: Path, variant: str) -> SentenceSet:
    """All stories; ``shuffled-leak`` deals fragments to folds, as the first analyses of these data did.

    Raises
    ------
    UserError
        for an unknown variant.
    MissingPrerequisite, DataError
        for an assembly that is missing, damaged, or lacks regions.
    """
    if variant not in ("", SHUFFLED):
        raise UserError(f"{card.name} has no variant {variant!r}", f"write {card.name}, or {card.name}:{SHUFFLED}")
    assembly = read_assembly(folder / ASSEMBLY, f"voxelboard data fetch {card.name}")
    stories = assembly.coordinate("presentation", "story").astype(str)
    keys = [
        stories,
        *(
            assembly.presentation[name]
            for name in ("sentence_number_in_story", "part_number_in_sentence")
            if name in assembly.presentation
        ),
    ]
    order = np.lexsort(keys[::-1])
    texts = assembly.coordinate("presentation", "stimulus", "stimulus_sentence")[order]
    rows = [SentenceRow(str(text), story, story) for text, story in zip(texts, stories[order], strict=True)]
    owners = assembly.coordinate("neuroid", "subject_id", "subject_UID").astype(str)
    areas = assembly.coordinate("neuroid", "fROI_area").astype(str)

    def read(subject: str) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
        column = {area: int(k) for k, area in enumerate(areas) if owners[k] == subject}
        missing = [area for area in card.scored_rois if area not in column]
        if missing:
            raise DataError(f"subject {subject} has no region {', '.join(missing)}", "leave this subject out")
        amplitudes = assembly.values[order][:, [column[area] for area in card.scored_rois]]
        return amplitudes[None], np.array(card.scored_rois)

    subjects = tuple(subject for subject in card.subjects if subject in set(owners.tolist()))
    name = f"{card.name}:{variant}" if variant else card.name
    return SentenceSet(
        card, name, rows, subjects, read, n_folds=len(set(stories.tolist())), shuffled=variant == SHUFFLED
    )
