# SPDX-License-Identifier: Apache-2.0
"""One file after the other, some at a time: each goes on where it stopped, and appears under its name only when it is right.

A file that is on its way lies beside its place as ``.NAME.part``, with the tag of its version in ``.NAME.part.json``.
"""

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from voxelboard.benchmark.atomic import replace_file
from voxelboard.benchmark.errors import DataError, MissingPrerequisite
from voxelboard.benchmark.readers.card_files import file_digest
from voxelboard.runners.fetching.archives import unpack
from voxelboard.runners.fetching.http import Interrupted, RangeRefused, get, patiently
from voxelboard.runners.fetching.remote import RemoteFile

# (file, bytes that came since the last call, whether it is complete)
Report = Callable[[RemoteFile, int, bool], None]
_RESERVE_BYTES = 100 << 20  # left free on the disk


@dataclass(frozen=True)
class Missing:
    """A file to get, and how much of it is on disk."""

    file: RemoteFile
    n_there: int


def missing_files(files: Sequence[RemoteFile], folder: Path) -> list[Missing]:
    """The files that are not in ``folder`` with the right size; of an archive, one that was not unpacked."""
    missing = []
    for file in files:
        target = _target(file, folder)
        if file.archive and _marker(target).is_file():
            continue
        if target.is_file() and file.n_bytes in (None, target.stat().st_size) and not file.archive:
            continue
        part = _part(target)
        missing.append(Missing(file, part.stat().st_size if part.is_file() else 0))
    return missing


def spoilt_files(files: Sequence[RemoteFile], folder: Path) -> list[Missing]:
    """The files that lie in ``folder`` with another hash than expected. Reads all of them."""
    spoilt = []
    for file in files:
        target = _target(file, folder)
        if target.is_file() and not file.archive and _wrong(file, target) is not None:
            spoilt.append(Missing(file, 0))
    return spoilt


def check_disk(missing: Sequence[Missing], folder: Path) -> None:
    """Raise MissingPrerequisite when what is missing does not fit on the disk."""
    needed = sum(max((item.file.n_bytes or 0) - item.n_there, 0) for item in missing)
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    if needed + _RESERVE_BYTES > free:
        raise MissingPrerequisite(
            f"{needed / 1e9:.1f} GB are missing and {free / 1e9:.1f} GB are free in {there}",
            "choose another disk with --to, or fewer --subjects",
        )


def download_all(files: Sequence[RemoteFile], folder: Path, n_at_once: int, report: Report) -> None:
    """Download files into ``folder``, ``n_at_once`` at a time. The first failure stops the others; what came stays.

    Raises
    ------
    MissingPrerequisite
        for a source that cannot be reached and a full disk.
    DataError
        for a file that came with another hash than expected, twice.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=n_at_once, thread_name_prefix="fetch") as pool:
        running = {pool.submit(download, file, folder, report, stop) for file in files}
        try:
            while running:
                done, running = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


def download(file: RemoteFile, folder: Path, report: Report, stop: threading.Event) -> None:
    """Download one file, or go on with it; as :func:`download_all`."""
    target = _target(file, folder)
    part = _part(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for last in (False, True):
            _transfer(file, part, report, stop)
            if stop.is_set():
                return
            wrong = _wrong(file, part)
            if wrong is None:
                break
            report(file, -part.stat().st_size, False)
            _forget(part)
            if last:
                raise DataError(f"{file.path} came twice with {wrong}", f"from {file.url}")
        os.replace(part, target)
        _tags(part).unlink(missing_ok=True)
        if file.archive:
            unpack(target, folder)
            replace_file(_marker(target), lambda stream: stream.write(b""))
            target.unlink()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MissingPrerequisite(
                f"the disk of {folder} is full while {file.path} comes",
                "make room; the same command goes on where this one stopped",
            ) from error
        raise MissingPrerequisite(f"cannot write {target}: {error.strerror or error}") from error
    report(file, 0, True)


def _transfer(file: RemoteFile, part: Path, report: Report, stop: threading.Event) -> None:
    """Append to ``part`` until it is complete."""
    size_before = -1

    def attempt() -> None:
        """One connection: go on after what is there, or begin again where the server cannot."""
        start = part.stat().st_size if part.is_file() else 0
        if file.n_bytes is not None and start > file.n_bytes:
            _forget(part)
            start = 0
        if start and start == file.n_bytes:
            return
        tag = _read_tag(part, file)
        if start and tag is None and file.digest is None:  # nothing would tell two versions of the file apart
            report(file, -start, False)
            start = 0
        try:
            with get(file.url, start, tag, file.headers) as answer:
                if answer.start == 0 and start:
                    report(file, -start, False)  # another version: begin again
                _write_tag(part, file, answer.etag)
                with part.open("ab" if answer.start else "wb") as stream:
                    for chunk in answer.chunks():
                        if stop.is_set():
                            return
                        stream.write(chunk)
                        report(file, len(chunk), False)
                    stream.flush()
                    os.fsync(stream.fileno())
        except RangeRefused:
            report(file, -start, False)
            _forget(part)
            raise Interrupted("the server cannot go on where the file on disk ends", 0.0) from None

    def progressed() -> bool:
        nonlocal size_before
        size = part.stat().st_size if part.is_file() else 0
        more, size_before = size > size_before >= 0, size
        return more

    def sleep(seconds: float) -> None:
        stop.wait(seconds)

    patiently(attempt, progressed, sleep)


def _wrong(file: RemoteFile, part: Path) -> str | None:
    """What is wrong with a complete file."""
    size = part.stat().st_size
    if file.n_bytes is not None and size != file.n_bytes:
        return f"{size} bytes, expected {file.n_bytes}"
    if file.digest is not None:
        name, expected = file.digest
        found = file_digest(part, name)
        if found != expected:
            return f"the {name} {found}, expected {expected}"
    return None


def _target(file: RemoteFile, folder: Path) -> Path:
    """Where a file goes; a link in the folder must not lead out of it."""
    target = folder / file.path
    if not target.parent.resolve().is_relative_to(folder.resolve()) or target.is_symlink():
        raise DataError(f"{file.path} leads out of {folder} through a link", "remove the link")
    return target


def _part(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _tags(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _marker(target: Path) -> Path:
    return target.with_name(f".{target.name}.unpacked")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _tags(part).unlink(missing_ok=True)


def _read_tag(part: Path, file: RemoteFile) -> str | None:
    """The tag of the version that ``part`` is of, if it came from the same address."""
    with suppress(OSError, ValueError):
        stored = json.loads(_tags(part).read_text(encoding="utf-8"))
        if stored.get("url") == file.url and isinstance(stored.get("etag"), str):
            return str(stored["etag"])
    return None


def _write_tag(part: Path, file: RemoteFile, etag: str | None) -> None:
    text = json.dumps({"url": file.url, "etag": etag})
    replace_file(_tags(part), lambda stream: stream.write(text.encode()))
