# SPDX-License-Identifier: Apache-2.0
"""A checkpoint of the hub, fetched outside, shut in without a network, and scored as the same files on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_stand_in import Hub, hub_stand_in
from tiny_language import save_language_model

from voxelboard.benchmark.evaluate import evaluate
from voxelboard.benchmark.records import Record, read_record

DATA, SECRET = "simulated-sentences:tiny", "hf_a_secret_of_the_user"
GOOD, GATED, GONE = "org/tiny-gpt2", "org/locked", "org/vanished"


def submission(folder: Path, name: str, commit: str) -> str:
    path = folder / f"{name.replace('/', '__')}.yaml"
    path.write_text(
        f"schema_version: 1\nmodel: {{source: hf, id: {name}, revision: {commit}, loader: causal, dtype: float32}}\n"
        "tasks: [narrative]\nmetadata: {display_name: Tiny}\nsubmitter: {name: test, relation: third-party}\n",
        encoding="utf-8",
    )
    return str(path)


# What `voxelboard run` does with the models that it is given, without the mandatory rows, which take minutes together.
RUN = """
import sys
from pathlib import Path
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.submission import load_submission
from voxelboard.runners.facts import task_facts
from voxelboard.runners.launching import Launch, launch
from voxelboard.runners.plan import make_plan

task = task_facts("narrative", sys.argv[1])
entries = [load_submission(path) for path in sys.argv[2:]]
plan = make_plan(entries, task.name, task.version, task.dataset, V1, Path("results"), subjects=["sim01"], data=task.data)
sys.exit(launch(plan, Settings(V1, device="cpu"), Launch(workers=1), Path("results")).exit_code())
"""


def run(folder: Path, hub: Hub, *entries: str) -> subprocess.CompletedProcess[str]:
    types = Path(__file__).parents[3] / ".types"
    environment = {
        **os.environ,
        "PYTHONPATH": f"{types}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder / "hf"),
        "HF_TOKEN": SECRET,
        "VOXELBOARD_HOME": str(folder / "home"),
        "VOXELBOARD_CACHE": str(folder / "cache"),
    }
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE"):
        environment.pop(name, None)
    return subprocess.run(
        [sys.executable, "-c", RUN, DATA, *entries],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


def record_of(folder: Path, name: str) -> Record:
    (path,) = (folder / "results" / "v1" / name.replace("/", "__")).rglob("sim01.json")
    return read_record(path)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_from_the_hub_to_a_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = save_language_model(tmp_path / "checkpoint", "gpt2", n_positions=512, n_layer=1)
    with hub_stand_in() as hub:
        entries = [submission(tmp_path, name, hub.hold(name, checkpoint)) for name in (GOOD, GATED, GONE)]
        hub.gated.add(GATED)
        hub.gone.add(GONE)
        done = run(tmp_path, hub, *entries)
        weights = [path for path in hub.asked if path.endswith("/model.safetensors") and "HEAD " not in path]
    commit = hub.models[0]["sha"]
    assert done.returncode == 1, "two cells failed, one is stored: " + done.stderr
    assert weights == [f"/{GOOD}/resolve/{commit}/model.safetensors"]
    found = record_of(tmp_path, GOOD)
    assert (found.status, found.model.revision, found.model.weights) == ("success", commit, "pretrained")
    assert "each model in a process of its own: " in done.stderr
    for name, kind in ((GATED, "gated"), (GONE, "not_found")):
        failed = record_of(tmp_path, name)
        assert failed.error is not None
        assert failed.error.kind == kind
    monkeypatch.setenv("VOXELBOARD_CACHE", str(tmp_path / "other cache"))
    (alone,) = evaluate(checkpoint, "narrative", DATA, ["sim01"], device="cpu")
    assert found.scores == alone.scores, "what is fetched and shut in scores as the same files do here"
    assert found.model.weights_sha256 == alone.model.weights_sha256
    assert SECRET not in json.dumps(found.model_dump(mode="json")) + done.stderr + done.stdout
