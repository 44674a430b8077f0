# SPDX-License-Identifier: Apache-2.0
"""Every kind of page in a real browser: accessible, whole at any width, safe, and right when it ranks again."""

import csv
import io
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from board_pages import ARTEFACTS, PAGES, OpenPage
from planted_analyses import DECODED, MAPS, NETS
from planted_records import HOSTILE, Plant

from voxelboard.benchmark.statistics.overall import rank_overall
from voxelboard.leaderboard.aggregate import aggregate
from voxelboard.leaderboard.overall import influence_of, overviews
from voxelboard.leaderboard.render import render

pytestmark = pytest.mark.timeout(400)  # the first one draws the site and starts the browser
STUDIES = Path(__file__).resolve().parents[2] / "results" / "studies"
QUILL, FJORD = "acme__quill-7b--0123456789ab", "north__fjord-large--0123456789ab"


def picture(page: Any, name: str) -> None:
    """Keep a screenshot for people to look at."""
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    size = page.viewport_size
    height = min(page.evaluate("document.documentElement.scrollHeight"), 6000)
    clip = {"x": 0, "y": 0, "width": size["width"], "height": height}
    page.screenshot(path=ARTEFACTS / f"{name}.png", full_page=True, clip=clip)


def stem(address: str) -> str:
    return Path(address).stem if "releases/" not in address else "release"


def axe(page: Any, source: str) -> list[str]:
    """What axe-core has to say, each fault in a line."""
    page.evaluate(source)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {one['help']}: {node['html'][:160]} {node['failureSummary'][:300]}"
        for one in found["violations"]
        for node in one["nodes"][:3]
    ]


@pytest.mark.parametrize("address", PAGES)
def test_every_page_is_accessible_in_both_themes_and_fits_a_phone(
    address: str, site: Path, node_modules: Path, open_page: OpenPage
) -> None:
    source = (node_modules / "axe-core" / "axe.min.js").read_text()
    page = open_page(site / address, color_scheme="light")
    picture(page, f"{stem(address)}-light")
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    page.wait_for_timeout(100)
    told = axe(page, source)
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(50)
    told += axe(page, source)
    picture(page, f"{stem(address)}-dark")
    assert told == []
    page.set_viewport_size({"width": 390, "height": 844})
    picture(page, f"{stem(address)}-phone")
    wide = page.evaluate(
        "Array.from(document.querySelectorAll('main *')).filter(one => one.getBoundingClientRect().right > 391 &&"
        " !one.closest('.frame, .scroll, .canvas, pre, svg')).map(one => one.outerHTML.slice(0, 120))"
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, wide[:5]


@pytest.mark.parametrize("address", [PAGES[0], PAGES[3], *PAGES[6:11]])
def test_without_script_every_page_is_whole(address: str, site: Path, open_page: OpenPage) -> None:
    page = open_page(site / address, java_script_enabled=False)
    picture(page, f"{stem(address)}-plain")
    assert page.locator("h1").count() == 1
    assert page.locator(".tools:visible, .tray:visible, .controls:visible").count() == 0
    assert page.locator("table:visible, .steps:visible, .sub:visible").count() > 0


def test_a_page_that_is_never_painted_gets_its_controls(site: Path, open_page: OpenPage) -> None:
    page = open_page(site / "index.html", wait=False)
    page.add_init_script("window.requestAnimationFrame = () => 0")
    page.reload()
    page.wait_for_selector("html[data-ready]", state="attached", timeout=10_000)
    assert page.locator(".tools:visible").count() > 0


@pytest.mark.parametrize("address", [PAGES[0], PAGES[1], PAGES[3]])
def test_print_hides_what_cannot_be_used_on_paper(address: str, site: Path, open_page: OpenPage) -> None:
    page = open_page(site / address, color_scheme="dark")
    page.emulate_media(media="print")
    picture(page, f"{stem(address)}-print")
    assert page.locator(".tools:visible, .tray:visible, .skip:visible, .controls:visible").count() == 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def validate(pages: list[Path], node_modules: Path, folder: Path) -> None:
    """Fails with what html-validate says of the pages."""
    config = folder / "rules.json"
    rules = {
        "extends": ["html-validate:standard"],
        "rules": {
            "no-inline-style": "error",
            "long-title": "off",  # a model may have a long name
            "attribute-boolean-style": "off",
            "no-implicit-button-type": "error",
            "void-style": "off",  # inside svg elements end with a slash
            "doctype-style": "off",
            "text-content": "off",
            "prefer-native-element": "off",  # a scrollable div needs a role to be named
            "no-redundant-role": "off",
        },
    }
    config.write_text(json.dumps(rules))
    command = ["node", str(node_modules / "html-validate" / "bin" / "html-validate.mjs"), "--config", str(config)]
    done = subprocess.run([*command, *map(str, pages)], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout[:4000] + done.stderr[:2000]


def test_the_html_is_valid(site: Path, node_modules: Path, tmp_path: Path) -> None:
    validate([site / address for address in PAGES], node_modules, tmp_path)


@pytest.fixture(scope="module")
def studied_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board of recorded data, made up, with the committed studies beside it."""
    folder = tmp_path_factory.mktemp("studied")
    plant = Plant(folder / "results", kind="real", dataset="made-up")
    plant.submission("org/one", 0.1)
    shutil.copytree(STUDIES, plant.results / "studies")
    return render(plant.results, folder / "board").parent


def test_the_page_of_studies_is_accessible_valid_and_fits_a_phone(
    studied_site: Path, node_modules: Path, open_page: OpenPage, tmp_path: Path
) -> None:
    address = studied_site / "studies.html"
    test_every_page_is_accessible_in_both_themes_and_fits_a_phone(address.name, studied_site, node_modules, open_page)
    validate([address], node_modules, tmp_path)


def test_the_page_of_caption_analyses_is_accessible_valid_and_fits_a_phone(
    node_modules: Path, open_page: OpenPage, tmp_path: Path
) -> None:
    plant = Plant(tmp_path / "results", task="captions", dataset="simulated-captions")
    plant.submission("org/one", 0.1)
    for tables in (MAPS, NETS, DECODED):
        path = plant.results / "studies" / "captions" / "one" / f"{tables.stamp.analysis}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        tables.save(path)
    page = render(plant.results, tmp_path / "board").parent / "captions.html"
    test_every_page_is_accessible_in_both_themes_and_fits_a_phone(page.name, page.parent, node_modules, open_page)
    validate([page], node_modules, tmp_path)


def test_a_long_table_is_whole_with_and_without_script(tmp_path: Path, open_page: OpenPage) -> None:
    plant = Plant(tmp_path / "results")
    for index in range(66):
        plant.submission(f"org/m{index:02d}", 0.1 + 0.001 * index, subjects=("sub-01", "sub-02"), seed=index)
    index = render(plant.results, tmp_path / "board")
    for script in (True, False):
        page = open_page(index, java_script_enabled=script)
        page.locator("table.board tbody:first-of-type tr[data-i]").nth(65).wait_for(state="visible")
        assert page.locator("table.board tbody tr[data-i]:visible").count() == 66


# ---- ranking again


def ranked_in(page: Any) -> dict[str, tuple[str, str]]:
    """Submission -> rank and score as the table shows them now."""
    lines = page.evaluate(
        "Array.from(document.querySelectorAll('table.board tbody tr[data-i]')).map(row => [row.cells[1].querySelector('a')"
        ".getAttribute('href'), (row.cells[0].querySelector('b') || {textContent: ''}).textContent,"
        " row.cells[2].getAttribute('data-v')])"
    )
    return {Path(href).stem: (rank, score) for href, rank, score in lines}


@pytest.mark.parametrize("weights", [(1, 1, 1, 0), (0, 0, 1, 0), (1, 0.25, 0.05, 0.6), (0, 0, 0, 1), (0.35, 0.9, 0, 0)])
def test_the_browser_ranks_as_python_does(
    weights: tuple[float, ...], results: Path, site: Path, open_page: OpenPage
) -> None:
    (board,) = aggregate(results)
    (overview,) = overviews(board)
    used = [index for index, weight in enumerate(weights) if weight > 0]
    entrants = [
        row
        for row in overview.rows
        if row.model.row == "submission"
        and all((one := row.rows[i]) is not None and one.state.name == "ranked" for i in used)
    ]
    tables = [np.stack([influence_of(row.rows[i]) for row in entrants]) for i in used]  # type: ignore[arg-type]
    expected = rank_overall(tables, [weights[i] for i in used])
    page = open_page(site / "index.html", "#w=" + ",".join(map(str, weights)))
    if weights != (1, 1, 1, 0):
        page.wait_for_selector(".yours")
    shown = ranked_in(page)
    from voxelboard.leaderboard.board_site import page_names

    names = page_names(board)
    for index, row in enumerate(entrants):
        rank, score = shown[Path(names[row.entry]).stem]
        low, high = expected.low[index], expected.high[index]
        assert rank == (str(low) if low == high else f"{low}–{high}"), row.entry
        assert float(score) == pytest.approx(expected.scores[index].estimate, abs=2e-6)
    assert sum(1 for rank, _ in shown.values() if rank) == len(entrants)


def test_pairs_and_tails_agree_with_scipy(site: Path, open_page: OpenPage) -> None:
    from scipy import stats

    page = open_page(site / "index.html")
    rng = np.random.default_rng(3)
    values = [(float(t), float(df)) for t, df in zip(rng.normal(0, 5, 300), rng.uniform(1, 400, 300), strict=True)]
    found = page.evaluate("values => values.map(one => voxelboardTests.tTwoSided(one[0], one[1]))", values)
    np.testing.assert_allclose(found, [2 * stats.t.sf(abs(t), df) for t, df in values], rtol=1e-9)
    quantiles = page.evaluate("values => values.map(one => voxelboardTests.tQuantile(one[1]))", values)
    np.testing.assert_allclose(quantiles, [stats.t.ppf(0.975, df) for _, df in values], rtol=1e-9)


@pytest.mark.parametrize("left_out", [(), (1,), (0, 3)])
def test_other_people_and_one_region_are_ranked_as_python_does(
    left_out: tuple[int, ...], results: Path, site: Path, open_page: OpenPage
) -> None:
    (board,) = aggregate(results)
    table = next(table for table in board.tables if table.column.task == "drama")
    kept = [index for index in range(len(table.subjects)) if index not in left_out]
    rows = list(table.ranked)
    z = np.stack(
        [np.stack([row.subjects[i].influence[:, row.subjects[i].rois.index("IFG")] for i in kept]) for row in rows]
    )
    expected = rank_overall([z], [1.0])
    fragment = "#r=2" + (f"&p={'%2C'.join(map(str, left_out))}" if left_out else "")
    page = open_page(site / "tasks/drama--simulated-drama.html", fragment)
    page.wait_for_selector(".yours")
    shown = ranked_in(page)
    for index, row in enumerate(rows):
        low, high = expected.low[index], expected.high[index]
        name = f"{row.entry.submission.replace('/', '__')}--{row.entry.revision[:12]}"
        assert shown[name][0] == (str(low) if low == high else f"{low}–{high}")


def test_the_published_ranks_come_back(site: Path, open_page: OpenPage) -> None:
    before = ranked_in(open_page(site / "index.html"))
    page = open_page(site / "index.html", "#w=0,0,1,0")
    page.wait_for_selector(".yours")
    assert ranked_in(page) != before
    page.get_by_role("button", name="Show the published ranks").click()
    assert ranked_in(page) == before
    assert "w=" not in page.url


# ---- table


def order_of(page: Any) -> list[str]:
    names: list[str] = page.evaluate(
        "Array.from(document.querySelectorAll('table.board tbody:first-of-type tr[data-i]')).filter(row => !row.hidden)"
        ".map(row => row.cells[1].querySelector('a').textContent)"
    )
    return names


def test_sorting_by_one_and_by_several_columns(site: Path, open_page: OpenPage) -> None:
    page = open_page(site / "index.html")
    button = page.locator("thead button", has_text="Size")
    button.click()
    sizes = page.evaluate(
        "Array.from(document.querySelectorAll('table.board tbody:first-of-type tr[data-i]')).map(row => Number(row.cells"
        "[9].getAttribute('data-v')))"
    )
    assert sizes == sorted(sizes, reverse=True)
    assert page.locator("th[aria-sort]").count() == 1
    assert "Sorted by Size, descending" in page.locator("output[aria-live]").first.inner_text()
    page.locator("thead button", has_text="Open").click()
    button.click(modifiers=["Shift"])
    assert page.locator("th[data-order]").count() == 2
    again = open_page(site / "index.html", "#" + page.url.partition("#")[2])
    assert order_of(again) == order_of(page)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("quill", {"Quill 0.3B", "Quill 1B", "Quill 7B"}),
        ("family:fjord", {"Fjord base", "Fjord large"}),
        ("size<200M -family:tiny -family:pebble", {"Fjord base", "Lantern masked"}),
        ("/^quill .*7b/ ", set()),  # the whole text of a row is searched: ^ is not its name
        ("model:/^quill .*b$/ size>1B", {"Quill 7B", "Quill 1B"}),
        ("exposure:likely", {"Quill 7B"}),
        ('"fjord large"', {"Fjord large"}),
    ],
)
def test_filters(text: str, shown: set[str], site: Path, open_page: OpenPage) -> None:
    page = open_page(site / "tasks/narrative--simulated-narrative.html")
    page.fill("input[type=search]", text)
    assert set(order_of(page)) == shown
    again = open_page(site / "tasks/narrative--simulated-narrative.html", "#" + page.url.partition("#")[2])
    assert set(order_of(again)) == shown


def test_a_broken_expression_is_explained(site: Path, open_page: OpenPage) -> None:
    page = open_page(site / "index.html")
    page.fill("input[type=search]", "/(/")
    assert "not a regular expression" in page.locator("output[aria-live]").first.inner_text()


def test_facets_narrow_and_stay_in_the_address(site: Path, open_page: OpenPage) -> None:
    page = open_page(site / "index.html")
    page.locator("summary", has_text="Facets").click()
    tick = page.locator("fieldset", has_text="family").get_by_label("Quill")
    assert tick.bounding_box()["width"] < 30  # beside its label, not on a line of its own
    tick.check()
    assert set(order_of(page)) == {"Quill 0.3B", "Quill 1B", "Quill 7B"}
    again = open_page(site / "index.html", "#" + page.url.partition("#")[2])
    assert order_of(again) == order_of(page)


def test_downloads_are_what_is_shown_and_open_safely(site: Path, open_page: OpenPage) -> None:
    page = open_page(site / "index.html")
    page.fill("input[type=search]", "family:quill")
    saved = {}
    for kind in ("CSV", "JSON", "BibTeX", "LaTeX"):
        with page.expect_download() as waiting:
            page.get_by_role("button", name=kind).click()
        saved[kind] = Path(waiting.value.path()).read_text()
    rows = list(csv.DictReader(io.StringIO(saved["CSV"])))
    assert [row["Model"] for row in rows if row["row"] != "baseline"] == ["Quill 7B", "Quill 1B", "Quill 0.3B"]
    assert len([row for row in json.loads(saved["JSON"])["rows"] if row["row"] == "submission"]) == 3
    assert saved["BibTeX"].count("@misc{") == 3
    assert saved["LaTeX"].count("\\\\") >= 4
    assert "\\begin{tabular}" in saved["LaTeX"]
    cells = page.evaluate("['=1+1', '+a', '@x', 'plain', 'a,b'].map(voxelboardTests.csvCell)")
    assert cells == ["'=1+1", "'+a", "'@x", "plain", '"a,b"']


def test_the_tray_leads_to_a_comparison(site: Path, open_page: OpenPage) -> None:
    page = open_page(site / "index.html")
    page.get_by_label("Compare Quill 7B").check()
    page.get_by_label("Compare Fjord large").check()
    page.locator(".tray .go").click()
    page.wait_for_selector(".results section")
    assert page.locator(".results section").count() == 4
    from voxelboard.benchmark.statistics.intervals import two_way_interval

    text = page.locator(".results section").first.inner_text()
    assert "Fjord large" in text
    assert two_way_interval  # the numbers are compared below, over every table


def test_compared_numbers_are_those_of_python(results: Path, site: Path, open_page: OpenPage) -> None:
    from voxelboard.leaderboard.compare import compare

    expected = compare(results, "north/fjord-large", "acme/quill-7b")
    page = open_page(site / "compare.html", f"#c={QUILL}%2C{FJORD}")
    page.wait_for_selector(".results section")
    shown = page.evaluate(
        "Array.from(document.querySelectorAll('.results section')).map(one => [one.querySelector('h3').textContent,"
        " one.querySelector('table.plain tbody td').textContent])"
    )
    assert len(shown) == len(expected.columns)
    by_label = {column.column.label: column.overall.interval for column in expected.columns}
    for heading, text in shown:
        one = by_label[heading]
        numbers = text.replace("\u2212", "-").replace("[", "").replace("]", "").replace(",", "").split()
        assert [float(number) for number in numbers] == [round(v, 3) for v in (one.estimate, one.low, one.high)]


# ---- keyboard


def test_everything_can_be_done_from_the_keyboard(site: Path, open_page: OpenPage) -> None:
    page = open_page(site / "index.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        where = page.evaluate(
            "(() => { const one = document.activeElement, style = getComputedStyle(one); return [one.tagName,"
            " one.textContent.trim().slice(0, 20) || one.getAttribute('aria-label') || one.id, style.outlineStyle]; })()"
        )
        seen.append(where)
        if where[0] == "BUTTON" and where[1] == "Size":
            break
    else:
        raise AssertionError(seen)
    assert all(outline != "none" for _, _, outline in seen), seen
    page.keyboard.press("Enter")
    assert "Sorted by Size" in page.locator("output[aria-live]").first.inner_text()
    names = [name for _, name, _ in seen]
    assert any(name.startswith("Facets") for name in names)
    assert any(name.startswith("Weights") for name in names)
    assert {"CSV", "JSON", "BibTeX", "LaTeX"} <= set(names)


# ---- brain


# of the pixels of a map
MAP_SUM = "one => { const c = one.querySelector('canvas'); const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let s = 0; for (let i = 0; i < d.length; i += 97) s = (s * 31 + d[i]) % 1000003; return s; }"


def test_the_map_is_drawn_and_changes(site: Path, open_page: OpenPage) -> None:
    pytest.importorskip("nilearn", reason="needs nilearn: pip install nilearn")
    page = open_page(site / f"models/{QUILL}.html")
    page.wait_for_selector(".brain canvas[aria-label]")
    figure = page.locator("figure.brain").first
    first = figure.evaluate(MAP_SUM)
    seen = {first}
    figure.get_by_label("Threshold").fill("60")
    seen.add(figure.evaluate(MAP_SUM))
    assert "at or above" in figure.locator("canvas").first.get_attribute("aria-label")
    figure.get_by_label("Threshold").fill("0")
    minus = figure.locator("select[id$=minus]")
    minus.select_option(label="Fjord large")
    page.wait_for_selector('.brain canvas[aria-label*="minus Fjord large"]')
    seen.add(figure.evaluate(MAP_SUM))
    minus.select_option(label="nothing")
    for name in ("preferred layer", "which level wins", "raw r"):
        figure.locator("select[id$=map]").select_option(label=name)
        seen.add(figure.evaluate(MAP_SUM))
    figure.locator("select[id$=map]").select_option(label="r beyond confounds")
    assert figure.evaluate(MAP_SUM) == first
    figure.get_by_label("Region borders").check()
    seen.add(figure.evaluate(MAP_SUM))
    assert len(seen) == 7
    picture(page, "brain")


def test_maps_are_printed_for_white_paper(site: Path, open_page: OpenPage) -> None:
    pytest.importorskip("nilearn", reason="needs nilearn: pip install nilearn")
    seen = {}
    for theme in ("light", "dark"):
        page = open_page(site / f"models/{QUILL}.html", color_scheme=theme)
        page.wait_for_selector(".brain canvas[aria-label]")
        seen[theme] = page.locator("figure.brain").first.evaluate(MAP_SUM)
    page.emulate_media(media="print", color_scheme="dark")
    for _ in range(100):  # the medium changes with the next frame
        printed = page.locator("figure.brain").first.evaluate(MAP_SUM)
        if printed != seen["dark"]:
            break
        page.wait_for_timeout(100)
    assert printed == seen["light"] != seen["dark"]


# ---- hostile strings


@pytest.fixture(scope="module")
def hostile_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plant = Plant(tmp_path_factory.mktemp("hostile") / "results")
    for index, text in enumerate(HOSTILE):
        metadata = {"citation": text, "family": text, "openness": text, "licence": text, "stimulus_exposure": text}
        changes = {"display_name": text, "loader": text, "dtype": text, "source": text, "metadata": metadata}
        name = f"o{index}/{text[:200]}"
        plant.submission(name, 0.1 + 0.02 * index, subjects=("sub-01", text[:40] or "sub-02"), changes=changes)
        replace(plant, task="drama", dataset=f"set {text[:60]}").submission(name, 0.1, changes=changes)
        plant.failure(f"f{index}/x", "sub-01", "bug", text)
    replace(plant, dataset=HOSTILE[0]).failure("a/z", "sub-02", "bug", HOSTILE[0], before_data=True)
    queue = {
        "schema_version": 1,
        "requests": [{"submission": text, "state": "failed", "reason": text, "task": text} for text in HOSTILE],
        "skipped": [{"model": text, "reason": text} for text in HOSTILE],
    }
    (plant.results / "queue.json").write_text(json.dumps(queue))
    return render(plant.results, tmp_path_factory.mktemp("hostile-site") / "board", release="1").parent


def test_nothing_of_a_hostile_submission_runs(hostile_site: Path, open_page: OpenPage) -> None:
    pages = sorted(hostile_site.rglob("*.html"))
    kinds = {path.parent.name + (path.name if path.parent == hostile_site else "") for path in pages}
    assert len(kinds) >= 10
    visited: dict[str, int] = {}
    for path in pages:
        folder = path.parent.name
        visited[folder] = visited.get(folder, 0) + 1
        if folder in ("models", "tasks") and visited[folder] > 8:
            continue
        page = open_page(path)
        assert page.evaluate("window.pwned === undefined"), path
        assert page.evaluate("document.querySelectorAll('main img:not([src^=\"data:\"])').length") == 0
        assert page.evaluate("Array.from(document.links).every(one => /^(file|https):/.test(one.protocol))"), path
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path
        page.context.close()


def test_hostile_rows_can_be_filtered_and_saved(hostile_site: Path, open_page: OpenPage) -> None:
    page = open_page(hostile_site / "index.html")
    page.locator("summary", has_text="Facets").first.click()
    for text in ("<script>", "javascript:", "=HYPERLINK", "/x+/"):
        page.fill("input[type=search]", text)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="CSV").first.click()
    for row in csv.reader(io.StringIO(Path(waiting.value.path()).read_text())):
        assert not any(cell.startswith(("=", "@", "+")) for cell in row)
    assert page.evaluate("window.pwned === undefined")
