# SPDX-License-Identifier: Apache-2.0
"""A night against a stand-in for the hub: found, queued, scored, drawn, compared; twice; stopped; over budget."""

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hub_stand_in import Hub, hub_stand_in, model, sha

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.submission import load_submission
from voxelboard.runners.launching import Launch
from voxelboard.runners.queueing.filters import HubFilter
from voxelboard.runners.queueing.hub import Patience
from voxelboard.runners.queueing.nightly import Night, nightly, only_one, push, without_left
from voxelboard.runners.queueing.standings import Change, Standing, differences
from voxelboard.runners.queueing.store import Queue
from voxelboard.runners.queueing.work import Budget

FILTER = HubFilter(
    schema_version=1, hub_tasks=("text-generation",), data="simulated-narrative:tiny", most=500, since="2026-01-01"
)


class Site:
    """A results folder that nights work on."""

    def __init__(self, folder: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.hub, self._patch = folder, hub, monkeypatch
        self.results, self.board = folder / "results", folder / "board"

    def night(self, budget: Budget | None = None, **science: str) -> Night:
        self._patch.setenv("POOL_SCIENCE", json.dumps(science))
        return nightly(
            FILTER,
            self.results,
            self.board,
            Settings(V1, device="cpu", offline=True),  # weights are not what is tried here
            Launch(workers=2, isolation=False, quiet=True),
            budget or Budget(),
            patience=Patience(lambda seconds: None),
            science="pool_science:load",
        )

    def states(self) -> dict[str, str]:
        queue = Queue(self.results / ".queue.sqlite3")
        return {request.submission: request.state for request in queue.requests()}


@pytest.fixture
def site(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    root = Path(__file__).parents[3]
    monkeypatch.setenv("PYTHONPATH", f"{root / 'tests' / 'support'}:{root / '.types'}")
    monkeypatch.setenv("VOXELBOARD_CACHE", str(here / "cache"))
    with hub_stand_in() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        yield Site(here, hub, monkeypatch)


@pytest.mark.timeout(300)
def test_two_nights(site: Site) -> None:
    site.hub.models = [model("org/b", 1), model("org/closed", 2, gated="manual"), model("org/broken", 3)]
    first = site.night(**{"org/broken": "raise:boom"})
    assert first.found == 3
    assert first.queued == ["org/b · narrative", "org/broken · narrative"]
    assert "gated" in first.skipped["org/closed"]
    assert site.states() == {"org/b": "done", "org/broken": "failed"}
    assert first.exit_code == 1
    assert (site.board / "index.html").is_file()
    assert {change.kind for change in first.changes} == {"new"}
    summary = (site.results / ".nightly" / "summary.md").read_text(encoding="utf-8")
    assert "## New" in summary
    assert "`org/broken · narrative`: `bug: RuntimeError: boom`" in summary
    assert "- 1: `it is gated: its owner wants terms accepted first`: `org/closed`" in summary
    told = json.loads((site.results / ".nightly" / ".summary.json").read_text(encoding="utf-8"))
    assert (told["exit_code"], told["done"]) == (1, ["org/b · narrative"])
    snapshot = json.loads((site.results / "queue.json").read_text(encoding="utf-8"))
    assert [one["model"] for one in snapshot["skipped"]] == ["org/closed"]

    again = site.night()
    assert (again.queued, again.changes, again.exit_code) == ([], [], 0)
    assert site.states() == {"org/b": "done", "org/broken": "failed"}, "what failed waits for a person: queue retry"

    site.hub.models.append(model("org/a", 0))
    site.hub.moved["org/b"] = sha("org/b", 2)
    third = site.night()
    assert sorted(third.queued) == ["org/a · narrative", "org/b · narrative"], "a new commit is a new row"
    rows = {(change.kind, change.row.partition(" ")[0]) for change in third.changes}
    assert ("new", "org/a") in rows
    assert all("new beside it" in change.why for change in third.changes if change.kind == "moved")


@pytest.mark.timeout(300)
def test_hundreds_of_models_and_no_time(site: Site) -> None:
    site.hub.models = [model(f"org/m{number}", number) for number in range(250)]
    night = site.night(Budget(seconds=0.0))
    assert (len(night.queued), night.waiting, night.worked.stopped) == (250, 250, "the budget is spent")
    assert night.exit_code == 0
    again = site.night(Budget(gpu_seconds=0.0, seconds=0.0))
    assert (again.queued, again.waiting) == ([], 250)


@pytest.mark.timeout(300)
def test_a_night_that_is_stopped_is_taken_up_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.hub.models = [model("org/a", 0), model("org/b", 1)]

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("voxelboard.runners.queueing.work.execute_stages", interrupted)
        with pytest.raises(KeyboardInterrupt):
            site.night()
    assert site.states() == {"org/a": "queued", "org/b": "queued"}
    assert site.night().exit_code == 0
    assert site.states() == {"org/a": "done", "org/b": "done"}


def test_what_is_skipped_is_told_by_reason() -> None:
    skipped = {f"org/m{number}": "it is gated" for number in range(20)} | {"org/x": "it vanished"}
    lines = Night(skipped=skipped).as_markdown().splitlines()
    names = ", ".join(f"`org/m{number}`" for number in range(8))
    assert lines[-2:] == [
        f"- 20: `it is gated`: {names} and 12 more, all in `.summary.json`",
        "- 1: `it vanished`: `org/x`",
    ]


def test_what_was_stopped_with_the_night_is_left_and_not_new(site: Site) -> None:
    queue = Queue(site.results / ".queue.sqlite3")
    commit = sha("org/slow")
    queue.add(
        load_submission("planted-q0.9").model_copy(update={"name": "org/slow"}),
        commit,
        "narrative",
        "x",
        "v1",
        "nightly",
    )
    (request,) = queue.requests()
    new, other = (
        Change("new", "c", f"{name} @ {commit[:12]}", None, None, "timeout") for name in ("org/slow", "org/b")
    )
    moved = Change("moved", "c", new.row, None, None, "new beside it")
    assert without_left([new, other, moved], [(request, "the night was over")]) == [other, moved]


def test_one_night_at_a_time(tmp_path: Path) -> None:
    with only_one(tmp_path), pytest.raises(UserError, match="another night works on"), only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass


def test_differences_say_why() -> None:
    def ranked(low: int, high: int, score: float) -> Standing:
        return Standing("ranked", "", low, high, score)

    before = {("c", "a"): ranked(1, 1, 0.3), ("c", "b"): ranked(2, 2, 0.2), ("c", "gone"): ranked(3, 3, 0.1)}
    after = {
        ("c", "a"): ranked(1, 1, 0.3),
        ("c", "b"): ranked(3, 3, 0.2),
        ("c", "new"): ranked(2, 2, 0.25),
        ("c", "lost"): Standing("failed", "oom", None, None, None),
    }
    told = {change.row: (change.kind, change.why) for change in differences(before, after)}
    assert told == {
        "new": ("new", "ranked"),
        "lost": ("new", "oom"),
        "b": ("moved", "new beside it: new, lost"),
        "gone": ("gone", "it has no records any more"),
    }
    measured = differences({("c", "a"): ranked(1, 1, 0.3)}, {("c", "a"): ranked(1, 1, 0.31)})
    assert [(change.kind, change.why) for change in measured] == [("changed", "its score was measured again")]


def test_push_commits_what_changed_and_nothing_else(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        plain = ["-c", "user.name=x", "-c", "user.email=x@y.z", "-c", "init.defaultBranch=main"]
        return subprocess.run(["git", *plain, *arguments], check=True, capture_output=True, text=True).stdout

    origin, clone = tmp_path / "origin", tmp_path / "clone"
    git("init", "--bare", str(origin))
    git("clone", "--quiet", str(origin), str(clone))
    for name, value in (("user.name", "x"), ("user.email", "x@y.z"), ("push.autoSetupRemote", "true")):
        git("-C", str(clone), "config", name, value)
    (clone / "results").mkdir()
    (clone / "results" / "a.json").write_text("{}", encoding="utf-8")
    (clone / "other").write_text("mine", encoding="utf-8")
    for _ in range(2):
        push([clone / "results", clone / "board"], "1 models scored")
    assert git("-C", str(origin), "log", "--all", "--format=%s").split("\n")[:2] == ["1 models scored", ""]
    assert git("-C", str(clone), "status", "--porcelain").strip() == "?? other"
    git("-C", str(clone), "remote", "set-url", "origin", str(tmp_path / "nowhere"))
    (clone / "results" / "b.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="git push failed"):
        push([clone / "results"], "x")


def test_the_clock_of_the_filter_is_utc() -> None:
    assert FILTER.first_day(datetime(2026, 11, 24, tzinfo=UTC)).tzinfo is UTC
