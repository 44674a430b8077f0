# SPDX-License-Identifier: Apache-2.0
"""The filter file of ``voxelboard nightly``: which models of the hub are looked at, and what they are entered for."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from voxelboard.benchmark.protocol import TaskName
from voxelboard.benchmark.strict_yaml import read_yaml, validate

_Word = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class HubFilter(BaseModel):
    """What a filter file says. Unknown keys and wrong values are errors with file, line and the nearest name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1]
    """Version of this form."""
    hub_tasks: Annotated[tuple[_Word, ...], Field(min_length=1)] = ("text-generation", "fill-mask")
    """Pipeline tags of the hub."""
    authors: tuple[_Word, ...] = ()
    """Only models of these accounts; empty: of all."""
    leave_out: tuple[_Word, ...] = ()
    """Models (``org/name``) that are never taken."""
    min_parameters: Annotated[int, Field(ge=0)] = 0
    max_parameters: Annotated[int, Field(ge=1)] = 10_000_000_000
    licences: tuple[_Word, ...] = ()
    """SPDX identifiers as the hub spells them (``apache-2.0``); empty: any licence that is stated."""
    min_downloads: Annotated[int, Field(ge=0)] = 0
    """In the last 30 days."""
    since: str = "1970-01-01"
    """Created on that day or later: ``YYYY-MM-DD``, or ``30 days`` before today."""
    most: Annotated[int, Field(ge=1, le=100_000)] = 200
    """Models looked at in a night for each hub task, the most downloaded first."""
    tasks: Annotated[tuple[TaskName, ...], Field(min_length=1)] = ("narrative",)
    """Tasks of voxelboard that they are queued for."""
    data: str | None = None
    """Data set, default that of each task."""
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Precision of the forward pass on a GPU."""

    @field_validator("since")
    @classmethod
    def _a_day(cls, value: str) -> str:
        _first_day(value, datetime.now(UTC))
        return value

    def first_day(self, now: datetime) -> datetime:
        """Midnight (UTC) of the day of ``since``."""
        return _first_day(self.since, now)


def read_filter(path: Path) -> HubFilter:
    """Read a filter file; raises UserError with file, line, key and what is allowed."""
    return validate(read_yaml(path), HubFilter)


def _first_day(since: str, now: datetime) -> datetime:
    number, _, unit = since.partition(" ")
    if unit in ("day", "days") and number.isdecimal() and int(number) < 100_000:
        return (now - timedelta(days=int(number))).replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        return datetime.fromisoformat(since).replace(tzinfo=UTC)
    except ValueError:
        raise ValueError(f"got {since!r}; allowed: YYYY-MM-DD or a number of days like '30 days'") from None
