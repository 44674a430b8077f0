# SPDX-License-Identifier: Apache-2.0
"""Attribution methods on a model's page: pictures where the numbers say, and nothing where nothing was run."""

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from voxelboard.benchmark.record_stamps import AttributionStamp
from voxelboard.benchmark.records import Estimate, Facet
from voxelboard.leaderboard.charts.hierarchy import Depth, hierarchy_plot
from voxelboard.leaderboard.render import render

ROIS = ("AC", "pSTS", "IFG", "AG", "PCC")
EVIL = "</title><script>alert(1)</script>"
STAMP = AttributionStamp(
    hash="f" * 64,
    constants={"context_words": 10},
    methods=("activations", "gradient_norm", "conductance"),
    refused={"attention": "lab/mamba returns no attention weights"},
    n_words=900,
    completeness_worst=8e-4,
    completeness_missed=0,
)


def number(value: float, unit: str = "H") -> Estimate:
    return Estimate(
        estimate=value, standard_error=0.01, low=value - 0.02, high=value + 0.02, estimator="t", n=16, unit=unit
    )


def facets() -> tuple[Facet, ...]:
    """Gradient norm best in AC, activations everywhere else; conductance deeper from region to region."""
    found = []
    for method in ("activations", "gradient_norm", "conductance"):
        for k, roi in enumerate((None, *ROIS)):
            value = 0.31 if (method, roi) == ("gradient_norm", "AC") else 0.1 + 0.01 * k
            scores = {"unique": number(value)}
            if method != "activations":
                scores["versus_activations"] = number(0.05 if roi == "AC" else -0.04)
            found.append(Facet(axis="method", value=method, roi=roi, scores=scores))
    for layer in range(3):
        found += [
            Facet(axis="conductance layer", value=str(layer), roi=roi, scores={"unique": number(0.1 * layer)})
            for roi in (None, *ROIS)
        ]
    overall = {"order": number(0.9, "rho"), "preference_gain": number(0.03)}
    found.append(Facet(axis="hierarchy", value="conductance", scores=overall))
    found += [
        Facet(axis="hierarchy", value="conductance", roi=roi, scores={"preferred_depth": number(k / 4, "depth")})
        for k, roi in enumerate(ROIS)
    ]
    return tuple(found)


def test_the_page_of_an_explained_model_shows_methods_layers_and_hierarchy(plant: Any, tmp_path: Path) -> None:
    plant.submission("a/explained", 0.2, facets=facets(), attribution=STAMP)
    plant.submission("a/plain", 0.2)
    site = render(plant.results, tmp_path / "site").parent
    (page,) = (site / "models").glob("a__explained*.html")
    text = page.read_text()
    assert "Explanations as features" in text
    assert 'class="h9" title="[0.' in text  # the darkest cell is the planted best one
    darkest = text.split("Explanations as features")[1].split('class="h9"')[1][:80]
    assert "0.310" in darkest
    assert "conductance: preferred layer of each region, Spearman with the order 0.90" in text
    assert "preferred layers predict more than the mean layer by 0.030" in text
    assert "attention: lab/mamba returns no attention weights" in text
    assert "within 8.0e-04 of it" in text
    (other,) = (site / "models").glob("a__plain*.html")
    assert "Explanations as features" not in other.read_text()


def test_depth_is_drawn_where_the_numbers_say() -> None:
    depths = [Depth(roi, k / 4, k / 4 - 0.05, k / 4 + 0.05) for k, roi in enumerate(ROIS)]
    svg = ET.fromstring(str(hierarchy_plot("conductance", depths, "Spearman 1.00", last_layer=12)))
    dots = [(float(e.attrib["cx"]), float(e.attrib["cy"])) for e in svg.iter("circle")]
    assert [x for x, _ in dots] == sorted(x for x, _ in dots)
    assert [y for _, y in dots] == sorted((y for _, y in dots), reverse=True)  # deeper is higher
    texts = [e.text for e in svg.iter("text")]
    assert {"0", "3", "6", "9", "12"} <= set(texts)
    assert svg.find("desc").text.startswith("AC 0.00 [")


def test_a_region_without_a_preference_has_no_dot_and_says_so() -> None:
    svg = ET.fromstring(str(hierarchy_plot("attention", [Depth("A", 0.2), Depth("B", None), Depth("C", 0.4)], "none")))
    assert len(list(svg.iter("circle"))) == 2
    assert "B no preference" in svg.find("desc").text


@pytest.mark.parametrize("name", ["HG", "transverse temporal sulcus"])
def test_the_plot_escapes_and_names_itself(name: str) -> None:
    text = str(hierarchy_plot(EVIL, [Depth(EVIL, 0.1), Depth(name, 0.2)], EVIL))
    assert "<script>" not in text
    svg = ET.fromstring(text)
    assert (svg.tag, svg.get("role"), svg[0].tag) == ("svg", "img", "title")
