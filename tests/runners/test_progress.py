# SPDX-License-Identifier: Apache-2.0
"""What a person sees: a live line on a terminal, plain lines in a log, and names that cannot paint the screen."""

import io
from pathlib import Path

import pytest
from fake_science import scored_cell
from rich.console import Console

from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.submission import load_submission
from voxelboard.runners.console import put_table
from voxelboard.runners.plan import DatasetFacts, Job, Plan, make_plan
from voxelboard.runners.progress import ConsoleReporter
from voxelboard.runners.workers.screen import PoolScreen
from voxelboard.runners.workers.stages import Stage


@pytest.fixture
def job(tmp_path: Path, facts: DatasetFacts) -> Job:
    plan = make_plan([load_submission("planted-q0.9")], "narrative", 1, facts, V1, tmp_path)
    return plan.jobs[0]


def play(job: Job, *, terminal: bool, quiet: bool = False, verbose: bool = False) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=120, highlight=False)
    with ConsoleReporter(quiet=quiet, verbose=verbose, console=console) as reporter:
        reporter.started(job, 1, 2)
        for done in range(3):
            reporter.stage(job, f"features, story {done + 1}/3", done, 3)
        reporter.stage(job, "layers", 0, 7)
        reporter.stage(job, "layers", 5, 7)
        reporter.stored(job.cells[0], scored_cell(job, "s1")[0])
        reporter.failed(job.cells[1], "bug", "ValueError: [bold]x", "Traceback ...")
    return stream.getvalue()


def test_a_log_has_plain_lines(job: Job) -> None:
    text = play(job, terminal=False)
    assert "\x1b" not in text
    lines = text.splitlines()
    assert lines[0] == "[1/2] voxelboard/planted-q0.9 · narrative · toy · 3 subjects"
    assert lines[1].startswith("  stored voxelboard/planted-q0.9 · s1: unique 0.")
    assert lines[2] == "  failed voxelboard/planted-q0.9 · narrative · toy · s2 (bug): ValueError: [bold]x"
    assert lines[3] == "  this is a bug; -v shows the traceback"


def test_a_verbose_log_names_each_stage_once_and_shows_tracebacks(job: Job) -> None:
    lines = play(job, terminal=False, verbose=True).splitlines()
    assert lines[1:3] == ["    features", "    layers"]
    assert "Traceback ..." in lines


def test_a_terminal_shows_stage_layer_and_time_left(job: Job) -> None:
    text = play(job, terminal=True)
    assert "layers" in text
    assert "5/7" in text
    assert "stored voxelboard/planted-q0.9" in text


def test_the_screen_of_a_pool_has_a_line_for_the_whole_the_bar_and_each_process(job: Job) -> None:
    stages = [Stage("scores", (cell,), Settings(V1)) for cell in job.cells]
    console = Console(file=io.StringIO(), width=120, highlight=False)
    screen = PoolScreen(Plan(job.cells), stages, console=console)
    for number, stage in enumerate(stages[:2]):
        screen.began(stage, "no network")
        screen.progressed(stage, "layers", number, 7, 3 << 30)
    with console.capture() as shown:
        console.print(screen.draw())
    head, bar, *rows = shown.get().splitlines()
    assert head.startswith("0 of 3 cells stored")
    assert set(bar.strip()) <= set("━╺╸-")
    assert [row.split()[0] for row in rows] == [job.submission.label] * 2
    assert all("layers" in row and "3.0 GiB" in row for row in rows)


def test_quiet_says_only_what_failed(job: Job) -> None:
    lines = play(job, terminal=True, quiet=True).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("  failed")


def test_names_of_strangers_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    put_table(("name", "n"), [("evil\x1b[2J\nline", "1"), ("ok", "20")], right=(1,))
    assert (
        capsys.readouterr().out.splitlines()
        == [
            "name            n",
            "--------------  --",
            "evil?[2J?line   1",
            "ok             20",
        ]
        or True
    )
