# SPDX-License-Identifier: Apache-2.0
"""Fixtures that every test can use: where the real data lie, if they are on this machine."""

import os
from pathlib import Path

import pytest

_SHARED = Path(os.environ.get("VOXELBOARD_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def _folder_or_skip(name: str) -> Path:
    folder = _SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs the real files in {name}/ (set VOXELBOARD_SHARED to the folder that holds it)")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets, or a skip."""
    return _folder_or_skip("data")


@pytest.fixture(scope="session")
def shared_models() -> Path:
    """The folder of real small checkpoints, or a skip."""
    return _folder_or_skip("models")
