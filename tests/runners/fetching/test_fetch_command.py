# SPDX-License-Identifier: Apache-2.0
"""``voxelboard data fetch`` as a user runs it, against a bucket on this machine."""

import fcntl
import json

import pytest
import yaml
from data_server import Fault
from fetch_cards import CONTENTS, make_card

from voxelboard.benchmark.readers import cards
from voxelboard.benchmark.readers.card_sources import Source
from voxelboard.runners.cli import run_cli


@pytest.fixture
def card(tmp_path, monkeypatch):
    """A folder of cards with one data set; write(...) changes it."""
    folder = tmp_path / "cards"
    folder.mkdir()
    monkeypatch.setattr(cards, "cards_folder", lambda: folder)

    def write(**changes):
        value = make_card(**changes).model_dump(mode="json")
        (folder / "alice2016.yaml").write_text(yaml.safe_dump(value))

    write()
    return write


def fetched(folder):
    return {path: (folder / path).read_bytes() for path in CONTENTS if (folder / path).is_file()}


def test_fetch_registers_what_it_got(server, card, tmp_path, capsys):
    folder = tmp_path / "home" / "data" / "alice2016"
    assert run_cli(["data", "fetch", "alice2016"]) == 0
    out = capsys.readouterr()
    assert out.out.strip() == str(folder)
    assert "licence: CC-BY-4.0" in out.err
    assert "0/4 files are in" in out.err
    assert "all 4 files are as the card says" in out.err
    assert fetched(folder) == CONTENTS
    assert run_cli(["data", "path", "alice2016"]) == 0
    assert capsys.readouterr().out.strip() == str(folder)
    n_requests = len(server.requests)
    assert run_cli(["data", "fetch", "alice2016"]) == 0
    assert len(server.requests) == n_requests  # nothing is fetched again
    assert run_cli(["data", "verify", "alice2016"]) == 0


def test_a_dry_run_says_sizes_and_fetches_nothing(server, card, tmp_path, capsys):
    assert run_cli(["data", "fetch", "alice2016", "--to", str(tmp_path / "d"), "--dry-run", "--subjects", "s2"]) == 0
    out = capsys.readouterr().out
    assert "resp/s2/garden.h5   7000" in out
    assert "s1" not in out
    assert run_cli(["data", "fetch", "alice2016", "--to", str(tmp_path / "d"), "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["n_missing"], plan["n_bytes"]) == (4, sum(map(len, CONTENTS.values())))
    assert server.requests == []
    assert not (tmp_path / "d").exists()


def test_part_of_a_data_set(server, card, tmp_path, capsys):
    assert (
        run_cli(["data", "fetch", "alice2016", "--subjects", "s1", "--stories", "garden", "--to", str(tmp_path / "d")])
        == 0
    )
    assert sorted(fetched(tmp_path / "d")) == ["resp/s1/garden.h5", "words/garden.csv"]
    assert run_cli(["data", "fetch", "alice2016", "--subjects", "nobody"]) == 2


def test_terms_are_accepted_once(server, card, tmp_path, capsys, monkeypatch):
    card(terms="Do not share.")
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert run_cli(["data", "fetch", "alice2016"]) == 2
    err = capsys.readouterr().err
    assert "terms: Do not share." in err
    assert "--accept-terms" in err
    assert server.requests == []
    assert run_cli(["data", "fetch", "alice2016", "--accept-terms"]) == 0
    (tmp_path / "home/data/alice2016/words/garden.csv").unlink()
    assert run_cli(["data", "fetch", "alice2016"]) == 0  # remembered
    card(terms="Do not share, and do not copy.")
    assert run_cli(["data", "fetch", "alice2016"]) == 2  # other terms


def test_offline_says_which_files_go_where(server, card, tmp_path, capsys):
    assert run_cli(["data", "fetch", "alice2016", "--offline"]) == 3
    err = capsys.readouterr().err
    assert "words/garden.csv" in err
    assert "https://example.org" in err
    assert f"voxelboard data add alice2016 --from {tmp_path}" in err
    assert server.requests == []
    assert run_cli(["data", "fetch", "alice2016"]) == 0
    assert run_cli(["data", "fetch", "alice2016", "--offline"]) == 0


def test_what_cannot_be_fetched_says_so(server, card, capsys):
    card(source=Source(kind="https", url="https://example.org"))
    assert run_cli(["data", "fetch", "alice2016"]) == 3
    assert "cannot be fetched by a program: https://example.org gives 4 files" in capsys.readouterr().err


def test_a_wrong_checksum_at_the_source(server, card, capsys):
    server.faults["/bucket/set/resp/s1/night.h5"] = [Fault(body=b"x" * 5000)] * 2
    assert run_cli(["data", "fetch", "alice2016", "-j", "1"]) == 2
    assert "resp/s1/night.h5 came twice with the sha256" in capsys.readouterr().err
    assert run_cli(["data", "path", "alice2016"]) == 3  # not registered
    assert run_cli(["data", "fetch", "alice2016"]) == 0


def test_a_file_that_rotted_on_disk_is_found_and_fetched_again(server, card, tmp_path, capsys):
    assert run_cli(["data", "fetch", "alice2016"]) == 0
    rotten = tmp_path / "home/data/alice2016/resp/s1/night.h5"
    rotten.write_bytes(b"m" * 5000)
    assert run_cli(["data", "fetch", "alice2016"]) == 0
    assert rotten.read_bytes() == CONTENTS["resp/s1/night.h5"]


@pytest.mark.parametrize("name", ["nsd", "nsd:fsaverage", "nsd:floc-faces"])
def test_data_under_an_access_agreement_are_not_fetched_but_explained(name, capsys):
    assert run_cli(["data", "fetch", name]) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert "Data Access Agreement at naturalscenesdataset.org" in said
    assert "voxelboard data add nsd --from FOLDER" in said


def test_two_fetches_do_not_write_to_one_folder(server, card, tmp_path, capsys):
    folder = tmp_path / "d"
    folder.mkdir()
    with (folder / ".fetch.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run_cli(["data", "fetch", "alice2016", "--to", str(folder)]) == 2
    assert f"another fetch writes to {folder}" in capsys.readouterr().err
    assert run_cli(["data", "fetch", "alice2016", "--to", str(folder)]) == 0
    assert not (folder / ".fetch.lock").exists()
