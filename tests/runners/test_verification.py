# SPDX-License-Identifier: Apache-2.0
"""Verification: tiers, stamps, what moves a score opens a report, and other data or weights are refused."""

import json
from pathlib import Path

import pytest

from voxelboard.benchmark.errors import DataError, UserError
from voxelboard.benchmark.records import Record, read_record, write_record
from voxelboard.runners.cli import run_cli
from voxelboard.runners.verification import compare, settle, stamp, stored_records, submission_of

RUN = ["run", "--data", "simulated-narrative:tiny", "-m", "voxelboard/constant", "--subjects", "sim01,sim02"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two real records of the constant row on the tiny simulated brains."""
    folder = tmp_path_factory.mktemp("verify")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("VOXELBOARD_HOME", str(folder / "home"))
        patch.setenv("VOXELBOARD_CACHE", str(folder / "cache"))
        assert run_cli([*RUN, "--no-render", "--quiet"]) == 0
    return folder / "results"


@pytest.fixture
def place(results: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of them."""
    import shutil

    monkeypatch.setenv("VOXELBOARD_CACHE", str(here / "cache"))
    shutil.copytree(results, here / "results")
    return here / "results"


def records(place: Path) -> list[Record]:
    return [record for _, record in stored_records(place)]


def moved(record: Record, name: str, by: float) -> Record:
    score = record.scores[name]
    other = score.model_copy(update={"estimate": (score.estimate or 0.0) + by})
    return record.model_copy(update={"scores": {**record.scores, name: other}})


def test_the_form_is_checked_and_stamped(place: Path) -> None:
    before = records(place)
    assert run_cli(["verify", str(place), "--schema"]) == 0
    for old, new in zip(before, records(place), strict=True):
        assert new.verification == "schema-verified"
        (edit,) = new.edits
        assert (edit["what"], edit["tier"], edit["hash"]) == ("verification", "schema-verified", old.digest)
        assert len(edit["date"]) == 10
        assert new.scores == old.scores


def test_one_subject_drawn_by_seed_is_measured_again(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["verify", str(place), "--seed", "3", "--json", "--quiet", "--device", "cpu"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["tier"] == "spot-checked"
    assert told["scores"]["unique"]["stored"] == told["scores"]["unique"]["again"], "same inputs, same numbers"
    assert sorted(record.verification for record in records(place)) == ["self-reported", "spot-checked"]


def test_a_score_that_moved_opens_a_report_and_changes_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path, record), *_ = stored_records(place)
    spread = record.scores["unique"].standard_error or 0.0
    write_record(path, moved(record, "unique", 3.5 * spread + 0.002))
    before = path.read_bytes()
    assert run_cli(["verify", str(path), "--quiet", "--device", "cpu"]) == 1
    out = capsys.readouterr().out
    assert "unique moved; report:" in out
    assert path.read_bytes() == before
    report = path.with_suffix(".report.md").read_text(encoding="utf-8")
    assert "| unique |" in report
    assert "moved |" in report
    assert f"second measurement `{record.digest}`" in report, "measured again it is what it was"


def test_what_may_differ_is_three_standard_errors_or_a_thousandth(place: Path) -> None:
    record = records(place)[0]
    spread = record.scores["unique"].standard_error or 0.0
    assert spread > 0.001
    assert all(one.agrees for one in compare(record, moved(record, "unique", 2.9 * spread)))
    assert [one.name for one in compare(record, moved(record, "unique", 3.1 * spread)) if not one.agrees] == ["unique"]
    exact = record.scores["unique"].model_copy(update={"standard_error": 0.0})
    sure = record.model_copy(update={"scores": {"unique": exact}})
    assert all(one.agrees for one in compare(sure, moved(sure, "unique", 0.0009)))
    assert not all(one.agrees for one in compare(sure, moved(sure, "unique", 0.0011)))


def test_a_tier_never_falls(place: Path) -> None:
    path, record = stored_records(place)[0]
    high = stamp(path, record, "re-run", "a")
    assert stamp(path, high, "spot-checked", "b") == high
    assert settle(path, high, high, "spot-checked").report is None
    assert read_record(path).verification == "re-run"


def test_other_statistics_weights_and_commits_are_refused(place: Path, tmp_path: Path) -> None:
    path, record = stored_records(place)[0]
    other = record.model_copy(update={"model": record.model.model_copy(update={"revision": "f" * 40})})
    with pytest.raises(UserError, match="is not voxelboard/constant at ffffffffffff"):
        submission_of(other, None, "simulated-narrative:tiny")
    path.with_suffix(".npz").write_bytes(b"other")
    with pytest.raises(DataError, match="is not the file that its record was written with"):
        stored_records(path)
    assert run_cli(["verify", str(path)]) == 2
    empty = tmp_path / "empty"
    empty.mkdir()
    assert run_cli(["verify", str(empty)]) == 2


def test_other_data_are_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, record = stored_records(place)[0]
    assert record.dataset is not None
    dataset = record.dataset.model_copy(update={"responses_sha256": "0" * 64})
    write_record(path, replace_dataset(record, dataset))
    assert run_cli(["verify", str(path), "--quiet", "--device", "cpu"]) == 2
    assert "the responses here are not those of the record" in capsys.readouterr().err
    assert read_record(path).verification == "self-reported"


def replace_dataset(record: Record, dataset: object) -> Record:
    return record.model_copy(update={"dataset": dataset})
