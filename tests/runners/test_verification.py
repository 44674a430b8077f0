# SPDX-License-Identifier: Apache-2.0
"""Verification: tiers, stamps, what moves a score opens a report, and other data or weights are refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from voxelboard.benchmark.errors import DataError, UserError
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.readers.registry import open_dataset
from voxelboard.benchmark.records import Record, read_record, read_statistics, write_record
from voxelboard.benchmark.tasks.recompute import recomputed_scores
from voxelboard.runners.cli import run_cli
from voxelboard.runners.verification import (
    choose_fold,
    compare,
    compare_fold,
    fold_segments,
    recompute,
    settle,
    stamp,
    stored_records,
    submission_of,
)

SENTENCES = "simulated-sentences:tiny"
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
    other = replace(score, estimate=(score.estimate or 0.0) + by)
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
    assert "unique, unique from its statistics" in out
    assert "moved; report:" in out
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
    exact = replace(record.scores["unique"], standard_error=0.0)
    sure = record.model_copy(update={"scores": {"unique": exact}})
    assert all(one.agrees for one in compare(sure, moved(sure, "unique", 0.0009)))
    assert not all(one.agrees for one in compare(sure, moved(sure, "unique", 0.0011)))


def test_a_score_that_is_measured_since_is_no_difference_and_one_that_is_gone_is(place: Path) -> None:
    record = records(place)[0]
    fewer = record.model_copy(update={"scores": {k: v for k, v in record.scores.items() if k != "ceiling"}})
    assert record.scores["ceiling"].estimate is not None
    assert all(one.agrees for one in compare(fewer, record))
    assert [one.name for one in compare(record, fewer) if not one.agrees] == ["ceiling"]


def test_a_tier_never_falls(place: Path) -> None:
    path, record = stored_records(place)[0]
    high = stamp(path, record, "re-run", "a")
    assert stamp(path, high, "spot-checked", "b") == high
    assert settle(path, high, compare(high, high), "spot-checked", "c").report is None
    assert read_record(path).verification == "re-run"


def test_scores_are_what_their_statistics_give_to_the_byte(place: Path) -> None:
    for path, record in stored_records(place):
        found = recomputed_scores(record, read_statistics(path, record), V1.score)
        assert {"unique", "normalised", "floor", "unique_fve"} <= set(found)
        for name, estimates in found.items():
            assert repr(estimates[None]) == repr(record.scores[name])
            for roi, scores in record.by_roi.items():
                assert repr(estimates[roi]) == repr(scores[name])
        assert all(one.before == one.after for one in recompute(record, read_statistics(path, record)))


def test_a_score_that_its_statistics_do_not_give_opens_a_report(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path, record), *_ = stored_records(place)
    write_record(path, moved(record, "unique", 1e-6))  # far below what a second measurement may differ by
    before = path.read_bytes()
    assert run_cli(["verify", str(path), "--schema"]) == 1
    assert "unique from its statistics moved; report:" in capsys.readouterr().out
    assert path.read_bytes() == before
    assert "is not what its statistics give" in path.with_suffix(".report.md").read_text(encoding="utf-8")
    other = record.protocol.model_copy(update={"hash": "0" * 64})
    with pytest.raises(DataError, match="measured by another protocol v1"):
        recompute(record.model_copy(update={"protocol": other}), read_statistics(path, record))


def test_one_fold_is_measured_again_where_there_are_several(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VOXELBOARD_CACHE", str(here / "cache"))
    row = "voxelboard/random-word-vectors"
    assert run_cli(["run", "--data", SENTENCES, "-m", row, "--subjects", "sim01", "--no-render", "--quiet"]) == 0
    ((path, record),) = stored_records(here / "results")
    assert len(open_dataset(SENTENCES).split.folds) == 4
    drawn = {choose_fold(record, SENTENCES, seed) for seed in range(40)}
    assert drawn == {0, 1, 2, 3}
    assert choose_fold(record, "simulated-narrative:tiny", 0) is None, "one fold is the whole subject"
    capsys.readouterr()
    command = ["verify", str(path), "--seed", "5", "--json", "--quiet", "--device", "cpu"]
    assert run_cli(command) == 0
    (told,) = json.loads(capsys.readouterr().out)
    fold = choose_fold(record, SENTENCES, 5)
    assert (told["tier"], told["fold"]) == ("spot-checked", fold)
    measured = told["scores"]
    assert told["recomputed"] > 20
    assert len(measured) >= 2, "the headline and the raw score of each ROI"
    assert all(one["stored"] == pytest.approx(one["again"], abs=1e-7) for one in measured.values())
    assert len({round(one["stored"], 6) for one in measured.values()}) > 1, "they are not all zero"
    stamped = read_record(path)
    assert (stamped.verification, stamped.edits[-1]["fold"]) == ("spot-checked", str(fold))
    assert stamped.scores == record.scores

    arrays = read_statistics(path, record)
    other = dict(arrays)
    other["stats__unique"] = arrays["stats__unique"] * np.array([0.2, 1.0, 1.0])
    arrays_of_fold = {
        name: table[np.isin(arrays["block_segment"], list(fold_segments(SENTENCES, "narrative", fold)))]
        for name, table in arrays.items()
        if name.startswith("stats__") or name == "block_segment"
    } | {"block_trs": arrays["block_trs"]}
    segments = fold_segments(SENTENCES, "narrative", fold)
    rois = [str(roi) for roi in arrays["rois"]]
    assert all(one.agrees for one in compare_fold(record, arrays, arrays_of_fold, segments, rois))
    assert not all(one.agrees for one in compare_fold(record, other, arrays_of_fold, segments, rois)), "it can fail"


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
