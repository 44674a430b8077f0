# SPDX-License-Identifier: Apache-2.0
"""Takes a record from the folder that a process wrote it in to the place where it belongs, if it is what was asked for."""

import os
from pathlib import Path

from voxelboard.benchmark.errors import DataError, StorageError
from voxelboard.benchmark.records import Record, read_record, read_statistics, statistics_path
from voxelboard.runners.plan import Cell


def adopt_record(source: Path, cell: Cell, protocol_hash: str) -> Record:
    """Check the record at ``source`` and move it and its statistics to the cell's place; the statistics first.

    Raises
    ------
    DataError
        for a record that is not whole, or is another cell's.
    StorageError
        when the place cannot be written.
    """
    if source.is_symlink() or statistics_path(source).is_symlink():
        raise DataError(f"{source} is a link, expected a record")
    record = read_record(source)
    read_statistics(source, record)
    for what, got, wanted in (
        ("status", record.status, "success"),
        ("model", record.model.submission, cell.submission.label),
        ("revision", record.model.revision, cell.revision),
        ("task", record.task, cell.task),
        ("subject", record.subject, cell.subject),
        ("data set", record.dataset.name if record.dataset else "", cell.dataset),
        ("protocol", record.protocol.hash, protocol_hash),
        ("visibility", record.model.visibility, cell.submission.visibility),
        ("verification", record.verification, "self-reported"),
    ):
        if got != wanted:
            raise DataError(f"the process of {cell.label} wrote a record with {what} {got!r}, expected {wanted!r}")
    try:
        cell.path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(statistics_path(source), statistics_path(cell.path))
        os.replace(source, cell.path)
    except OSError as error:
        raise StorageError(
            f"cannot write the record {cell.path}: {error.strerror or error}",
            "free some space or choose another folder with --output, then run the same command: it resumes",
        ) from error
    return record
