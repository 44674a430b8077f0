# SPDX-License-Identifier: Apache-2.0
"""A data set to plan for, the command line above a stand-in for the science, and an empty place to run in."""

from pathlib import Path

import pytest
from fake_science import FakeScience

from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.readers.base import DatasetFacts
from voxelboard.benchmark.settings import Settings
from voxelboard.runners.local import CellRunner


@pytest.fixture
def facts() -> DatasetFacts:
    return DatasetFacts("toy", "1.0.0", "simulated", ("s1", "s2", "s3"), has_static_vectors=True)


@pytest.fixture
def settings() -> Settings:
    return Settings(V1)


@pytest.fixture
def science(monkeypatch: pytest.MonkeyPatch) -> FakeScience:
    """The command line with a fake science below it; set ``science.fail`` to make it fail."""
    fake = FakeScience()

    def load() -> CellRunner:
        return fake

    monkeypatch.setattr("voxelboard.runners.science.load_science", load)
    monkeypatch.setenv("VOXELBOARD_RUNNER", "inline")
    return fake


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder and home, so that nothing of this machine is seen or touched."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOXELBOARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tmp_path
