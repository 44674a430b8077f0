# SPDX-License-Identifier: Apache-2.0
"""What ran where: versions, git state, device, seconds by stage, peak memory."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

import torch

from voxelboard.benchmark.record_stamps import Environment
from voxelboard.benchmark.redaction import without_secrets

T = TypeVar("T")

_PACKAGES = ("voxelboard", "torch", "transformers", "tokenizers", "numpy", "scipy", "safetensors")


class Stopwatch:
    """Wall seconds by stage, and when it all started."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.started_at = datetime.now(UTC).isoformat(timespec="seconds")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time inside the block to stage ``name``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def each(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """The items, with the time that making them takes added to stage ``name``."""
        iterator = iter(items)
        while True:
            with self.stage(name):
                item = next(iterator, None)
            if item is None:
                return
            yield item


def describe_environment(stopwatch: Stopwatch, device: torch.device, batch_size: int | str) -> Environment:
    """The environment of this process, as a record carries it. Arguments that may hold secrets are not recorded."""
    commit, dirty = _git_state()
    return Environment(
        versions={"python": sys.version.split()[0], **{name: _version(name) for name in _PACKAGES}},
        git_commit=commit,
        git_dirty=dirty,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        n_threads=torch.get_num_threads(),
        batch_size=batch_size if isinstance(batch_size, int) else None,
        seconds={name: round(value, 3) for name, value in stopwatch.seconds.items()},
        peak_memory_bytes=_peak_memory(),
        started_at=stopwatch.started_at,
        command=without_secrets(" ".join([Path(sys.argv[0]).name, *sys.argv[1:]])),
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _git_state() -> tuple[str | None, bool | None]:
    """Commit of the checkout that this code runs from and whether it was changed; None outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None, None
    quiet = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        commit, status = (
            subprocess.run(
                ["git", "-C", str(root), *arguments], capture_output=True, text=True, env=quiet, timeout=10, check=False
            )
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.TimeoutExpired):
        return None, None
    if commit.returncode != 0:
        return None, None
    return commit.stdout.strip(), bool(status.stdout.strip())


def _peak_memory() -> int:
    """Bytes; the largest resident set of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
