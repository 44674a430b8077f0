# SPDX-License-Identifier: Apache-2.0
"""Pictures of a study: whole XML that stands alone, with every number in its text alternative."""

import itertools
from xml.etree import ElementTree as ET

import pytest

from voxelboard.leaderboard.charts.studies import Curve, DeltaRow, delta_chart, learning_curves, spread_labels

RUNS = (((0, 7.6), (50, 6.5), (100, 6.0)), ((0, 7.5), (50, 6.4), (100, 5.9)))
CURVES = {"original": Curve(RUNS, 4.8, 0), "random-noun": Curve(RUNS[:1], 3.7, 1, broken=True)}
SVG = "{http://www.w3.org/2000/svg}"


def test_learning_curves_draw_a_line_a_seed_and_the_baseline() -> None:
    text = learning_curves(CURVES, "GPT2 & losses")
    root = ET.fromstring(text)
    lines = root.findall(f".//{SVG}polyline")
    assert len(lines) == 3
    assert [line.get("class") for line in lines] == ["c0", "c0", "c1 broken"]
    assert [len((line.get("points") or "").split()) for line in lines] == [3, 3, 3]
    first = [float(point.split(",")[1]) for point in (lines[0].get("points") or "").split()]
    assert first == sorted(first)  # the loss falls, so the line goes down the page
    assert root.findtext(f"{SVG}title") == "GPT2 & losses"
    assert "original 5.95 (n-gram 4.80)" in text
    assert text == learning_curves(CURVES, "GPT2 & losses")


def test_deltas_lie_where_their_numbers_say() -> None:
    rows = [
        DeltaRow("noun", "gpt2, original", 1, 0.02, 0.01, 0.03),
        DeltaRow("noun", "gpt2, ablated", 2, -0.01, -0.02, 0.0),
        DeltaRow("verb", "gpt2, original", 1, 0.0, -0.01, 0.01),
    ]
    root = ET.fromstring(delta_chart(rows, "what is lost", "H_u"))
    dots = [dot for dot in root.findall(f".//{SVG}circle") if dot.get("r") == "3.6"]
    x = [float(dot.get("cx") or 0) for dot in dots]
    assert x[1] < x[2] < x[0]
    assert x[0] - x[2] == pytest.approx(2 * (x[2] - x[1]), abs=0.3)
    whiskers = [line for line in root.findall(f".//{SVG}line") if (line.get("class") or "").startswith("w ")]
    assert all(float(w.get("x1") or 0) < cx < float(w.get("x2") or 0) for w, cx in zip(whiskers, x, strict=True))
    assert "noun, gpt2, original: 0.020 [0.010, 0.030]" in (root.findtext(f"{SVG}desc") or "")


def test_labels_are_kept_apart_and_inside() -> None:
    places = spread_labels([100.0, 101.0, 99.0, 250.0], 12.0, 30.0, 260.0)
    ordered = sorted(places)
    assert all(b - a >= 12 - 1e-9 for a, b in itertools.pairwise(ordered))
    assert max(places) <= 260
    assert places[2] < places[0] < places[1]
    assert max(spread_labels([259.0, 260.0], 12.0, 30.0, 260.0)) <= 260
