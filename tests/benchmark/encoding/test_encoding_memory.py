# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys
from pathlib import Path

import pytest

from voxelboard.benchmark.encoding.memory import (
    BASE_BYTES,
    HIMALAYA_BYTES,
    MemoryEstimate,
    estimate_banded_memory,
    estimate_memory,
    estimate_nested_memory,
    require_memory,
)
from voxelboard.benchmark.errors import MissingPrerequisite

PEAK = """
import sys
import numpy as np
from voxelboard.benchmark.encoding.banded import dirichlet_gammas, refit_bands, search_bands, stack_bands
from voxelboard.benchmark.encoding.banded_columns import refit_columns, search_columns, stack_columns
from voxelboard.benchmark.encoding.designs import SegmentedDesign, SegmentRows, primal_problem
from voxelboard.benchmark.encoding.nested import nested_ridge
from voxelboard.benchmark.encoding.ridge import fit_ridge
def peak():
    # ru_maxrss would be that of the process that started this one
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
"""
PROGRAM = """
n_features, n_targets = int(sys.argv[1]), int(sys.argv[2])
base = peak()
rng = np.random.default_rng(0)
features = {i: rng.standard_normal((510, n_features), dtype=np.float32) for i in range(5)}
segments = [SegmentRows(i, 0, 510) for i in range(5)]
design = SegmentedDesign(features, (1, 2, 3, 4), 5, 2.0, 120.0)
problem = design.problem(segments[:4], segments[4:])
Y = rng.standard_normal((2000, n_targets), dtype=np.float32)
fit_ridge(problem, Y, np.arange(2000) // 500, [0.1, 10.0])
print(problem.form, base, peak())
"""
NESTED = """
n_features, n_targets = int(sys.argv[1]), int(sys.argv[2])
import torch; torch.linalg.eigh(torch.eye(50))
base = peak()
rng = np.random.default_rng(0)
features = {i: rng.standard_normal((410, n_features), dtype=np.float32) for i in range(5)}
segments = [SegmentRows(i, 0, 410) for i in range(5)]
problem = SegmentedDesign(features, (1, 2, 3, 4), 5, 2.0, 120.0).problem(segments, [])
Y = rng.standard_normal((2000, n_targets), dtype=np.float32)
nested_ridge(problem, Y, np.arange(2000) // 400, [0.1, 10.0, 100.0])
print(problem.form, base, peak())
"""
BANDED = """
n_columns, n_targets, form = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
rng = np.random.default_rng(0)
gammas, folds, alphas = dirichlet_gammas(2, 3, seed=0), np.arange(1500) // 375, [0.1, 10.0, 100.0]
base = peak()
def design():
    return primal_problem(rng.standard_normal((1500, n_columns)), rng.standard_normal((300, n_columns)))
Y = rng.standard_normal((1500, n_targets), dtype=np.float32)
if form == "dual":
    problem = stack_bands({name: design().to_dual() for name in "abc"})
    refit_bands(problem, Y, search_bands(problem, Y, folds, gammas, alphas))
else:
    problem = stack_columns({name: design() for name in "abc"})
    refit_columns(problem, Y, search_columns(problem, Y, folds, gammas, alphas))
print(form, base, peak())
"""


reads_peaks = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")


def check(estimate: MemoryEstimate, program: str, form: str, *arguments: object, base_bytes: int = BASE_BYTES) -> None:
    """The estimate is above the peak; its part that grows with the job follows the measured growth.

    What one allocator keeps and another gives back moves the growth of the same job by a fifth, hence the width.
    """
    command = [sys.executable, "-c", PEAK + program, *map(str, arguments), form]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    got_form, base, peak = done.stdout.split()
    assert got_form == form
    assert estimate.device == 0
    assert int(base) < base_bytes
    assert int(peak) < estimate.host
    grown = int(peak) - int(base)
    assert 0.8 * grown <= estimate.host - base_bytes <= 1.8 * grown, (grown / 2**20, estimate.host / 2**20)


@reads_peaks
@pytest.mark.parametrize(("form", "n_features", "n_targets"), [("dual", 600, 2000), ("primal", 100, 16000)])
def test_estimate_bounds_the_measured_peak(form: str, n_features: int, n_targets: int) -> None:
    estimate = estimate_memory(
        n_train=2000, n_test=500, n_features=n_features, n_delays=4, n_targets=n_targets, n_alphas=2, n_folds=4
    )
    check(estimate, PROGRAM, form, n_features, n_targets)


@reads_peaks
@pytest.mark.parametrize(("form", "n_features", "n_targets"), [("dual", 600, 2000), ("primal", 100, 8000)])
def test_estimate_of_nested_folds(form: str, n_features: int, n_targets: int) -> None:
    estimate = estimate_nested_memory(
        n_trs=2000, n_features=n_features, n_delays=4, n_targets=n_targets, n_outer=5, n_alphas=3
    )
    check(estimate, NESTED, form, n_features, n_targets)


@reads_peaks
@pytest.mark.parametrize(("form", "n_columns", "n_targets"), [("dual", 600, 2000), ("columns", 100, 2000)])
def test_estimate_of_bands(form: str, n_columns: int, n_targets: int) -> None:
    estimate = estimate_banded_memory(
        n_train=1500, n_test=300, band_columns=[n_columns] * 3, n_targets=n_targets, n_draws=2, n_alphas=3, n_folds=4,
        columns_form=form == "columns",
    )  # fmt: skip
    check(estimate, BANDED, form, n_columns, n_targets, base_bytes=BASE_BYTES + HIMALAYA_BYTES)


def test_a_whole_cortex_and_33_layers_fit_the_machines_of_the_goal() -> None:
    job = {"n_train": 33000, "n_test": 300, "n_features": 1600, "n_delays": 4, "n_targets": 95000, "n_layers": 33}
    laptop = estimate_memory(**job, responses_in_memory=False, target_block=4096)
    gpu = estimate_memory(**job, on_gpu=True)
    assert laptop.host < 24 * 2**30
    assert gpu.device < 80 * 2**30


def test_too_little_memory_says_what_is_needed() -> None:
    estimate = estimate_memory(n_train=9000, n_test=300, n_features=4096, n_delays=4, n_targets=95000, on_gpu=True)
    with pytest.raises(MissingPrerequisite, match="GiB of GPU memory") as error:
        require_memory(estimate, host_bytes=1 << 40, device_bytes=1 << 30)
    assert error.value.exit_code == 3
    require_memory(estimate, host_bytes=1 << 40, device_bytes=1 << 40)
