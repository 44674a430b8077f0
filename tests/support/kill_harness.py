# SPDX-License-Identifier: Apache-2.0
"""Kills a run at random points, many times, and checks what is left. A script of its own, because it forks.

``kill_harness.py FOLDER N SEED``: N times, a run of three cells (features through the store, then records) is killed with SIGKILL
after a random time. Whatever is visible then must be whole; resumed, it must give the bytes of a run that nobody killed.
"""

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from fake_science import scored_cell

from voxelboard.benchmark.features.store import FeatureStore
from voxelboard.benchmark.features.upkeep import is_intact
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.readers.base import DatasetFacts
from voxelboard.benchmark.records import Arrays, Record, load_records, read_statistics
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.submission import load_submission
from voxelboard.runners.local import StageProgress, execute
from voxelboard.runners.plan import Job, Plan, make_plan

FACTS = DatasetFacts("toy", "1.0.0", "simulated", ("s1", "s2", "s3"), has_static_vectors=True)


class Quiet:
    def started(self, *_: object) -> None: ...
    def stage(self, *_: object) -> None: ...
    def stored(self, *_: object) -> None: ...
    def failed(self, *_: object) -> None: ...


class StoringScience:
    """Scores that depend on stored features."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.computed = 0

    def __call__(self, job: Job, settings: Settings, progress: StageProgress) -> Iterable[tuple[Record, Arrays | None]]:
        store = FeatureStore(self.folder)
        for subject in job.subjects:
            number = FACTS.subjects.index(subject)

            def compute(number: int = number) -> np.ndarray:
                self.computed += 1
                return np.random.default_rng(number).standard_normal((100, 200), dtype=np.float32)

            features = store.get({"stage": "features", "story": number}, compute)
            record, arrays = scored_cell(job, subject)
            yield record, {**arrays, "of_features": features.sum(axis=0)}


def plan(folder: Path) -> Plan:
    return make_plan([load_submission("planted-q0.9")], "narrative", 1, FACTS, V1, folder / "results")


def run(folder: Path) -> StoringScience:
    science = StoringScience(folder / "store")
    outcome = execute(plan(folder), science, Settings(V1), Quiet())
    assert outcome.exit_code() == 0, outcome.failed
    return science


def contents(folder: Path) -> dict[str, bytes]:
    """Every visible file: names with a dot are unfinished."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def check(folder: Path, whole: dict[str, bytes]) -> int:
    """What is visible after a kill; returns the number of stored cells."""
    records = load_records(folder / "results") if (folder / "results").is_dir() else []
    for path, record in records:
        read_statistics(path, record)
    for name, content in contents(folder).items():
        if name.endswith(".npy"):
            assert content == whole[name], f"{name} is not whole"
            if (folder / name).with_suffix(".json").is_file():
                assert is_intact(folder / name)
    stored = len(plan(folder).stored)
    assert stored == len(records)
    return stored


def killed_run(folder: Path, seconds: float) -> bool:
    child = os.fork()
    if child == 0:
        run(folder)
        os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def whole_run(folder: Path) -> float:
    """Seconds of a run in a process of its own, which nobody kills."""
    began = time.perf_counter()
    child = os.fork()
    if child == 0:
        run(folder)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0
    return time.perf_counter() - began


def main(folder: Path, n_kills: int, seed: int) -> None:
    rng = random.Random(seed)
    run(folder / "whole")
    # the shortest of three: where other work made them longer, kills would come when all is over
    took = min(whole_run(folder / f"timed{number}") for number in range(3))
    whole = contents(folder / "whole")
    outcomes: dict[int, int] = {}
    n_killed = 0
    for number in range(n_kills):
        place = folder / f"run{number}"
        n_killed += killed_run(place, rng.uniform(0, 1.3 * took))
        stored = check(place, whole)
        outcomes[stored] = outcomes.get(stored, 0) + 1
        resumed = run(place)
        assert resumed.computed <= 3 - stored, "what is stored is not made again"
        assert contents(place) == whole, "a resumed run gives the bytes of one that nobody killed"
        shutil.rmtree(place)
    print(f"killed {n_killed} of {n_kills}, stored cells: {dict(sorted(outcomes.items()))}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
