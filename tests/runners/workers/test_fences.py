# SPDX-License-Identifier: Apache-2.0
"""The fences around a model's process, tried from inside: each row of docs/security.md that names this file."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from voxelboard.runners.workers import landlock
from voxelboard.runners.workers.fences import is_secret, without_secrets

needs_landlock = pytest.mark.skipif(
    sys.platform != "linux" or landlock.version() == 0, reason="this kernel has no Landlock"
)


def network_can_be_left() -> bool:
    code = "from voxelboard.runners.workers.fences import close_fences; print(close_fences().network)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip() == "none"


def failure_of(pool, how: str, **policy: object) -> str:
    pool.behave(s1=how)
    pool.run(**policy)
    (message,) = [text for subject, _, text in pool.log.failures if subject == "s1"]
    return message


@needs_landlock
def test_a_model_cannot_write_outside_of_its_folders(pool, tmp_path: Path) -> None:
    target = tmp_path / "outside.txt"
    assert "PermissionError" in failure_of(pool, f"write:{target}")
    assert not target.exists()
    assert "own files only" in pool.log.fences[0]


@needs_landlock
def test_a_model_cannot_write_into_the_results(pool, tmp_path: Path) -> None:
    other = tmp_path / "results" / "v1" / "org__other.json"
    other.parent.mkdir(parents=True)
    other.write_text("{}", encoding="utf-8")
    assert "PermissionError" in failure_of(pool, f"write:{other}")
    assert other.read_text(encoding="utf-8") == "{}"


@needs_landlock
def test_a_model_cannot_read_the_user_s_files(pool, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("hf_secret", encoding="utf-8")
    message = failure_of(pool, f"read:{secret}")
    assert "PermissionError" in message
    assert "hf_secret" not in message


@needs_landlock
def test_a_model_cannot_read_the_environment_of_other_processes_or_signal_them(pool) -> None:
    assert "PermissionError" in failure_of(pool, "environ-of-parent")
    if landlock.version() >= 6:
        pool.log.failures.clear()
        assert "PermissionError" in failure_of(pool, "signal-parent")


def test_a_model_has_no_network(pool) -> None:
    if not network_can_be_left():
        pytest.skip("this system lets nobody make a network namespace")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        message = failure_of(pool, f"connect:{port}")
        assert re.search(r"unreachable|refused|ConnectionRefused", message), message
        assert "no network" in pool.log.fences[0]
        pool.log.failures.clear()
        pool.behave(s1=f"connect:{port}")
        assert pool.run(fenced=False).exit_code() == 0, "without the fence the same connection stands"


def test_a_model_sees_no_secrets_in_its_environment(pool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "MY_API_KEY"):
        monkeypatch.setenv(name, "hf_do_not_show")
    message = failure_of(pool, "environment")
    assert "VOXELBOARD_CACHE" in message
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "MY_API_KEY", "hf_do_not_show"):
        assert name not in message


def test_secrets_never_reach_records_logs_or_pages(pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_do_not_show")
    pool.behave(s2="raise:boom")
    pool.run()
    for path in (tmp_path / "results").rglob("*"):
        if path.is_file():
            assert b"hf_do_not_show" not in path.read_bytes()


def test_memory_is_bounded_by_the_kernel_and_not_by_trust(pool) -> None:
    pool.behave(s1="allocate:4000")
    pool.run(memory_bytes=500 << 20)
    assert [(subject, kind) for subject, kind, _ in pool.log.failures] == [("s1", "oom")]
    assert max(pool.log.peaks.values()) < 1 << 30


def test_code_of_a_checkpoint_gets_a_store_of_its_own(pool, tmp_path: Path) -> None:
    from dataclasses import replace

    from voxelboard.runners.workers.pool import Pool

    (stage,) = pool.stages()
    entry = stage.job.submission
    model = entry.model.model_copy(update={"trust_remote_code": True, "remote_code_sha256": "a" * 64})
    stranger = entry.model_copy(update={"model": model})
    suspect = replace(stage, cells=tuple(replace(cell, submission=stranger) for cell in stage.cells))
    running = Pool(pool.policy, None, pool.log, None, None)  # type: ignore[arg-type]
    shared, own = (running._confinement(one, 0) for one in (stage, suspect))
    assert shared.cache == str(tmp_path / "cache")
    assert own.cache.startswith(str(tmp_path / "cache" / "private" / "voxelboard__planted-q0.9-"))
    assert own.write == (own.cache,)
    assert str(tmp_path / "cache") not in own.read


def test_names_of_secrets() -> None:
    assert all(map(is_secret, ("HF_TOKEN", "hf_token", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "WANDB_API_KEY")))
    assert not any(map(is_secret, ("PATH", "HOME", "VOXELBOARD_CACHE", "HF_HOME", "TOKENIZERS_PARALLELISM")))
    assert without_secrets({"HF_TOKEN": "x", "HOME": "/"}) == {"HOME": "/"}


@needs_landlock
def test_landlock_holds_for_children_and_for_good(tmp_path: Path) -> None:
    allowed, other = tmp_path / "allowed", tmp_path / "other"
    allowed.mkdir(), other.mkdir()
    code = f"""
import os, subprocess, sys
from pathlib import Path
from voxelboard.runners.workers.fences import close_fences, readable_folders
close_fences(write=[Path({str(allowed)!r})])
(Path({str(allowed)!r}) / "a").write_text("a")
print(subprocess.run(["sh", "-c", "echo x > {other}/b || echo refused; echo x > {allowed}/b && echo written"],
                     capture_output=True, text=True).stdout)
os.rename({str(allowed / "a")!r}, {str(allowed / "c")!r})
try:
    os.link({str(allowed / "c")!r}, {str(other / "c")!r})
except OSError:
    print("no link out")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["refused", "written", "no", "link", "out"]
    assert os.listdir(other) == []
    assert sorted(os.listdir(allowed)) == ["b", "c"]
