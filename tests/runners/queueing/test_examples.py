# SPDX-License-Identifier: Apache-2.0
"""The examples of docs/queue.md are what they say: a filter file, a systemd unit and timer, a line of cron, a workflow."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from voxelboard.runners.cli import app
from voxelboard.runners.queueing.filters import read_filter

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "queue.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def nightly_commands() -> list[str]:
    """Every call of ``voxelboard nightly`` on the page."""
    return re.findall(r"voxelboard nightly((?: [a-z0-9.-]+)+)", PAGE)


def test_the_filter_file_is_one(tmp_path: Path) -> None:
    text = blocks("yaml")[0]
    (tmp_path / "nightly.yaml").write_text(text, encoding="utf-8")
    found = read_filter(tmp_path / "nightly.yaml")
    assert (found.data, found.most, found.tasks) == ("lebel2023", 200, ("narrative",))


def test_every_flag_of_the_examples_is_one_of_the_command() -> None:
    command = get_command(app).commands["nightly"]  # type: ignore[attr-defined]
    flags = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    calls = nightly_commands()
    assert len(calls) == 4, "the page's own, systemd, cron, Actions"
    for call in calls:
        used = re.findall(r"--[a-z-]+", call)
        assert "--filter" in used
        assert set(used) <= flags, call


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_takes_the_unit_and_the_timer(tmp_path: Path) -> None:
    service, timer = blocks("ini")
    program = tmp_path / "voxelboard" / ".venv" / "bin" / "voxelboard"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    (tmp_path / "voxelboard.service").write_text(service.replace("%h", str(tmp_path)), encoding="utf-8")
    (tmp_path / "voxelboard.timer").write_text(timer, encoding="utf-8")
    units = [str(tmp_path / f"voxelboard.{kind}") for kind in ("service", "timer")]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False, timeout=60
    )
    told = [line for line in done.stderr.splitlines() if "voxelboard" in line]
    assert (done.returncode, told) == (0, []), done.stderr


def test_the_line_of_cron_is_one() -> None:
    (line,) = re.findall(r"^cron: `(.*)`$", PAGE, flags=re.MULTILINE)
    *when, command = line.split(maxsplit=5)
    assert len(when) == 5
    for field, (low, high) in zip(when, ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7)), strict=True):
        assert field == "*" or low <= int(field) <= high
    assert "%" not in command, "cron reads it as the end of the line"


def test_the_workflow_is_one() -> None:
    text = blocks("yaml")[1]
    workflow = yaml.safe_load(text)
    triggers = workflow[True]  # YAML 1.1 reads `on` as a truth value; Actions does not
    assert triggers["schedule"] == [{"cron": "0 22 * * *"}]
    (job,) = workflow["jobs"].values()
    assert {"runs-on", "timeout-minutes", "steps"} <= set(job)
    assert all(("uses" in step) != ("run" in step) for step in job["steps"])
    hours = int(re.search(r"--hours (\d+)", text)[1])  # type: ignore[index]
    assert job["timeout-minutes"] > 60 * hours, "the night ends by itself, with its summary"
