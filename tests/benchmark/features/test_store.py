# SPDX-License-Identifier: Apache-2.0
"""The store: hits are verified, a flipped bit or field is a miss, the bound holds, a kill loses nothing."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.features.store import FeatureStore


class Counter:
    """Computes an array and counts how often it was asked to."""

    def __init__(self, value: float = 1.0, size: int = 10) -> None:
        self.calls, self.value, self.size = 0, value, size

    def __call__(self) -> NDArray[np.float32]:
        self.calls += 1
        return np.full(self.size, self.value, dtype=np.float32)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.npy"))


def test_second_read_is_a_hit_and_read_only(tmp_path: Path) -> None:
    compute = Counter()
    for _ in range(2):
        array = FeatureStore(tmp_path).get({"a": 1}, compute)
        np.testing.assert_array_equal(array, np.ones(10))
        assert not array.flags.writeable
    assert compute.calls == 1


def test_what_was_computed_lies_on_disk_and_not_in_memory(tmp_path: Path) -> None:
    assert isinstance(FeatureStore(tmp_path).get({"a": 1}, Counter()), np.memmap)


def test_any_flipped_field_is_a_miss(tmp_path: Path) -> None:
    store, compute = FeatureStore(tmp_path), Counter()
    for key in ({"a": 1, "b": 2}, {"a": 1, "b": 3}, {"a": 1}):
        store.get(key, compute)
    assert compute.calls == 3


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove note"])
def test_damage_is_found_and_repaired(tmp_path: Path, damage: str) -> None:
    compute = Counter()
    FeatureStore(tmp_path).get({"a": 1}, compute)
    (path,) = entries(tmp_path)
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-1] ^= 1
        path.write_bytes(bytes(content))
    elif damage == "truncate":
        path.write_bytes(bytes(content[: len(content) // 2]))
    else:
        path.with_suffix(".json").unlink()
    for _ in range(2):
        np.testing.assert_array_equal(FeatureStore(tmp_path).get({"a": 1}, compute), np.ones(10))
    assert compute.calls == 2


def test_fresh_computes_again(tmp_path: Path) -> None:
    FeatureStore(tmp_path).get({"a": 1}, Counter(1))
    np.testing.assert_array_equal(FeatureStore(tmp_path, fresh=True).get({"a": 1}, Counter(2)), np.full(10, 2))


def test_the_least_recently_used_entry_goes_first(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, max_bytes=3 * (40 + 128) + 10)
    for name in "abc":
        store.get({"name": name}, Counter())
    for age, path in enumerate(entries(tmp_path)):
        os.utime(path, ns=(10**9 * (age + 1), 10**9 * (age + 1)))
    oldest = entries(tmp_path)[0]
    store.get({"name": "d"}, Counter())
    assert not oldest.exists()
    assert len(entries(tmp_path)) == 3


def test_a_full_disk_is_one_clear_error_and_leaves_no_half_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(UserError, match="No space left"):
        FeatureStore(tmp_path).get({"a": 1}, Counter())
    assert list(tmp_path.rglob("*.npy*")) == []
