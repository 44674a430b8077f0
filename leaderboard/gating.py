# SPDX-License-Identifier: Apache-2.0
"""The gate of a column: which regions of which subjects enter, the same for every model (statistics.md 2.2).

The gate looks at responses only, and all models of a column were scored on the same responses. So it is computed once,
from one record of each subject that any model of the column has, and a model with some of the subjects is judged by it,
too. A record by itself knows one subject; its own headline follows that subject's own gate.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.records import Record
from voxelboard.benchmark.statistics.gates import Gated, gate_subjects
from voxelboard.leaderboard.board import Column, GateCount
from voxelboard.leaderboard.cells import Cell, StoredCell, score_cell

Located = tuple[Path, Record]


def is_scored(record: Record) -> bool:
    """Whether a record holds a headline, if only a null one; an invalidated record stays visible, its numbers do not."""
    return record.status == "success" and not record.invalidated and "unique" in record.scores


def reference_records(records: Iterable[Located]) -> list[Located]:
    """One record of each subject, to compute the gate of their column from.

    The first whole one in path order; trials with ``--limit`` only where the column holds nothing else.
    """
    scored = sorted((item for item in records if is_scored(item[1])), key=lambda item: item[0])
    whole = [item for item in scored if not item[1].partial]
    found: dict[str, Located] = {}
    for path, record in whole or scored:
        found.setdefault(record.subject, (path, record))
    return list(found.values())


@dataclass(frozen=True, eq=False)
class ColumnGate:
    """Which entries of a column enter, by subject and ROI.

    Attributes
    ----------
    cells : the cells that the gate was computed from, one per subject.
    gated : the gate, subjects in the order of ``cells``.
    """

    cells: tuple[StoredCell, ...]
    gated: Gated | None

    def score(self, cell: StoredCell) -> Cell | None:
        """The cell with its scores, or None where no region of its subject enters.

        A trial with ``--limit`` on other test responses than the column's is judged by itself.
        """
        index = next((i for i, own in enumerate(self.cells) if own.record.subject == cell.record.subject), None)
        if index is None or self.gated is None or not same_responses(cell, self.cells[index]):
            return column_gate([cell]).score(cell)
        scored, pooled = self.gated.scored[index], self.gated.pooled[index]
        return score_cell(cell, scored, pooled, self.gated.subjects[index].s) if scored.any() else None

    @property
    def count(self) -> GateCount:
        """How many entries of subject and ROI there are, enter and are pooled."""
        if self.gated is None:
            return GateCount(0, 0, 0)
        return GateCount(self.gated.scored.size, int(self.gated.scored.sum()), int(self.gated.pooled.sum()))


def column_gate(cells: Sequence[StoredCell]) -> ColumnGate:
    """The gate from one cell per subject; cells with other regions or blocks than the first are left out.

    (Whole cells of a column all have the same, see :func:`check_comparable`; trials may not.)
    """
    alike = [cell for cell in cells if _same_shape(cell, cells[0])]
    if not alike:
        return ColumnGate((), None)
    gated = gate_subjects(
        [cell.headline for cell in alike],
        n_standard_errors=alike[0].policy.gate_standard_errors,
        n_voxels=np.stack([cell.n_voxels for cell in alike]),
    )
    return ColumnGate(tuple(alike), gated)


def check_comparable(column: Column, cells: Sequence[StoredCell]) -> None:
    """Raise DataError unless whole cells saw the same blocks and, for one subject, the same responses and ROIs."""
    reference: dict[str, StoredCell] = {}
    for cell in cells:
        if not _same_shape(cell, cells[0]):
            ours, theirs = cell.headline, cells[0].headline
            raise DataError(
                f"{cell.path} and {cells[0].path} have different test blocks or regions: {ours.c.shape} and "
                f"{theirs.c.shape}; intervals over subjects and stimuli need a shared test stimulus",
                "score these subjects as separate data sets, or run the older of the two again with --fresh",
            )
        first = reference.setdefault(cell.record.subject, cell)
        if not (_same_stamps(cell.record, first.record) and same_responses(cell, first)):
            raise DataError(
                f"{cell.path} and {first.path} were scored on different data, though both say {column.label}",
                "run the older of the two again with --fresh",
            )


def same_responses(one: StoredCell, other: StoredCell) -> bool:
    """Whether two cells have the same regions, blocks and signal power."""
    if not _same_shape(one, other):
        return False
    a, b = one.headline.s, other.headline.s
    if (a == b).all():  # as it is for records of one machine; allclose takes ten times as long
        return True
    return bool(np.allclose(a, b, rtol=1e-6, atol=1e-6 * float(np.abs(b).max())))


def _same_shape(one: StoredCell, other: StoredCell) -> bool:
    ours, theirs = one.joined.block_segment, other.joined.block_segment
    return one.names == other.names and ours.shape == theirs.shape and bool((ours == theirs).all())


def _same_stamps(one: Record, other: Record) -> bool:
    a, b = one.dataset, other.dataset
    if a is None or b is None:
        return False
    return (a.stimuli_sha256, a.responses_sha256) == (b.stimuli_sha256, b.responses_sha256)
