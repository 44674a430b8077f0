# SPDX-License-Identifier: Apache-2.0
"""What this machine can hold: cores, host memory, GPUs, disk. Imports neither torch nor a GPU driver."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# cgroup v2, cgroup v1: what a container or a batch job may take of the machine
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_LEFT_FOR_OTHERS = 0.95


@dataclass(frozen=True)
class Capacity:
    """Bytes and numbers of this machine.

    Attributes
    ----------
    host_bytes : of memory, as large as the machine or its container is.
    free_bytes : of memory that nobody uses now.
    gpu_bytes : memory of each GPU that may be used, by its index.
    """

    n_cores: int
    host_bytes: int
    free_bytes: int
    gpu_bytes: dict[int, int]


def capacity() -> Capacity:
    """Look at the machine."""
    total, free = _memory()
    return Capacity(_cores(), total, int(free * _LEFT_FOR_OTHERS), gpus())


def disk_free(folder: Path) -> int:
    """Free bytes where ``folder`` lies or would lie."""
    place = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(place).free


@cache
def gpus() -> dict[int, int]:
    """Index -> bytes of memory of the NVIDIA GPUs that ``CUDA_VISIBLE_DEVICES`` lets through."""
    query = ["nvidia-smi", "--query-gpu=index,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    found = {}
    for line in done.stdout.splitlines():
        index, _, mebibytes = line.partition(",")
        if index.strip().isdecimal() and mebibytes.strip().isdecimal():
            found[int(index)] = int(mebibytes) << 20
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return found
    chosen = [part.strip() for part in visible.split(",")]
    return {int(part): found[int(part)] for part in chosen if part.isdecimal() and int(part) in found}


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def _memory() -> tuple[int, int]:
    """(total, free)."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return total, total // 2
    known = {name: int(value.split()[0]) * 1024 for name, _, value in (line.partition(":") for line in lines)}
    total, free = known["MemTotal"], known.get("MemAvailable", known["MemFree"])
    for place in _CGROUP_LIMITS:
        try:
            limit = Path(place).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if limit.isdecimal() and int(limit) < total:
            total, free = int(limit), min(free, int(limit))
    return total, free
