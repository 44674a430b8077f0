# SPDX-License-Identifier: Apache-2.0
"""What a plan must know of each record, kept beside the results, so that 10,000 of them need not be read each time.

An entry holds for exactly the files that it was made from: their sizes, times of change and inodes. A clock that is set does not
matter, for times are compared, not ordered. The index is only a memory: without it, or with a damaged one, records are read.
"""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from voxelboard.benchmark.atomic import replace_file
from voxelboard.benchmark.records import Record, read_record, statistics_path

_VERSION = 2
_NAME = ".index"
_SUFFIX = ".json"
_WORTH_KEEPING = 100  # records; fewer are read in no time
_Stamp = list[int]


@dataclass(frozen=True)
class RecordSummary:
    """The part of a record that decides whether it stands for a cell.

    Attributes
    ----------
    statistics : empty when the statistics are those of the record, else what is the matter.
    methods : attribution methods that it was asked for, those that its model cannot give among them; attribution_hash : of how
        they were made, empty without any.
    """

    status: str
    protocol_hash: str
    revision: str
    dataset_version: str | None
    task_version: int
    dtype: str
    partial: bool
    invalidated: str | None
    error: str
    statistics: str
    methods: list[str]
    attribution_hash: str


def summarise(path: Path) -> RecordSummary:
    """Read a record and compare the hash of its statistics; raises DataError for a damaged one."""
    record = read_record(path)
    stamp = record.attribution
    return RecordSummary(
        status=record.status,
        protocol_hash=record.protocol.hash,
        revision=record.model.revision,
        dataset_version=record.dataset.version if record.dataset else None,
        task_version=record.task_version,
        dtype=record.model.dtype,
        partial=record.partial,
        invalidated=record.invalidated,
        error=f"{record.error.kind}: {record.error.message}" if record.error else "",
        statistics=_statistics_fault(path, record) if record.status == "success" else "",
        methods=[*stamp.methods, *stamp.refused] if stamp else [],
        attribution_hash=stamp.hash if stamp else "",
    )


def _statistics_fault(path: Path, record: Record) -> str:
    # A run that is killed between the two files of a second run leaves the old record beside new statistics.
    try:
        found = hashlib.sha256(statistics_path(path).read_bytes()).hexdigest()
    except FileNotFoundError:
        return "its statistics are missing"
    return "" if found == record.statistics_sha256 else "its statistics are another run's"


class RecordIndex:
    """Summaries of the records below a folder."""

    def __init__(self, results: Path) -> None:
        self._file = results / _NAME
        self._prefix = os.fspath(self._file).removesuffix(
            _NAME
        )  # text: a path object for each of 10,000 records is slow
        self._known = self._load()
        self._changed = False

    def summary(self, path: Path) -> RecordSummary | None:
        """The summary of the record at ``path``, None when there is none; raises DataError for a damaged one."""
        stamp = _stamp(path)
        if stamp is None:
            return None
        name = os.fspath(path).removeprefix(self._prefix)
        known = self._known.get(name)
        if known is not None and known[0] == stamp:
            return known[1]
        summary = summarise(path)
        self._known[name] = (stamp, summary)
        self._changed = True
        return summary

    def save(self) -> None:
        """Write what was learned; on a disk that cannot be written it is learned again the next time."""
        if not self._changed or len(self._known) < _WORTH_KEEPING:
            return
        entries = {name: [stamp, asdict(summary)] for name, (stamp, summary) in self._known.items()}
        text = json.dumps({"version": _VERSION, "records": entries}, separators=(",", ":"))
        with suppress(OSError):
            replace_file(self._file, lambda file: file.write(text.encode()))
            self._changed = False

    def _load(self) -> dict[str, tuple[_Stamp, RecordSummary]]:
        try:
            content: dict[str, Any] = json.loads(self._file.read_bytes())
            if content["version"] != _VERSION:
                return {}
            names = {field.name for field in fields(RecordSummary)}
            return {
                name: (stamp, RecordSummary(**{key: summary[key] for key in names}))
                for name, (stamp, summary) in content["records"].items()
            }
        except (OSError, ValueError, KeyError, TypeError):
            return {}


def _stamp(path: Path) -> _Stamp | None:
    """Sizes, times and inodes of a record and its statistics."""
    name = os.fspath(path)
    try:
        record = os.stat(name)  # noqa: PTH116 - see _prefix
    except (FileNotFoundError, NotADirectoryError):
        return None
    stamp = [record.st_size, record.st_mtime_ns, record.st_ino]
    try:
        numbers = os.stat(f"{name.removesuffix(_SUFFIX)}.npz")  # noqa: PTH116 - see _prefix
    except FileNotFoundError:
        return stamp
    return [*stamp, numbers.st_size, numbers.st_mtime_ns, numbers.st_ino]
