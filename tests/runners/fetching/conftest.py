# SPDX-License-Identifier: Apache-2.0
"""A server, a user's folder, and a clock that does not wait."""

import pytest
from data_server import data_server
from fetch_cards import CONTENTS

from voxelboard.runners.fetching import http


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("VOXELBOARD_HOME", str(tmp_path / "home"))
    with data_server() as running:
        monkeypatch.setenv("VOXELBOARD_S3_ENDPOINT", running.url)
        running.put("bucket", {f"set/{path}": content for path, content in CONTENTS.items()})
        yield running


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """Seconds that would have been waited."""
    asked: list[float] = []
    real = http.patiently

    def patiently(attempt, progressed=lambda: False, sleep=None):
        return real(attempt, progressed, asked.append)

    monkeypatch.setattr(http, "patiently", patiently)
    monkeypatch.setattr("voxelboard.runners.fetching.download.patiently", patiently)
    return asked
