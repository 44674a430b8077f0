# SPDX-License-Identifier: Apache-2.0
"""Records: what is written is read back, half a record is never seen, and no number is NaN."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from voxelboard.benchmark.errors import DataError, UserError
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.record_stamps import DatasetStamp, ModelStamp, ProtocolStamp
from voxelboard.benchmark.record_text import canonical, stored_digest, text_digest
from voxelboard.benchmark.records import (
    CellError,
    Estimate,
    Record,
    load_records,
    read_record,
    read_statistics,
    record_path,
    record_schema,
    statistics_path,
    to_json,
    write_record,
)

ROOT = Path(__file__).resolve().parents[2]


ENVIRONMENT: dict[str, object] = {
    "versions": {"numpy": "2"},
    "device": "cpu",
    "n_threads": 1,
    "seconds": {},
    "peak_memory_bytes": 1,
    "started_at": "2026-01-01T00:00:00",
    "command": "voxelboard run",
}


def make_record(estimate: float = 0.25, **changes: object) -> Record:
    fields = {
        "status": "success",
        "task": "narrative",
        "task_version": 1,
        "subject": "sim01",
        "protocol": ProtocolStamp.of(V1, "narrative"),
        "dataset": DatasetStamp(
            name="toy",
            version="1.0.0",
            kind="simulated",
            ceiling_kind="repeats",
            stimuli_sha256="a" * 64,
            responses_sha256="b" * 64,
            scored_rois=("AC",),
            n_train=100,
            n_test=50,
            n_voxels=4,
            n_repeats=2,
        ),
        "model": ModelStamp(
            submission="org/model",
            display_name="Modèle",
            row="submission",
            source="hf",
            loader="causal",
            revision="0123456789abcdef0123456789abcdef01234567",
            weights="pretrained",
            seed=0,
            weights_sha256="c" * 64,
            tokenizer_sha256="d" * 64,
            dtype="float32",
            n_parameters=10,
            n_layers=2,
            n_features=4,
        ),
        "scores": {
            "unique": Estimate(
                estimate=estimate, standard_error=0.1, low=0.05, high=0.45, estimator="H_u", n=10, unit="H"
            )
        },
        "statistics_sha256": "e" * 64,
    }
    return Record.model_validate({**fields, **changes})


ARRAYS = {"stats__unique": np.arange(12.0).reshape(2, 2, 3), "rois": np.array(["AC", "IFG"])}


def test_a_record_and_its_statistics_come_back_as_written(tmp_path: Path) -> None:
    path = record_path(tmp_path, make_record(), "toy")
    written = write_record(path, make_record(), ARRAYS)

    assert path.relative_to(tmp_path).as_posix() == "v1/org__model/0123456789ab/narrative/toy/sim01.json"
    assert read_record(path) == written
    arrays = read_statistics(path, written)
    assert set(arrays) == set(ARRAYS)
    assert all(np.array_equal(arrays[name], ARRAYS[name]) for name in ARRAYS)
    assert load_records(tmp_path) == [(path, written)]


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    write_record(one, make_record(), ARRAYS)
    write_record(two, make_record(), dict(reversed(ARRAYS.items())))
    assert one.read_bytes() == two.read_bytes()
    assert statistics_path(one).read_bytes() == statistics_path(two).read_bytes()


def test_statistics_are_never_pickled(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="hold Python objects"):
        write_record(tmp_path / "sim01.json", make_record(), {"rois": np.array([{}, None], dtype=object)})
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_no_number_is_nan_or_infinite(number: float) -> None:
    with pytest.raises(ValidationError):
        make_record(number)


def test_json_is_strict_for_other_readers() -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in JSON")

    missing = Estimate(estimate=None, estimator="H", n=0, unit="H", reason="no ceiling")
    text = to_json(make_record(scores={"unique": missing}))
    assert json.loads(text, parse_constant=refuse)["scores"]["unique"]["reason"] == "no ceiling"


def test_a_missing_number_says_why() -> None:
    with pytest.raises(ValidationError, match="needs a reason"):
        Estimate(estimate=None, estimator="H", n=0, unit="H")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": {}}, "needs scores"),
        ({"statistics_sha256": None}, "statistics"),
        ({"dataset": None}, "data set"),
        ({"status": "error"}, "needs the error"),
        ({"surprise": 1}, "Extra inputs"),
    ],
)
def test_half_a_record_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make_record(**changes)


def test_the_digest_ignores_the_environment_and_nothing_else() -> None:
    assert make_record(environment=ENVIRONMENT).digest == make_record().digest
    assert make_record(0.26).digest != make_record().digest


@pytest.mark.parametrize("environment", [None, ENVIRONMENT], ids=["none", "some"])
def test_the_digest_of_a_file_is_that_of_its_record_in_any_layout(
    environment: dict[str, object] | None, tmp_path: Path
) -> None:
    path = tmp_path / "sub-01.json"
    hostile = CellError(kind="bug", message='says "a": {\n  "environment": null,\n  "b"} \u00e9\x7f')
    record = write_record(path, make_record(environment=environment, error=hostile))
    value = json.loads(path.read_bytes())
    assert stored_digest(path) == read_record(path).digest == record.digest
    for text in (json.dumps(value), json.dumps(value, indent=4), json.dumps(value, indent=2).replace("\n", "\r\n")):
        assert text_digest(text.encode()) == record.digest
    value.pop("environment")
    assert text_digest(json.dumps(value).encode()) == record.digest
    value["subject"] = "sub-02"
    assert text_digest(canonical(value).encode()) != record.digest


def test_a_field_that_an_older_file_lacks_does_not_change_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "sub-01.json"
    write_record(path, make_record())
    value = json.loads(path.read_bytes())
    del value["partial"]
    path.write_text(canonical(value) + "\n", encoding="utf-8")
    before = stored_digest(path)
    assert read_record(path).digest != before, "the record knows the field"
    assert stored_digest(path) == before == text_digest(json.dumps(value).encode())


def test_the_committed_schema_is_the_generated_one() -> None:
    committed = json.loads((ROOT / "results" / "schema.json").read_text(encoding="utf-8"))
    assert committed == record_schema()


@pytest.mark.parametrize("damage", [b"", b"{", b'{"status": "success"}', b"[1]", b"\xff\xfe"])
def test_a_damaged_record_is_named(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "sim01.json"
    path.write_bytes(damage)
    with pytest.raises(DataError, match=r"sim01\.json"):
        read_record(path)


def test_statistics_of_another_run_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "sim01.json"
    record = write_record(path, make_record(), ARRAYS)
    content = bytearray(statistics_path(path).read_bytes())
    content[len(content) // 2] ^= 1
    statistics_path(path).write_bytes(content)
    with pytest.raises(DataError, match="not the file"):
        read_statistics(path, record)
    statistics_path(path).unlink()
    with pytest.raises(DataError, match="missing"):
        read_statistics(path, record)


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("after", [0, 1])
def test_a_full_disk_leaves_the_old_record_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, after: int
) -> None:
    path = tmp_path / "sim01.json"
    old = write_record(path, make_record(), ARRAYS)
    real, calls = getattr(os, call), []

    def full(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    monkeypatch.setattr(os, call, full)
    with pytest.raises(UserError, match="No space left") as caught:
        write_record(path, make_record(0.3), {"stats__unique": np.ones(3)})
    monkeypatch.undo()

    assert caught.value.exit_code == 3
    assert read_record(path) == old
    assert sorted(file.name for file in tmp_path.iterdir()) == ["sim01.json", "sim01.npz"]


@pytest.mark.parametrize("point", range(4))
def test_kill_9_in_the_middle_of_a_write_leaves_a_whole_record(tmp_path: Path, point: int) -> None:
    """Killed at the n-th step to the disk (flush and rename of both files), the old or the new record is there."""
    path = tmp_path / "sim01.json"
    old = write_record(path, make_record(), ARRAYS)
    script = textwrap.dedent(
        f"""
        import os, signal, sys
        from pathlib import Path
        import numpy as np
        from voxelboard.benchmark.records import read_record, write_record

        steps = 0
        def dying(real):
            def step(*arguments):
                global steps
                if steps == {point}:
                    os.kill(os.getpid(), signal.SIGKILL)
                steps += 1
                return real(*arguments)
            return step

        path = Path({str(path)!r})
        record = read_record(path)
        os.fsync, os.replace = dying(os.fsync), dying(os.replace)
        write_record(path, record.model_copy(update={{"partial": True}}), {{"stats__unique": np.ones(3)}})
        """
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=60, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()

    assert read_record(path) == old  # the record is renamed last
    assert [record for _, record in load_records(tmp_path)] == [old]
    write_record(path, make_record(0.4), ARRAYS)  # and the next run is not in the way of what was left
    assert read_record(path).scores["unique"].estimate == 0.4


def test_an_error_record_needs_no_scores(tmp_path: Path) -> None:
    error = CellError(kind="oom", message="out of memory")
    record = make_record(status="error", scores={}, dataset=None, statistics_sha256=None, error=error)
    write_record(tmp_path / "sim01.json", record)
    assert read_record(tmp_path / "sim01.json").error == error
    assert not (tmp_path / "sim01.npz").exists()


def test_names_of_strangers_stay_inside_the_results() -> None:
    model = make_record().model.model_copy(update={"submission": "../../etc/passwd", "revision": "../x"})
    path = record_path(Path("results"), make_record(model=model, subject="../../s"), "../d")
    assert ".." not in path.parts
    assert path.parts[0] == "results"
