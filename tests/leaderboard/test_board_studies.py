# SPDX-License-Identifier: Apache-2.0
"""The page of reference studies says what the study's file says, and is there only where there is one."""

import re
from pathlib import Path

import pytest
from planted_records import Plant

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.study_tables import STUDY_FILE, read_tables
from voxelboard.leaderboard.pages.studies import find_studies, studies_context
from voxelboard.leaderboard.render import render
from voxelboard.leaderboard.text import bounds, signed

COMMITTED = Path(__file__).parents[2] / "results" / "studies" / "ablation-small"


@pytest.fixture
def real(tmp_path: Path) -> Plant:
    plant = Plant(tmp_path / "records" / "v1", dataset="real-set", kind="real")
    plant.submission("org/one", 0.1)
    return plant


@pytest.fixture
def with_study(real: Plant) -> Plant:
    folder = real.results.parent / "studies" / "a-study"
    folder.mkdir(parents=True)
    (folder / STUDY_FILE).write_bytes((COMMITTED / STUDY_FILE).read_bytes())
    return real


def test_every_delta_of_the_study_is_on_the_page_with_its_interval(with_study: Plant, tmp_path: Path) -> None:
    site = render(with_study.results, tmp_path / "site").parent
    text = (site / "studies.html").read_text(encoding="utf-8")
    study = read_tables(COMMITTED)
    for quantity in study.quantities:
        if quantity.roi == "mean over regions" and quantity.kind in ("delta", "beyond_control", "context"):
            shown = re.escape(signed(quantity.estimate)), re.escape(bounds(quantity.low, quantity.high))
            assert re.search(rf"{shown[0]}(</b>)? <small>{shown[1]}", text), quantity
    assert 'href="studies.html"' in (site / "index.html").read_text(encoding="utf-8")


def test_a_study_of_another_protocol_says_so(with_study: Plant) -> None:
    def note() -> str:
        (view,) = studies_context(find_studies(with_study.results))["studies"]
        return str({name: note for name, _, note in view["facts"]}["Protocol"])

    path = with_study.results.parent / "studies" / "a-study" / STUDY_FILE
    old, today = read_tables(path.parent).protocol_hash, V1.hash_of("narrative")
    path.write_text(path.read_text().replace(old, today))
    assert note() == f"narrative {today[:12]}"
    path.write_text(path.read_text().replace(today, "0" * 64))
    assert note().startswith("narrative 000000000000, an earlier one")


def test_what_leaves_zero_out_is_bold_and_nothing_else(with_study: Plant) -> None:
    (view,) = studies_context(find_studies(with_study.results))["studies"]
    for data in view["datasets"]:
        for _, cells in data["rows"]:
            for estimate, interval, clear in filter(None, cells):
                low, high = (float(v.replace("−", "-")) for v in interval.strip("[]").split(", "))
                assert clear == (low > 0 or high < 0) or 0.0 in (low, high), (estimate, interval)


def test_a_board_without_studies_has_no_page_of_them(real: Plant, tmp_path: Path) -> None:
    site = render(real.results, tmp_path / "site").parent
    assert not (site / "studies.html").exists()
    assert "studies.html" not in (site / "index.html").read_text(encoding="utf-8")


def test_a_damaged_study_is_named(with_study: Plant, tmp_path: Path) -> None:
    (with_study.results.parent / "studies" / "a-study" / STUDY_FILE).write_text("{")
    with pytest.raises(DataError, match="a-study holds no results of a study"):
        render(with_study.results, tmp_path / "site")
