# SPDX-License-Identifier: Apache-2.0
"""Whether the files in a folder are those of a card: sizes first, then hashes."""

import hashlib
from collections.abc import Callable, Collection
from pathlib import Path

from voxelboard.benchmark.errors import DataError, MissingPrerequisite
from voxelboard.benchmark.readers.card_sources import CardFile
from voxelboard.benchmark.readers.cards import Card

_CHUNK_BYTES = 1 << 20

# Called with (file, bytes verified so far, bytes in all) of the whole card.
VerifyProgress = Callable[[str, int, int], None]


def verify_files(
    card: Card,
    folder: Path,
    progress: VerifyProgress | None = None,
    *,
    subjects: Collection[str] | None = None,
    stories: Collection[str] | None = None,
) -> None:
    """Check size and hash of every file of a card, and that something matches every pattern.

    Of the files that belong to a subject, those of a subject of whom nothing is there are not missed, unless nobody is
    there: :func:`files_here`.

    Parameters
    ----------
    subjects, stories : only the files of these, and those of nobody and no story; default as above.

    Raises
    ------
    MissingPrerequisite
        for a folder or file that is not there.
    DataError
        for the first file of another size or hash than the card's, naming it, what was expected and what was found.
    """
    if not folder.is_dir():
        raise MissingPrerequisite(f"{card.name}: there is no folder {folder}")
    for pattern in card.file_patterns:
        if not any(path.is_file() for path in folder.glob(pattern.any_name)):
            raise MissingPrerequisite(
                f"{card.name}: no file {pattern.any_name} ({pattern.what}) in {folder}", how_to_get(card)
            )
    files = files_here(card, folder) if subjects is None else card.files
    files = wanted_files(files, subjects, stories)
    for file in files:  # sizes first: a truncated download shows at once
        _check_size(card, file, folder / file.path)
    total = sum((folder / file.path).stat().st_size for file in files)
    done = 0
    for file in files:
        start = done

        def report(n_bytes: int, path: str = file.path, start: int = start) -> None:
            if progress is not None:
                progress(path, start + n_bytes, total)

        name, expected = file.digest
        found = file_digest(folder / file.path, name, report)
        done += (folder / file.path).stat().st_size
        if found != expected:
            raise DataError(
                f"{card.name}: {file.path} has {name.upper().replace('SHA', 'SHA-')} {found}, the card says {expected}",
                f"get the file again: {how_to_get(card)}",
            )


def file_digest(path: Path, name: str, progress: Callable[[int], None] | None = None) -> str:
    """Hexadecimal hash ``name`` (sha256, sha1, md5) of a file; ``progress`` gets the bytes read so far."""
    digest = hashlib.new(name, usedforsecurity=False)
    done = 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done)
    return digest.hexdigest()


def wanted_files(
    files: Collection[CardFile], subjects: Collection[str] | None, stories: Collection[str] | None
) -> tuple[CardFile, ...]:
    """The files of these subjects and stories, and those that belong to nobody and no story."""
    return tuple(
        file
        for file in files
        if (subjects is None or file.subject is None or file.subject in subjects)
        and (stories is None or file.story is None or file.story in stories)
    )


def files_here(card: Card, folder: Path) -> tuple[CardFile, ...]:
    """The files that must be in ``folder``: those of nobody, and of each subject of whom a file is there."""
    owned = [file for file in card.files if file.subject is not None]
    here = {file.subject for file in owned if (folder / file.path).is_file()} or {file.subject for file in owned}
    return tuple(file for file in card.files if file.subject is None or file.subject in here)


def how_to_get(card: Card) -> str:
    """The next step of who lacks a file."""
    if card.source.location is not None or any(file.url for file in card.files):
        return f"voxelboard data fetch {card.name}"
    return f"get it from {card.source.url or 'its source'}"


def _check_size(card: Card, file: CardFile, path: Path) -> None:
    if not path.is_file():
        raise MissingPrerequisite(
            f"{card.name}: {file.path} is missing in {path.parent}",
            f"the card lists {len(card.files)} files; {how_to_get(card)}",
        )
    size = path.stat().st_size
    if file.n_bytes is not None and size != file.n_bytes:
        raise DataError(
            f"{card.name}: {file.path} has {size} bytes, the card says {file.n_bytes}",
            "the file is truncated or of another release: get it again",
        )
