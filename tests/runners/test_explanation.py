# SPDX-License-Identifier: Apache-2.0
"""``explain``: the printed arithmetic is right, and a score that it does not give is refused."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_science import N_BLOCKS, FakeScience

from voxelboard.benchmark.records import read_record, read_statistics, write_record
from voxelboard.leaderboard.aggregate import aggregate
from voxelboard.runners.cli import run_cli
from voxelboard.runners.explanation import explain_scores

RUN = ["run", "-m", "planted-q0.9", "--data", "simulated-narrative:tiny", "--no-render", "--quiet"]


@pytest.fixture
def results(here: Path, science: FakeScience, capsys: pytest.CaptureFixture[str]) -> Path:
    assert run_cli(RUN) == 0
    capsys.readouterr()
    return here / "results"


def records_of(results: Path) -> list[Path]:
    return sorted(results.glob("v1/voxelboard__planted-q0.9/*/narrative/*/*.json"))


def test_the_printed_sums_give_the_printed_scores(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["explain", "planted-q0.9"]) == 0
    out = capsys.readouterr().out
    lines = re.findall(r"^  (\w+) +(\S+) / sqrt\((\S+) x (\S+)\) = .* = (\S+)$", out, flags=re.MULTILINE)
    assert len(lines) == 2 * 3
    for _, c, q, s, score in lines:
        assert float(c) / (float(q) * float(s)) ** 0.5 == pytest.approx(float(score), abs=2e-5)
    means = [float(value) for value in re.findall(r"^  mean of 2 regions: .* = (\S+)$", out, flags=re.MULTILINE)]
    assert means == pytest.approx(np.array([float(line[4]) for line in lines]).reshape(3, 2).mean(axis=1), abs=2e-6)
    overall = re.search(r"^mean of 3 subjects: .* = (\S+) H$", out, flags=re.MULTILINE)
    assert overall is not None
    assert float(overall[1]) == pytest.approx(np.mean(means), abs=2e-6)


def test_the_explained_scores_are_the_stored_ones(results: Path) -> None:
    (explanation,) = explain_scores(results, "voxelboard/planted-q0.9", "narrative")
    stored = [read_record(path).scores["unique"] for path in records_of(results)]
    for subject, score in zip(explanation.subjects, stored, strict=True):
        assert score.estimate is not None
        assert subject.interval is not None
        assert subject.mean == pytest.approx(score.estimate, rel=1e-12)
        assert (subject.interval.low, subject.interval.high) == pytest.approx((score.low, score.high), rel=1e-12)
    assert explanation.interval.estimate == pytest.approx(explanation.mean, rel=1e-12)


def test_json_has_every_number(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["explain", "planted-q0.9", "--json"]) == 0
    (explanation,) = json.loads(capsys.readouterr().out)
    assert set(explanation["subjects"][0]["rois"][0]) == {"roi", "c", "q", "s", "score", "pooled"}


WEAK = np.where(np.arange(N_BLOCKS) % 6 < 3, 1.0, -0.9)  # positive in sum, but not reliably


def weaken(path: Path, rois: tuple[int, ...]) -> None:
    """Give a record regions without reliable signal, and the headline that it has then by its own gate."""
    record = read_record(path)
    arrays = read_statistics(path, record)
    table = arrays["stats__unique"].copy()
    for roi in rois:
        table[:, roi, 2] = WEAK
    kept = [table[:, roi].sum(axis=0) for roi in (0, 1) if roi not in rois]
    values = [c / np.sqrt(q * s) for c, q, s in kept]
    gone = {"estimate": None, "standard_error": None, "low": None, "high": None, "reason": "no ROI passes the gate"}
    changes = {"estimate": float(np.mean(values))} if values else gone
    score = replace(record.scores["unique"], **changes)
    write_record(path, record.model_copy(update={"scores": {"unique": score}}), {**arrays, "stats__unique": table})


def every_record(results: Path, subject: str) -> list[Path]:
    return sorted(results.glob(f"v1/*/*/narrative/*/{subject}.json"))


def test_a_region_without_signal_in_any_subject_does_not_enter(results: Path) -> None:
    for path in every_record(results, "*"):
        weaken(path, (1,))
    (explanation,) = explain_scores(results, "planted-q0.9", "narrative")
    assert all([roi.score is None for roi in subject.rois] == [False, True] for subject in explanation.subjects)
    assert (explanation.n_entries, explanation.n_scored, explanation.n_pooled) == (6, 3, 0)
    for subject in explanation.subjects:
        assert subject.mean == pytest.approx(subject.stored, rel=1e-12)


def test_a_weak_subject_is_scored_against_the_power_of_all(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """alice2016: a record without a headline of its own counts where the subjects together have signal."""
    weak = records_of(results)[0]
    for path in every_record(results, weak.stem):
        weaken(path, (0, 1))
    assert read_record(weak).scores["unique"].estimate is None
    (explanation,) = explain_scores(results, "planted-q0.9", "narrative")
    assert (explanation.n_entries, explanation.n_scored, explanation.n_pooled) == (6, 6, 6)
    (first, *_) = explanation.subjects
    power = np.mean(
        [read_statistics(p, read_record(p))["stats__unique"].sum(axis=0) for p in records_of(results)], axis=0
    )
    own = read_statistics(weak, read_record(weak))["stats__unique"].sum(axis=0)
    expected = [own[roi, 0] / np.sqrt(own[roi, 1] * power[roi, 2]) for roi in (0, 1)]
    assert [roi.score for roi in first.rois] == pytest.approx(expected, rel=1e-12)
    assert first.stored is None
    board = {row.entry.submission: row for row in aggregate(results)[0].tables[0].rows}["voxelboard/planted-q0.9"]
    assert board.headline == explanation.interval
    assert run_cli(["explain", "planted-q0.9"]) == 0
    out = capsys.readouterr().out
    assert "6 of 6 regions of subjects enter, 6 with pooled s; 0 do not" in out
    assert out.count(", s pooled") == 6
    assert "by this subject's own s alone: nothing" in out


def test_an_edited_score_is_found(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = records_of(results)[1]
    record = read_record(path)
    score = replace(record.scores["unique"], estimate=0.9)
    write_record(path, record.model_copy(update={"scores": {"unique": score}}))
    assert run_cli(["explain", "planted-q0.9"]) == 2
    assert "the record says unique 0.9, its statistics give" in capsys.readouterr().err


def test_who_has_no_scores_is_told(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["explain", "planted-q0.8"]) == 2
    assert "unknown model with records 'planted-q0.8'" in capsys.readouterr().err
    assert run_cli(["explain", "planted-q0.9", "--data", "alice2016"]) == 2
    assert "has no scores for narrative on alice2016" in capsys.readouterr().err
