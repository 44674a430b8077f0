# SPDX-License-Identifier: Apache-2.0
"""From what a user typed to the submissions and the data set that a plan needs."""

from collections.abc import Sequence

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.readers.base import DatasetFacts
from voxelboard.benchmark.submission import (
    BASELINES,
    Submission,
    list_submissions,
    load_submission,
)

DEMO = "demo"
ALL = "all"


def select_submissions(
    names: Sequence[str] | None, dataset: DatasetFacts, task: str, rows: Sequence[Submission]
) -> list[Submission]:
    """The submissions that ``names`` mean, each once, in the order given; ``rows`` are the harness' own.

    ``demo`` (also the default) is the set of models with planted truth; ``all`` are the shipped submissions that are
    entered for the task and exist for this kind of data; the harness' own rows go by their names
    (``voxelboard/constant``); others as :func:`load_submission`.

    Raises
    ------
    UserError
        for an unknown name or faulty file, and when nothing is left to run.
    """
    chosen: dict[str, Submission] = {}
    for name in names or [DEMO]:
        for submission in _expand(name, dataset, task, rows):
            known = chosen.setdefault(submission.label, submission)
            if known != submission:
                raise UserError(f"two submissions are called {submission.label!r}", "give one of them another `name:`")
    if not chosen:
        raise UserError(f"none of {', '.join(names or [DEMO])} is entered for {task} on {dataset.name}")
    return list(chosen.values())


def _expand(name: str, dataset: DatasetFacts, task: str, rows: Sequence[Submission]) -> list[Submission]:
    if name not in (DEMO, ALL):
        return [_baseline(name, dataset, rows) or load_submission(name)]
    shipped = [entry for entry in list_submissions() if task in entry.tasks]
    planted = [entry for entry in shipped if entry.model.source == "simulated"]
    if name == ALL:
        return shipped if dataset.kind == "simulated" else [entry for entry in shipped if entry not in planted]
    if dataset.kind != "simulated":
        raise UserError(
            f"the demo models have planted truth, which exists for simulated data only, not for {dataset.name}",
            "name a model with -m",
        )
    return sorted(planted, key=lambda entry: entry.label, reverse=True)


def _baseline(name: str, dataset: DatasetFacts, rows: Sequence[Submission]) -> Submission | None:
    """The harness' own row of that full name, or None. It is run with every model, so it needs no file."""
    organisation, _, short = name.partition("/")
    if organisation != "voxelboard" or short not in BASELINES:
        return None
    known = {row.label: row for row in rows}
    if name not in known:
        raise UserError(
            f"{name} does not exist for {dataset.name}", f"rows of this data set: {', '.join(sorted(known))}"
        )
    return known[name]
