# SPDX-License-Identifier: Apache-2.0
"""Unpacking archives from the web: regular files and folders only, and nothing outside of the folder."""

import shutil
import tarfile
import zipfile
from pathlib import Path

from voxelboard.benchmark.errors import DataError, MissingPrerequisite
from voxelboard.benchmark.readers.card_sources import inside_the_folder
from voxelboard.benchmark.unfolding import check_unfolding


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a .tar, .tar.gz, .tgz or .zip into ``folder``.

    Raises
    ------
    DataError
        before anything is written, for an archive that is damaged or holds links, devices, or paths that leave the folder.
    MissingPrerequisite
        when its contents do not fit on the disk.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                members = packed.infolist()
                _check(archive, folder, [(m.filename, m.file_size, _is_link(m)) for m in members])
                packed.extractall(folder)  # noqa: S202 - names were checked
            return
        with tarfile.open(archive) as packed_tar:
            entries = packed_tar.getmembers()
            _check(archive, folder, [(m.name, m.size, not (m.isfile() or m.isdir())) for m in entries])
            packed_tar.extractall(folder, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{archive.name} is not an archive, or damaged: {error}", "get it again") from error


def _is_link(member: zipfile.ZipInfo) -> bool:
    return (member.external_attr >> 16) & 0o170000 == 0o120000


def _check(archive: Path, folder: Path, members: list[tuple[str, int, bool]]) -> None:
    for name, _, special in members:
        try:
            inside_the_folder(name)
        except ValueError as error:
            raise DataError(f"{archive.name} holds {name!r}, which leads out of the data set's folder") from error
        if special:
            raise DataError(f"{archive.name} holds {name!r}, which is a link or a device")
        if not (folder / name).parent.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{archive.name}: {name!r} leads out of {folder} through a link")
    check_unfolding(archive.name, sum(size for _, size, _ in members), archive.stat().st_size)
    needed, free = sum(size for _, size, _ in members), shutil.disk_usage(folder).free
    if needed > free:
        raise MissingPrerequisite(f"{archive.name} unpacks to {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")
