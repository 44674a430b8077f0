# SPDX-License-Identifier: Apache-2.0
"""How far a record can be believed: its scores computed again, and one fold, one subject or all of them measured again.

A second measurement that moves a score by more than max(3 SE, 0.001) replaces nothing and stamps nothing: it opens a
report beside the record. So does a score that its own statistics do not give. What agrees is stamped with tier, day and the
hash of the second measurement.
"""

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, get_args

import numpy as np

from voxelboard.benchmark.atomic import replace_file
from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError
from voxelboard.benchmark.protocol import load_protocol
from voxelboard.benchmark.readers.registry import open_dataset
from voxelboard.benchmark.records import Arrays, Record, Verification, read_record, read_statistics, write_record
from voxelboard.benchmark.revision import resolved_revision
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.submission import Submission
from voxelboard.benchmark.tasks.recompute import fold_scores, only_segments, recomputed_scores, stored_statistics
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
_SILENT = 1e-5  # of the power of raw predictions
_ROUNDING = 1e-9  # sums of another machine differ in their last digits; on one machine bytes are equal


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
    fold: int | None = None

    @property
    def told(self) -> tuple[Difference, ...]:
        """What is worth telling: every score measured twice, and those that are not what their statistics give."""
        return tuple(one for one in self.differences if one.tolerance != _ROUNDING or not one.agrees)


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
) -> tuple[Record, Arrays]:
    """Measure a record's cell afresh, or the fold of it that ``settings`` names, in a folder of its own and with no stored
    feature.

    Raises
    ------
    MissingPrerequisite
        when it cannot be measured here.
    DataError
        when weights, stimuli or responses are others than the record's.
    """
    protocol = load_protocol(record.protocol.name)
    settings = replace(settings, protocol=protocol, fresh=True, dtype=record.model.dtype)
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
        for cell, again in outcome.stored:
            _require_same(record, again)
            return again, read_statistics(cell.path, again)
    _, kind, message = outcome.failed[0]
    raise MissingPrerequisite(f"{record.model.submission} could not be measured again ({kind}): {message}")


def _require_same(record: Record, again: Record) -> None:
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


def compare(record: Record, again: Record) -> tuple[Difference, ...]:
    """Every score of the record, with what it may differ by: three of its standard errors, or .001 if that is more.

    A score that is measured since the record was written is no claim of it, and is not compared.
    """
    found = []
    for name, old in sorted(record.scores.items()):
        new = again.scores.get(name)
        tolerance = max(STANDARD_ERRORS * (old.standard_error or 0.0), SMALLEST)
        found.append(Difference(name, old.estimate, new.estimate if new else None, tolerance))
    return tuple(found)


def recompute(record: Record, arrays: Arrays) -> tuple[Difference, ...]:
    """Every score of a record, and by ROI, that its statistics give, as a difference of two numbers that must be the same.

    Raises
    ------
    DataError
        for a record of another protocol than the one of that name here: its scores are not those of these functions.
    """
    protocol = load_protocol(record.protocol.name)
    if record.protocol.hash != protocol.hash_of(record.task):
        raise DataError(
            f"{record.model.submission}, {record.subject}: measured by another protocol {protocol.name} "
            f"({record.protocol.hash[:12]}, not {protocol.hash_of(record.task)[:12]})",
            "score it again: voxelboard run",
        )
    found = []
    for name, estimates in recomputed_scores(record, arrays, protocol.score).items():
        for roi, estimate in estimates.items():
            said = record.scores.get(name) if roi is None else record.by_roi.get(roi, {}).get(name)
            label = f"{name} from its statistics" if roi is None else f"{name} of {roi} from its statistics"
            found += [
                Difference(f"{label}{part}", getattr(said, key, None), getattr(estimate, key), _ROUNDING)
                for key, part in (("estimate", ""), ("standard_error", ", SE"), ("low", ", low"), ("high", ", high"))
            ]
    return tuple(found)


def choose_fold(record: Record, data: str, seed: int) -> int | None:
    """The outer fold that is measured again, at random by ``seed``; None where folds cannot be measured apart."""
    if record.task != "narrative":
        return None
    n_folds = len(open_dataset(data, record.task).split.folds)
    return random.Random(seed).randrange(n_folds) if n_folds > 1 else None


def check_again(
    path: Path,
    record: Record,
    asked: str | None,
    data: str,
    settings: Settings,
    how: Launch,
    tier: Verification,
) -> Verdict:
    """Compute a record's scores again, measure it again (or the fold of ``settings``), and stamp it or open a report.

    Raises
    ------
    UserError, MissingPrerequisite, DataError
        as :func:`submission_of`, :func:`measure_again` and :func:`recompute`.
    """
    arrays = read_statistics(path, record)
    sums = recompute(record, arrays)
    again, found = measure_again(record, submission_of(record, asked, data), data, settings, how)
    if settings.fold is None:
        differences = compare(record, again)
    else:
        segments = fold_segments(data, record.task, settings.fold)
        differences = compare_fold(record, arrays, found, segments, [str(roi) for roi in arrays["rois"].tolist()])
    return settle(path, record, (*differences, *sums), tier, again.digest, settings.fold)


def compare_fold(
    record: Record, arrays: Arrays, again: Arrays, segments: range, scored: Sequence[str]
) -> tuple[Difference, ...]:
    """The headline and the raw score of each ROI on the test segments of one fold, which may differ as whole scores may."""
    found = []
    for name, row in (("unique", "unique"), ("normalised", "raw")):
        stored = stored_statistics(arrays, row)
        signal = stored.s.mean(axis=0)
        old, error = fold_scores(only_segments(stored, segments), np.where(signal > 0, signal, 1.0))
        fresh = stored_statistics(again, row)
        new, _ = fold_scores(fresh, np.where(signal > 0, signal, 1.0))
        # predictions that are constant but for rounding were stored as 0: what rounding says has no score
        silent = only_segments(stored, segments).q.sum(axis=0) == 0
        silent &= fresh.q.sum(axis=0) <= _SILENT * stored_statistics(again, "raw").q.sum(axis=0)
        for i, roi in enumerate(scored):
            estimate = record.by_roi.get(roi, {}).get(name)
            if signal[i] > 0 and not silent[i] and estimate is not None and estimate.estimate is not None:
                tolerance = max(STANDARD_ERRORS * float(error[i]), SMALLEST)
                found.append(Difference(f"{name} of {roi}", float(old[i]), float(new[i]), tolerance))
    return tuple(found)


def fold_segments(data: str, task: str, fold: int) -> range:
    """Numbers of the test segments of a fold, in the order of a record's statistics."""
    counts = [len(test) for _, test in open_dataset(data, task).split.folds]
    start = sum(counts[:fold])
    return range(start, start + counts[fold])


def settle(
    path: Path,
    record: Record,
    differences: Sequence[Difference],
    tier: Verification,
    digest: str,
    fold: int | None = None,
) -> Verdict:
    """Stamp a record that agrees with a second measurement, or open a report and leave it as it is.

    ``digest`` is the hash of the second measurement, ``fold`` the one that was measured, None for all of them.
    """
    if all(difference.agrees for difference in differences):
        stamp(path, record, tier, digest, fold)
        return Verdict(path, tier, tuple(differences), fold=fold)
    verdict = Verdict(path, record.verification, tuple(differences), path.with_suffix(".report.md"), fold)
    lines = [
        f"# {record.model.submission} · {record.task} · {record.subject}",
        "",
        (
            f"Measured again on {_today()}{'' if fold is None else f', fold {fold}'}. At least one score moved by more than "
            f"max({STANDARD_ERRORS:g} SE, {SMALLEST:g}), or is not what its statistics give; the stored record was not changed."
        ),
        "",
        f"Digest of the record `{record.digest}`, of the second measurement `{digest}`.",
        "",
        "| score | stored | measured again | may differ by | |",
        "|---|---|---|---|---|",
    ]
    for one in verdict.told:
        values = ["–" if value is None else f"{value:.4f}" for value in (one.before, one.after)]
        lines.append(
            f"| {one.name} | {values[0]} | {values[1]} | {one.tolerance:.4f} | {'' if one.agrees else 'moved'} |"
        )
    replace_file(path.with_suffix(".report.md"), lambda file: file.write(("\n".join(lines) + "\n").encode()))
    return verdict


def stamp(path: Path, record: Record, tier: Verification, digest: str, fold: int | None = None) -> Record:
    """Write the tier with day and hash into a record; a higher one stays as it is."""
    if TIERS.index(record.verification) > TIERS.index(tier):
        return record
    edit = {"what": "verification", "tier": tier, "date": _today(), "hash": digest}
    edit |= {} if fold is None else {"fold": str(fold)}
    return write_record(path, record.model_copy(update={"verification": tier, "edits": (*record.edits, edit)}))


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
