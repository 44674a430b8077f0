# SPDX-License-Identifier: Apache-2.0
"""Releases never change, and the diff page says why a rank did; what other programs read is whole."""

import json
import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest

from voxelboard.benchmark.errors import DataError, UserError
from voxelboard.benchmark.records import read_record, write_record
from voxelboard.leaderboard.releases import changes
from voxelboard.leaderboard.render import render

ATOM = "{http://www.w3.org/2005/Atom}"


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def words(page: Path) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page.read_text()).split())


@pytest.fixture
def board(plant: Any, tmp_path: Path) -> Path:
    for name, score in (("a/one", 0.2), ("a/two", 0.12), ("a/three", 0.05)):
        plant.submission(name, score)
    return render(plant.results, tmp_path / "site", release="2026.1").parent


def test_a_release_stays_byte_for_byte_whatever_is_rendered_later(board: Path, plant: Any) -> None:
    frozen = tree(board / "releases" / "2026.1")
    plant.submission("a/new", 0.3)
    render(plant.results, board)
    render(plant.results, board, release="2026.2")
    assert tree(board / "releases" / "2026.1") == frozen
    assert "a/new" not in (board / "releases" / "2026.1" / "index.html").read_text()
    assert "a/new" in (board / "releases" / "2026.2" / "index.html").read_text()
    assert "Release 2026.1, frozen" in words(board / "releases" / "2026.1" / "index.html")
    listed = words(board / "releases.html")
    assert listed.index("2026.2") < listed.index("2026.1")


def test_every_link_of_a_release_leads_somewhere(board: Path) -> None:
    for page in board.rglob("*.html"):
        for href in re.findall(r'href="([^"#]+)', page.read_text()):
            if not re.match(r"[a-z]+:", href):
                assert (page.parent / href).resolve().is_file(), (page, href)


@pytest.mark.parametrize("name", ["../x", "", "a b", ".hidden", "x" * 41])
def test_a_release_has_a_plain_name(name: str, plant: Any, tmp_path: Path) -> None:
    plant.submission("a/one", 0.2)
    with pytest.raises(UserError, match="a release cannot be called"):
        render(plant.results, tmp_path / "site", release=name)
    assert not (tmp_path / "site").exists()


def test_a_release_is_never_written_again_and_never_private(board: Path, plant: Any) -> None:
    with pytest.raises(UserError, match="a release never changes"):
        render(plant.results, board, release="2026.1")
    with pytest.raises(UserError, match="a release is public"):
        render(plant.results, board, release="2026.9", include_private=True)


def test_a_damaged_release_stops_before_anything_is_lost(board: Path, plant: Any) -> None:
    (board / "releases" / "2026.1" / "release.json").write_text("{")
    before = tree(board)
    with pytest.raises(DataError, match=r"the release .* is damaged"):
        render(plant.results, board)
    assert tree(board) == before


def test_the_diff_says_who_entered_and_that_others_moved_by_it(board: Path, plant: Any) -> None:
    assert "0 rows stand" not in words(board / "diff.html")
    plant.submission("a/new", 0.3)
    text = words(render(plant.results, board).parent / "diff.html")
    assert "Since release 2026.1" in text
    assert "new narrative v1 · simulated-ci 1.0.0 entered" in text
    assert "its own records are the same; 1 entered (new), so the paired tests are corrected over other pairs" in text


def test_the_diff_says_measured_again_withdrawn_and_left(board: Path, plant: Any) -> None:
    for path in plant.submission("a/two", 0.14, seed=99):
        assert path.is_file()
    for path in sorted((plant.results / "v1" / "a__three").rglob("sub-*.json")):
        write_record(path, read_record(path).model_copy(update={"invalidated": "wrong tokenizer"}))
    for path in sorted((plant.results / "v1" / "a__one").rglob("*.*")):
        path.unlink()
    text = words(render(plant.results, board).parent / "diff.html")
    assert "measured again: the records of sub-01, sub-02, sub-03, sub-04, sub-05 differ" in text
    assert "ranked → invalidated" in text
    assert "wrong tokenizer" in text
    assert "left" in text
    assert "no record of it is public any more" in text


def test_another_protocol_is_another_column(board: Path, plant: Any, tmp_path: Path) -> None:
    before = json.loads((board / "data" / "board.json").read_text())
    after = json.loads((board / "data" / "board.json").read_text())
    after["tables"][0]["column"]["protocol"] = "v2"
    found = changes(before, after)
    assert [change.what for change in found] == ["new column", "column gone"]
    assert "cannot be compared: protocol v1 → v2" in found[0].why
    assert changes(before, before) == []


def test_boards_of_both_kinds_are_released_together(plant: Any, tmp_path: Path) -> None:
    plant.submission("a/one", 0.2)
    replace(plant, kind="real", dataset="lebel2023-pcs").submission("b/two", 0.1)
    site = render(plant.results, tmp_path / "site", release="1").parent
    for kind in ("real", "simulated"):
        assert (site / "releases" / "1" / kind / "index.html").is_file()
        assert f"releases/1/{kind}/index.html" in (site / kind / "releases.html").read_text()
    render(plant.results, site)
    assert "1 row stands as before" in words(site / "real" / "diff.html")


def test_the_json_keeps_its_schema(demo_results: Path, tmp_path: Path) -> None:
    site = render(demo_results, tmp_path / "site").parent
    schema = json.loads((site / "data" / "board.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    board = json.loads((site / "data" / "board.json").read_text())
    jsonschema.validate(board, schema)
    board["tables"][0]["rows"][0]["score"] = 0.5  # a score without its interval
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(board, schema)


def test_the_feed_the_badges_and_the_sitemap(demo_results: Path, tmp_path: Path) -> None:
    plain = render(demo_results, tmp_path / "plain").parent
    assert not (plain / "sitemap.xml").exists()
    for entry in ET.parse(plain / "feed.xml").getroot().iter(f"{ATOM}entry"):
        link = entry.find(f"{ATOM}link")
        assert link is not None
        assert (plain / link.attrib["href"]).is_file()
    site = render(demo_results, tmp_path / "site", site_url="https://example.org/board/").parent
    feed = ET.parse(site / "feed.xml").getroot()
    for one in (feed, *feed.findall(f"{ATOM}entry")):  # RFC 4287: what a feed and an entry must have
        for name in ("id", "title", "updated"):
            assert len(one.findall(f"{ATOM}{name}")) == 1, name
            assert one.findtext(f"{ATOM}{name}")
        assert datetime.fromisoformat(one.findtext(f"{ATOM}updated") or "").tzinfo is not None
    assert feed.findtext(f"{ATOM}author/{ATOM}name")
    assert {link.attrib["rel"] for link in feed.findall(f"{ATOM}link")} == {"alternate", "self"}
    ids = [one.text for one in feed.iter(f"{ATOM}id")]
    assert len(set(ids)) == len(ids) > 5
    assert all(
        "https://example.org/board/models/" in one.attrib["href"] for one in feed.findall(f"{ATOM}entry/{ATOM}link")
    )
    locations = re.findall("<loc>(.*?)</loc>", (site / "sitemap.xml").read_text())
    assert {f"https://example.org/board/{path.relative_to(site)}" for path in site.rglob("*.html")} == set(locations)
    badge = (site / "badges" / "acme__large--0123456789ab.svg").read_text()
    assert ET.fromstring(badge).tag.endswith("svg")
    assert "rank 1 of 6" in badge
    assert "(simulated)" in badge
    with pytest.raises(UserError, match="site address"):
        render(demo_results, tmp_path / "other", site_url="javascript:alert(1)")


def test_the_queue_is_shown_and_a_damaged_one_is_named(plant: Any, tmp_path: Path) -> None:
    plant.submission("a/one", 0.2)
    request = {"submission": "b/waits", "state": "queued", "task": "drama", "more": "than is shown"}
    queue = {"schema_version": 1, "requests": [request], "skipped": [{"model": "c/gated", "reason": "gated"}]}
    (plant.results / "queue.json").write_text(json.dumps(queue))
    text = words(render(plant.results, tmp_path / "site").parent / "queue.html")
    assert "b/waits" in text
    assert "c/gated" in text
    (plant.results / "queue.json").write_text('{"schema_version": 7}')
    with pytest.raises(DataError, match=r"queue\.json: schema_version"):
        render(plant.results, tmp_path / "site")


def test_subjects_without_a_score_for_one_reason_share_a_line(plant: Any, tmp_path: Path) -> None:
    plant.submission("a/x", 0.2)
    plant.submission("b/halfway", 0.1, subjects=("sub-01", "sub-02"))
    plant.failure("b/halfway", "sub-03", "oom", "needs 96 GiB")
    text = words(render(plant.results, tmp_path / "site").parent / "queue.html")
    assert "sub-04, sub-05 not run" in text
    assert "sub-03 oom needs 96 GiB" in text
    assert text.count("halfway") == 2
