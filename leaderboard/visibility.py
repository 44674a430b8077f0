# SPDX-License-Identifier: Apache-2.0
"""Which records a board may show to others."""

from collections.abc import Iterable
from datetime import date

from voxelboard.benchmark.records import Record, without_private_paths
from voxelboard.leaderboard.gating import Located

_EMBARGO = "embargo:"


def is_public(visibility: str, today: date | None) -> bool:
    """Whether a record with this visibility may be published on a day; no day: before any embargo ends.

    An embargo ends with the beginning of its date. Whatever cannot be read is not public.
    """
    if visibility == "public":
        return True
    if today is None or not visibility.startswith(_EMBARGO):
        return False
    try:
        return date.fromisoformat(visibility.removeprefix(_EMBARGO)) <= today
    except ValueError:
        return False


def public_records(records: Iterable[Located], today: date | None) -> list[Located]:
    """The records that may be published."""
    return [(path, record) for path, record in records if is_public(record.model.visibility, today)]


def published(record: Record) -> Record:
    """The record as a board ships it: without the command line and folders of a machine, whatever an older writer left in."""
    record = without_private_paths(record)
    if record.environment is None or not record.environment.command:
        return record
    return record.model_copy(update={"environment": record.environment.model_copy(update={"command": ""})})
