# SPDX-License-Identifier: Apache-2.0
"""The recipes of docs/board.md are what they say: YAML that parses, files and commands that exist."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from voxelboard.runners.cli import app

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "board.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_workflow_parses_and_its_files_exist() -> None:
    workflow, space = (yaml.safe_load(block) for block in blocks("yaml"))
    job = workflow["jobs"]["board"]
    assert set(workflow["permissions"]) == {"contents", "pages", "id-token"}
    assert [step["uses"].partition("@")[0] for step in job["steps"] if "uses" in step] == [
        "actions/checkout",
        "actions/setup-python",
        "actions/upload-pages-artifact",
        "actions/deploy-pages",
    ]
    installs = next(step["run"] for step in job["steps"] if step.get("run", "").startswith("pip"))
    assert (ROOT / shlex.split(installs)[3]).is_file()
    assert space["sdk"] == "static"


@pytest.mark.parametrize(
    "line", [line for block in blocks("sh") for line in block.splitlines() if line.startswith("voxelboard")]
)
def test_each_command_has_its_options(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    shown = CliRunner().invoke(app, [words[0], "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert shown.exit_code == 0
    for option in (word for word in words if word.startswith("--")):
        assert option in shown.output
