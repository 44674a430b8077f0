# SPDX-License-Identifier: Apache-2.0
"""Results folders with planted records."""

from pathlib import Path

import pytest
from planted_records import Plant, plant_demo


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """An empty results folder to plant records in."""
    return Plant(tmp_path / "results")


@pytest.fixture(scope="session")
def demo_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo board's records; read only."""
    plant = Plant(tmp_path_factory.mktemp("demo") / "results")
    plant_demo(plant)
    return plant.results
