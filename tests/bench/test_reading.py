# SPDX-License-Identifier: Apache-2.0
"""From disk to design: the responses of one subject, read story by story, against the loop that everybody writes first.

The naive loop reads every file whole (float64, as the release stores it), stacks the stories, filters and z-scores them: the
same numbers, several copies of everything. Sizes are those of a laboratory's machine only when asked for:
``VOXELBOARD_BENCH_STORIES=100 VOXELBOARD_BENCH_VOXELS=90000`` takes 25 GB of disk. Peak memory is measured in a process of
its own and given beside the size of the prepared responses, which is what a fit needs at least.
"""

import os
import resource
import subprocess
import sys
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
TEST = twins.TEST_STORY

pytestmark = pytest.mark.benchmark(group="reading", min_rounds=2, max_time=2)


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
    """ds003020 with one subject, written story by story."""
    root = tmp_path_factory.mktemp("lebel")
    grids = root / "derivative" / "TextGrids"
    grids.mkdir(parents=True)
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
    return root


def ours(folder: Path) -> np.ndarray:
    """(n_train_rows, n_voxels) float32, as the fit takes them."""
    (cohort,) = cohorts(open_twin(folder), ("UTS01",), V1)
    return cohort.folds[0].responses[:, cohort.columns["UTS01"]]


def naive(folder: Path) -> np.ndarray:
    """The same numbers with a loop, a list and a stack."""
    place = folder / "derivative" / "preprocessed_data" / "UTS01"
    loaded = {}
    for story in (*train_stories(), TEST):
        with h5py.File(place / f"{story}.hf5") as file:
            loaded[story] = {key: np.array(item) for key, item in file.items()}
    trim, runs = V1.design.trim_trs, []
    for story in train_stories():
        run = high_pass(loaded[story]["data"][trim:-trim], 2.0, V1.design.high_pass_s)
        runs.append(run / run.std(axis=0))
    return np.vstack(runs).astype(np.float32)


def test_reading_story_by_story(benchmark, folder: Path) -> None:
    found = benchmark(ours, folder)
    benchmark.extra_info["prepared_mb"] = found.nbytes / 1e6
    np.testing.assert_allclose(found, naive(folder), atol=2e-5)


def test_reading_with_a_naive_loop(benchmark, folder: Path) -> None:
    benchmark(naive, folder)


@pytest.mark.parametrize("how", ["ours", "naive"])
def test_peak_memory(benchmark, folder: Path, how: str) -> None:
    """Megabytes above the imports, in ``extra_info``."""
    code = f"import sys; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}; import test_reading as t; t.report({how!r}, {str(folder)!r})"

    def run() -> float:
        done = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=dict(os.environ)
        )
        return float(done.stdout.split()[-1])

    benchmark.extra_info["peak_mb"] = benchmark.pedantic(run, rounds=1)


def report(how: str, folder: str) -> None:
    """Print the megabytes that reading takes on top of the imports."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    {"ours": ours, "naive": naive}[how](Path(folder))
    sys.stdout.write(f"{(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3:.0f}\n")
