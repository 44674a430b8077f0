# SPDX-License-Identifier: Apache-2.0
"""Features and records survive kill -9 at any point, a full disk, a read-only disk, concurrent writers and clock steps."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.features.store import FeatureStore, parse_bytes
from voxelboard.runners.cli import run_cli

SUPPORT = Path(__file__).parents[1] / "support"


def environment() -> dict[str, str]:
    paths = [str(SUPPORT), str(Path(__file__).parents[2] / ".types"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def python(*arguments: str, wrapped: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*wrapped, sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env=environment(),
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_hundred_kills_at_random_points_lose_nothing_that_was_stored(tmp_path: Path) -> None:
    done = python(str(SUPPORT / "kill_harness.py"), str(tmp_path), "100", "20261124")
    assert done.returncode == 0, done.stderr
    match = re.search(r"killed (\d+) of 100, stored cells: (.*)", done.stdout)
    assert match is not None, done.stdout
    assert int(match[1]) >= 25, "many kills came while it ran"
    assert len(ast.literal_eval(match[2])) >= 3, f"the kills came at different points: {match[2]}"


def test_concurrent_writers_on_one_folder(tmp_path: Path) -> None:
    code = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        import kill_harness
        folder, start = Path(sys.argv[1]), float(sys.argv[2])
        for number in range(5):
            while time.time() < start + number * 0.4:
                pass
            kill_harness.run(folder / f"round{number}")
        """
    )
    start = str(time.time() + 3.0)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "shared"), start],
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        _, error = process.communicate(timeout=100)
        assert process.returncode == 0, error
    check = "import sys, kill_harness, pathlib; p = pathlib.Path(sys.argv[1]); kill_harness.run(p / 'alone'); w = kill_harness.contents(p / 'alone'); assert all(kill_harness.contents(p / f'shared/round{i}') == w for i in range(5))"
    done = python("-c", check, str(tmp_path))
    assert done.returncode == 0, done.stderr


ON_A_SMALL_DISK = """
import subprocess, sys
from pathlib import Path
import kill_harness
from voxelboard.benchmark.errors import UserError

folder = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)], check=True)
try:
    kill_harness.run(folder)
except UserError as error:
    assert error.exit_code == 3, error
    print(error)
else:
    sys.exit("it fitted")
assert not [path for path in folder.rglob(".*") if path.is_file()], "nothing half-written is left"
kill_harness.plan(folder)
subprocess.run(["mount", "-o", "remount,size=100m", "tmpfs", str(folder)], check=True)
kill_harness.run(folder)
whole = kill_harness.contents(folder)
subprocess.run(["mount", "-o", "remount,ro", "tmpfs", str(folder)], check=True)
assert kill_harness.plan(folder).summary() == "3/3 cells stored, 0 to run"
science = kill_harness.StoringScience(folder / "store")
job = kill_harness.Plan(kill_harness.plan(folder).cells, fresh=True).jobs[0]
assert len(list(science(job, kill_harness.Settings(kill_harness.V1), None))) == 3
assert science.computed == 0, "a read-only store still gives its features"
try:
    kill_harness.execute(kill_harness.Plan(kill_harness.plan(folder).cells, fresh=True), science,
                         kill_harness.Settings(kill_harness.V1), kill_harness.Quiet())
except UserError as error:
    assert error.exit_code == 3, error
    print(error)
else:
    sys.exit("it wrote")
assert kill_harness.contents(folder) == whole
"""


def test_a_disk_that_is_full_and_one_that_is_read_only(tmp_path: Path) -> None:
    own_mounts = ("unshare", "--user", "--map-root-user", "--mount")
    if (
        not shutil.which("unshare")
        or subprocess.run([*own_mounts, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("this system lets nobody mount a small disk")
    done = python("-c", ON_A_SMALL_DISK, str(tmp_path), wrapped=own_mounts)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No space left on device" in done.stdout
    assert "Read-only file system" in done.stdout


def test_a_clock_that_is_set_changes_nothing(tmp_path: Path) -> None:
    calls = []

    def compute() -> np.ndarray:
        calls.append(1)
        return np.ones(10, dtype=np.float32)

    store = FeatureStore(tmp_path, max_bytes=2 * 168 + 10)
    store.get({"n": 0}, compute)
    (entry,) = tmp_path.glob("*/*.npy")
    for moment in (0, 4_000_000_000):  # 1970 and 2096
        os.utime(entry, (moment, moment))
        store.get({"n": 0}, compute)
        assert len(calls) == 1
        assert abs(entry.stat().st_mtime - time.time()) < 60, "what is read is the most recent again"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOXELBOARD_CACHE", str(tmp_path))
    store = FeatureStore(tmp_path / "features")
    for number, model in enumerate(("org/a", "org/a", "org/b")):
        key = {"stage": "features", "model": {"model_id": model}, "story": number}
        store.get(key, lambda: np.ones(1000, dtype=np.float32))
    return tmp_path


def test_cache_ls_says_what_takes_room(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["cache", "ls", "--json"]) == 0
    listing = json.loads(capsys.readouterr().out)
    assert [(row["model"], row["entries"], row["bytes"]) for row in listing["models"]] == [
        ("org/a", 2, 2 * 4128),
        ("org/b", 1, 4128),
    ]
    assert listing["bytes"] == 3 * 4128
    assert run_cli(["cache", "ls"]) == 0
    assert "org/a" in capsys.readouterr().out


def test_cache_verify_finds_a_flipped_bit_and_removes_the_entry(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sorted(cache.glob("features/*/*.npy"))[1]
    content = bytearray(path.read_bytes())
    content[2000] ^= 4
    path.write_bytes(bytes(content))
    assert run_cli(["cache", "verify", "--keep"]) == 1
    assert path.exists()
    assert run_cli(["cache", "verify", "--json"]) == 1
    out = capsys.readouterr().out
    assert json.loads(out[out.index("{") :])["damaged"] == [str(path)]
    assert not path.exists()
    assert run_cli(["cache", "verify"]) == 0


def test_cache_prune_by_model_age_and_size(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def left() -> int:
        return len(list(cache.glob("features/*/*.npy")))

    temporary = cache / "features" / "ab" / ".x.npy.abc"
    temporary.parent.mkdir(exist_ok=True)
    temporary.write_bytes(b"half")
    os.utime(temporary, (1, 1))
    assert run_cli(["cache", "prune"]) == 0
    assert (left(), temporary.exists()) == (3, False)
    assert run_cli(["cache", "prune", "-m", "org/c"]) == 2
    assert "org/a, org/b" in capsys.readouterr().err
    assert run_cli(["cache", "prune", "-m", "org/b"]) == 0
    assert left() == 2
    old = sorted(cache.glob("features/*/*.npy"))[0]
    os.utime(old, (time.time() - 10 * 86400,) * 2)
    assert run_cli(["cache", "prune", "--older-than", "20"]) == 0
    assert left() == 2
    assert run_cli(["cache", "prune", "--max-size", "5000"]) == 0
    assert (left(), old.exists()) == (1, False)
    assert run_cli(["cache", "prune", "--all"]) == 0
    assert left() == 0


def test_sizes() -> None:
    assert [parse_bytes(text, "x") for text in ("5", "1 KiB", "1.5G", "2TB")] == [5, 1024, 3 << 29, 2 << 40]
    with pytest.raises(UserError, match="--max-size 'lots' is no size"):
        parse_bytes("lots", "--max-size")
