# SPDX-License-Identifier: Apache-2.0
"""A story: the words that a listener heard, when, and the text that a model reads."""

import hashlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError

FloatArray = NDArray[np.float64]
RowUnit = Literal["TR", "sentence"]


@dataclass(frozen=True, eq=False)
class Story:
    """The timed words of one run, on the clock of its responses. Build it with :func:`make_story`.

    Attributes
    ----------
    name : unique within the data set.
    words : (n_words,) as heard.
    onsets, offsets : (n_words,) seconds after the start of the first response row (TR 0 covers ``[0, tr)``).
    n_trs : rows of the responses to this story.
    tr : seconds.
    text : what a model reads.
    spans : (n_words,) pairs; ``text[start:stop]`` is the word.
    acoustics : (n_trs, n_bands) from the audio at the rows of the responses, or None where a data set has none.
    annotations : name -> (n_words, n_columns); tables that come with the words (log frequency, planted latents).
    row_unit : what a row of the responses is: a TR, or a whole sentence (an amplitude; ``tr`` is then 1 and means nothing).
    text_starts : the words with which a text begins that knows nothing of what comes before it: passages of a set.
    """

    name: str
    words: tuple[str, ...]
    onsets: FloatArray
    offsets: FloatArray
    n_trs: int
    tr: float
    text: str
    spans: tuple[tuple[int, int], ...]
    acoustics: FloatArray | None = None
    annotations: Mapping[str, FloatArray] = field(default_factory=dict)
    row_unit: RowUnit = "TR"
    text_starts: tuple[int, ...] = (0,)

    def text_start(self, word: int) -> int:
        """The first word of the text that ``word`` belongs to."""
        return self.text_starts[bisect_right(self.text_starts, word) - 1]

    @property
    def word_places(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """(n_words,) twice: words before it in its own text, and words of that text."""
        lengths = np.diff([*self.text_starts, self.n_words])
        starts = np.repeat(self.text_starts, lengths)
        return np.arange(self.n_words) - starts, np.repeat(lengths, lengths)

    @property
    def n_words(self) -> int:
        return len(self.words)

    @property
    def word_trs(self) -> NDArray[np.intp]:
        """(n_words,) the TR in which each word starts."""
        return np.minimum((self.onsets / self.tr).astype(np.intp), self.n_trs - 1)

    @property
    def text_sha256(self) -> str:
        """Hash of what a model reads: text and word boundaries, not times."""
        digest = hashlib.sha256(self.text.encode())
        digest.update(np.asarray(self.spans, dtype="<i8").tobytes())
        if self.text_starts != (0,):
            digest.update(np.asarray(self.text_starts, dtype="<i8").tobytes())
        return digest.hexdigest()

    @property
    def sha256(self) -> str:
        """Hash of all that determines features: text, word boundaries, times, TR and number of rows."""
        digest = hashlib.sha256(self.text_sha256.encode())
        for times in (self.onsets, self.offsets):
            digest.update(np.asarray(times, dtype="<f8").tobytes())
        digest.update(f"{self.n_trs}|{self.tr!r}".encode())
        if self.row_unit != "TR":
            digest.update(self.row_unit.encode())
        if self.acoustics is not None:
            digest.update(np.asarray(self.acoustics, dtype="<f8").tobytes())
        for name in sorted(self.annotations):
            digest.update(name.encode())
            digest.update(np.asarray(self.annotations[name], dtype="<f8").tobytes())
        return digest.hexdigest()


def join_words(words: Sequence[str]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Join words with single blanks; return the text and each word's character span."""
    spans, start = [], 0
    for word in words:
        spans.append((start, start + len(word)))
        start += len(word) + 1
    return " ".join(words), tuple(spans)


def make_story(
    name: str,
    words: Sequence[str],
    onsets: Sequence[float] | FloatArray,
    offsets: Sequence[float] | FloatArray,
    *,
    n_trs: int,
    tr: float,
    text: str | None = None,
    spans: Sequence[tuple[int, int]] | None = None,
    acoustics: FloatArray | None = None,
    annotations: Mapping[str, FloatArray] | None = None,
    row_unit: RowUnit = "TR",
    text_starts: Sequence[int] = (0,),
) -> Story:
    """Check timed words against the scan and build a :class:`Story`.

    Without ``text`` the words are joined with blanks. Arguments as in :class:`Story`.

    Raises
    ------
    DataError
        for a story without words, an empty word, a word without a time, times out of order, beyond the scan or
        before it, spans that are not the words, and annotations or acoustics of another length.
    """
    on = np.asarray(onsets, dtype=np.float64)
    off = np.asarray(offsets, dtype=np.float64)
    if text is None or spans is None:
        text, spans = join_words(words)
    story = Story(
        name=name,
        words=tuple(words),
        onsets=on,
        offsets=off,
        n_trs=n_trs,
        tr=tr,
        text=text,
        spans=tuple((int(a), int(b)) for a, b in spans),
        acoustics=acoustics,
        annotations=dict(annotations or {}),
        row_unit=row_unit,
        text_starts=tuple(text_starts),
    )
    _check_words(story)
    _check_times(story)
    _check_tables(story)
    return story


def _check_words(story: Story) -> None:
    if not story.words:
        raise DataError(f"story {story.name!r} has no words", "check the transcript's path and format")
    starts = story.text_starts
    if starts[:1] != (0,) or list(starts) != sorted(set(starts)) or starts[-1] >= story.n_words:
        raise DataError(f"story {story.name!r}: texts start at the words {starts}, expected 0 and later words in order")
    if len(story.spans) != story.n_words:
        raise DataError(f"story {story.name!r}: {story.n_words} words but {len(story.spans)} text spans")
    for i, (word, (start, stop)) in enumerate(zip(story.words, story.spans, strict=True)):
        if not word.strip():
            raise DataError(f"story {story.name!r}: word {i} is empty", "drop pauses before building the story")
        if not 0 <= start < stop <= len(story.text):
            raise DataError(f"story {story.name!r}: span {start}:{stop} of word {i} {word!r} lies outside the text")


def _check_times(story: Story) -> None:
    if len(story.onsets) != story.n_words or len(story.offsets) != story.n_words:
        raise DataError(
            f"story {story.name!r}: {story.n_words} words but {len(story.onsets)} onsets and "
            f"{len(story.offsets)} offsets"
        )
    if story.tr <= 0 or story.n_trs < 1:
        raise DataError(f"story {story.name!r}: TR {story.tr} s and {story.n_trs} rows; both must be positive")

    def refuse(bad: NDArray[np.bool_], what: str, hint: str) -> None:
        if bad.any():
            i = int(np.argmax(bad))
            raise DataError(
                f"story {story.name!r}: word {i} {story.words[i]!r} {what} "
                f"(onset {story.onsets[i]} s, offset {story.offsets[i]} s)",
                hint,
            )

    refuse(
        ~(np.isfinite(story.onsets) & np.isfinite(story.offsets)), "has no time", "align it or drop it from the table"
    )
    refuse(story.offsets < story.onsets, "ends before it starts", "check the columns of the word table")
    refuse(np.diff(story.onsets, prepend=-np.inf) < 0, "starts before the word before it", "sort the words by onset")
    refuse(story.onsets < 0, "starts before the first response row", "drop words of the trimmed volumes")
    end = story.n_trs * story.tr
    refuse(story.onsets >= end, f"starts beyond the scan of {story.n_trs} x {story.tr} s", "check TR and trimming")


def _check_tables(story: Story) -> None:
    if story.acoustics is not None and (story.acoustics.ndim != 2 or len(story.acoustics) != story.n_trs):
        raise DataError(
            f"story {story.name!r}: acoustics have shape {story.acoustics.shape}, expected ({story.n_trs}, n_bands)"
        )
    for name, table in story.annotations.items():
        if table.ndim != 2 or len(table) != story.n_words:
            raise DataError(
                f"story {story.name!r}: annotation {name!r} has shape {table.shape}, "
                f"expected ({story.n_words}, n_columns)"
            )
