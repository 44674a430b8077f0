# SPDX-License-Identifier: Apache-2.0
"""``voxelboard export``: what others load is what was stored, and what reaches the hub is the folder."""

import json
from datetime import date

import pytest
import yaml
from hub_server import hub_server
from planted_records import Plant
from pyarrow import parquet

from voxelboard.benchmark.records import load_records, read_record, read_statistics
from voxelboard.runners.cli import run_cli
from voxelboard.runners.publishing.hub_dataset import export_dataset
from voxelboard.runners.publishing.push import push_dataset
from voxelboard.runners.publishing.tables import RECORD_COLUMNS, SCORE_COLUMNS

TODAY = date(2026, 11, 24)


def planted(results):
    """Two models, one of the harness' rows, and a failure."""
    plant = Plant(results, n_blocks=12, n_layers=2)
    plant.submission("lab/good", 0.2, subjects=("sub-01", "sub-02"))
    plant.submission("lab/fair", 0.1, subjects=("sub-01",))
    plant.ruler("constant", 0.0, subjects=("sub-01",))
    plant.failure("lab/broken", "sub-01", "oom", "out of memory")
    return results


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return planted(tmp_path_factory.mktemp("planted") / "results")


@pytest.fixture
def folder(results, tmp_path):
    return export_dataset(results, tmp_path / "export", today=TODAY, statistics=True).folder


def test_the_tables_hold_every_record_and_score(results, folder):
    records = {record.digest: record for _, record in load_records(results)}
    cells = parquet.read_table(folder / "data/records.parquet").to_pylist()
    assert {cell["cell"] for cell in cells} == set(records)
    assert list(cells[0]) == list(RECORD_COLUMNS)
    for cell in cells:
        record = records[cell["cell"]]
        unique = record.scores.get("unique")
        assert cell["unique"] == (unique.estimate if unique else None)
        assert json.loads(cell["record"])["subject"] == record.subject
    rows = parquet.read_table(folder / "data/scores.parquet").to_pylist()
    assert list(rows[0]) == list(SCORE_COLUMNS)
    for record in records.values():
        own = [row for row in rows if row["cell"] == record.digest]
        overall = {r["score"]: r for r in own if r["roi"] is None and r["facet_axis"] is None}
        assert set(overall) == set(record.scores)
        for name, estimate in record.scores.items():
            assert (overall[name]["estimate"], overall[name]["reason"]) == (estimate.estimate, estimate.reason)
        n_layers = sum(len(profile.test) for profile in record.layers.values())
        assert sum(row["layer"] is not None for row in own) == n_layers


def test_the_records_and_statistics_are_read_back(results, folder):
    for path, record in load_records(results):
        copied = folder / "records" / path.relative_to(results)
        again = read_record(copied)
        assert again.digest == record.digest
        if record.statistics_sha256:
            assert read_statistics(copied, again).keys() == read_statistics(path, record).keys()


def test_the_hubs_own_library_loads_it(folder, tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    for name in ("records", "scores"):
        loaded = datasets.load_dataset(str(folder), name, split=name, cache_dir=str(tmp_path / "cache"))
        assert loaded.num_rows == parquet.read_table(folder / f"data/{name}.parquet").num_rows


def test_the_same_records_give_the_same_bytes(results, folder, tmp_path):
    again = export_dataset(results, tmp_path / "again", today=TODAY, statistics=True).folder
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    for path in files:
        assert (folder / path).read_bytes() == (again / path).read_bytes(), path


def test_the_card_says_what_it_holds_and_whom_to_cite(folder):
    text = (folder / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert [config["config_name"] for config in front["configs"]] == ["records", "scores"]
    assert all((folder / config["data_files"][0]["path"]).is_file() for config in front["configs"])
    for column in (*RECORD_COLUMNS, *SCORE_COLUMNS):
        assert f"| `{column}` |" in text
    assert "```bibtex" in text


def test_what_is_not_public_stays(results, tmp_path):
    stored = planted(tmp_path / "results")
    path, record = next((p, r) for p, r in load_records(stored) if r.status == "success")
    hidden = record.model_copy(update={"model": record.model.model_copy(update={"visibility": "embargo:2026-12-01"})})
    from voxelboard.benchmark.records import to_json

    path.write_text(to_json(hidden))
    done = export_dataset(stored, tmp_path / "export", today=TODAY)
    assert done.n_held_back == 1
    assert not (tmp_path / "export/records" / path.relative_to(stored)).exists()
    assert export_dataset(stored, tmp_path / "export", today=date(2026, 12, 1)).n_held_back == 0
    assert export_dataset(stored, tmp_path / "export", today=TODAY, private=True).n_held_back == 0


def test_a_folder_of_something_else_is_left_alone(results, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("years of work")
    assert run_cli(["export", "-o", str(results), "--into", str(tmp_path / "mine")]) == 2
    assert "holds something else than an export" in capsys.readouterr().err
    assert (tmp_path / "mine/thesis.tex").read_text() == "years of work"
    assert run_cli(["export", "-o", str(tmp_path / "nothing"), "--into", str(tmp_path / "new")]) == 2
    assert not (tmp_path / "new").exists()


@pytest.fixture
def hub(monkeypatch):
    with hub_server() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_TOKEN", running.token)
        monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        yield running


def test_what_reaches_the_hub_is_the_folder(results, tmp_path, hub, capsys):
    into = tmp_path / "export"
    assert run_cli(["export", "-o", str(results), "--into", str(into), "--push", "lab/records"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{hub.url}/datasets/lab/records/commit/")
    pushed = {path: content for path, content in hub.repositories["lab/records"].items() if path != ".gitattributes"}
    assert pushed == {str(p.relative_to(into)): p.read_bytes() for p in into.rglob("*") if p.is_file()}
    assert hub.private == {"lab/records": False}


def test_a_second_push_takes_away_what_is_gone(results, tmp_path, hub):
    folder = export_dataset(results, tmp_path / "export", today=TODAY).folder
    push_dataset(folder, "lab/records")
    gone = next(path for path in folder.rglob("*.json"))
    gone.unlink()
    push_dataset(folder, "lab/records")
    assert str(gone.relative_to(folder)) not in hub.repositories["lab/records"]


@pytest.mark.parametrize(
    ("repository", "token", "code", "message"),
    [
        ("records", "secret", 2, "'records' is no name of a repository"),
        ("lab/records", "", 3, "no token for the hub"),
        ("lab/records", "wrong", 3, "the hub refused lab/records"),
    ],
)
def test_pushes_that_cannot_be(results, tmp_path, hub, monkeypatch, capsys, repository, token, code, message):
    monkeypatch.setenv("HF_TOKEN", token)
    if not token:
        monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert run_cli(["export", "-o", str(results), "--into", str(tmp_path / "e"), "--push", repository]) == code
    assert message in capsys.readouterr().err
    assert (tmp_path / "e/README.md").is_file()
    assert not any(hub.repositories.values())


def test_a_hub_that_is_not_there(results, tmp_path, hub, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert run_cli(["export", "-o", str(results), "--into", str(tmp_path / "e"), "--push", "lab/records"]) == 3
    assert "cannot be reached" in capsys.readouterr().err
