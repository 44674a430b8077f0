# SPDX-License-Identifier: Apache-2.0
"""The section of a task's page that says what alignment loses under each condition (task ablation)."""

from collections.abc import Mapping, Sequence
from typing import Any

from voxelboard.benchmark.statistics.intervals import Interval
from voxelboard.leaderboard.board import Row, Table
from voxelboard.leaderboard.charts.axes import Axis, shared_axis
from voxelboard.leaderboard.charts.intervals import BAR_WIDTH, roi_bar
from voxelboard.leaderboard.condition_scores import AXIS
from voxelboard.leaderboard.pages.facts import display_name
from voxelboard.leaderboard.text import bounds, plain, signed

_MAX_MODELS = 6
# What is read under a condition; one that is not here is shown by its name alone.
_READS = {
    "noun": "nouns as NNOUN",
    "verb": "verbs as VVERB",
    "content": "content words as the tags of their classes",
    "function": "function words as the tags of their classes",
    "random-noun": "as many words as nouns, at random, as one tag",
    "random-verb": "as many words as verbs, at random, as one tag",
    "random-content": "as many words as content words, at random, as one tag",
    "random-function": "as many words as function words, at random, as one tag",
    "swap-noun": "nouns in each other’s places",
    "swap-verb": "verbs in each other’s places",
    "swap-content": "content words in places of their class",
    "swap-function": "function words in places of their class",
    "shuffle-1": "one pair of neighbours in every sentence turned",
    "shuffle-7": "every sentence shuffled to a Kendall distance of 7",
    "backward": "every sentence from its end",
    "word-list-by-class": "all words shuffled, each in a place of its part of speech",
    "word-list": "all words shuffled",
    "keep-content": "content words only",
    "keep-function": "function words only",
    "constant": "“the” for every word",
    "residual-noun": "the intact text, the count of nouns taken out of the states",
    "residual-verb": "the intact text, the count of verbs taken out of the states",
    "random-residual-noun": "the same with counts of another time: the control",
    "random-residual-verb": "the same with counts of another time: the control",
}

Shown = tuple[str, str, bool]  # estimate, interval, whether the interval leaves 0 out


def conditions_view(table: Table) -> dict[str, Any] | None:
    """Values for the section, or None where no condition changes a row: ranked models, then the rulers that read words."""
    rows = (*table.ranked, *table.rulers)
    held = [(row, scores) for row in rows if (scores := _scores(row)) and _differs(scores)]
    if not held:
        return None
    names = list(dict.fromkeys(name for _, scores in held for name in scores))
    scale = shared_axis((v for s in held[0][1].values() for v in _ends(s.get("delta"))), BAR_WIDTH)
    return {
        "models": [display_name(row.model, row.entry) for row, _ in held[:_MAX_MODELS]],
        "left_out": max(0, len(held) - _MAX_MODELS),
        "rows": [
            {
                "name": plain(name, 40),
                "reads": _READS.get(name, ""),
                "bar": _bar(scale, held[0][1].get(name, {}).get("delta"), name),
                "cells": [
                    (_shown(scores.get(name, {}).get("delta")), _shown(scores.get(name, {}).get("beyond_control")))
                    for _, scores in held[:_MAX_MODELS]
                ],
            }
            for name in names
        ],
        "probes": _probes(held[:_MAX_MODELS]),
    }


def _scores(row: Row) -> dict[str, Mapping[str, Any]]:
    """Condition -> scores over all regions."""
    return {facet.value: facet.scores for facet in row.facets if facet.axis == AXIS and facet.roi is None}


def _differs(scores: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether any condition changes anything: a constant row loses exactly nothing."""
    deltas = [found.get("delta") for found in scores.values()]
    return any(isinstance(delta, Interval) and delta.estimate != 0.0 for delta in deltas)


def _ends(score: object) -> tuple[float, ...]:
    return (score.low, score.high) if isinstance(score, Interval) else ()


def _bar(axis: Axis, score: object, name: str) -> str:
    if not isinstance(score, Interval):
        return ""
    return roi_bar(axis, score.estimate, score.low, score.high, plain(name, 40))


def _shown(score: object) -> Shown | None:
    if not isinstance(score, Interval):
        return None
    return signed(score.estimate), bounds(score.low, score.high), score.low > 0 or score.high < 0


def _probes(held: Sequence[tuple[Row, Mapping[str, Mapping[str, Any]]]]) -> list[dict[str, Any]]:
    """For each model and property: how often a linear probe finds its count, before and after removal, and by chance."""
    columns = ("probe_intact", "probe_removed", "probe_chance", "probe_removed_above_chance")
    return [
        {
            "model": display_name(row.model, row.entry),
            "name": plain(name, 40),
            "cells": [_shown(found.get(column)) for column in columns],
        }
        for row, scores in held
        for name, found in scores.items()
        if any(column in found for column in columns)
    ]
