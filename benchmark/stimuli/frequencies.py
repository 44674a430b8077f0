# SPDX-License-Identifier: Apache-2.0
"""How common a word is, from a table of counts: a confound where a table is given."""

import csv
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from voxelboard.benchmark.errors import DataError, MissingPrerequisite
from voxelboard.benchmark.stimuli.stories import Story

LOG_FREQUENCY = "log_frequency"  # the annotation that the confound band reads, (n_words, 1)


def read_word_counts(path: Path) -> dict[str, float]:
    """Word (lower case) -> count, from a .csv or .tsv with the columns word and count; equal words are added up.

    Raises
    ------
    MissingPrerequisite, DataError
        for a file that is missing, has other columns, or counts that are not positive numbers; the line is named.
    """
    if not path.is_file():
        raise MissingPrerequisite(f"there is no table of word counts {path}", "correct `frequencies:`, or leave it out")
    counts: dict[str, float] = {}
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        if not {"word", "count"} <= set(reader.fieldnames or ()):
            raise DataError(f"{path}: columns {reader.fieldnames}, expected word and count")
        for line, row in enumerate(reader, start=2):
            try:
                count = float(row["count"])
            except (TypeError, ValueError):
                count = math.nan
            if not (count > 0 and math.isfinite(count) and row["word"]):
                raise DataError(
                    f"{path}, line {line}: {row['word']!r}, {row['count']!r}; expected a word and its count"
                )
            word = row["word"].lower()
            counts[word] = counts.get(word, 0.0) + count
    if not counts:
        raise DataError(f"{path} holds no word")
    return counts


def with_log_frequency(story: Story, counts: Mapping[str, float]) -> Story:
    """The story with the log10 share of each word; a word that the table lacks is as rare as its rarest one."""
    total, rarest = sum(counts.values()), min(counts.values())
    shares = [counts.get(word.lower(), counts.get(word.lower().strip(".,;:!?\"'()"), rarest)) for word in story.words]
    column = np.log10(np.array(shares) / total)[:, None]
    return replace(story, annotations={**story.annotations, LOG_FREQUENCY: column})
