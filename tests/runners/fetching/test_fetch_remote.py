# SPDX-License-Identifier: Apache-2.0
"""Which files are fetched, from where: cards, listings, selections, archives, and names that lead out of the folder."""

import io
import sys
import tarfile
import threading
import zipfile
from types import SimpleNamespace

import pytest
from data_server import Fault
from fetch_cards import CONTENTS, make_card
from huggingface_hub.errors import HfHubHTTPError

from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError
from voxelboard.benchmark.readers.card_sources import CardFile, FilePattern, Source
from voxelboard.benchmark.readers.cards import list_cards, load_card
from voxelboard.runners.fetching.download import download, missing_files
from voxelboard.runners.fetching.remote import RemoteFile, remote_files, unreachable_files

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def paths(files):
    return sorted(file.path for file in files)


def test_a_selection_keeps_what_belongs_to_nobody(server):
    assert paths(remote_files(make_card(), ["s2"])) == ["resp/s2/garden.h5", "words/garden.csv"]
    assert paths(remote_files(make_card(), None, ["night"])) == ["resp/s1/night.h5"]
    with pytest.raises(UserError, match="unknown subject of alice2016 's3'; allowed: s1, s2"):
        remote_files(make_card(), ["s3"])
    with pytest.raises(UserError, match=r"unknown story of alice2016 'nights'.*Did you mean 'night'"):
        remote_files(make_card(), None, ["nights"])


def test_patterns_are_looked_up_page_by_page(server):
    card = make_card(listed=False, patterns=("resp/{subject}/*.h5", "words/*.csv"))
    found = remote_files(card)
    assert paths(found) == sorted(CONTENTS)
    assert {file.path: file.n_bytes for file in found} == {path: len(content) for path, content in CONTENTS.items()}
    assert all(file.digest[0] == "md5" for file in found)
    assert paths(remote_files(card, ["s2"])) == ["resp/s2/garden.h5", "words/garden.csv"]
    by_story = make_card(listed=False, patterns=("resp/{subject}/{story}*.h5",))
    assert paths(remote_files(by_story, None, ["night"])) == ["resp/s1/night.h5"]
    with pytest.raises(DataError, match=r"nothing in bucket/set matches mask/\*\.nii"):
        remote_files(make_card(listed=False, patterns=("mask/*.nii",)))


def test_openneuro_is_its_public_bucket(server):
    server.put("openneuro.org", {"ds000001/derivative/respdict.json": b"{}", "ds000001/other": b""})
    card = make_card(
        listed=False, patterns=("derivative/*.json",), source=Source(kind="openneuro", location="ds000001")
    )
    (file,) = remote_files(card)
    assert file.url == f"{server.url}/openneuro.org/ds000001/derivative/respdict.json"


@pytest.mark.parametrize("key", ["set/../../escape.h5", "set//etc/passwd", "other/a.h5", "set/C:\\x.h5"])
def test_a_listing_cannot_name_a_place_outside(server, key):
    server.strange_keys.append(key)
    with pytest.raises(DataError, match=r"leads out of the data set's folder|not asked for"):
        remote_files(make_card(listed=False, patterns=("resp/{subject}/*",)))


@pytest.mark.parametrize(
    "body",
    [b"<html", b'<!DOCTYPE x [<!ENTITY a "b">]><x/>', b"x" * (17 << 20), b"<a><IsTruncated>true</IsTruncated></a>"],
)
def test_what_is_no_listing_is_refused(server, body):
    server.listing_faults.append(Fault(body=body))
    with pytest.raises(DataError, match="listing"):
        remote_files(make_card(listed=False, patterns=("resp/{subject}/*",)))


def test_a_listing_is_tried_again_while_the_server_is_busy(server, waits):
    server.listing_faults += [Fault(status=503), Fault(status=503)]
    assert remote_files(make_card(listed=False, patterns=("words/*.csv",)))
    assert waits == [1.0, 2.0]


def test_the_hub_is_listed_by_its_own_client(server, monkeypatch):
    listed = [
        SimpleNamespace(path="resp/a.npy", size=5, lfs=SimpleNamespace(sha256="a" * 64)),
        SimpleNamespace(path="resp/b.npy", size=6, lfs=None),
        SimpleNamespace(path="resp"),
    ]

    def tree(self, repository, **options):
        assert (repository, options["revision"], options["repo_type"]) == ("lab/set", COMMIT, "dataset")
        return listed

    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_tree", tree)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "secret")
    card = make_card(listed=False, patterns=("resp/*.npy",), source=Source(kind="hf", location=f"lab/set@{COMMIT}"))
    first, second = remote_files(card)
    assert (first.n_bytes, first.digest, second.digest) == (5, ("sha256", "a" * 64), None)
    assert first.url == f"https://huggingface.co/datasets/lab/set/resolve/{COMMIT}/resp/a.npy"
    assert first.headers == (("Authorization", "Bearer secret"),)


def test_a_file_may_be_elsewhere(server):
    file = CardFile(path="a.nc", sha1="0" * 40, url="https://elsewhere.org/a.nc?versionId=1")
    card = make_card().model_copy(update={"files": (file,), "source": Source(kind="https")})
    assert remote_files(card) == [
        RemoteFile("a.nc", "https://elsewhere.org/a.nc?versionId=1", None, ("sha1", "0" * 40))
    ]
    assert unreachable_files(card) == []
    assert card.can_be_fetched


def tar(members, link=None):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo(link[0])
            info.type, info.linkname = tarfile.SYMTYPE, link[1]
            packed.addfile(info)
    return buffer.getvalue()


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return buffer.getvalue()


def fetch_archive(server, folder, content, name="data.tar.gz"):
    server.files[f"/{name}"] = content
    file = RemoteFile(name, f"{server.url}/{name}", archive=True)
    download(file, folder, lambda *_: None, threading.Event())
    return file


@pytest.mark.parametrize(("pack", "name"), [(tar, "data.tar.gz"), (zipped, "data.zip")])
def test_an_archive_is_unpacked_once(server, tmp_path, pack, name):
    file = fetch_archive(server, tmp_path, pack({"data/a.csv": b"x,y\n", "data/b.csv": b"z\n"}), name)
    assert (tmp_path / "data/a.csv").read_bytes() == b"x,y\n"
    assert not (tmp_path / name).exists()
    assert missing_files([file], tmp_path) == []


@pytest.mark.parametrize(
    "content",
    [
        tar({"../escape.csv": b"x"}),
        tar({"/tmp/escape.csv": b"x"}),
        tar({}, link=("data", "/etc")),
        zipped({"../escape.csv": b"x"}),
        b"this is no archive",
    ],
    ids=["tar-parent", "tar-root", "tar-link", "zip-parent", "no-archive"],
)
def test_an_archive_cannot_write_outside(server, tmp_path, content):
    folder = tmp_path / "inside"
    folder.mkdir()
    with pytest.raises(DataError, match=r"leads out of|a link or a device|not an archive"):
        fetch_archive(server, folder, content)
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["inside"]


def test_an_archive_of_a_pattern_is_found(server):
    pattern = FilePattern(glob="data/*.csv", what="tables", archive="https://lab.org/data.tar?x=1")
    card = make_card(listed=False, source=Source(kind="https")).model_copy(update={"file_patterns": (pattern,)})
    assert remote_files(card) == [RemoteFile("data.tar", "https://lab.org/data.tar?x=1", archive=True)]


@pytest.mark.parametrize("name", list_cards())
def test_the_listed_files_of_every_card_have_an_address(name):
    card = load_card(name)
    files = remote_files(card.model_copy(update={"file_patterns": ()}))
    if card.source.location is not None:
        assert len(files) == len(card.files)
    assert all(file.url.startswith("https://") for file in files)
    assert "boto3" not in sys.modules


@pytest.mark.parametrize(
    ("kind", "location"),
    [
        ("openneuro", "ds3020"),
        ("s3", "Bucket/with space"),
        ("https", "http://insecure.org/"),
        ("https", "https://no-slash.org/a"),
        ("hf", "org/name"),
        ("path", "/data"),
    ],
)
def test_a_location_is_of_its_kind(kind, location):
    with pytest.raises(ValueError, match="location"):
        Source(kind=kind, location=location)


def test_missing_network_is_one_message(monkeypatch, waits):
    monkeypatch.setenv("VOXELBOARD_S3_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(MissingPrerequisite, match="cannot reach"):
        remote_files(make_card(listed=False, patterns=("words/*.csv",)))


def test_what_the_hub_says_is_one_message(server, monkeypatch):
    card = make_card(listed=False, patterns=("resp/*.npy",), source=Source(kind="hf", location=f"lab/set@{COMMIT}"))

    def refuse(self, repository, **options):
        raise HfHubHTTPError("401 Unauthorized", response=SimpleNamespace(headers={}, request=None, status_code=401))

    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_tree", refuse)
    with pytest.raises(MissingPrerequisite, match=r"the hub does not list lab/set: 401.*\n.*hf auth login"):
        remote_files(card)
