# SPDX-License-Identifier: Apache-2.0
"""A corpus as a stream of passages: lines of text files, read one after the other, whatever their size."""

import gzip
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path
from typing import IO, TypeVar, cast

from voxelboard.benchmark.errors import DataError, MissingPrerequisite
from voxelboard.benchmark.stimuli.syntax import MOST_CHARACTERS

Item = TypeVar("Item")

SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Passage:
    """A line of a file, or a piece of a long one.

    Attributes
    ----------
    file, line : where it stands, for messages; lines count from 1.
    text : without blanks at its ends.
    """

    file: str
    line: int
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def fraction(self) -> float:
        """A number from 0 to 1 that depends on the text alone: which passages are held out, or left out."""
        return int(self.sha256[:12], 16) / 16**12


def batches(items: Iterable[Item], size: int) -> Iterator[tuple[Item, ...]]:
    """``size`` items at a time, the last ones fewer."""
    iterator = iter(items)
    while batch := tuple(islice(iterator, size)):
        yield batch


def corpus_files(source: Path, exclude: Sequence[str] = ()) -> list[Path]:
    """The files of a corpus, in the order of their names.

    Parameters
    ----------
    source : a file, or a folder with files of ``SUFFIXES``, at any depth.
    exclude : patterns of file names that are left out (``lewis-carroll_*``).

    Raises
    ------
    MissingPrerequisite
        when there is no such file or folder.
    DataError
        for a folder without such files, and a pattern that fits none.
    """
    if not source.exists():
        raise MissingPrerequisite(f"there is no file or folder {source}", "give the folder that holds the corpus")
    files = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.name.endswith(SUFFIXES))
    for pattern in exclude:
        if not any(fnmatch(path.name, pattern) for path in files):
            raise DataError(f"no file of {source} fits {pattern!r}, which is to be left out", "correct --exclude")
    kept = [path for path in files if not any(fnmatch(path.name, pattern) for pattern in exclude)]
    if not kept:
        raise DataError(f"{source} holds no text", f"files that are read: {', '.join('*' + s for s in SUFFIXES)}")
    return kept


def read_passages(files: Sequence[Path]) -> Iterator[Passage]:
    """All passages of the files, one line in memory at a time; empty lines are left out.

    Text files are read by lines; ``.jsonl`` and ``.parquet`` through the ``datasets`` library as streams, their column ``text``.

    Raises
    ------
    DataError
        for a file that is not UTF-8, damaged or has no column ``text``, and when no file has any text.
    """
    found = False
    for path in files:
        for number, line in enumerate(_lines(path), start=1):
            for text in split_passage(line, f"{path.name}, line {number}"):
                found = True
                yield Passage(path.name, number, text)
    if not found:
        names = ", ".join(path.name for path in files[:3])
        raise DataError(f"the corpus is empty: no text in {names}", "give a folder with text files")


def split_passage(line: str, where: str) -> list[str]:
    """A line in pieces of at most ``MOST_CHARACTERS``, cut at the last end of a sentence, or else at the last blank.

    Raises
    ------
    DataError
        for a run of that many characters without a blank: it is no text.
    """
    pieces = []
    rest = line.strip()
    while len(rest) > MOST_CHARACTERS:
        head = rest[:MOST_CHARACTERS]
        cut = max(head.rfind(mark) for mark in (". ", "? ", "! ")) + 1 or head.rfind(" ")
        if cut <= 0:
            raise DataError(
                f"{where}: {len(rest):,} characters, {MOST_CHARACTERS:,} of them without a blank: this is no text",
                "take the line out of the corpus",
            )
        pieces.append(rest[:cut].strip())
        rest = rest[cut:].strip()
    return [*pieces, rest] if rest else pieces


def _lines(path: Path) -> Iterator[str]:
    if path.name.endswith((".jsonl", ".parquet")):
        yield from _rows(path)
        return
    try:
        with cast("IO[bytes]", gzip.open(path)) if path.suffix == ".gz" else path.open("rb") as file:
            for line in file:
                yield line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8: {error}", "convert it: iconv -f latin1 -t utf-8") from error
    except (gzip.BadGzipFile, EOFError, OSError) as error:
        raise DataError(f"{path.name} cannot be read: {error}", "get the file again") from error


def _rows(path: Path) -> Iterator[str]:
    from datasets import load_dataset

    kind = "json" if path.suffix == ".jsonl" else "parquet"
    stream = load_dataset(kind, data_files=str(path), split="train", streaming=True)
    try:
        for row in stream:
            text = row.get("text")
            if not isinstance(text, str):
                raise DataError(f"{path.name}: a row without a column 'text'", f"its columns: {', '.join(row)}")
            yield text
    except (OSError, ValueError) as error:
        raise DataError(f"{path.name} cannot be read: {error}", "get the file again") from error
