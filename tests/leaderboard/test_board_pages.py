# SPDX-License-Identifier: Apache-2.0
"""The pages: whole, safe, the same bytes each time, and readable without anything from elsewhere."""

import base64
import hashlib
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from voxelboard.benchmark.records import Checks, read_record, read_statistics, record_path, write_record
from voxelboard.leaderboard.aggregate import aggregate
from voxelboard.leaderboard.board_site import page_names
from voxelboard.leaderboard.render import render
from voxelboard.leaderboard.text import marked_up

VOID = {"meta", "input", "br", "link", "img", "hr"}
EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>\u202e{{ 7*7 }}'


class Page(HTMLParser):
    """Checks nesting while it reads, and keeps what tests ask for: ``raw`` holds the text of each element by itself."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.raw: dict[str, list[str]] = {"style": [], "script": []}
        self.feed(text)
        self.close()
        assert self.stack == [], self.stack

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        self.tags.append((tag, dict(attrs)))
        if tag in self.raw:
            self.raw[tag].append("")
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag, (tag, self.getpos())

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self.stack and self.stack[-1] in self.raw:
            self.raw[self.stack[-1]][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def site(demo_results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(demo_results, tmp_path_factory.mktemp("render") / "site").parent


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text()) for path in sorted(site.rglob("*.html"))}


def tree(site: Path) -> dict[str, bytes]:
    return {str(path.relative_to(site)): path.read_bytes() for path in sorted(site.rglob("*")) if path.is_file()}


def test_twice_and_from_elsewhere_gives_the_same_bytes(demo_results: Path, site: Path, tmp_path: Path) -> None:
    again = render(demo_results, tmp_path / "again").parent
    moved = tmp_path / "moved"
    for path in sorted(demo_results.rglob("*"), reverse=True):
        if path.is_file():
            (moved / path.relative_to(demo_results)).parent.mkdir(parents=True, exist_ok=True)
            (moved / path.relative_to(demo_results)).write_bytes(path.read_bytes())
    assert tree(again) == tree(site)
    assert tree(render(moved, tmp_path / "third").parent) == tree(site)


def test_one_page_for_every_row(demo_results: Path, site: Path) -> None:
    (board,) = aggregate(demo_results)
    written = {str(path.relative_to(site)) for path in (site / "models").iterdir()}
    assert written == set(page_names(board).values())
    assert len(written) == 14


def test_a_later_render_removes_stale_pages(plant: Any, tmp_path: Path) -> None:
    plant.submission("a/x", 0.2)
    gone = plant.submission("a/y", 0.1)
    site = render(plant.results, tmp_path / "site").parent
    assert len(list((site / "models").iterdir())) == 2
    for path in gone:
        path.unlink()
    render(plant.results, tmp_path / "site")
    assert [path.name for path in (site / "models").iterdir()] == ["a__x--0123456789ab.html"]


def test_pages_are_well_formed_with_one_heading_and_unique_ids(pages: dict[Path, Page]) -> None:
    for page in pages.values():
        assert len(page.all("h1")) == 1
        ids = Counter(attrs["id"] for _, attrs in page.tags if "id" in attrs)
        assert set(ids.values()) == {1}
        assert page.all("html")[0]["lang"] == "en"
        assert [attrs for attrs in page.all("meta") if attrs.get("name") == "viewport"]


def test_nothing_is_loaded_and_every_link_leads_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
        for tag, attrs in page.tags:
            assert not {"src", "srcset", "style", "action", "xlink:href"} & set(attrs), (path, tag, attrs)
            assert not [name for name in attrs if name.startswith("on")]
            assert tag not in {"img", "iframe", "object", "embed", "base", "form", "image", "use"}
            href = attrs.get("href")
            if href is None:
                continue
            assert tag == "a" or (tag == "link" and attrs["rel"] == "alternate")
            target, _, anchor = href.partition("#")
            if target:
                assert not re.match(r"[a-z]+:|//|/", target), href
                assert (path.parent / unquote(target)).resolve().is_relative_to(site.resolve())
                assert (path.parent / unquote(target)).is_file(), href
            elif anchor:
                assert anchor in ids, href


def test_the_policy_allows_this_style_and_the_loader_and_nothing_else(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        policy = next(attrs["content"] for attrs in page.all("meta") if attrs.get("http-equiv"))
        assert policy is not None
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert "http" not in policy
        loader = next(text for text in page.raw["script"] if text.startswith("(function"))
        assert all(text.startswith(("[", "{")) for text in page.raw["script"] if text != loader)  # data, not code
        kinds = [attrs.get("type") for attrs in page.all("script")]
        assert kinds.count(None) == 1
        assert set(kinds) <= {None, "application/json"}
        (style,) = page.raw["style"]
        for kind, text in (("style", style), ("script", loader)):
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert f"{kind}-src 'sha256-{digest}'" in policy
        assert "url(" not in style
        assert "@import" not in style
        (html,) = page.all("html")
        assert (path.parent / (html["data-root"] or "") / (html["data-script"] or "")).is_file()


def test_the_table_is_a_table(site: Path, pages: dict[Path, Page]) -> None:
    page = pages[site / "index.html"]
    assert len(page.all("caption")) == 1
    assert all(attrs.get("scope") in {"col", "row", "rowgroup"} for attrs in page.all("th"))
    sorted_columns = [(th["data-name"], th["aria-sort"]) for th in page.all("th") if "aria-sort" in th]
    assert sorted_columns == [("Score", "descending")]
    assert all(attrs.get("type") == "button" for attrs in page.all("button"))
    assert [attrs for attrs in page.all("output") if attrs.get("aria-live") == "polite"]
    assert [attrs for attrs in page.all("div") if attrs.get("role") == "region" and attrs.get("tabindex") == "0"]
    # filter and messages need the script, so they are hidden until it runs
    assert [attrs for attrs in page.all("div") if attrs.get("class") == "tools" and "hidden" in attrs]


def test_every_figure_has_a_text_alternative(pages: dict[Path, Page]) -> None:
    for page in pages.values():
        for index, (tag, attrs) in enumerate(page.tags):
            if tag == "svg":
                assert attrs.get("role") == "img"
                assert page.tags[index + 1][0] == "title"


def test_ranks_scores_and_states_are_on_the_index(site: Path) -> None:
    text = re.sub(r"<[^>]+>", " ", (site / "index.html").read_text())
    for shown in (
        "2–3",
        "Acme Large 7B",
        "partial 2/5 subjects, unranked",
        "failed: oom: needs 96 GiB",
        "How to read this",
    ):
        assert shown in text
    assert "subjects + stimuli" in text


def test_simulated_data_say_so_on_every_page(plant: Any, tmp_path: Path, pages: dict[Path, Page]) -> None:
    band = "Simulated data – not a scientific result"
    assert all(band in "".join(page.text) for page in pages.values())
    replace(plant, kind="real", dataset="lebel2023-pcs").submission("a/x", 0.2)
    site = render(plant.results, tmp_path / "site").parent
    assert not any(band in path.read_text() for path in site.rglob("*.html"))


def test_both_kinds_have_boards_of_their_own(plant: Any, tmp_path: Path) -> None:
    plant.submission("a/x", 0.2)
    replace(plant, kind="real", dataset="lebel2023-pcs").submission("b/y", 0.1)
    site = render(plant.results, tmp_path / "site").parent
    root = Page((site / "index.html").read_text())
    links = {attrs["href"] for attrs in root.all("a")}
    assert {"real/index.html", "simulated/index.html"} <= links
    assert root.all("table") == []
    real, simulated = ((site / kind / "index.html").read_text() for kind in ("real", "simulated"))
    assert ("b/y" in real, "a/x" in real) == (True, False)
    assert ("b/y" in simulated, "a/x" in simulated) == (False, True)
    assert "Simulated data – not" in simulated
    assert "Simulated data – not" not in real


def test_a_model_page_holds_the_whole_story(site: Path) -> None:
    html = (site / "models" / "acme__large--0123456789ab.html").read_text()
    text = " ".join(re.sub(r"<[^>]+>", " ", html).split())
    assert "beats its own untrained twin by 0.2" in text
    command = (
        "voxelboard run -m acme/large -t narrative --data simulated-ci --subjects sub-01,sub-02,sub-03,sub-04,sub-05"
    )
    assert command in text
    for shown in (
        "Regions",
        "Layers",
        "Voxels",
        "The arithmetic behind the score",
        "Run record",
        "OASM",
        "Cite",
        "torch 2.13.0",
    ):
        assert shown in text
    assert html.count('class="panel"') == 6
    assert html.count(">JSON</a>") == 5


def test_the_linked_record_is_the_record_without_the_command(demo_results: Path, site: Path) -> None:
    copies = sorted((site / "data" / "records").rglob("*.json"))
    originals = sorted(demo_results.rglob("*.json"))
    assert [path.relative_to(site / "data" / "records") for path in copies] == [
        path.relative_to(demo_results) for path in originals
    ]
    copy, original = read_record(copies[0]), read_record(originals[0])
    assert copy.digest == original.digest
    assert original.environment is not None
    assert original.environment.command
    assert copy.environment == original.environment.model_copy(update={"command": ""})


def test_the_overview_draws_the_mean_over_tasks_of_each_layer(plant: Any, tmp_path: Path) -> None:
    for task in ("narrative", "captions"):
        replace(plant, task=task, dataset=f"simulated-{task}").submission("a/b", 0.1)
    index = Page((render(plant.results, tmp_path / "site").parent / "index.html").read_text(encoding="utf-8"))
    assert len([attrs for attrs in index.all("svg") if attrs.get("class") == "spark"]) == 1
    assert "layers 0 to 6, most often chosen: 4" in index.text


def test_marks_of_the_source_are_markup_on_the_page(site: Path) -> None:
    for name, term in (("protocol", "hash_of(task)"), ("submit", "embargo:YYYY-MM-DD")):
        text = (site / f"{name}.html").read_text(encoding="utf-8")
        assert f"<code>{term}</code>" in text
        assert "``" not in text
    assert "statistics.md" not in (site / "protocol.html").read_text(encoding="utf-8")
    assert marked_up("a ``<b>`` c") == "a <code>&lt;b&gt;</code> c"
    assert marked_up("``half") == "``half"


def test_a_failed_row_has_a_page_that_says_why(site: Path) -> None:
    text = (site / "models" / "lab__huge--0123456789ab.html").read_text()
    assert "failed: oom: needs 96 GiB of GPU memory" in text
    assert ">0.000<" not in text


def test_an_alarm_is_on_the_index_and_once_on_the_page(plant: Any, tmp_path: Path) -> None:
    plant.submission("a/x", 0.2, checks=Checks(alarms=("features explode",)))
    plant.submission("a/y", 0.2)
    site = render(plant.results, tmp_path / "site").parent
    assert (site / "index.html").read_text().count("a check raised an alarm") == 1
    page = (site / "models" / "a__x--0123456789ab.html").read_text()
    assert page.count("features explode") == 1
    assert "sub-01, sub-02, sub-03, sub-04, sub-05: features explode" in page


def test_words_fit_the_numbers(plant: Any, tmp_path: Path) -> None:
    many = tuple(f"sub-{number:02d}" for number in range(1, 28))
    plant.submission("a/x", 0.2, subjects=many)
    html = render(plant.results, tmp_path / "site").read_text()
    for shown in (
        "One model, scored by how well its internal states",
        "it beats its own untrained twin",
        "2 test segments",
    ):
        assert shown in html
    assert "sub-01, sub-02, … sub-27" in html


def test_hostile_strings_stay_text(plant: Any, tmp_path: Path) -> None:
    changes = {"display_name": EVIL, "loader": EVIL, "dtype": EVIL, "source": EVIL, "revision": EVIL}
    metadata = {"citation": "javascript:alert(1)", "stimulus_exposure": EVIL, "family": EVIL}
    plant.submission(f"a/{EVIL}", 0.2, changes={**changes, "metadata": metadata}, subjects=(EVIL, "sub-02"))
    plant.failure("a/y", "sub-02", "bug", EVIL)
    replace(plant, dataset=EVIL).failure("a/z", "sub-02", "bug", EVIL, before_data=True)
    site = render(plant.results, tmp_path / "site").parent
    assert EVIL.replace("\u202e", "\ufffd") in "".join(Page((site / "index.html").read_text()).text)
    for path in site.rglob("*.html"):
        html = path.read_text()
        page = Page(html)
        assert [attrs for attrs in page.all("script") if attrs != {"type": "application/json", "class": "rows"}] in (
            [{}],
            [{}, {"type": "application/json", "id": "compare-data"}],
        )
        assert not page.all("img")
        assert not [attrs for attrs in page.all("a") if "javascript" in (attrs.get("href") or "")]
        assert "\u202e" not in html
        assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]


def test_names_that_differ_only_in_case_or_length_have_pages_of_their_own(plant: Any) -> None:
    for name in ("a/x", "A/x", "a/x ", "a/" + "y" * 90, "a/" + "y" * 91):
        plant.failure(name, "sub-01", "bug", "stopped")
    (board,) = aggregate(plant.results)
    names = list(page_names(board).values())
    assert len({name.casefold() for name in names}) == 5
    assert all(len(name) < 120 for name in names)


def test_only_failures_still_give_a_site(plant: Any, tmp_path: Path) -> None:
    plant.failure("a/gone", "sub-01", "not_found", "no such revision", before_data=True)
    site = render(plant.results, tmp_path / "site").parent
    assert "Nothing is scored yet" in (site / "index.html").read_text()
    queue = " ".join(re.sub(r"<[^>]+>", " ", (site / "queue.html").read_text()).split())
    assert "not_found no such revision" in queue


def test_a_hundred_models_fit_the_budget(plant: Any, tmp_path: Path) -> None:
    (path,) = replace(plant, n_layers=33).submission("a/x", 0.2, subjects=("sub-01",))
    first = read_record(path)
    for index in range(100):
        name = f"organisation-{index % 7}/language-model-{index:03d}-instruct"
        model = first.model.model_copy(
            update={"submission": name, "display_name": f"Language Model {index:03d} Instruct"}
        )
        copy = first.model_copy(update={"model": model})
        write_record(record_path(plant.results, copy, "simulated-ci"), copy, read_statistics(path, first))
    site = render(plant.results, tmp_path / "site").parent
    assert (site / "index.html").read_text().count("Language Model") >= 100
    assert (site / "index.html").stat().st_size <= 600 * 1024
    assert max(page.stat().st_size for page in (site / "models").iterdir()) <= 900 * 1024
