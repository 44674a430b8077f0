# SPDX-License-Identifier: Apache-2.0
"""``voxelboard selftest``: table, JSON, report and exit codes, with invariants that are made up."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from voxelboard.benchmark.selftest import suite
from voxelboard.benchmark.selftest.findings import Figure, Invariant, Measurement
from voxelboard.runners.cli import run_cli

HOSTILE = "<script>alert(1)</script> [bold]x[/bold]"


def _invariant(key: str, value: float, title: str = "a property") -> Invariant:
    figures = (Figure(f"figure of {key}", value, high=1.0), Figure("reported too", 0.25))
    return Invariant(key, title, "here", "at most 1", lambda bench: Measurement(figures, "3 worlds"))


@pytest.fixture
def invariants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "INVARIANTS", (_invariant("X1", 0.5), _invariant("X2", 2.0, HOSTILE)))


def test_a_failure_is_code_1_and_told(capsys: pytest.CaptureFixture[str], here: Path, invariants: None) -> None:
    assert run_cli(["selftest"]) == 1
    out, err = capsys.readouterr()
    assert "1 of 2 invariants hold" in out
    assert "X2 failed: figure of X2 is 2, bound at most 1" in err
    assert "1/2 X1 a property" in err
    assert "1/2" not in out
    (row,) = [line for line in out.splitlines() if line.startswith("X2")]
    assert HOSTILE in row
    assert row.rstrip().endswith("FAIL")
    assert list(here.iterdir()) == []


def test_a_stopped_run_reports_what_it_has_and_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(bench: object) -> Measurement:
        raise KeyboardInterrupt

    second, third = _invariant("X2", 0.5), _invariant("X3", 0.5)
    monkeypatch.setattr(suite, "INVARIANTS", (_invariant("X1", 0.5), replace(second, check=stopped), third))
    assert run_cli(["selftest", "--full", "--seed", "4"]) == 130
    out, err = capsys.readouterr()
    assert "stopped after 1; the rest: voxelboard selftest --full --seed 4 --only X2,X3" in err
    assert "1 of 1 invariants hold" in out
    assert "1 of 1 invariants hold" in (here / "selftest.html").read_text(encoding="utf-8")


def test_all_passed_is_code_0(capsys: pytest.CaptureFixture[str], here: Path, invariants: None) -> None:
    assert run_cli(["selftest", "--only", "X1", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert "1 of 1 invariants hold" in out
    assert err == ""
    assert run_cli(["selftest", "--only", "X9"]) == 2
    assert "unknown invariant 'X9'" in capsys.readouterr().err


def test_json_is_the_whole_of_stdout(capsys: pytest.CaptureFixture[str], here: Path, invariants: None) -> None:
    assert run_cli(["selftest", "--json", "--seed", "3"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["seed"], told["full"]) == (3, False)
    assert [(finding["id"], finding["passed"]) for finding in told["findings"]] == [("X1", True), ("X2", False)]
    assert told["findings"][1]["figures"][0]["value"] == 2.0


def test_the_full_form_writes_one_page_that_needs_nothing(
    capsys: pytest.CaptureFixture[str], here: Path, invariants: None
) -> None:
    assert run_cli(["selftest", "--full", "--seed", "5"]) == 1
    page = (here / "selftest.html").read_text(encoding="utf-8")
    assert "report: selftest.html" in capsys.readouterr().err
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert not re.search(r"(src|href)=|https?:|url\(", page)
    assert "figure of X2" in page
    assert "at most 1" in page
    assert "voxelboard selftest --full --seed 5" in page
    assert "1 of 2 invariants hold" in page


def test_a_report_that_cannot_be_written_is_a_missing_prerequisite(
    capsys: pytest.CaptureFixture[str], here: Path, invariants: None
) -> None:
    (here / "taken").write_text("a file")
    assert run_cli(["selftest", "--only", "X1", "--report", "taken/page.html"]) == 3
    assert "cannot write the report" in capsys.readouterr().err


def test_simulated_data_are_never_reported_as_real(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    assert run_cli(["selftest", "--real", "simulated-narrative:tiny"]) == 2
    assert "simulated-narrative:tiny is simulated" in capsys.readouterr().err
    assert run_cli(["selftest", "--real", "alice2016", "--only", "A1"]) == 2
    assert "--only chooses among simulated worlds" in capsys.readouterr().err
