# SPDX-License-Identifier: Apache-2.0
"""Timed transcripts in the forms that laboratories have: word tables, BIDS events, WhisperX, Whisper or Gentle JSON, TextGrids.

All become a :class:`WordTable`. Which form a file has is told by its name, and for tables by their columns.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from voxelboard.benchmark.errors import DataError, MissingPrerequisite
from voxelboard.benchmark.stimuli.textgrid import Tier, read_textgrid
from voxelboard.benchmark.stimuli.word_tables import WordTable, fill_times, read_word_table

SUFFIXES = (".csv", ".tsv", ".json", ".textgrid")
# What aligners put in the place of words, in any letter case and any brackets: pauses, noise, breath, laughter, sentence edges.
NOT_WORDS = frozenset(
    {"", "sp", "sil", "spn", "ns", "br", "lg", "ls", "cg", "sentence_start", "sentence_end", "noise", "laughter"}
)
_WORD_TIERS = frozenset({"word", "words", "ort", "maus"})


def read_transcript(path: Path) -> WordTable:
    """Read the words and times of a file that ends in .csv, .tsv, .json or .TextGrid.

    Words that the aligner did not find stand evenly between their neighbours; marks that are no words are left out. In JSON and
    TextGrids a word that starts before the word before it starts with it, so that the order of the transcript stays.

    Raises
    ------
    MissingPrerequisite
        when there is no such file.
    DataError
        for a file that is damaged or of none of these forms.
    """
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return read_word_table(path)
    if suffix == ".json":
        return _read_json(path)
    if suffix == ".textgrid":
        return _in_order(path, [(i.label.strip(), i.start, i.stop) for i in _word_tier(path).intervals])
    raise DataError(f"{path.name} is no transcript", f"known are files that end in {', '.join(SUFFIXES)}")


def _word_tier(path: Path) -> Tier:
    tiers = read_textgrid(path)
    named = [tier for tier in tiers if tier.name.strip().lower() in _WORD_TIERS]
    if not named:
        raise DataError(
            f"{path.name} has no tier of words, its tiers are {', '.join(tier.name for tier in tiers) or 'none'}",
            f"call it {' or '.join(sorted(_WORD_TIERS))}",
        )
    return named[0]


def _read_json(path: Path) -> WordTable:
    """WhisperX and Whisper: segments with words; Gentle: words with a case; or a plain list of words."""
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise MissingPrerequisite(f"there is no transcript {path}") from None
    except ValueError as error:
        raise DataError(f"{path.name} is truncated or damaged: {error}", "get the file again") from error
    words = _json_words(value)
    if words is None:
        raise DataError(
            f"{path.name} holds no words with times",
            "known are the outputs of WhisperX, Whisper (word timestamps) and Gentle",
        )
    return _in_order(path, [_json_word(path, k, word) for k, word in enumerate(words)])


def _json_words(value: Any) -> list[Any] | None:
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        return None
    segments = value.get("segments")
    if isinstance(segments, list) and all(isinstance(s, dict) and isinstance(s.get("words"), list) for s in segments):
        return [word for segment in segments for word in segment["words"]]
    for key in ("words", "word_segments"):
        if isinstance(value.get(key), list):
            return list(value[key])
    return None


def _json_word(path: Path, number: int, word: Any) -> tuple[str, float, float]:
    text = word.get("word", word.get("text")) if isinstance(word, dict) else None
    if not isinstance(text, str):
        raise DataError(f"{path.name}, word {number}: {str(word)[:60]!r} has no text")
    times = [word.get("start", word.get("onset")), word.get("end", word.get("offset"))]
    seconds = [float("nan") if time is None else time for time in times]  # WhisperX leaves numerals without times
    if not all(isinstance(time, int | float) and not np.isinf(time) for time in seconds):
        raise DataError(f"{path.name}, word {number} {text.strip()!r}: the times {times} are no seconds")
    return text.strip(), float(seconds[0]), float(seconds[1])


def _in_order(path: Path, marks: Sequence[tuple[str, float, float]]) -> WordTable:
    words = [mark for mark in marks if mark[0].strip("{}[]()<> ").lower() not in NOT_WORDS]
    if not words:
        raise DataError(f"{path.name} holds no words")
    on = np.array([start if stop == stop else np.nan for _, start, stop in words])  # noqa: PLR0124 - NaN
    off = np.array([stop if start == start else np.nan for _, start, stop in words])  # noqa: PLR0124 - NaN
    known = np.isfinite(on)
    on[known] = np.maximum.accumulate(on[known])
    off[known] = np.maximum(on[known], off[known])
    onsets, offsets = fill_times(on, off)
    n_filled = int((~known).sum() - np.isnan(onsets).sum())
    return WordTable(tuple(text for text, _, _ in words), onsets, offsets, n_filled)
