# SPDX-License-Identifier: Apache-2.0
"""Two text formats of second-by-second annotations.

*Tables*: one line a second, one column an annotator, separated by tabs, ``..`` for nothing; the form in which the
analysis of Nakagi et al. 2024 reads them. Whether the first line is a header cannot be seen from a table of words: read
as data it shifts every text by a second, and a table without header that is read as if it had one silently loses second
0. So the caller says what the file has, and the number of lines must agree with the run.

*Each-second files* of OpenNeuro ds005531: one line a second, the text behind the first ``]``; transcripts mark the
spoken words with a word for "main" and ``#``, then ``speaker:text`` separated by ``/``; other levels separate
annotators by ``/``.
"""

from collections.abc import Sequence
from pathlib import Path

from voxelboard.benchmark.errors import DataError, MissingPrerequisite
from voxelboard.benchmark.stimuli.annotations import Annotation

EMPTY = ".."
_MAIN_MARK = "メイン#"
_UNCLEAR = "不明"  # "unclear": the transcriber could not tell
_HEADER_WORDS = ("annotator", "annot", "rater", "coder", "column", "text", "worker")


def read_table(path: Path, n_seconds: int, n_annotators: int, *, header: bool = False) -> Annotation:
    """Read a tab-separated table of annotators.

    Parameters
    ----------
    n_seconds : of the run; the file has that many lines of data.
    n_annotators : columns.
    header : whether the first line names the columns.

    Raises
    ------
    DataError
        for another number of lines or columns, for a header taken for data, and for text that is not UTF-8.
    """
    lines = read_lines(path)
    rows = [[cell.strip() for cell in line.split("\t")] for line in lines]
    if header and rows:
        if len(rows) == n_seconds:
            raise DataError(
                f"{path.name}: {n_seconds} lines for a run of {n_seconds} s, and the first was to be skipped as a "
                "header: second 0 would be lost",
                "the file has no header: read it with header=False",
            )
        rows = rows[1:]
    elif len(rows) == n_seconds + 1 and looks_like_header(rows[0]):
        raise DataError(
            f"{path.name}: {len(rows)} lines for a run of {n_seconds} s; the first, {lines[0][:60]!r}, is a header "
            "and not the text of second 0",
            "read it with header=True",
        )
    check_length(path, len(rows), n_seconds)
    for second, row in enumerate(rows):
        if len(row) != n_annotators:
            raise DataError(
                f"{path.name}, second {second}: {len(row)} columns, expected {n_annotators} annotators",
                f"separate annotators by tabs and write {EMPTY} where one wrote nothing",
            )
    return Annotation(tuple(tuple(clean(cell) for cell in column) for column in zip(*rows, strict=True)))


def read_each_second(path: Path, n_seconds: int, n_annotators: int, *, speech: bool) -> Annotation:
    """Read an each-second file of ds005531.

    Parameters
    ----------
    n_annotators : most texts of a line that are not speech; fewer stand for annotators who wrote nothing.
    speech : a transcript: one annotator, the utterances of a second joined by a blank, speakers left out.

    Raises
    ------
    DataError
        for another number of lines than seconds, a line without ``]``, a transcript line without its mark, and a line
        with more texts than annotators.
    """
    lines = read_lines(path)
    check_length(path, len(lines), n_seconds)
    rows = [_each_second(path, second, line, speech=speech) for second, line in enumerate(lines)]
    if speech:
        return Annotation((tuple(" ".join(text for text in row if text) for row in rows),))
    for second, row in enumerate(rows):
        if len(row) > n_annotators:
            raise DataError(
                f"{path.name}, second {second}: {len(row)} texts separated by '/', at most {n_annotators} annotators",
                "a '/' inside a text splits it: correct the line, or raise the number of annotators of the card",
            )
    padded = [[*row, *[""] * (n_annotators - len(row))] for row in rows]
    return Annotation(tuple(tuple(column) for column in zip(*padded, strict=True)))


def _each_second(path: Path, second: int, line: str, *, speech: bool) -> list[str]:
    _, bracket, text = line.partition("]")
    if not bracket:
        raise DataError(
            f"{path.name}, second {second}: no ']' in {line[:60]!r}",
            "each line starts with its time in brackets, as [00:00:00]",
        )
    if not speech:
        return [clean(part) for part in text.split("/")]
    _, mark, spoken = text.partition(_MAIN_MARK)
    if not mark:
        raise DataError(f"{path.name}, second {second}: no {_MAIN_MARK!r} in {line[:60]!r}", "get the file again")
    return [clean(part.partition(":")[2] if ":" in part else part) for part in spoken.split("/")]


def clean(text: str) -> str:
    """A text without surrounding blanks; ``..`` and "unclear" are nothing, wide blanks are taken out."""
    text = text.replace("\u3000", "").replace(_UNCLEAR, EMPTY).strip()
    return "" if not text.strip(". ") else text


def looks_like_header(row: Sequence[str]) -> bool:
    """Whether the cells of a first line name columns: short labels with the words that headers use, or numbers."""
    cells = [cell.lower() for cell in row if cell]
    named = [any(word in cell for word in _HEADER_WORDS) or cell.isdecimal() for cell in cells]
    return bool(cells) and all(named) and all(len(cell.split()) <= 2 for cell in cells)


def check_length(path: Path, n_lines: int, n_seconds: int) -> None:
    """Raise DataError unless there is a line for each second."""
    if n_lines != n_seconds:
        longer = "longer" if n_lines > n_seconds else "shorter"
        raise DataError(
            f"{path.name}: {n_lines} lines, {longer} than the run ({n_seconds} s)",
            "one line a second: check that annotation and responses come from the same cut of the film",
        )


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file, a byte order mark and the empty end left out."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise MissingPrerequisite(f"there is no file {path}") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path.name} is not UTF-8 (byte {error.start})", "convert it: iconv -f CP932 -t UTF-8"
        ) from None
    lines = text.split("\n")
    return [line.rstrip("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]
