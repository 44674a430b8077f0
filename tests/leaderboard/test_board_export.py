# SPDX-License-Identifier: Apache-2.0
"""The board as JSON and CSV."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest

from voxelboard.leaderboard.aggregate import aggregate
from voxelboard.leaderboard.board import Board
from voxelboard.leaderboard.board_site import page_names
from voxelboard.leaderboard.export import board_csv, board_json


@pytest.fixture(scope="module")
def board(demo_results: Path) -> Board:
    (board,) = aggregate(demo_results)
    return board


def strict_json(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


def csv_rows(board: Board) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(board_csv(board), newline="")))


def test_json_holds_every_row_with_intervals_or_a_reason(board: Board) -> None:
    data = strict_json(board_json(board, page_names(board)))
    (table,) = data["tables"]
    assert data["kind"] == "simulated"
    assert len(table["rows"]) == 14
    scores = [score for row in table["rows"] for score in (row["score"], *row["metrics"].values())]
    for score in scores:
        assert ("reason" in score) != ("estimate" in score)
        if "estimate" in score:
            assert score["low"] <= score["estimate"] <= score["high"]
    failed = next(row for row in table["rows"] if row["submission"] == "lab/huge")
    assert failed["rank"] is None
    assert failed["score"] == {"reason": "oom: needs 96 GiB of GPU memory, the device has 24 GiB"}


def test_csv_and_json_agree_and_a_missing_score_is_empty(board: Board) -> None:
    rows = {row["submission"]: row for row in csv_rows(board)}
    data = strict_json(board_json(board, page_names(board)))
    for row in data["tables"][0]["rows"]:
        line = rows[row["submission"]]
        assert line["state"] == row["state"]["name"]
        if "estimate" in row["score"]:
            assert float(line["score"]) == row["score"]["estimate"]
            assert float(line["twin"] or "nan") == row["metrics"]["twin"].get("estimate") or not line["twin"]
        else:
            assert (line["score"], line["score_low"], line["rank_low"], line["unit"]) == ("", "", "", "")
    assert (rows["acme/medium"]["rank_low"], rows["acme/medium"]["rank_high"]) == ("2", "3")
    assert math.isclose(float(rows["acme/large"]["ceiling_r"]), 0.41)


def test_hostile_names_are_harmless_in_a_spreadsheet(plant: Any) -> None:
    evil = '=HYPERLINK("http://x","y")\u202e,\n"quoted"'
    plant.submission("a/x", 0.2, changes={"display_name": evil, "loader": "@SUM(1)"})
    (board,) = aggregate(plant.results)
    (row,) = csv_rows(board)
    assert row["display_name"] == '\'=HYPERLINK("http://x","y")\ufffd, "quoted"'
    assert row["loader"] == "'@SUM(1)"


def test_every_csv_line_has_all_columns(board: Board) -> None:
    header, *lines = csv.reader(io.StringIO(board_csv(board), newline=""))
    assert {len(line) for line in lines} == {len(header)}
    assert len(set(header)) == len(header)
