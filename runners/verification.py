# SPDX-License-Identifier: Apache-2.0
"""How far a record can be believed: its form checked, one subject measured again, or all of them.

A second measurement that moves a score by more than max(3 SE, 0.001) replaces nothing and stamps nothing: it opens a
report beside the record. What agrees is stamped with tier, day and the hash of the second measurement.
"""

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, get_args

from voxelboard.benchmark.atomic import replace_file
from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError
from voxelboard.benchmark.protocol import load_protocol
from voxelboard.benchmark.records import Record, Verification, read_record, read_statistics, write_record
from voxelboard.benchmark.revision import resolved_revision
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.submission import Submission
from voxelboard.runners.capacity import capacity
from voxelboard.runners.execution import choose_workers, execute_stages
from voxelboard.runners.facts import task_facts
from voxelboard.runners.launching import Launch
from voxelboard.runners.plan import make_plan
from voxelboard.runners.selection import select_submissions
from voxelboard.runners.staging import stages_of
from voxelboard.runners.workers.child import SCIENCE
from voxelboard.runners.workers.screen import PoolScreen

TIERS: Final[tuple[Verification, ...]] = get_args(Verification)
STANDARD_ERRORS, SMALLEST = 3.0, 0.001


@dataclass(frozen=True)
class Difference:
    """A score measured twice."""

    name: str
    before: float | None
    after: float | None
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Within the tolerance, or missing both times."""
        if self.before is None or self.after is None:
            return self.before is self.after
        return abs(self.before - self.after) <= self.tolerance


@dataclass(frozen=True)
class Verdict:
    """What became of one record; ``report`` is the file that was opened when a score moved."""

    path: Path
    tier: Verification
    differences: tuple[Difference, ...] = ()
    report: Path | None = None


def stored_records(place: Path) -> list[tuple[Path, Record]]:
    """The successful records of a file or a folder, their form and statistics checked.

    Raises
    ------
    DataError
        for a damaged record, or statistics that are not the ones recorded.
    UserError
        when there is none.
    """
    names = {"schema.json", "queue.json"}
    files = [place] if place.is_file() else [f for f in sorted(place.rglob("*.json")) if f.name not in names]
    found = []
    for file in files:
        if file.name.startswith("."):
            continue
        record = read_record(file)
        if record.status == "success":
            read_statistics(file, record)
            found.append((file, record))
    if not found:
        raise UserError(f"no record with scores at {place}", "name a record's JSON file, or a folder of records")
    return found


def choose_one(records: Sequence[tuple[Path, Record]], seed: int) -> tuple[Path, Record]:
    """The record that is measured again, at random by ``seed``."""
    return random.Random(seed).choice(sorted(records, key=lambda item: str(item[0])))


def submission_of(record: Record, asked: str | None, data: str) -> Submission:
    """The submission of a record: that of its name, or the one in the file ``asked``.

    Raises
    ------
    UserError
        for one of another name or commit.
    """
    facts = task_facts(record.task, data)
    (submission,) = select_submissions([asked or record.model.submission], facts.dataset, record.task, facts.rows)
    revision = resolved_revision(submission)
    if (submission.label, revision) != (record.model.submission, record.model.revision):
        raise UserError(
            f"{submission.label} at {revision[:12]} is not {record.model.submission} at {record.model.revision[:12]}",
            "name the submission that the record was made from with -m",
        )
    return submission


def measure_again(
    record: Record, submission: Submission, data: str, settings: Settings, how: Launch, *, science: str = SCIENCE
) -> Record:
    """Measure a record's cell afresh, in a folder of its own and with no stored feature.

    Raises
    ------
    MissingPrerequisite
        when it cannot be measured here.
    DataError
        when weights, stimuli or responses are others than the record's.
    """
    settings = replace(settings, protocol=load_protocol(record.protocol.name), fresh=True, dtype=record.model.dtype)
    facts = task_facts(record.task, data)
    with tempfile.TemporaryDirectory(prefix="voxelboard-verify-") as folder:
        plan = make_plan(
            [submission],
            facts.name,
            facts.version,
            facts.dataset,
            settings.protocol,
            Path(folder),
            subjects=[record.subject],
            data=facts.data,
        )
        workers = choose_workers(1, settings.device, 1, capacity())
        stages = stages_of(plan, settings, workers)
        with PoolScreen(plan, stages, quiet=how.quiet, verbose=how.verbose) as screen:
            outcome = execute_stages(stages, Path(folder), workers, screen, fenced=how.isolation, science=science)
    if outcome.failed:
        _, kind, message = outcome.failed[0]
        raise MissingPrerequisite(f"{record.model.submission} could not be measured again ({kind}): {message}")
    _, again = outcome.stored[0]
    for what, old, new in (
        ("protocol", record.protocol.hash, again.protocol.hash),
        ("weights", record.model.weights_sha256, again.model.weights_sha256),
        ("stimuli", record.dataset and record.dataset.stimuli_sha256, again.dataset and again.dataset.stimuli_sha256),
        (
            "responses",
            record.dataset and record.dataset.responses_sha256,
            again.dataset and again.dataset.responses_sha256,
        ),
    ):
        if old != new:
            raise DataError(
                f"{record.model.submission}, {record.subject}: the {what} here are not those of the record "
                f"({str(new)[:12]}, not {str(old)[:12]})",
                "a record can only be verified on the same data with the same weights",
            )
    return again


def compare(record: Record, again: Record) -> tuple[Difference, ...]:
    """Every score of both, with what it may differ by: three of its standard errors, or .001 if that is more."""
    found = []
    for name in sorted({*record.scores, *again.scores}):
        old, new = record.scores.get(name), again.scores.get(name)
        error = (old.standard_error if old else None) or 0.0
        found.append(
            Difference(
                name,
                old.estimate if old else None,
                new.estimate if new else None,
                max(STANDARD_ERRORS * error, SMALLEST),
            )
        )
    return tuple(found)


def settle(path: Path, record: Record, again: Record, tier: Verification) -> Verdict:
    """Stamp a record that agrees with a second measurement, or open a report and leave it as it is."""
    differences = compare(record, again)
    if all(difference.agrees for difference in differences):
        stamp(path, record, tier, again.digest)
        return Verdict(path, tier, differences)
    report = path.with_suffix(".report.md")
    lines = [
        f"# {record.model.submission} · {record.task} · {record.subject}",
        "",
        (
            f"Measured again on {_today()}. At least one score moved by more than max({STANDARD_ERRORS:g} SE, {SMALLEST:g}); the "
            "stored record was not changed."
        ),
        "",
        f"Digest of the record `{record.digest}`, of the second measurement `{again.digest}`.",
        "",
        "| score | stored | measured again | may differ by | |",
        "|---|---|---|---|---|",
    ]
    for one in differences:
        values = ["–" if value is None else f"{value:.4f}" for value in (one.before, one.after)]
        lines.append(
            f"| {one.name} | {values[0]} | {values[1]} | {one.tolerance:.4f} | {'' if one.agrees else 'moved'} |"
        )
    replace_file(report, lambda file: file.write(("\n".join(lines) + "\n").encode()))
    return Verdict(path, record.verification, differences, report)


def stamp(path: Path, record: Record, tier: Verification, digest: str) -> Record:
    """Write the tier with day and hash into a record; a higher one stays as it is."""
    if TIERS.index(record.verification) > TIERS.index(tier):
        return record
    edit = {"what": "verification", "tier": tier, "date": _today(), "hash": digest}
    return write_record(path, record.model_copy(update={"verification": tier, "edits": (*record.edits, edit)}))


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
