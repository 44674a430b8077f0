# SPDX-License-Identifier: Apache-2.0
"""One table of the board, as plain values for its template."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from voxelboard.benchmark.statistics.intervals import Interval
from voxelboard.leaderboard.board import Entry, GateCount, Missing, Profile, Row, Table
from voxelboard.leaderboard.charts import (
    Axis,
    Marker,
    axis_header,
    interval_bar,
    layer_sparkline,
    rank_rail,
    shared_axis,
)
from voxelboard.leaderboard.charts.intervals import BAR_WIDTH
from voxelboard.leaderboard.charts.svg import element, figure, line
from voxelboard.leaderboard.pages.facts import context_words, display_name, measured_on, row_facts
from voxelboard.leaderboard.rows import TWIN
from voxelboard.leaderboard.text import number, plain

CEILINGS = {
    "repeats": "from repeats of the test stimulus",
    "inter_subject": "from the other subjects’ responses",
    "none": "none",
}
_RULERS = {
    "voxelboard/oracle": "the features that made the responses",
    "voxelboard/static": "word vectors without context",
    "voxelboard/random-word-vectors": "word identity, nothing else",
    "voxelboard/confounds": "the floor taken for a model, must be 0",
    "voxelboard/context-noise": "smooth noise, must be 0",
    "voxelboard/cross-subject": "a ceiling, as good as people predict each other",
    "voxelboard/spectral": "how the words sound, not what they mean",
    "voxelboard/constant": "the same vector for each word, must be 0",
}
_FEW_SUBJECTS = 5


def table_view(table: Table, pages: Mapping[Entry, str], name: str) -> dict[str, Any]:
    """One table with its shared axis."""
    axis, markers = table_axis(table), table_markers(table)
    rows = [_row_view(row, table, axis, markers, pages, place) for place, row in enumerate(table.rows)]
    n_ranked, n_unranked = len(table.ranked), len(table.unranked)
    label = unit_label(table.unit)
    return {
        "id": name,
        "table": table,
        "heading": plain(table.column.label),
        "summary": table_summary(table),
        "caption": f"Ranked: {n_ranked}. Not ranked: {n_unranked}. Rulers: {len(table.rulers)}. Brackets and ± are 95 % "
        "intervals. A dash is a missing number, never a 0.",
        "facts": table_facts(table),
        "axis": axis_header(axis, markers, label),
        "unit_label": f"beyond confounds, {label}",
        "ranked": rows[:n_ranked],
        "unranked": rows[n_ranked : n_ranked + n_unranked],
        "rulers": rows[n_ranked + n_unranked :],
        "data": [view["data"] for view in rows],
        "key": _key(table),
    }


def unit_label(unit: str) -> str:
    """A unit as shown: ``H`` or what the record says."""
    return plain(unit, 30) or "H"


def table_axis(table: Table, width: float = BAR_WIDTH) -> Axis:
    """The axis that all bars of a table share."""
    scores = [row.headline for row in table.rows if isinstance(row.headline, Interval)]
    return shared_axis([value for score in scores for value in (score.low, score.high)], width)


def table_markers(table: Table) -> list[Marker]:
    """The rulers drawn through every bar: floor (at 0), untrained twins, static vectors, oracle."""
    marks = [Marker("zero", "floor", 0.0)]
    return marks + [Marker(mark.kind, mark.label, mark.score.estimate) for mark in table.marks]


def protocol_lines(tables: Sequence[Table]) -> list[str]:
    """One line per protocol."""
    protocols = {(table.column.protocol, table.column.protocol_hash) for table in tables}
    return [f"Protocol {plain(name)}, SHA-256 {plain(digest, 64)}" for name, digest in sorted(protocols)]


def _row_view(
    row: Row, table: Table, axis: Axis, markers: Sequence[Marker], pages: Mapping[Entry, str], place: int
) -> dict[str, Any]:
    name = display_name(row.model, row.entry)
    overview = row.overview
    day, context = measured_on(row.cells), context_words(row.cells)
    facts = row_facts(
        row.model,
        row.entry,
        exposure=row.exposure,
        verification=row.verification,
        state=row.state.name,
        day=day,
        context=context,
    )
    return {
        "row": row,
        "place": place,
        "name": name,
        "subtitle": subtitle(row.entry),
        "href": pages[row.entry],
        "state": state_text(row),
        "alarm": any(record.checks.alarms for _, record in row.cells),
        "data": facts,
        "day": day,
        "context": context,
        "openness": plain(row.model.metadata.get("openness") or "", 20),
        "revision": plain(row.entry.revision[:8]),
        "rank_value": row.rank.low if row.rank else "",
        "rail": rank_rail(row.rank.low, row.rank.high, len(table.ranked)) if row.rank else "",
        "bar": headline_bar(row, axis, markers),
        "spark": sparkline(overview) if overview else "",
        "exposure": exposure_text(row.exposure, row.model.row),
    }


def exposure_text(exposure: str, row: str) -> str:
    """Whether a model may have read the stimuli; a ruler has read nothing."""
    return "–" if row == "baseline" else {"none": "none known"}.get(exposure, exposure)


def subtitle(entry: Entry) -> str:
    """What stands under a name: the submission, or what a ruler measures."""
    return plain(_RULERS.get(entry.submission, entry.submission), 60)


def sparkline(overview: Profile) -> Markup:
    """The layers in small; nothing for a model of one layer, which has nothing to choose."""
    if len(overview.test.estimate) < 2:
        return Markup("")
    return layer_sparkline(overview.test, overview.chosen[0] if overview.chosen else None)


def headline_bar(row: Row, axis: Axis, markers: Sequence[Marker]) -> Markup:
    """The bar of a row's headline, or nothing where it has none."""
    score, twin = row.headline, row.metrics["twin"]
    if isinstance(score, Missing):
        return Markup("")
    return interval_bar(
        axis, score.estimate, score.low, score.high, markers, twin.estimate if isinstance(twin, Interval) else None
    )


def state_text(row: Row) -> str:
    """What is said under a name; nothing for ranked rows and rulers."""
    if row.state.name in ("ranked", "ruler"):
        return ""
    if row.state.name in ("failed", "invalidated"):
        return f"{row.state.name}: {plain(row.state.detail, 140)}"
    return plain(row.state.detail, 140) or row.state.name


def table_summary(table: Table) -> str:
    """One sentence on what the ranks of a table tell apart."""
    if not table.scored:
        return "A replication protocol, for comparison with published numbers: its scores are shown and never ranked."
    n = len(table.ranked)
    if not n:
        return "No model has a score on all subjects yet, so none is ranked."
    with_twin = [badge for row in table.ranked for badge in row.badges if badge.baseline == TWIN]
    beaten = sum(1 for badge in with_twin if badge.beaten)
    if n == 1:
        twin = ("cannot be told from", "beats")[beaten]
        return f"One model is scored; it {twin} its own untrained twin." if with_twin else "One model is scored."
    certain = sum(1 for row in table.ranked if row.rank is not None and row.rank.low == row.rank.high)
    parts = [
        f"{certain} of {n} models {'has' if certain == 1 else 'have'} a rank of {'its' if certain == 1 else 'their'} own"
    ]
    if with_twin:
        verb, own = ("beats", "its") if beaten == 1 else ("beat", "their")
        parts.append(f"{beaten} of {len(with_twin)} {verb} {own} own untrained twin")
    return "; ".join(parts) + "."


def table_facts(table: Table) -> list[tuple[str, str, str]]:
    """(name, value, note), each what a number of the table rests on."""
    resolvable = table.smallest_resolvable
    ranked = table.smallest_resolvable_ranked
    n_subjects = len(table.subjects)
    return [
        ("Subjects", str(n_subjects), name_subjects(table.subjects)),
        ("Regions of subjects", *_gate_fact(table.gate)),
        ("Test blocks", str(table.n_blocks), f"of {table.block_trs} TRs, in {_segments(table.n_segments)}"),
        ("Intervals generalise to", table.scope, table.scope_note or _what_new(table)),
        (
            "Smallest resolvable difference",
            number(resolvable) if resolvable is not None else "–",
            f"between two models alone; {number(ranked)} among all"
            if ranked is not None
            else "needs two ranked models",
        ),
        ("Ceiling", CEILINGS.get(table.column.ceiling_kind, "unknown"), _ceiling_note(table)),
    ]


def _segments(n: int) -> str:
    return "one test segment" if n == 1 else f"{n} test segments"


def name_subjects(subjects: Sequence[str]) -> str:
    """All names of a few subjects, the first two and the last of many."""
    few = len(subjects) <= _FEW_SUBJECTS
    return (
        ", ".join(plain(name, 20) for name in subjects)
        if few
        else (f"{plain(subjects[0], 20)}, {plain(subjects[1], 20)}, … {plain(subjects[-1], 20)}")
    )


def _gate_fact(gate: GateCount) -> tuple[str, str]:
    value = str(gate.scored) if gate.scored == gate.entries else f"{gate.scored} of {gate.entries}"
    if gate.pooled:
        return value, f"enter, {gate.pooled} of them with signal power pooled over subjects"
    return value, "enter, all with signal of their own"


def _what_new(table: Table) -> str:
    if not table.scope.startswith("subjects"):
        return "these subjects as they are"
    return "new people, new segments of this story" if table.n_segments == 1 else "new people, new stimuli of this kind"


def _ceiling_note(table: Table) -> str:
    for row in (*table.ranked, *table.rulers):
        if not isinstance(row.ceiling, Missing):
            ceiling = row.ceiling
            some = "" if ceiling.n_subjects == len(table.subjects) else f"{ceiling.n_subjects} "
            return f"mean r {number(ceiling.mean)}, {number(ceiling.low)} to {number(ceiling.high)} over {some}subjects"
    return "scores are correlations, not corrected for noise" if table.column.ceiling_kind == "none" else ""


def _key(table: Table) -> list[tuple[Markup, str]]:
    """Legend of the bars: (symbol, meaning)."""

    def symbol(body: Markup, name: str) -> Markup:
        return figure(26, 14, name, "", body, "sym")

    dot = element("rect", x=2, y=3, width=22, height=8, rx=4, class_="ci") + element(
        "circle", cx=13, cy=7, r=3.6, class_="pt"
    )
    twin = element("path", d="M13 2.5l4.5 4.5-4.5 4.5-4.5-4.5z", class_="tw")
    key = [(symbol(dot, "dot"), "score and 95 % interval"), (symbol(twin, "diamond"), "the model’s own untrained twin")]
    names = {
        "zero": "floor: what confounds explain is taken out, so it is at 0",
        "static": "static word vectors",
        "twin": "untrained twins, mean",
        "ceiling": "cross-subject: the other listeners; oracle: the true features",
    }
    lines = ["zero", *(mark.kind for mark in table.marks)]
    key += [(symbol(line(13, 0, 13, 14, f"r {kind}"), f"{kind} line"), names.get(kind, kind)) for kind in lines]
    return key
