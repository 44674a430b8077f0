# SPDX-License-Identifier: Apache-2.0
"""Files that unfold: refuse what claims to hold far more than its bytes could, before memory is taken for it."""

import tokenize
import zipfile
import zlib
from typing import Any, Final

import numpy as np

from voxelboard.benchmark.errors import DataError

# Deflate packs zeros 1,032 times; no recording comes near. Small files may do what they like.
MOST_TIMES: Final = 500
SMALL_BYTES: Final = 256 << 20


def check_unfolding(name: str, unfolded: int, stored: int) -> None:
    """Refuse ``stored`` bytes that would become ``unfolded`` ones.

    Raises
    ------
    DataError
        for more than 256 MiB out of less than a five-hundredth of that.
    """
    if unfolded > SMALL_BYTES and unfolded > MOST_TIMES * stored:
        raise DataError(
            f"{name} would unfold from {stored:,} to {unfolded:,} bytes: an archive bomb, or damaged",
            "get the file from its source again",
        )


def check_npz(archive: zipfile.ZipFile, name: str) -> None:
    """Refuse an ``.npz`` that unfolds, or whose arrays claim another size than their bytes have; reads headers only.

    Raises
    ------
    DataError
        as :func:`check_unfolding`, and for a header that does not fit its data.
    """
    members = archive.infolist()
    check_unfolding(name, sum(member.file_size for member in members), sum(member.compress_size for member in members))
    for member in members:
        if member.filename.endswith(".npy"):
            with archive.open(member) as file:
                claimed = _npy_bytes(file, f"{name}, {member.filename}")
            if claimed is not None and claimed != member.file_size:
                raise DataError(
                    f"{name}, {member.filename}: the header claims {claimed:,} bytes, there are {member.file_size:,}",
                    "get the file from its source again",
                )


def _npy_bytes(file: Any, name: str) -> int | None:
    """Bytes of an array with its header, None for one that numpy will refuse anyway."""
    try:
        version = np.lib.format.read_magic(file)  # no more than the header: damage behind it concerns who reads it
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    except (zipfile.BadZipFile, zlib.error, SyntaxError, tokenize.TokenError):
        return None  # damaged bytes: whoever reads this array is told, the others stay readable
    except ValueError as error:
        raise DataError(f"{name} is no array: {error}", "get the file from its source again") from error
    if dtype.hasobject:
        return None
    return int(file.tell()) + dtype.itemsize * int(np.prod([int(length) for length in shape], dtype=object))
