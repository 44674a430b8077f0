# SPDX-License-Identifier: Apache-2.0
"""The feature store: arrays under the hash of everything that determines them.

One ``.npy`` file an entry and one line of JSON beside it with the array's SHA-256. Entries are written under a
temporary name and renamed, memory-mapped on read after their hash was checked, and the least recently used ones go
when the store outgrows its bound. A flipped field is another key, never a stale hit; a flipped bit is found.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.atomic import replace_file
from voxelboard.benchmark.errors import StorageError, UserError
from voxelboard.benchmark.protocol import hash_json

Array = NDArray[np.float32]

DEFAULT_BYTES = 50 * 2**30
_SIZE = re.compile(r"(?P<number>[0-9]+(\.[0-9]+)?)\s*(?P<unit>[KMGT]i?B?|B)?", re.IGNORECASE)


def default_store_folder() -> Path:
    """``$VOXELBOARD_CACHE``, else ``~/.cache/voxelboard``."""
    return Path(os.environ.get("VOXELBOARD_CACHE") or Path.home() / ".cache" / "voxelboard") / "features"


def default_store_bytes() -> int:
    """``$VOXELBOARD_CACHE_SIZE`` (``20GiB``), else 50 GiB; raises UserError for what is no size."""
    given = os.environ.get("VOXELBOARD_CACHE_SIZE")
    return parse_bytes(given, "VOXELBOARD_CACHE_SIZE") if given else DEFAULT_BYTES


def parse_bytes(text: str, name: str) -> int:
    """``20GiB``, ``500M`` or a number of bytes; the units are powers of 1024. ``name`` is for the message."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UserError(f"{name} {text!r} is no size; write it like 20GiB, 500MiB or 1000000")
    unit = (match["unit"] or "B").upper()
    return int(float(match["number"]) * 1024 ** "BKMGT".index(unit[0]))


@dataclass
class FeatureStore:
    """A bounded, verified, content-addressed folder of float32 arrays.

    Parameters
    ----------
    folder : where entries lie; made when missing.
    max_bytes : bound on all entries together.
    fresh : True recomputes every entry that is asked for, once.
    """

    folder: Path
    max_bytes: int = field(default_factory=default_store_bytes)
    fresh: bool = False
    hits: int = 0
    misses: int = 0

    def get(self, key: dict[str, Any], compute: Callable[[], Array]) -> Array:
        """The array of ``key``: read and verified when stored, else computed and stored.

        ``key`` is plain JSON and must hold every input of ``compute``. The result is read-only.

        Raises
        ------
        StorageError
            when the store cannot be written.
        """
        path = self._path(key)
        if not self.fresh:
            stored = self._read(path)
            if stored is not None:
                self.hits += 1
                return stored
        self.misses += 1
        array = np.ascontiguousarray(compute(), dtype=np.float32)
        self._write(path, key, array)
        try:
            # from disk like a stored one: the features of a large model on all stories would not fit into memory
            mapped: Array = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:  # another run needed its room at once
            array.flags.writeable = False
            return array
        return mapped

    def has(self, key: dict[str, Any]) -> bool:
        """Whether :meth:`get` would read the array of ``key`` instead of computing it, damage aside."""
        return not self.fresh and self._path(key).is_file()

    def _path(self, key: dict[str, Any]) -> Path:
        name = hash_json(key)
        return self.folder / name[:2] / f"{name}.npy"

    def _read(self, path: Path) -> Array | None:
        try:
            expected = json.loads(path.with_suffix(".json").read_text())["sha256"]
            array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, KeyError):
            return None  # absent or cut off: computed again, the entry is replaced whole
        if digest(array) != expected:
            return None
        with suppress(OSError):  # on a disk that is read-only nobody keeps count
            os.utime(path)
        return array

    def _write(self, path: Path, key: dict[str, Any], array: Array) -> None:
        try:
            self._make_room(array.nbytes, keep=path)
            note = json.dumps({"sha256": digest(array), "key": key}, sort_keys=True).encode()
            replace_file(path, lambda file: np.save(file, array, allow_pickle=False))
            replace_file(path.with_suffix(".json"), lambda file: file.write(note))
        except OSError as error:
            # numpy says only how many bytes went out
            full = shutil.disk_usage(self.folder).free < array.nbytes if self.folder.is_dir() else False
            why = error.strerror or (os.strerror(errno.ENOSPC) if full else str(error))
            raise StorageError(
                f"cannot write to the feature store {self.folder}: {why}",
                "free some space, or point VOXELBOARD_CACHE at another disk; the run resumes",
            ) from error

    def _make_room(self, needed: int, keep: Path) -> None:
        entries = [(path.stat(), path) for path in self.folder.glob("*/*.npy") if path != keep]
        total = sum(stat.st_size for stat, _ in entries) + needed
        for stat, path in sorted(entries, key=lambda entry: (entry[0].st_mtime_ns, entry[1].name)):
            if total <= self.max_bytes:
                return
            path.with_suffix(".json").unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            total -= stat.st_size


def digest(array: Array) -> str:
    """SHA-256 of type, shape and numbers, as the note beside an entry holds it."""
    found = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
