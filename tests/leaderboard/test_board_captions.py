# SPDX-License-Identifier: Apache-2.0
"""The page of caption analyses says what their files say, to whom it may be said, and is there only where there are some."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from planted_analyses import DECODED, MAPS, NETS, ROIS
from planted_records import Plant

from voxelboard.benchmark.caption_tables import (
    AnalysisTables,
)
from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.records import Estimate, Facet
from voxelboard.leaderboard.render import render
from voxelboard.leaderboard.text import bounds, signed


@pytest.fixture
def board(tmp_path: Path) -> Plant:
    plant = Plant(tmp_path / "records", dataset="simulated-captions")
    plant.submission("org/two", 0.1)
    return plant


def write(plant: Plant, tables: AnalysisTables, name: str = "one") -> Path:
    path = plant.results / "studies" / "captions" / name / f"{tables.stamp.analysis}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    tables.save(path)
    return path


def page(plant: Plant, tmp_path: Path) -> str:
    path = render(plant.results, tmp_path / "site").parent / "captions.html"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def test_every_number_is_on_the_page_with_its_interval_and_what_is_clear_is_bold(board: Plant, tmp_path: Path) -> None:
    write(board, MAPS)
    write(board, NETS)
    text = page(board, tmp_path)
    for test in MAPS.tests:
        assert test.low is not None
        assert test.high is not None
        assert test.adjusted is not None
        shown = signed(test.mean)
        shown = f"<b>{shown}</b>" if test.adjusted <= 0.05 else shown
        assert f">{shown} <small>{bounds(test.low, test.high)}</small>" in text
    assert "100 % of 48 voxels" in text
    for one in NETS.differences:
        shown = f"<b>{signed(0.03)}</b>" if one.low > 0 else f">{signed(0.03)}"
        assert f"{shown} <small>{bounds(one.low, one.high)}</small>" in text
    # 0.1 and 0.12 of the first network's subjects: mean .11, t interval over two
    assert ">0.110 <small>[−0.017, 0.237]</small>" in text
    assert text.count("<figure>") == 2 + len(ROIS)  # two learning curves, a profile a region
    assert "org/one on pictures" in text
    assert "Simulated data – not a scientific result" in text
    index = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert 'href="captions.html"' in index


def test_what_was_decoded_is_told_by_subject_with_examples(board: Plant, tmp_path: Path) -> None:
    write(board, DECODED)
    text = page(board, tmp_path)
    assert ">0.500 <small>[0.400, 0.600]</small>" in text
    assert ">0.600 <small>[−0.671, 1.871]</small>" in text  # mean of .5 and .7, t interval over two
    # one subject has no number for being first: neither has the mean
    assert text.count('<span class="none">–</span>') == 2
    assert "A dog &lt;b&gt;runs&lt;/b&gt;.</td><td>A dog walks.</td>" in text
    assert '<td class="n">42</td>' in text


def test_a_board_of_recorded_brains_never_shows_simulated_analyses(tmp_path: Path) -> None:
    plant = Plant(tmp_path / "records", dataset="real-set", kind="real")
    plant.submission("org/one", 0.1)
    write(plant, MAPS)
    assert page(plant, tmp_path) == ""
    write(plant, replace(MAPS, stamp=replace(MAPS.stamp, kind="real", dataset="recorded")), "two")
    text = page(plant, tmp_path)
    assert "on recorded" in text
    assert "on pictures" not in text


def test_what_is_not_public_is_shown_only_where_the_board_shows_the_model(board: Plant, tmp_path: Path) -> None:
    write(board, replace(MAPS, stamp=replace(MAPS.stamp, visibility="private")))
    assert page(board, tmp_path) == ""
    board.submission("org/one", 0.2)
    assert "org/one on pictures" in page(board, tmp_path)


def test_a_board_without_analyses_has_no_page_of_them(board: Plant, tmp_path: Path) -> None:
    assert page(board, tmp_path) == ""
    assert 'href="captions.html"' not in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")


def test_a_damaged_analysis_is_named(board: Plant, tmp_path: Path) -> None:
    path = write(board, MAPS)
    path.write_text(path.read_text().replace('"mean"', '"men"'))
    with pytest.raises(DataError, match=r"searchlight\.json holds no analysis of captions"):
        page(board, tmp_path)


def test_an_earlier_protocol_and_odd_names_are_told_as_text(board: Plant, tmp_path: Path) -> None:
    write(board, replace(MAPS, stamp=replace(MAPS.stamp, protocol_hash="0" * 64, model="<script>x</script>")))
    text = page(board, tmp_path)
    assert "an earlier one than that of the ranks today" in text
    assert not re.search(r"<script>x", text)


def test_analyses_of_a_record_show_only_what_has_a_number(board: Plant, tmp_path: Path) -> None:
    """Retrieval has no RSA, RSA no retrieval: neither is a row of the other's table."""

    def number(value: float) -> Estimate:
        return Estimate(estimate=value, standard_error=0.01, low=value, high=value, estimator="t", n=9, unit="r")

    nothing = Estimate(estimate=None, estimator="t", n=0, unit="r", reason="one subject")
    facets = (
        Facet(axis="analysis", value="rsa", scores={"rsa_r": number(0.123), "rsa_ceiling": nothing}),
        Facet(axis="analysis", value="retrieval", scores={"retrieval": number(0.456)}),
    )
    board.submission("org/parts", 0.2, facets=facets)
    site = render(board.results, tmp_path / "site").parent
    (model,) = (site / "models").glob("org__parts*.html")
    tables = re.findall(
        r'<table class="heat"><caption>(?:<span[^>]*>)?(.*?)(?:</span>)?</caption>(.*?)</table>',
        model.read_text("utf-8"),
    )
    bodies = {caption: re.findall(r'<th scope="row">(.*?)</th>', body) for caption, body in tables}
    assert bodies["RSA r"] == ["rsa"]
    assert bodies["Retrieval: 2 (rank of the true caption − .5)"] == ["retrieval"]
    assert "RSA r of the other subjects" not in bodies
