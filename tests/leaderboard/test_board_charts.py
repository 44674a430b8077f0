# SPDX-License-Identifier: Apache-2.0
"""Charts: what is drawn lies where the numbers say, and every figure has a text alternative."""

import re
import xml.etree.ElementTree as ET

import pytest
from markupsafe import Markup

from voxelboard.leaderboard.charts import (
    Axis,
    Marker,
    axis_header,
    headline_chart,
    interval_bar,
    layer_profile,
    layer_sparkline,
    rank_rail,
    roi_bar,
    shared_axis,
    subject_dots,
    ticks,
    voxel_histogram,
)
from voxelboard.leaderboard.charts.distributions import Dot
from voxelboard.leaderboard.charts.layers import LayerLine, profile_limits

AXIS = Axis(-0.1, 0.4, 0, 100)
MARKERS = [Marker("zero", "floor", 0.0), Marker("static", "static", 0.1), Marker("ceiling", "oracle", 0.3)]
EVIL = "</title><script>alert(1)</script>\" onload='x'"
CURVE = LayerLine((0.1, 0.2, None, 0.15), (0.05, 0.1, None, 0.1), (0.15, 0.3, None, 0.2))
DOT = Dot(EVIL, 0.1, 0.05, 0.15)

EVERY = {
    "bar": interval_bar(AXIS, 0.2, 0.1, 0.3, MARKERS, twin=0.01, name=EVIL),
    "roi": roi_bar(AXIS, -0.05, -0.08, 0.01, EVIL),
    "axis": axis_header(AXIS, [*MARKERS, Marker("other", EVIL, 0.2)], EVIL),
    "headline": headline_chart(AXIS, 0.2, 0.1, 0.3, MARKERS, 0.01, EVIL),
    "rail": rank_rail(2, 4, 9),
    "spark": layer_sparkline(CURVE, 1),
    "panel": layer_profile(EVIL, CURVE, CURVE, (1, 1, 3), profile_limits([CURVE])),
    "subjects": subject_dots([DOT], DOT, EVIL, MARKERS),
    "voxels": voxel_histogram((-0.2, 0.0, 0.2, 0.4), {EVIL: (1, 5, 2), "unique": (3, 4, 1)}, 0.35),
}


def parsed(svg: Markup) -> ET.Element:
    return ET.fromstring(str(svg))


def numbers(svg: Markup, tag: str, attribute: str, class_: str) -> list[float]:
    return [float(e.attrib[attribute]) for e in parsed(svg).iter(tag) if e.get("class") == class_]


@pytest.mark.parametrize("name", EVERY)
def test_every_chart_is_xml_with_a_name_and_no_colour_of_its_own(name: str) -> None:
    svg = parsed(EVERY[name])
    assert svg.tag == "svg"
    assert svg.get("role") == "img"
    assert (svg[0].tag, bool(svg[0].text)) == ("title", True)
    allowed = {"svg", "title", "desc", "line", "rect", "circle", "path", "text", "polyline", "polygon"}
    for element in svg.iter():
        assert element.tag in allowed
        assert not {"style", "fill", "stroke", "href"} & set(element.attrib)
        assert not [key for key in element.attrib if key.startswith("on")]


@pytest.mark.parametrize("name", EVERY)
def test_coordinates_are_short_and_finite(name: str) -> None:
    text = str(EVERY[name])
    assert "nan" not in text
    assert "inf" not in re.findall(r'="([^"]*)"', text)
    assert not re.search(r'="-?\d+\.\d{2,}"', text)
    assert '"-0"' not in text


def test_an_interval_lies_on_the_axis() -> None:
    svg = interval_bar(AXIS, 0.2, 0.1, 0.3, MARKERS, twin=0.0)
    assert numbers(svg, "circle", "cx", "pt") == [60.0]
    assert numbers(svg, "rect", "x", "ci") == [40.0]
    assert numbers(svg, "rect", "width", "ci") == [40.0]
    assert numbers(svg, "line", "x1", "r zero") == [20.0]
    assert numbers(svg, "line", "x1", "r ceiling") == [80.0]


def test_a_bar_below_zero_grows_to_the_left() -> None:
    svg = roi_bar(AXIS, -0.05, -0.08, 0.01, "AC")
    assert numbers(svg, "rect", "x", "fill") == [10.0]
    assert numbers(svg, "rect", "width", "fill") == [10.0]


def test_values_outside_the_axis_stay_inside_the_frame() -> None:
    assert AXIS(9.0) == 100
    assert AXIS(-9.0) == 0


def test_a_shared_axis_holds_zero_and_every_value() -> None:
    axis = shared_axis([0.2, 0.5], 100)
    assert axis.low < 0 < 0.5 < axis.high
    assert shared_axis([], 100).low < shared_axis([], 100).high


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-0.02, 0.32, [0.0, 0.1, 0.2, 0.3]), (0, 1, [0.0, 0.25, 0.5, 0.75, 1.0]), (0, 12, [0.0, 5.0, 10.0])],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == expected


def test_the_rail_marks_first_and_last_rank() -> None:
    whole, best = rank_rail(1, 9, 9), rank_rail(1, 1, 9)
    assert parsed(whole)[0].text == "ranks 1 to 9 of 9"
    assert parsed(best)[0].text == "rank 1 of 9"
    assert numbers(whole, "rect", "width", "span")[0] > numbers(best, "rect", "width", "span")[0]


def test_labels_of_close_rulers_do_not_touch() -> None:
    close = [Marker("zero", "floor", 0.0), Marker("twin", "untrained", 0.004), Marker("static", "static", 0.008)]
    rows = [float(e.attrib["y"]) for e in parsed(axis_header(AXIS, close, "H")).iter("text") if e.get("class") == "t m"]
    assert len(set(rows)) == 3


def test_gaps_in_a_curve_stay_gaps() -> None:
    svg = parsed(layer_profile("AC", CURVE, CURVE, (1,), (-0.1, 0.4)))
    lines = [e for e in svg.iter("polyline") if e.get("class") == "test"]
    assert [len(e.attrib["points"].split()) for e in lines] == [2, 1]
    assert layer_sparkline(LayerLine((None, None)), 0) == ""


def test_the_text_alternative_tells_the_chosen_and_the_best_layer() -> None:
    svg = parsed(layer_profile("AC", CURVE, CURVE, (3, 1), (-0.1, 0.4)))
    assert svg[1].text == "chosen on training data: layer 1, 3; highest test score 0.200 at layer 1 [0.100, 0.300]"


def test_the_histogram_tells_the_median() -> None:
    svg = parsed(voxel_histogram((0.0, 0.1, 0.2, 0.3), {"raw": (1, 1, 8)}, None))
    assert svg[1].text == "raw: 10 voxels, median near 0.25"
