# SPDX-License-Identifier: Apache-2.0
"""Looking after feature stores: what lies in them, whether its bytes are still right, and making room."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voxelboard.benchmark.features.store import digest

# A temporary file that nobody has written to for so long was left by a process that was killed.
_ABANDONED_SECONDS = 3600.0


@dataclass(frozen=True)
class StoreEntry:
    """One array of a store.

    Attributes
    ----------
    model : that it was made with, or the stage where it is not a model's.
    used_at : seconds since 1970, when it was last read or written.
    """

    path: Path
    n_bytes: int
    used_at: float
    model: str
    stage: str


def store_entries(cache: Path) -> Iterator[StoreEntry]:
    """All entries below a cache folder, also of the stores that checkpoints with code of their own have."""
    for path in sorted(cache.rglob("*.npy")):
        if path.name.startswith("."):
            continue
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # another process made room
        key = _key(path)
        model = key.get("model")
        name = model.get("model_id") if isinstance(model, dict) else model
        stage = str(key.get("stage", "?"))
        yield StoreEntry(path, status.st_size, status.st_mtime, str(name or stage), stage)


def is_intact(path: Path) -> bool:
    """Whether the bytes of an entry are those that were written: reads all of it."""
    try:
        expected = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["sha256"]
        return digest(np.load(path, mmap_mode="r", allow_pickle=False)) == str(expected)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def remove_entry(path: Path) -> None:
    """Remove an entry; the note first, so that what is left is a miss."""
    path.with_suffix(".json").unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def abandoned_files(cache: Path, *, older_than_seconds: float = _ABANDONED_SECONDS) -> Iterator[Path]:
    """Temporary files of processes that were killed while they wrote."""
    for path in sorted(cache.rglob(".*")):
        try:
            if path.is_file() and time.time() - path.stat().st_mtime > older_than_seconds:
                yield path
        except FileNotFoundError:
            continue


def _key(path: Path) -> dict[str, Any]:
    try:
        note = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return dict(note["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
