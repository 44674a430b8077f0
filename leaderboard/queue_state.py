# SPDX-License-Identifier: Apache-2.0
"""What waits to be scored: a snapshot of the queue (``queue.json``) in the folder of records or beside it."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from voxelboard.benchmark.errors import DataError

QUEUE_FILE = "queue.json"


class _Frozen(BaseModel):
    # a newer queue may say more than this board shows
    model_config = ConfigDict(extra="ignore", frozen=True)


class QueueRequest(_Frozen):
    """One submission on one task and data set."""

    submission: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    revision: str = ""
    task: str = ""
    data: str = ""
    protocol: str = ""
    reason: str = ""
    attempts: int = 0
    added_at: str = ""
    changed_at: str = ""


class SkippedModel(_Frozen):
    """A model that a nightly run passed over."""

    model: str
    reason: str
    revision: str = ""
    seen_at: str = ""


class QueueSnapshot(_Frozen):
    """The whole queue as it was written."""

    schema_version: Literal[1]
    requests: tuple[QueueRequest, ...] = ()
    skipped: tuple[SkippedModel, ...] = ()


def read_queue(results: Path) -> QueueSnapshot | None:
    """The snapshot in the folder of records or beside it; None where there is no queue.

    Raises
    ------
    DataError
        when the file is damaged or of another version.
    """
    for path in (results / QUEUE_FILE, results.resolve().parent / QUEUE_FILE):
        if path.is_file():
            try:
                return QueueSnapshot.model_validate_json(path.read_bytes())
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"]) or "the file"
                raise DataError(
                    f"{path}: {where}: {first['msg']}", "`voxelboard queue ls` writes it again; or remove it"
                ) from error
    return None
