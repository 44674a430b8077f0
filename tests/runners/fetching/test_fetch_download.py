# SPDX-License-Identifier: Apache-2.0
"""Downloads from a server that cuts, throttles, redirects and lies: the right bytes, or one clear error."""

import errno
import shutil
import threading
from types import SimpleNamespace

import pytest
from data_server import Fault
from fetch_cards import CONTENTS, make_card

from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError
from voxelboard.runners.fetching import download as download_module
from voxelboard.runners.fetching.download import check_disk, download, download_all, missing_files
from voxelboard.runners.fetching.remote import RemoteFile, remote_files

PATH = "resp/s1/garden.h5"
KEY = f"/bucket/set/{PATH}"


def silent(file, n_bytes, complete):
    pass


def get_one(folder, file, report=silent):
    download(file, folder, report, threading.Event())


@pytest.fixture
def file(server):
    return next(f for f in remote_files(make_card()) if f.path == PATH)


def test_all_files_come_in_parallel_and_none_twice(server, tmp_path):
    files = remote_files(make_card())
    done = []
    download_all(files, tmp_path, 3, lambda file, n_bytes, complete: done.append((file.path, n_bytes, complete)))
    assert {path: (tmp_path / path).read_bytes() for path in CONTENTS} == CONTENTS
    assert sum(n for _, n, _ in done) == sum(map(len, CONTENTS.values()))
    assert sorted(path for path, _, complete in done if complete) == sorted(CONTENTS)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == sorted(p.split("/")[-1] for p in CONTENTS)
    assert missing_files(files, tmp_path) == []


def test_a_cut_line_goes_on_where_it_broke(server, tmp_path, file, waits):
    server.faults[KEY] = [Fault(cut_after=1000), Fault(cut_after=0), Fault(cut_after=500)]
    get_one(tmp_path, file)
    assert (tmp_path / PATH).read_bytes() == CONTENTS[PATH]
    assert [asked for _, asked in server.requests] == [None, "bytes=1000-", "bytes=1000-", "bytes=1500-"]
    assert waits == [1.0, 2.0, 1.0]  # progress forgives what came before


def test_an_interrupted_download_goes_on_in_another_process(server, tmp_path, file):
    stop = threading.Event()
    download(file, tmp_path, lambda *_: stop.set(), stop)  # stops after the first piece
    part = tmp_path / "resp/s1/.garden.h5.part"
    part.write_bytes(part.read_bytes()[:40_000])
    assert not (tmp_path / PATH).exists()
    assert missing_files([file], tmp_path)[0].n_there == 40_000
    get_one(tmp_path, file)
    assert server.requests[-1] == (KEY, "bytes=40000-")
    assert (tmp_path / PATH).read_bytes() == CONTENTS[PATH]
    assert not part.exists()


def test_a_file_that_changed_at_the_source_starts_again(server, tmp_path, file):
    server.faults[KEY] = [Fault(body=b"old" * 20_000, cut_after=9_000)]
    server.files[KEY] = CONTENTS[PATH]
    get_one(tmp_path, file)  # If-Range does not match: the whole new file comes
    assert (tmp_path / PATH).read_bytes() == CONTENTS[PATH]


@pytest.mark.parametrize("etags", [True, False])
def test_a_server_without_ranges_or_tags_starts_again(server, tmp_path, file, etags):
    server.etags = etags
    server.faults[KEY] = [Fault(cut_after=1000), Fault(no_range=True)]
    get_one(tmp_path, RemoteFile(PATH, file.url))  # no size and no hash either
    assert (tmp_path / PATH).read_bytes() == CONTENTS[PATH]


def test_a_part_that_is_longer_than_the_file_is_thrown_away(server, tmp_path, file):
    part = tmp_path / "resp/s1/.garden.h5.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 90_000)
    get_one(tmp_path, file)
    assert (tmp_path / PATH).read_bytes() == CONTENTS[PATH]


def test_a_busy_server_is_waited_for_as_long_as_it_asks(server, tmp_path, file, waits):
    server.faults[KEY] = [Fault(status=503, retry_after=7), Fault(status=429), Fault(status=500)]
    get_one(tmp_path, file)
    assert (tmp_path / PATH).read_bytes() == CONTENTS[PATH]
    assert waits == [7.0, 2.0, 4.0]


def test_a_server_that_stays_busy_ends_with_one_message(server, tmp_path, file, waits):
    server.faults[KEY] = [Fault(status=503)] * 20
    with pytest.raises(MissingPrerequisite, match=r"answers 503 .*\(6 tries\)\n.*goes on where this one stopped"):
        get_one(tmp_path, file)
    assert len(waits) == 5


@pytest.mark.parametrize(("status", "hint"), [(403, "not open to everybody"), (401, "account"), (404, "data add")])
def test_what_will_not_get_better_is_not_tried_again(server, tmp_path, file, status, hint):
    server.faults[KEY] = [Fault(status=status)]
    with pytest.raises(MissingPrerequisite, match=f"answers {status}.*\n.*{hint}"):
        get_one(tmp_path, file)
    assert len(server.requests) == 1


def test_wrong_bytes_are_fetched_once_more_and_then_refused(server, tmp_path, file):
    wrong = b"y" * len(CONTENTS[PATH])
    server.faults[KEY] = [Fault(body=wrong)]
    total = []
    get_one(tmp_path, file, lambda file, n_bytes, complete: total.append(n_bytes))
    assert (tmp_path / PATH).read_bytes() == CONTENTS[PATH]
    assert sum(total) == len(CONTENTS[PATH])
    (tmp_path / PATH).unlink()
    server.faults[KEY] = [Fault(body=wrong), Fault(body=wrong)]
    with pytest.raises(DataError, match=r"resp/s1/garden\.h5 came twice with the sha256 [0-9a-f]{64}, expected"):
        get_one(tmp_path, file)
    assert not (tmp_path / PATH).exists()


def test_a_file_of_another_length_is_refused(server, tmp_path, file):
    server.files[KEY] = b"short"
    with pytest.raises(DataError, match="came twice with 5 bytes, expected 76800"):
        get_one(tmp_path, file)


def test_redirects_are_followed_without_credentials(server, tmp_path, file):
    server.files["/elsewhere/garden"] = CONTENTS[PATH]
    other = server.url.replace("127.0.0.1", "localhost")
    server.faults[KEY] = [Fault(redirect=f"{other}/elsewhere/garden")]
    secret = RemoteFile(PATH, file.url, file.n_bytes, file.digest, headers=(("Authorization", "Bearer secret"),))
    get_one(tmp_path, secret)
    assert (tmp_path / PATH).read_bytes() == CONTENTS[PATH]
    assert server.credentials == [(KEY, "Bearer secret"), ("/elsewhere/garden", None)]


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_redirects_to_other_places_than_the_web_are_not(server, tmp_path, file, target):
    server.faults[KEY] = [Fault(redirect=target)]
    with pytest.raises(UserError, match=r"(?i)redirect.* not (followed|allowed)"):
        get_one(tmp_path, file)


def test_a_redirect_loop_ends(server, tmp_path, file):
    server.faults[KEY] = [Fault(redirect=file.url)] * 50
    with pytest.raises(MissingPrerequisite):
        get_one(tmp_path, file)


def test_a_host_that_is_not_there(tmp_path, server):
    with pytest.raises(MissingPrerequisite, match="cannot reach 127"):
        get_one(tmp_path, RemoteFile("a", "http://127.0.0.1:1/a"))


def test_a_full_disk_keeps_what_came(server, tmp_path, file, monkeypatch):
    def full(stream):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download_module.os, "fsync", full)
    with pytest.raises(MissingPrerequisite, match=r"disk of .* is full while resp/s1/garden\.h5"):
        get_one(tmp_path, file)
    monkeypatch.undo()


def test_the_disk_is_checked_before(server, tmp_path, file, monkeypatch):
    missing = missing_files([file], tmp_path / "not" / "there")
    check_disk(missing, tmp_path / "not" / "there")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**6))
    with pytest.raises(MissingPrerequisite, match=r"0\.0 GB are missing and 0\.0 GB are free"):
        check_disk(missing, tmp_path)


def test_a_link_in_the_folder_leads_nowhere(server, tmp_path, file):
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    folder.mkdir()
    (folder / "resp").symlink_to(outside)
    with pytest.raises(DataError, match="leads out of"):
        get_one(folder, file)
    assert list(outside.iterdir()) == []


def test_one_failure_stops_the_others_and_keeps_what_came(server, tmp_path):
    server.faults["/bucket/set/words/garden.csv"] = [Fault(status=404)]
    with pytest.raises(MissingPrerequisite, match="404"):
        download_all(remote_files(make_card()), tmp_path, 1, silent)
    download_all(remote_files(make_card()), tmp_path, 1, silent)
    assert {path: (tmp_path / path).read_bytes() for path in CONTENTS} == CONTENTS
