# SPDX-License-Identifier: Apache-2.0
"""Arrays that may be larger than memory: they lie on disk, and are gone when nobody uses them any more."""

import mmap
import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import MissingPrerequisite

# Smaller arrays stay in memory; larger ones are written once and read in blocks, which costs little beside the fit.
IN_MEMORY_BYTES = 2 << 30


def working_array(shape: tuple[int, ...], folder: Path, in_memory_bytes: int = IN_MEMORY_BYTES) -> NDArray[np.float32]:
    """An uninitialised float32 array: in memory, or in a nameless file of ``folder`` when it is larger than the bound.

    The file has no name from the start, so that it is gone after a crash, too.

    Raises
    ------
    MissingPrerequisite
        when the disk has no room for it: told now, not by a crash in the middle of writing.
    """
    n_bytes = 4 * int(np.prod(shape, dtype=np.int64))
    if n_bytes <= in_memory_bytes:
        return np.empty(shape, dtype=np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder, prefix="scratch.") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, n_bytes)  # a sparse file would kill the process on a full disk
        except OSError as error:
            raise MissingPrerequisite(
                f"{folder} has no room for {n_bytes / 2**30:.1f} GiB of prepared responses: {error.strerror or error}",
                "free some space, point VOXELBOARD_CACHE at another disk, or run fewer subjects at a time",
            ) from error
        mapped = mmap.mmap(file.fileno(), n_bytes)
    return np.frombuffer(mapped, dtype=np.float32).reshape(shape)
