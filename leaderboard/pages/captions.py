# SPDX-License-Identifier: Apache-2.0
"""Analyses of the task captions beside the ranks: searchlights, contrasts from text, networks from pictures to captions."""

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
from markupsafe import Markup

from voxelboard.benchmark.caption_tables import (
    Alignment,
    AnalysisStamp,
    AnalysisTables,
    RegionTest,
    SubjectScore,
    find_analyses,
)
from voxelboard.benchmark.protocol import PROTOCOLS
from voxelboard.benchmark.records import STUDIES
from voxelboard.benchmark.statistics.intervals import Interval, t_interval
from voxelboard.leaderboard.board import Board
from voxelboard.leaderboard.charts.curves import Curve, curve_panel
from voxelboard.leaderboard.text import bounds, number, plain, signed

_ALPHA = 0.05
_EMBEDDING = "embedding"
_NETWORKS = ("caption-trained", "category-trained", "untrained")  # in the order of the page
_LINES: dict[str, Literal["test", "inner", "r"]] = {
    "caption-trained": "test",
    "category-trained": "inner",
    "untrained": "r",
}
_NOTHING_ELSE: dict[str, Any] = {"curves": [], "profiles": [], "examples": []}
_DECODED = {
    "retrieval": "rank among test images",
    "top1": "first among them",
    "top5": "among the first five",
    "library": "rank in the library",
    "own_r": "r with the true embedding",
    "caption_ceiling": "r of one caption with the others",
}
Cell = tuple[str, str, bool, str]  # number, interval, clear of 0, note


def analyses_of_board(source: Path, board: Board) -> tuple[AnalysisTables, ...]:
    """What lies in ``studies/captions`` in the folder of records or beside it, of the board's kind of data.

    Analyses of a submission that is not public are left out unless the board shows the submission.

    Raises
    ------
    DataError
        for a damaged one.
    """
    folders = (source / STUDIES, source.parent / STUDIES)
    found = next((find_analyses(folder) for folder in folders if folder.is_dir()), ())
    shown = {row.entry.submission for table in board.tables for row in table.rows}
    return tuple(one for one in found if one.stamp.kind == board.kind and _visible(one.stamp, shown))


def _visible(stamp: AnalysisStamp, shown: Collection[str]) -> bool:
    return stamp.visibility == "public" or stamp.model in shown


def captions_context(analyses: Sequence[AnalysisTables]) -> dict[str, Any]:
    """Values for ``captions.html.j2``: one part a model and data set."""

    def owner(one: AnalysisTables) -> tuple[str, str]:
        return one.stamp.model, one.stamp.dataset

    ordered = sorted(analyses, key=owner)
    return {
        "parts": [_part(list(found), f"part-{k}") for k, (_, found) in enumerate(groupby(ordered, key=owner), start=1)]
    }


def _part(analyses: Sequence[AnalysisTables], identity: str) -> dict[str, Any]:
    first = analyses[0].stamp
    subjects = list(dict.fromkeys(subject for one in analyses for subject in one.stamp.subjects))
    drawn: dict[str, Callable[[AnalysisTables], dict[str, Any]]] = {
        "searchlight": _maps,
        "contrasts": _maps,
        "decoding": _decoding,
        "networks": _networks,
        "vision": _vision,
    }
    return {
        "id": identity,
        "model": plain(first.model, 60),
        "dataset": plain(first.dataset, 60),
        "facts": [
            ("Embeddings", plain(first.model, 60), "of whole captions"),
            ("Data", plain(first.dataset, 60), f"{plain(first.kind, 20)}, version {plain(first.dataset_version, 20)}"),
            ("Brains", str(len(subjects)), plain(", ".join(subjects), 80)),
            ("Protocol", plain(first.protocol, 20), _measured_under(first)),
        ],
        "analyses": [
            {
                **_NOTHING_ELSE,
                "analysis": one.stamp.analysis,
                "summary": _summary(one.stamp),
                **drawn[one.stamp.analysis](one),
            }
            for one in sorted(analyses, key=lambda one: list(drawn).index(one.stamp.analysis))
        ],
    }


def _measured_under(stamp: AnalysisStamp) -> str:
    """The hash of the task's protocol, and whether it is that of the installed version."""
    today = PROTOCOLS[stamp.protocol].hash_of("captions") if stamp.protocol in PROTOCOLS else ""
    note = "" if stamp.protocol_hash == today else ", an earlier one than that of the ranks today"
    return f"captions {plain(stamp.protocol_hash[:12], 12)}{note}"


def _summary(stamp: AnalysisStamp) -> str:
    chosen = [f"layer {stamp.layer}", f"{stamp.n_test} test images"]
    chosen += [f"{plain(name, 40)} {plain(value, 60)}" for name, value in stamp.settings.items()]
    return ", ".join(chosen)


def _maps(tables: AnalysisTables) -> dict[str, Any]:
    """A table of maps by regions."""
    rois = list(dict.fromkeys(test.roi for test in tables.tests))
    names = list(dict.fromkeys(test.map for test in tables.tests))
    of = {(test.map, test.roi): test for test in tables.tests}
    return {
        "regions": [plain(roi, 20) for roi in rois],
        "rows": [(plain(name, 60), [_tested(of.get((name, roi))) for roi in rois]) for name in names],
    }


def _tested(test: RegionTest | None) -> Cell | None:
    if test is None:
        return None
    interval = "" if test.low is None or test.high is None else bounds(test.low, test.high)
    lit = "" if test.significant is None else f"{100 * test.significant:.0f} % of {test.n_voxels} voxels"
    return signed(test.mean), interval, test.adjusted is not None and test.adjusted <= _ALPHA, lit


def _over_subjects(values: Sequence[float]) -> Interval | None:
    """A mean over subjects with its t interval; None for one subject."""
    table = np.asarray(values, dtype=np.float64)
    if len(table) < 2:
        return None
    error = float(table.std(ddof=1) / np.sqrt(len(table)))
    return t_interval(float(table.mean()), error, len(table) - 1, len(table), "mean over subjects, t")


def _aligned(places: Sequence[Alignment]) -> Cell | None:
    """Mean over seeds of one place of a network, with its interval over subjects."""
    if not places:
        return None
    return _mean_of(np.mean([one.by_subject for one in places], axis=0).tolist())


def _decoding(tables: AnalysisTables) -> dict[str, Any]:
    """Scores by subject with their mean, and examples from the best decoded image to the worst."""
    subjects = list(dict.fromkeys(score.subject for score in tables.scores))
    of = {(score.subject, score.name): score for score in tables.scores}
    names = [name for name in _DECODED if any(score.name == name for score in tables.scores)]
    known = {
        name: [score.estimate for score in tables.scores if score.name == name and score.estimate is not None]
        for name in names
    }
    # a mean over some of the subjects would stand beside means over all of them
    means = [_mean_of(known[name]) if len(known[name]) == len(subjects) else None for name in names]
    rows = [(plain(subject, 40), [_scored(of.get((subject, name))) for name in names]) for subject in subjects]
    examples = [
        (
            f"{image.quality_rank + 1}",
            plain(image.said, 200),
            plain(image.nearest[0], 200) if image.nearest else "–",
            number(image.similarity[0], 2) if image.similarity else "–",
            f"{image.candidate_rank + 1:,.0f}",
        )
        for image in tables.images
    ]
    return {
        "regions": [_DECODED[name] for name in names],
        "rows": [("all subjects", means), *rows],
        "examples": examples,
        "example_of": plain(tables.images[0].subject, 40) if tables.images else "",
    }


def _scored(score: SubjectScore | None) -> Cell | None:
    if score is None or score.estimate is None:
        return None
    interval = "" if score.low is None or score.high is None else bounds(score.low, score.high)
    return number(score.estimate), interval, False, ""


def _mean_of(values: Sequence[float]) -> Cell:
    interval = _over_subjects(values)
    shown = "" if interval is None else bounds(interval.low, interval.high)
    return number(float(np.mean(values))), shown, False, ""


def _networks(tables: AnalysisTables) -> dict[str, Any]:
    """Readouts by region, their differences, curves over layers and over epochs."""
    rois = list(dict.fromkeys(one.roi for one in tables.alignments))
    names = [name for name in (*_NETWORKS, _EMBEDDING) if any(one.network == name for one in tables.alignments)]
    last = max(one.timestep for one in tables.alignments)
    final = [one for one in tables.alignments if one.timestep == last or one.network == _EMBEDDING]

    def readout(name: str, roi: str) -> list[Alignment]:
        return [one for one in final if (one.network, one.layer, one.roi) == (name, "readout", roi)]

    differences = [one for one in tables.differences if one.first == _NETWORKS[0] and one.second in _NETWORKS]
    apart = list(dict.fromkeys(one.second for one in differences))
    of = {(one.second, one.roi): one for one in differences}
    rows = [(plain(name, 40), [_aligned(readout(name, roi)) for roi in rois]) for name in names]
    for second in apart:
        cells: list[Cell | None] = []
        for roi in rois:
            one = of.get((second, roi))
            clear = one is not None and (one.low > 0 or one.high < 0)
            cells.append(None if one is None else (signed(one.difference), bounds(one.low, one.high), clear, ""))
        rows.append((f"{_NETWORKS[0]} − {plain(second, 40)}", cells))
    return {
        "regions": [plain(roi, 20) for roi in rois],
        "rows": rows,
        "curves": _losses(tables),
        "profiles": [_profile(roi, final) for roi in rois],
    }


def _losses(tables: AnalysisTables) -> list[Markup]:
    """Held-out loss over epochs, one line a seed; the first epoch is 1."""
    panels = []
    for name, unit in ((_NETWORKS[0], "cosine distance"), (_NETWORKS[1], "cross-entropy")):
        runs = [one.held_out for one in tables.losses if one.network == name]
        if runs:
            curves = [Curve("" if k else "held-out pictures", values, "test") for k, values in enumerate(runs)]
            panels.append(
                curve_panel(f"{name}: {unit}", curves, [str(k + 1) for k in range(max(map(len, runs)))], "epoch")
            )
    return panels


def _profile(roi: str, final: Sequence[Alignment]) -> Markup:
    """RSA over layers at the last timestep, mean over seeds and subjects."""
    own = [one for one in final if one.roi == roi and one.network in _LINES]
    layers = list(dict.fromkeys(one.layer for one in own))
    curves = [
        Curve(name, tuple(_mean(own, name, layer) for layer in layers), style)
        for name, style in _LINES.items()
        if any(one.network == name for one in own)
    ]
    short = [layer.removeprefix("layer ") for layer in layers]
    return curve_panel(plain(roi, 20), curves, short, "layer")


def _mean(own: Sequence[Alignment], network: str, layer: str) -> float:
    return float(np.mean([one.r for one in own if (one.network, one.layer) == (network, layer)]))


def _vision(tables: AnalysisTables) -> dict[str, Any]:
    """Layers of an image encoder, as they are and read out, by region."""
    rois = list(dict.fromkeys(one.roi for one in tables.alignments))
    return {"regions": [plain(roi, 20) for roi in rois], "rows": list(_places(tables.alignments, rois))}


def _places(alignments: Sequence[Alignment], rois: Sequence[str]) -> Iterator[tuple[str, list[Cell | None]]]:
    for network, layer in dict.fromkeys((one.network, one.layer) for one in alignments):
        own = [one for one in alignments if (one.network, one.layer) == (network, layer)]
        yield plain(f"{network}, {layer}", 80), [_aligned([one for one in own if one.roi == roi]) for roi in rois]
