# SPDX-License-Identifier: Apache-2.0
"""Files that unfold: refuse what claims to hold far more than its bytes could, before memory is taken for it."""

import io
import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

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
                raise _unlike_claim(f"{name}, {member.filename}", claimed, member.file_size)


def read_npz(packed: bytes, name: str, wanted: Callable[[str], bool] = lambda _: True) -> dict[str, NDArray[Any]]:
    """The arrays of an ``.npz`` whose name is ``wanted``, each member opened once; refuses what :func:`check_npz` refuses.

    Parameters
    ----------
    packed : the whole file.
    name : of the file, for messages.

    Raises
    ------
    DataError
        as :func:`check_npz`, and for an array that numpy would have to unpickle.
    zipfile.BadZipFile
        when it is no archive or a member is damaged.
    """
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        members = archive.infolist()
        check_unfolding(name, sum(one.file_size for one in members), sum(one.compress_size for one in members))
        for member in members:
            key = member.filename.removesuffix(".npy")
            if wanted(key):
                arrays[key] = _array(_member(packed, member), f"{name}, {member.filename}")
    return arrays


def _member(packed: bytes, member: zipfile.ZipInfo) -> bytes:
    """The bytes of a member: ``ZipFile.read`` takes five times as long for members of a few hundred bytes."""
    start = member.header_offset
    if packed[start : start + 4] != b"PK\x03\x04":
        raise zipfile.BadZipFile(f"no member at {start}")
    n_name, n_extra = (int.from_bytes(packed[start + at : start + at + 2], "little") for at in (26, 28))
    start += 30 + n_name + n_extra
    data = packed[start : start + member.compress_size]
    if member.compress_type == zipfile.ZIP_DEFLATED:
        try:  # one byte more than was claimed shows a lie, and no lie takes more memory than that
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.file_size + 1)
        except zlib.error as error:
            raise zipfile.BadZipFile(f"{member.filename}: {error}") from error
    elif member.compress_type != zipfile.ZIP_STORED:
        raise zipfile.BadZipFile(f"{member.filename}: compressed by method {member.compress_type}")
    if len(data) != member.file_size or zlib.crc32(data) != member.CRC:
        raise zipfile.BadZipFile(f"{member.filename} is damaged")
    return data


def _array(data: bytes, name: str) -> NDArray[Any]:
    """An array from the bytes of an ``.npy`` file, a copy that may be written to."""
    length = 10 + int.from_bytes(data[8:10], "little")  # of a header of version 1.0, the only one that we write
    try:
        if data[:8] == b"\x93NUMPY\x01\x00":
            shape, by_column, dtype = _header(data[:length])
        else:
            file = io.BytesIO(data)
            np.lib.format.read_magic(file)
            shape, by_column, dtype = np.lib.format.read_array_header_2_0(file)
            length = file.tell()
    except (ValueError, SyntaxError, tokenize.TokenError) as error:
        raise DataError(f"{name} is no array: {error}", "get the file from its source again") from error
    if dtype.hasobject:
        raise DataError(f"{name} holds Python objects, expected numbers or text", "get the file from its source again")
    claimed = length + dtype.itemsize * math.prod(shape)
    if claimed != len(data):
        raise _unlike_claim(name, claimed, len(data))
    flat = np.frombuffer(data, dtype, offset=length) if dtype.itemsize else np.zeros(math.prod(shape), dtype)
    return flat.reshape(shape[::-1]).T.copy(order="F") if by_column else flat.reshape(shape).copy()


@lru_cache(maxsize=4096)
def _header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type; the records of a board have the same few headers, and numpy takes 50 us to read one."""
    file = io.BytesIO(header)
    np.lib.format.read_magic(file)
    return np.lib.format.read_array_header_1_0(file)


def _unlike_claim(name: str, claimed: int, found: int) -> DataError:
    return DataError(
        f"{name}: the header claims {claimed:,} bytes, there are {found:,}", "get the file from its source again"
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
