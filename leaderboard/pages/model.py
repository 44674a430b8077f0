# SPDX-License-Identifier: Apache-2.0
"""What a model's page shows, as plain values for its template."""

import os
import shlex
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.records import Checks, Record
from voxelboard.benchmark.statistics.intervals import Interval
from voxelboard.leaderboard.board import Missing, Row, Table
from voxelboard.leaderboard.charts import (
    Axis,
    headline_chart,
    layer_profile,
    roi_bar,
    shared_axis,
    subject_dots,
    voxel_histogram,
)
from voxelboard.leaderboard.charts.distributions import Dot
from voxelboard.leaderboard.charts.intervals import BAR_WIDTH
from voxelboard.leaderboard.charts.layers import profile_limits
from voxelboard.leaderboard.pages.attributions import attribution_section
from voxelboard.leaderboard.pages.facts import display_name, short_names, tries_text
from voxelboard.leaderboard.pages.figures import figures
from voxelboard.leaderboard.pages.table import (
    name_subjects,
    protocol_lines,
    state_text,
    table_axis,
    table_markers,
    unit_label,
)
from voxelboard.leaderboard.rows import TWIN, ruler_kind
from voxelboard.leaderboard.text import bounds, count, number, plain, safe_url, scientific, seconds, signed, size

_HEADLINE_WIDTH = 360.0  # fits a phone without shrinking the text
# A page with 200 parcels would be megabytes; the rest is in the data files, and the page says so.
_MAX_ROIS = 60
_MAX_PANELS = 12
_MAX_SUMS = 80
_CHECKS = (
    ("OASM", "oasm", "score of a feature that knows only the time; must be 0"),
    ("Noise brain", "noise_brain", "mean r on a brain of pure noise; must be near 0"),
    ("Residual SD", "residual_sd_ratio", "test over training SD of confound-free features; near 1"),
    ("Alpha at edge", "alpha_edge_share", "share of voxels whose alpha lies at an end of the grid"),
    ("Short context", "context_shortened", "share of words with less context than the protocol asks"),
    ("Receipt", "receipt_max_deviation", "greatest deviation of states extracted again in float32, one by one"),
    (
        "Receipt, score",
        "receipt_score_effect",
        "what such deviations at every TR would change the score of the main layer by",
    ),
    ("Main layer", "main_layer", "the layer that most regions chose; the three columns that follow look at it"),
    ("Effective rank", "effective_rank", "participation ratio of its features on training data"),
    ("Shuffled gap", "shuffled_gap", "r with shuffled TRs minus r with stories left out: the leakage that was avoided"),
    ("Shuffled gap, noise", "shuffled_gap_noise", "the same on a brain of pure noise"),
    ("Voxels above chance", "significant_voxels", "at a false discovery rate of 5 %, permuted blocks"),
)
_METRICS = (
    ("Score beyond confounds", None),
    ("Own untrained twin", "twin"),
    ("Raw score, with confounds", "normalised"),
    ("Floor: confounds alone", "floor"),
    ("Raw r, mean over voxels", "raw_r"),
    ("Floor r", "floor_r"),
    ("Joint r, confounds and model", "joint_r"),
    ("Explained fraction beyond confounds (FVE)", "fve"),
    ("Beyond confounds and static vectors, main layer", "static"),
    ("Equal width: 50 components, main layer", "capacity"),
    ("Same features, half a story off, main layer", "shifted"),
    ("A quarter of the training data, main layer", "train25"),
    ("Half of the training data, main layer", "train50"),
    ("All training data, main layer", "train100"),
)

# Gives the address of the published copy of a record, relative to the model's page.
RecordLink = Callable[[Path, Record], str]


def model_context(rows: Sequence[tuple[Table, Row]], link: RecordLink) -> dict[str, Any]:
    """Values for ``model.html.j2``: one entry in all its columns."""
    first = rows[0][1]
    records = [record for _, row in rows for _, record in row.cells]
    return {
        "page": _page(first),
        "columns": [_column(table, row, link, index) for index, (table, row) in enumerate(rows, start=1)],
        "jumps": short_names([table.column for table, _ in rows]),
        "resolved": _resolved(first, records),
        "responses": _responses(records),
        "check_names": [(name, meaning) for name, _, meaning in _CHECKS],
        "protocols": protocol_lines([table for table, _ in rows]),
    }


def _page(row: Row) -> dict[str, Any]:
    model, citation = row.model, str(row.model.metadata.get("citation") or "")
    facts = [f"{model.loader} loader", f"{model.n_layers} layers", f"width {model.n_features}"]
    if model.n_parameters:
        facts.insert(0, f"{count(model.n_parameters)} parameters")
    if model.weights == "random":
        facts.append(f"random weights, seed {model.seed}")
    return {
        "name": display_name(row.model, row.entry),
        "submission": plain(row.entry.submission),
        "facts": [plain(fact) for fact in facts],
        "citation": "\n".join(plain(text, 300) for text in citation.splitlines()[:40]),
        "citation_url": safe_url(citation),
    }


def _column(table: Table, row: Row, link: RecordLink, index: int) -> dict[str, Any]:
    shown_sums = [(plain(s.subject, 40), sums) for s in row.subjects for sums in s.sums]
    return {
        "id": f"column-{index}",
        "heading": plain(table.column.label),
        "row": row,
        "notice": state_text(row),
        "headline_note": _headline_note(table, row),
        "headline": _headline_chart(table, row),
        "facts": _facts(table, row),
        "badges": _badges(row),
        "tries": tries_text(row),
        "subject_plot": _subject_plot(table, row),
        "subject_caption": _subject_caption(table, row),
        "rois": _rois(row),
        "rois_left": max(0, len(row.rois) - _MAX_ROIS),
        "panels": _panels(row),
        **_histogram(row),
        "attributions": attribution_section(row),
        **figures(table, row),
        "pooled": table.gate.pooled,
        "formula": _formula(table),
        "sums": shown_sums[:_MAX_SUMS],
        "sums_left": max(0, len(shown_sums) - _MAX_SUMS),
        "metrics": [(name, row.headline if key is None else row.metrics[key]) for name, key in _METRICS],
        "cells": [_cell(*cell, digest, link) for cell, digest in zip(row.cells, row.digests, strict=True)],
        "checks": [(plain(record.subject, 40), _checks(record.checks)) for _, record in row.cells],
        "alarms": _alarms(row),
        "stages": _stages(row),
        "command": _command(table, row),
        "methods": _methods(table),
    }


def _headline_chart(table: Table, row: Row) -> Markup:
    score, twin = row.headline, row.metrics["twin"]
    if isinstance(score, Missing):
        return Markup("")
    axis, own = table_axis(table, _HEADLINE_WIDTH), twin.estimate if isinstance(twin, Interval) else None
    markers = table_markers(table)
    return headline_chart(axis, score.estimate, score.low, score.high, markers, own, unit_label(table.unit))


def _headline_note(table: Table, row: Row) -> str:
    label = unit_label(table.unit)
    unit = f"{label}, beyond confounds"
    if row.rank is None:
        return f"{unit} · not ranked"
    ties = f", tied with {len(row.rank.tied_with)}" if row.rank.tied_with else ""
    return f"{unit} · rank {row.rank.spread} of {len(table.ranked)}{ties}"


def _facts(table: Table, row: Row) -> list[tuple[str, str, str]]:
    def fact(name: str, score: Interval | Missing, note: str) -> tuple[str, str, str]:
        if isinstance(score, Missing):
            return (name, "–", plain(score.reason))
        return (name, number(score.estimate), f"[{number(score.low)}, {number(score.high)}] {note}")

    ceiling = row.ceiling
    if isinstance(ceiling, Missing):
        top = ("Ceiling r", "–", ceiling.reason)
    else:
        others = "".join(f"; {other.kind} {number(other.mean)}" for other in row.other_ceilings)
        over = f"{number(ceiling.low)} to {number(ceiling.high)} over subjects{others}"
        top = ("Ceiling r", number(ceiling.mean), over)
    return [
        fact("Untrained twin", row.metrics["twin"], ""),
        fact("Raw score", row.metrics["normalised"], "with confounds"),
        fact("Raw r", row.metrics["raw_r"], ""),
        fact("Floor r", row.metrics["floor_r"], "confounds alone"),
        top,
        ("Exposure", row.exposure, "to the stimulus, as submitted"),
        ("Exposure probe", *_exposure_probe(row)),
        ("Checked", row.verification or "–", f"{len(row.subjects)} of {len(table.subjects)} subjects scored"),
    ]


def _badges(row: Row) -> list[dict[str, Any]]:
    order = {"static": 1, "floor": 2, "other": 3, "ceiling": 4}
    badges = []
    for badge in row.badges:
        own = badge.baseline == TWIN
        name = "its own untrained twin" if own else plain(badge.baseline.rpartition("/")[2].replace("-", " "))
        if badge.beaten:
            text, symbol = f"beats {name} by", "✓"
        elif badge.difference.high < 0:
            text, symbol = f"is worse than {name}:", "↓"
        else:
            text, symbol = f"cannot be told from {name}:", "≈"
        place = 0 if own else order[ruler_kind(badge.baseline)]
        badges.append(
            {"text": text, "symbol": symbol, "beaten": badge.beaten, "difference": badge.difference, "place": place}
        )
    return sorted(badges, key=lambda badge: int(badge["place"]))


def _subject_plot(table: Table, row: Row) -> Markup:
    dots = [
        Dot(subject.subject, subject.headline.estimate, subject.headline.low, subject.headline.high)
        for subject in row.subjects
        if isinstance(subject.headline, Interval)
    ]
    if isinstance(row.headline, Missing):
        return Markup("")
    mean = Dot("mean", row.headline.estimate, row.headline.low, row.headline.high)
    return subject_dots(dots, mean, unit_label(table.unit))


def _subject_caption(table: Table, row: Row) -> str:
    score = row.headline
    df = f" Interval of the mean: {plain(score.estimator)}, {score.df:.1f} df." if isinstance(score, Interval) else ""
    blocks = f"{table.n_blocks} blocks of {table.block_trs} TRs"
    return f"Whiskers are 95 % intervals over {blocks}, each subject by itself.{df}"


def _rois(row: Row) -> list[dict[str, Any]]:
    shown = row.rois[:_MAX_ROIS]
    scores = [roi.unique for roi in shown if isinstance(roi.unique, Interval)]
    axis = shared_axis([value for score in scores for value in (score.low, score.high)], BAR_WIDTH)
    return [{"name": plain(roi.roi, 60), "score": roi, "bar": _roi_bar(axis, roi.unique, roi.roi)} for roi in shown]


def _roi_bar(axis: Axis, score: Interval | Missing, name: str) -> Markup:
    if isinstance(score, Missing):
        return Markup("")
    return roi_bar(axis, score.estimate, score.low, score.high, plain(name, 60))


def _panels(row: Row) -> list[Markup]:
    shown = row.profiles[:_MAX_PANELS]
    if row.overview is not None and len(row.profiles) > 1:
        shown = (row.overview, *shown)
    limits = profile_limits([curve for profile in shown for curve in (profile.inner, profile.test)])
    return [
        layer_profile(plain(profile.roi, 30), profile.inner, profile.test, profile.chosen, limits)
        for profile in shown
        if any(value is not None for value in profile.test.estimate)
    ]


def _histogram(row: Row) -> dict[str, Any]:
    if row.histogram is None:
        return {"histogram": None, "histogram_rows": ""}
    names = {"raw": "with confounds", "unique": "beyond confounds"}
    counts = {names[name]: n for name, n in row.histogram.counts.items() if name in names}
    plot = voxel_histogram(row.histogram.edges, counts, row.histogram.mean_ceiling)
    return {"histogram": plot, "histogram_rows": "with confounds"}


def _formula(table: Table) -> str:
    signal = {
        "repeats": "s the response power that repeats of the stimulus share",
        "inter_subject": "s the response power shared with the other subjects",
        "none": "s the whole response power (no ceiling)",
    }.get(table.column.ceiling_kind, "s the signal power")
    return (
        "Sums over all test TRs and voxels of a region: c is prediction times response, q the prediction squared, "
        f"{signal}. A region enters where s is reliably above 0. Its score is c / √(q·s); regions, then subjects, are "
        f"averaged with equal weight.{_pooling_note(table)}"
    )


def _pooling_note(table: Table) -> str:
    if not table.gate.pooled:
        return ""
    return (
        f" For {table.gate.pooled} of {table.gate.entries} regions of subjects only the s of all subjects together is: "
        "they are scored against their share of it. (A record by itself knows one subject: its own headline leaves such "
        "regions out.)"
    )


def _resolved(row: Row, records: Sequence[Record]) -> list[tuple[str, str]]:
    model = row.model
    lines = [
        ("Source", model.source),
        ("Revision", model.revision),
        ("Weights", f"{model.weights}, SHA-256 {model.weights_sha256}"),
        ("Tokenizer", f"SHA-256 {model.tokenizer_sha256}"),
        ("Precision", model.dtype),
    ]
    for record in records:
        if record.dataset is not None:
            stamp = record.dataset
            lines.append((f"Stimuli, {stamp.name}", f"SHA-256 {stamp.stimuli_sha256}"))
    environments = [record.environment for record in records if record.environment is not None]
    for environment in environments:
        lines.append(("Software", ", ".join(f"{name} {v}" for name, v in sorted(environment.versions.items()))))
        commit = environment.git_commit or "none"
        lines.append(("Commit", f"{commit}{' with local changes' if environment.git_dirty else ''}"))
    return [(plain(name, 80), plain(value, 300)) for name, value in dict.fromkeys(lines)]


def _responses(records: Sequence[Record]) -> list[tuple[str, str, str]]:
    """Data set, subject and SHA-256 of its responses."""
    lines = [(r.dataset.name, r.subject, r.dataset.responses_sha256) for r in records if r.dataset is not None]
    return [(plain(name, 80), plain(subject, 40), plain(digest, 80)) for name, subject, digest in dict.fromkeys(lines)]


def _cell(path: Path, record: Record, digest: str, link: RecordLink) -> dict[str, Any]:
    environment = record.environment
    return {
        "subject": plain(record.subject, 40),
        "status": "invalidated" if record.invalidated else record.status,
        "device": plain(environment.device, 40) if environment else "–",
        "seconds": seconds(sum(environment.seconds.values())) if environment else "–",
        "memory": size(environment.peak_memory_bytes) if environment else "–",
        "started": plain(environment.started_at[:16].replace("T", " "), 16) if environment else "–",
        "verification": record.verification,
        "href": link(path, record),
        "digest": digest[:12],
    }


def _exposure_probe(row: Row) -> tuple[str, str]:
    """What the probe of the row's first record found, or why there is none; and what the number is."""
    checks = next((record.checks for _, record in row.cells if record.status == "success"), None)
    if checks is None or checks.exposure is None:
        return "–", plain(checks.exposure_reason, 120) if checks and checks.exposure_reason else "not probed"
    probe, excess = checks.exposure, checks.exposure.excess
    verbatim = f"{100 * probe.verbatim_share:.0f} % of prompts continued word for word"
    if excess.estimate is None or excess.low is None or excess.high is None:
        return "–", verbatim
    more = "bits a word more than on unseen stories when words are exchanged"
    return signed(excess.estimate, 2), f"{bounds(excess.low, excess.high, 2)} {more}; {verbatim}"


def _checks(checks: Checks) -> list[str]:
    values: Mapping[str, float | None] = {key: getattr(checks, key) for _, key, _ in _CHECKS}
    return [
        "–" if value is None else str(value) if isinstance(value, int) else scientific(value)
        for value in values.values()
    ]


def _alarms(row: Row) -> list[str]:
    """Each alarm once, with the subjects that it is about."""
    about: dict[str, list[str]] = defaultdict(list)
    for _, record in row.cells:
        for alarm in record.checks.alarms:
            about[alarm].append(record.subject)
    return [f"{name_subjects(subjects)}: {plain(alarm, 300)}" for alarm, subjects in sorted(about.items())]


def _stages(row: Row) -> list[tuple[str, str]]:
    spent: dict[str, float] = defaultdict(float)
    for _, record in row.cells:
        for stage, value in (record.environment.seconds if record.environment else {}).items():
            spent[stage] += value
    return [(plain(stage, 40), seconds(value)) for stage, value in spent.items()]


def _command(table: Table, row: Row) -> str:
    """The line that makes the row's records again, quoted for a POSIX shell."""
    if not row.cells:
        return ""
    subjects = ",".join(dict.fromkeys(record.subject for _, record in row.cells))
    name = row.entry.submission
    # A checkpoint of somebody's machine has no name that others could give, and its path is nobody's business.
    model = f"path/to/{name.rpartition('/')[2]}" if row.model.source == "local" else name
    parts = ["voxelboard", "run", "-m", model, "-t", table.column.task]
    parts += ["--data", table.column.dataset, "--subjects", subjects]
    if table.column.protocol != V1.name:
        parts += ["--protocol", table.column.protocol]
    return plain(shlex.join(parts), 600)


def _methods(table: Table) -> str:
    column = table.column
    return (
        f"{plain(column.task)} v{column.task_version} on {plain(column.dataset)} {plain(column.dataset_version)}, protocol "
        f"{plain(column.protocol)} ({plain(column.protocol_hash, 12)}); {len(table.subjects)} subjects, {table.n_blocks} "
        f"test blocks of {table.block_trs} TRs; ceiling: {column.ceiling_kind.replace('_', '-')}."
    )


def relative_address(target: Path, page: Path) -> str:
    """Address of a file of the site from a page of the site, percent-encoded."""
    return quote(Path(os.path.relpath(target, page.parent)).as_posix())
