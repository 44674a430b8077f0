# SPDX-License-Identifier: Apache-2.0
"""A run that is killed and typed again ends with the bytes of a run that nobody disturbed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from voxelboard.benchmark.records import read_record, statistics_path

RUN = ("run", "--data", "simulated-narrative:tiny", "-m", "voxelboard/planted-q0.9", "--no-render", "--device", "cpu")


def start(folder: Path) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "VOXELBOARD_CACHE": str(folder / "cache"), "VOXELBOARD_HOME": str(folder / "home")}
    environment["PYTHONHASHSEED"] = str(len(folder.name))
    return subprocess.Popen(
        [sys.executable, "-m", "voxelboard", *RUN],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def records(folder: Path) -> list[Path]:
    """Of a run that may be going on: its hidden working files come and go."""
    return sorted(path for shown in (folder / "results").glob("[!.]*") for path in shown.rglob("*.json"))


def kill_after(folder: Path, n_records: int) -> None:
    """Start a run and kill it with SIGKILL as soon as it has stored ``n_records`` records."""
    process = start(folder)
    while process.poll() is None and len(records(folder)) < n_records:
        time.sleep(0.02)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=30)


@pytest.mark.timeout(300)
def test_killed_twice_and_resumed_equals_undisturbed(tmp_path: Path) -> None:
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed run"
    killed.mkdir()
    undisturbed.mkdir()
    kill_after(killed, 1)
    first = {path: path.read_bytes() for path in records(killed)}
    assert first
    kill_after(killed, len(first) + 4)
    assert start(killed).wait(timeout=200) == 0
    assert start(undisturbed).wait(timeout=200) == 0

    for path, content in first.items():
        assert path.read_bytes() == content  # what was stored was not measured again
    names = [path.relative_to(killed) for path in records(killed)]
    assert names == [path.relative_to(undisturbed) for path in records(undisturbed)]
    assert len(names) == 3 * 9  # three subjects; the model and the eight mandatory rows
    for name in names:
        resumed, whole = killed / name, undisturbed / name
        assert read_record(resumed).digest == read_record(whole).digest, name
        assert statistics_path(resumed).read_bytes() == statistics_path(whole).read_bytes(), name
