# SPDX-License-Identifier: Apache-2.0
"""The author's server: this machine only, what lies in the folder and nothing else; watching draws when a run is through."""

import http.client
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from voxelboard.benchmark.errors import UserError
from voxelboard.runners import serving as module
from voxelboard.runners.serving import fingerprint, serving, watch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    site = tmp_path / "board"
    (site / "models").mkdir(parents=True)
    (site / "index.html").write_text("<!doctype html><title>board</title>")
    (tmp_path / "secret.txt").write_text("not for the web")
    return site


def get(address: str, path: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)
    connection.putrequest("GET", path, skip_accept_encoding=True)
    connection.endheaders()
    response = connection.getresponse()
    found = response.status, dict(response.getheaders()), response.read()
    connection.close()
    return found


def test_the_board_is_served_on_loopback_only(folder: Path) -> None:
    with serving(folder, 0) as address:
        assert urlsplit(address).hostname == "127.0.0.1"
        status, headers, body = get(address, "/index.html")
        assert (status, headers["Cache-Control"]) == (200, "no-store")
        assert b"board" in body
        assert get(address, "/models/")[0] == 404  # no listing
        for path in ("/../secret.txt", "/%2e%2e/secret.txt", "/models/../../secret.txt"):
            assert get(address, path)[0] in (400, 404)


def test_a_taken_port_is_explained(folder: Path) -> None:
    with serving(folder, 0) as address:
        port = urlsplit(address).port
        assert port is not None
        with pytest.raises(UserError, match=r"cannot listen on 127\.0\.0\.1"), serving(folder, port):
            pass


def test_watching_waits_until_a_run_is_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = tmp_path / "results"
    results.mkdir()
    steps = iter(["a", "b", None, None, "c", None, "gone", None, None])

    def tick(seconds: float) -> None:
        step = next(steps)
        if step == "gone":
            shutil.rmtree(results / "a")
        elif step:
            (results / step).mkdir()
            (results / step / "x.json").write_text("{}")

    monkeypatch.setattr(module.time, "sleep", tick)
    drawn: list[int] = []
    watch(results, lambda: drawn.append(len(fingerprint(results))), rounds=9)
    assert drawn == [2, 3, 2]
