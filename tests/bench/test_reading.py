# SPDX-License-Identifier: Apache-2.0
"""From disk to design: the responses of one subject, read story by story, against the loop that everybody writes first.

The naive loop reads every file whole (float64, as the release stores it), filters and z-scores each story at once, and stacks
them: the same numbers. Ours besides checks every number, hashes what it read, and simulates the noise brain. Sizes are those of
a laboratory's machine only when asked for: ``VOXELBOARD_BENCH_STORIES=100 VOXELBOARD_BENCH_VOXELS=90000`` takes 25 GB of disk,
and as much again while it runs; the loop cannot be run at that size on 24 GiB. ``VOXELBOARD_BENCH_FOLDER`` keeps the files.
Peak memory is that of the arrays (tracemalloc), given beside the size of the prepared responses: those of more than 2 GiB
lie on disk while they are used.
"""

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import h5py
import narrative_twins as twins
import numpy as np
import pytest

from voxelboard.benchmark.encoding.filters import high_pass
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.readers.cards import StorySplit, load_card
from voxelboard.benchmark.readers.lebel2023 import Lebel2023
from voxelboard.benchmark.tasks.preparation import cohorts

N_STORIES = int(os.environ.get("VOXELBOARD_BENCH_STORIES", "8"))
N_VOXELS = int(os.environ.get("VOXELBOARD_BENCH_VOXELS", "4000"))
N_ROWS, N_REPEATS = 330, 5
IS_LARGE = N_STORIES * N_VOXELS > 500_000  # a pass takes minutes: one is enough
TEST = twins.TEST_STORY

pytestmark = [pytest.mark.benchmark(group="reading"), pytest.mark.timeout(1800)]  # minutes at full size


def train_stories() -> tuple[str, ...]:
    return tuple(f"story{k:03d}" for k in range(N_STORIES - 1))


def open_twin(folder: Path) -> Lebel2023:
    card = load_card("lebel2023")
    changes = {
        "split": StorySplit(kind="stories", train=train_stories(), test=(TEST,)),
        "subjects": ("UTS01",),
        "n_voxels": {"UTS01": N_VOXELS},
        "not_heard": {},
    }
    return Lebel2023(card.model_copy(update=changes), folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ds003020 with one subject, written story by story; kept where the environment says so."""
    kept = os.environ.get("VOXELBOARD_BENCH_FOLDER")
    root = Path(kept) / f"{N_STORIES}x{N_VOXELS}" if kept else tmp_path_factory.mktemp("lebel")
    if not (root / "derivative" / "respdict.json").exists():  # it is written last
        write_twin(root)
    return root


def write_twin(root: Path) -> None:
    grids = root / "derivative" / "TextGrids"
    grids.mkdir(parents=True, exist_ok=True)
    place = root / "derivative" / "preprocessed_data" / "UTS01"
    for k, story in enumerate((*train_stories(), TEST)):
        (grids / f"{story}.TextGrid").write_text(twins.long_textgrid(twins.spoken(N_ROWS)))
        rng = np.random.default_rng(k)
        if story == TEST:
            repeats = rng.standard_normal((N_REPEATS, N_ROWS, N_VOXELS))
            twins.write_hf5(place / f"{story}.hf5", data=repeats.mean(axis=0), individual_repeats=repeats)
        else:
            twins.write_hf5(place / f"{story}.hf5", data=rng.standard_normal((N_ROWS, N_VOXELS)))
    volumes = dict.fromkeys((*train_stories(), TEST), N_ROWS + 20)
    (root / "derivative" / "respdict.json").write_text(str(volumes).replace("'", '"'))


def ours(data: Lebel2023) -> np.ndarray:
    """(n_train_rows, n_voxels) float32, as the fit takes them."""
    (cohort,) = cohorts(data, ("UTS01",), V1)
    return cohort.folds[0].responses[:, cohort.columns["UTS01"]]


def naive(folder: Path) -> np.ndarray:
    """The same numbers with a loop, a list and a stack; the repeats of the test story are made ready, too."""
    place = folder / "derivative" / "preprocessed_data" / "UTS01"
    loaded = {}
    for story in (*train_stories(), TEST):
        with h5py.File(place / f"{story}.hf5") as file:
            loaded[story] = np.array(file["individual_repeats" if story == TEST else "data"])
    trim, policy = V1.design.trim_trs, V1.design
    runs = []
    for story in train_stories():
        run = high_pass(loaded[story][trim:-trim], 2.0, policy.high_pass_s)
        runs.append(run / run.std(axis=0))
    test = [high_pass(repeat[trim:-trim], 2.0, policy.high_pass_s) for repeat in loaded[TEST]]
    test = [repeat / repeat.std(axis=0) for repeat in test]
    return np.vstack(runs).astype(np.float32)


def peak_mb(read: Callable[[], np.ndarray]) -> float:
    """Megabytes of arrays at the highest point of ``read``."""
    tracemalloc.start()
    read()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def test_reading_story_by_story(benchmark, folder: Path) -> None:
    data = open_twin(folder)  # the card and the TextGrids are not what is timed
    found = benchmark.pedantic(ours, (data,), rounds=1 if IS_LARGE else 3)
    benchmark.extra_info["prepared_mb"] = found.nbytes / 1e6
    if not IS_LARGE:
        np.testing.assert_allclose(found, naive(folder), atol=2e-5)
    del found
    benchmark.extra_info["peak_mb"] = peak_mb(lambda: ours(open_twin(folder)))


def test_reading_with_a_naive_loop(benchmark, folder: Path) -> None:
    benchmark.pedantic(naive, (folder,), rounds=1 if IS_LARGE else 3)
    benchmark.extra_info["peak_mb"] = peak_mb(lambda: naive(folder))
