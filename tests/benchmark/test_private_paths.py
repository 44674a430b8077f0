# SPDX-License-Identifier: Apache-2.0
"""No folder of a machine is written into a record, and none is in the records of this repository."""

from pathlib import Path

import pytest
from planted_records import Plant

from voxelboard.benchmark.private_paths import without_machine_paths
from voxelboard.benchmark.records import CellError, Checks, read_record, write_record


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("voxelboard run -m /home/jane/thesis/mine -t narrative", "voxelboard run -m …/mine -t narrative"),
        ("run --output=/srv/lab/results", "run --output=…/results"),
        ("cannot read '/data/secret/x.npz': gone", "cannot read '…/x.npz': gone"),
        ("~/models/x and ~jane/models/y", "…/x and …/y"),
        ("file:///home/jane/a.json", "…/a.json"),
        ("(/opt/lab/venv/bin/voxelboard)", "(…/voxelboard)"),
        ("C:\\Users\\jane\\model.yaml", "…/model.yaml"),
        ("\\\\server\\share\\model", "…/model"),
        ("https://huggingface.co/org/name/tree/main", "https://huggingface.co/org/name/tree/main"),
        ("org/name at 3/4 of 1 / 2 TR/s", "org/name at 3/4 of 1 / 2 TR/s"),
        ("path/to/mine ./here ../there/x", "path/to/mine ./here ../there/x"),
        ("and/or /x", "and/or /x"),
    ],
)
def test_absolute_paths_are_cut_and_nothing_else(text: str, shown: str) -> None:
    assert without_machine_paths(text) == shown


def test_a_record_is_written_without_folders(tmp_path: Path) -> None:
    plant = Plant(tmp_path / "results")
    (path,) = plant.submission(
        "a/x", 0.2, subjects=("sub-01",), checks=Checks(alarms=("look into /home/jane/log.txt",))
    )
    record = read_record(path)
    assert record.environment is not None
    environment = record.environment.model_copy(update={"command": "voxelboard run -m /home/jane/thesis/mine"})
    error = CellError(kind="bug", message="FileNotFoundError: /home/jane/thesis/mine/config.json")
    written = write_record(path, record.model_copy(update={"environment": environment, "error": error}))
    assert "jane" not in path.read_text()
    assert read_record(path) == written
    assert written.environment is not None
    assert written.environment.command == "voxelboard run -m …/mine"


def test_records_of_this_repository_name_no_folder() -> None:
    results = Path(__file__).resolve().parents[2] / "results"
    told = []
    for path in sorted(results.rglob("*.json")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if without_machine_paths(line) != line and '"$ref"' not in line:
                told.append(f"{path.relative_to(results)}:{number}: {line.strip()[:120]}")
    assert told == []
