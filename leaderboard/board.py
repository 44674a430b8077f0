# SPDX-License-Identifier: Apache-2.0
"""What a board is: tables of rows whose every score has an interval, or says why it is missing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from voxelboard.benchmark.record_stamps import ModelStamp
from voxelboard.benchmark.records import Record
from voxelboard.benchmark.statistics.intervals import Interval
from voxelboard.benchmark.statistics.ranking import Badge
from voxelboard.benchmark.statistics.scores import FloatArray
from voxelboard.leaderboard.charts.layers import LayerLine
from voxelboard.leaderboard.voxels import Density, SurfaceMap

Kind = Literal["real", "simulated"]
RulerKind = Literal["floor", "static", "ceiling", "other"]
StateName = Literal["ranked", "ruler", "unranked", "partial", "failed", "invalidated", "not run"]


@dataclass(frozen=True)
class Missing:
    """A score that does not exist, and why. Never 0, never sorted among scores."""

    reason: str


# There is no third case: a number without its interval cannot be put on a board.
Score = Interval | Missing


@dataclass(frozen=True, order=True)
class Column:
    """What may be compared: one task and version, data set and version, kind of ceiling, protocol and track."""

    task: str
    task_version: int
    dataset: str
    dataset_version: str
    ceiling_kind: str
    protocol: str
    protocol_hash: str
    track: str
    kind: Kind

    @property
    def label(self) -> str:
        """Short and unique enough for a heading."""
        track = "" if self.track == "fixed" else f", {self.track} track"
        return f"{self.task} v{self.task_version} · {self.dataset} {self.dataset_version}{track}"


@dataclass(frozen=True, order=True)
class Entry:
    """Who is scored: a submission at a revision; random-weight submissions by seed."""

    submission: str
    revision: str
    weights: str
    seed: int

    @classmethod
    def of(cls, model: ModelStamp) -> "Entry":
        """The entry that a record belongs to."""
        return cls(model.submission, model.revision, model.weights, model.seed if model.weights == "random" else 0)


@dataclass(frozen=True)
class State:
    """Where a row stands. ``detail`` is the reason as shown."""

    name: StateName
    detail: str = ""


@dataclass(frozen=True)
class Rank:
    """``low`` to ``high`` are the ranks that the data allow; ``low`` is displayed. Same ``low``: same tie group."""

    low: int
    high: int
    tied_with: tuple[Entry, ...]

    @property
    def spread(self) -> str:
        """``3`` or ``2–4``."""
        return str(self.low) if self.low == self.high else f"{self.low}–{self.high}"


@dataclass(frozen=True)
class RoiSums:
    """The arithmetic behind one subject and ROI: ``score = c / sqrt(q s)``, sums over all test TRs and voxels.

    ``score`` is None for a ROI whose signal power is not above the gate: it does not enter. ``pooled``: the subject's own
    signal power is below the gate, that of all subjects is not; ``s`` is the subject's share of the latter.
    """

    roi: str
    c: float
    q: float
    s: float
    score: float | None
    pooled: bool


@dataclass(frozen=True)
class GateCount:
    """Entries of a column, subjects times ROIs: all, those that enter, those among them with pooled signal power."""

    entries: int
    scored: int
    pooled: int


@dataclass(frozen=True)
class SubjectScore:
    """One subject of a row: its headline score and the cell that it comes from."""

    subject: str
    headline: Score
    path: Path
    record: Record
    sums: tuple[RoiSums, ...]
    rois: tuple[str, ...] = ()
    """Regions that enter, in the order of ``influence``."""
    influence: FloatArray = field(default_factory=lambda: np.zeros((0, 0)), compare=False, repr=False)
    """(n_blocks, n_rois) influence values of the headline; the mean over both axes is the headline."""


@dataclass(frozen=True)
class RoiScore:
    """One ROI over subjects."""

    roi: str
    n_subjects: int
    n_pooled: int
    """Subjects among them that are scored against signal power pooled over subjects."""
    unique: Score
    raw: Score
    floor: Score


@dataclass(frozen=True)
class FacetScore:
    """One part of a column over subjects, such as a level of annotation in one region; ``roi`` None: all that enter."""

    axis: str
    value: str
    roi: str | None
    scores: Mapping[str, Score]


@dataclass(frozen=True)
class Profile:
    """One ROI over layers, mean over subjects. ``chosen`` holds the layer of every subject and fold."""

    roi: str
    inner: LayerLine
    test: LayerLine
    chosen: tuple[int, ...]


@dataclass(frozen=True)
class Histogram:
    """Voxels by correlation, all subjects together; ``counts`` by name of the prediction."""

    edges: tuple[float, ...]
    counts: Mapping[str, tuple[int, ...]]
    mean_ceiling: float | None


@dataclass(frozen=True)
class Ceiling:
    """A property of the data, not a score: mean and range over ``n_subjects`` that have one, in units of r."""

    kind: str
    n_subjects: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Tries:
    """One team's entries in one column.

    Attributes
    ----------
    n : complete entries of the team, this one included.
    by_chance : what the best of ``n`` equal entries gains, in standard errors of a score.
    next_best : the team's next entry; lead : this one minus it, paired. None unless this one is the team's best of several.
    margin : the lead that counts as better at ``n`` entries.
    """

    team: str
    n: int
    by_chance: float
    next_best: Entry | None
    lead: Interval | None
    margin: float | None

    @property
    def counts(self) -> bool:
        """Whether the lead is more than many tries give."""
        return self.lead is not None and self.margin is not None and self.lead.estimate > self.margin


@dataclass(frozen=True)
class Row:
    """One entry in one column."""

    entry: Entry
    model: ModelStamp
    state: State
    rank: Rank | None
    headline: Score
    metrics: Mapping[str, Score]
    """``normalised`` (raw H), ``raw_r``, ``floor``, ``floor_r``, ``joint_r``, ``twin``; and what a headline depends on: ``fve``,
    ``static``, ``capacity``, ``shifted``, ``train25``, ``train50``, ``train100`` (:data:`leaderboard.rows.COLUMNS`)."""
    ceiling: Ceiling | Missing
    badges: tuple[Badge, ...]
    subjects: tuple[SubjectScore, ...]
    rois: tuple[RoiScore, ...]
    profiles: tuple[Profile, ...]
    overview: Profile | None
    """Mean over ROIs, for the sparkline."""
    facets: tuple[FacetScore, ...]
    histogram: Histogram | None
    against_ceiling: Density | None = field(compare=False, repr=False)
    """Voxels by ceiling (x) and r beyond confounds (y)."""
    against_baseline: Density | None = field(compare=False, repr=False)
    """Voxels by r of the table's ``baseline`` (x) and of the model (y), both beyond confounds."""
    maps: Mapping[str, SurfaceMap] = field(compare=False, repr=False)
    """Mean over subjects on a shared surface, where the data set has one."""
    exposure: str
    verification: str
    failures: tuple[tuple[str, str], ...]
    """(subject, reason) of the cells without a score."""
    cells: tuple[tuple[Path, Record], ...]
    """All records behind the row, scored or not."""
    digests: tuple[str, ...] = ()
    """Of ``cells``, in their order."""
    p: float | None = None
    """One-sided p of the headline against permuted blocks, jointly over subjects; None where the records have no null."""
    tries: Tries | None = None
    """None for rows that are not ranked."""
    other_ceilings: tuple[Ceiling, ...] = ()
    """As the literature reports them, where records have them: scores are divided by none of these."""


@dataclass(frozen=True)
class Ruler:
    """A reference line on the shared axis of a table."""

    kind: Literal["zero", "twin", "static", "ceiling", "floor", "other"]
    label: str
    score: Interval


@dataclass(frozen=True)
class Table:
    """One column with its rows: ranked best first, then unranked, and the rulers by themselves."""

    column: Column
    ranked: tuple[Row, ...]
    unranked: tuple[Row, ...]
    rulers: tuple[Row, ...]
    marks: tuple[Ruler, ...]
    twins: Interval | None
    """Mean of the untrained twins of the ranked rows."""
    unit: str
    scope: str
    scope_note: str
    """``k of N subjects agree in sign`` of the best row where the subjects are fixed."""
    subjects: tuple[str, ...]
    gate: GateCount
    n_blocks: int
    block_trs: int
    n_segments: int
    smallest_resolvable: float | None
    smallest_resolvable_ranked: float | None
    baseline: str
    """The baseline that voxels are drawn against, or nothing."""
    scored: bool
    """False for replication protocols: shown, never ranked."""

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows."""
        return self.ranked + self.unranked + self.rulers


@dataclass(frozen=True)
class LostCell:
    """A failed cell that belongs to no table, because nothing of its data set was ever scored."""

    submission: str
    task: str
    dataset: str
    subject: str
    reason: str


@dataclass(frozen=True)
class Board:
    """All tables of one kind of data. Real and simulated data never share a board."""

    kind: Kind
    tables: tuple[Table, ...]
    lost: tuple[LostCell, ...]
