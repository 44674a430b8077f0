# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys
from pathlib import Path

import pytest

from voxelboard.benchmark.encoding.memory import BASE_BYTES, estimate_memory, require_memory
from voxelboard.benchmark.errors import MissingPrerequisite

PROGRAM = """
import sys
import numpy as np
from voxelboard.benchmark.encoding.designs import SegmentedDesign, SegmentRows
from voxelboard.benchmark.encoding.ridge import fit_ridge
def peak():
    # ru_maxrss would be that of the process that started this one
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
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


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
@pytest.mark.parametrize(("form", "n_features", "n_targets"), [("dual", 600, 2000), ("primal", 100, 16000)])
def test_estimate_bounds_the_measured_peak(form: str, n_features: int, n_targets: int) -> None:
    command = [sys.executable, "-c", PROGRAM, str(n_features), str(n_targets)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    got_form, base, peak = done.stdout.split()
    assert got_form == form
    estimate = estimate_memory(
        n_train=2000, n_test=500, n_features=n_features, n_delays=4, n_targets=n_targets, n_alphas=2, n_folds=4
    )
    assert estimate.device == 0
    assert int(base) < BASE_BYTES
    assert int(peak) < estimate.host
    grown = int(peak) - int(base)
    assert 0.95 * grown <= estimate.host - BASE_BYTES <= 1.8 * grown, (grown / 2**20, estimate.host / 2**20)


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
