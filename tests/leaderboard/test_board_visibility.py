# SPDX-License-Identifier: Apache-2.0
"""What is private stays off a board that others may see."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from voxelboard.benchmark.records import load_records, read_record, write_record
from voxelboard.leaderboard.render import render
from voxelboard.leaderboard.visibility import is_public

BAND = "Contains private submissions: do not publish"


def text_of(site: Path) -> str:
    return "".join(path.read_text(errors="replace") for path in sorted(site.rglob("*")) if path.is_file())


@pytest.fixture
def results(plant: Any) -> Path:
    plant.submission("a/open", 0.2)
    plant.submission("a/secret", 0.25, changes={"visibility": "private"})
    plant.submission("a/later", 0.15, changes={"visibility": "embargo:2026-05-01"})
    folder: Path = plant.results
    return folder


@pytest.mark.parametrize(
    ("visibility", "today", "public"),
    [
        ("public", None, True),
        ("private", date(2030, 1, 1), False),
        ("embargo:2026-05-01", date(2026, 4, 30), False),
        ("embargo:2026-05-01", date(2026, 5, 1), True),
        ("embargo:2026-05-01", None, False),
        ("embargo:soon", date(2030, 1, 1), False),
        ("2020-01-01", date(2030, 1, 1), False),
        ("PUBLIC", date(2030, 1, 1), False),
    ],
)
def test_an_embargo_ends_on_its_date_and_what_is_unclear_is_not_public(
    visibility: str, today: date | None, public: bool
) -> None:
    assert is_public(visibility, today) is public


def test_a_public_site_holds_no_trace_of_private_records(results: Path, plant: Any, tmp_path: Path) -> None:
    site = render(results, tmp_path / "site").parent
    text = text_of(site)
    assert "a/open" in text
    assert "secret" not in text
    assert "later" not in {path.name.partition("--")[0].partition("__")[2] for path in (site / "models").iterdir()}
    assert BAND not in text
    for name in ("a__secret", "a__later"):
        for path in sorted((results / "v1" / name).rglob("*.*")):
            path.unlink()
    again = render(results, tmp_path / "again").parent
    assert text_of(again) == text  # ranks, ties and marks do not know of them either


def test_an_embargo_that_is_over_shows_the_row(results: Path, tmp_path: Path) -> None:
    site = render(results, tmp_path / "site", today=date(2026, 5, 1)).parent
    assert {path.name.partition("--")[0] for path in (site / "models").iterdir()} == {"a__open", "a__later"}
    assert BAND not in text_of(site)


def test_a_private_site_says_so_on_every_page(results: Path, tmp_path: Path) -> None:
    site = render(results, tmp_path / "site", include_private=True).parent
    pages = [path.read_text() for path in site.rglob("*.html")]
    assert len(pages) == 11  # eight of the board, three of models
    assert all(BAND in page for page in pages)


def test_the_private_band_is_only_for_private_rows(plant: Any, tmp_path: Path) -> None:
    plant.submission("a/open", 0.2)
    assert BAND not in text_of(render(plant.results, tmp_path / "site", include_private=True).parent)


def test_no_site_tells_the_command_line(plant: Any, tmp_path: Path) -> None:
    for path in plant.submission("local/mine", 0.2, changes={"source": "local"}):
        record = read_record(path)
        assert record.environment is not None
        leak = record.environment.model_copy(update={"command": "voxelboard run -m /home/jane/thesis/mine"})
        write_record(path, record.model_copy(update={"environment": leak}))
    text = text_of(render(plant.results, tmp_path / "site", include_private=True).parent)
    assert "/home/jane" not in text
    assert "voxelboard run -m path/to/mine -t narrative" in text
    assert all(record.environment.command for _, record in load_records(plant.results) if record.environment)
