# SPDX-License-Identifier: Apache-2.0
"""Large working arrays lie in a nameless file, small ones in memory, and a full disk is told beforehand."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from voxelboard.benchmark.errors import MissingPrerequisite
from voxelboard.benchmark.scratch import working_array


def test_a_small_array_leaves_the_disk_alone(tmp_path: Path) -> None:
    array = working_array((10, 20), tmp_path / "scratch")
    assert array.shape == (10, 20)
    assert array.dtype == np.float32
    assert not (tmp_path / "scratch").exists()


def test_a_large_array_is_a_file_without_a_name(tmp_path: Path) -> None:
    array = working_array((300, 40), tmp_path / "scratch", in_memory_bytes=1000)
    array[:] = np.arange(12000, dtype=np.float32).reshape(300, 40)
    assert list((tmp_path / "scratch").iterdir()) == [], "nothing is left behind, whatever happens"
    np.testing.assert_array_equal(array[:, 7], np.arange(7, 12000, 40))


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(MissingPrerequisite, match="No space left on device") as error:
        working_array((300, 40), tmp_path, in_memory_bytes=1000)
    assert error.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []
