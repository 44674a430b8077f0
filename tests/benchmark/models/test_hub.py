# SPDX-License-Identifier: Apache-2.0
"""The hub: what it says becomes one message with the next step, and only what is needed is downloaded."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import errors as hub_errors

from voxelboard.benchmark.errors import MissingPrerequisite, UserError
from voxelboard.benchmark.models.load import load_model
from voxelboard.benchmark.models.spec import ModelSpec
from voxelboard.benchmark.protocol import ContextPolicy
from voxelboard.benchmark.stimuli.stories import Story

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB = ModelSpec(loader="causal", id="org/model", revision=COMMIT)


def hub_error(kind: type[Exception]) -> Exception:
    response = SimpleNamespace(headers={}, request=None, status_code=404)
    return kind("nothing here", response=response) if issubclass(kind, hub_errors.HfHubHTTPError) else kind("none")


@pytest.mark.parametrize(
    ("kind", "offline", "message"),
    [
        (hub_errors.GatedRepoError, False, "org/model is gated.*\n.*hf auth login"),
        (hub_errors.RepositoryNotFoundError, False, "there is no repository org/model"),
        (hub_errors.RevisionNotFoundError, False, f"org/model has no commit {COMMIT}"),
        (hub_errors.HfHubHTTPError, False, "the hub failed for org/model: nothing here"),
        (hub_errors.LocalEntryNotFoundError, False, "the hub cannot be reached"),
        (hub_errors.LocalEntryNotFoundError, True, "--offline .*is set.*\n.*hf download org/model --revision 0123"),
        (hub_errors.OfflineModeIsEnabled, True, "is not in the cache"),
    ],
)
def test_what_the_hub_says(kind: type[Exception], offline: bool, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> str:
        assert options["local_files_only"] == offline
        raise hub_error(kind)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(MissingPrerequisite, match=message):
        load_model(HUB, offline=offline)


def serve(monkeypatch: pytest.MonkeyPatch, folder: Path, names: list[str], wanted: list[str]) -> None:
    """A hub that has ``names``; ``wanted`` collects the patterns asked for."""

    def download(repository: str, *, allow_patterns: list[str], revision: str, **options: object) -> str:
        assert (repository, revision) == ("org/model", COMMIT)
        wanted.extend(allow_patterns)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *_, **__: names)


def test_only_the_files_that_are_needed_are_downloaded(
    monkeypatch: pytest.MonkeyPatch, checkpoints: Callable[[str], Path], tale: Story
) -> None:
    folder, wanted = checkpoints("gpt2"), []
    serve(monkeypatch, folder, ["config.json", "model.safetensors", "pytorch_model.bin", "onnx/model.onnx"], wanted)
    model = load_model(HUB)
    assert model.identity.revision == COMMIT
    assert model.identity.model_id == "org/model"
    assert [name for name in wanted if not name.endswith((".json", ".txt", ".model", ".tiktoken", ".py"))] == [
        "model.safetensors"
    ]
    np.testing.assert_array_equal(
        model.states(tale, ContextPolicy(5)),
        load_model(ModelSpec(loader="causal", source="local", path=folder)).states(tale, ContextPolicy(5)),
    )


def test_pickles_on_the_hub_are_refused_before_they_are_downloaded(
    monkeypatch: pytest.MonkeyPatch, new_checkpoint: Callable[..., Path]
) -> None:
    folder, wanted = new_checkpoint(), []
    (folder / "model.safetensors").unlink()
    serve(monkeypatch, folder, ["config.json", "pytorch_model.bin"], wanted)
    with pytest.raises(UserError, match="not safetensors"):
        load_model(HUB)
    assert not any(".bin" in pattern for pattern in wanted)


def test_a_fresh_process_can_ask_the_hub(tmp_path: Path) -> None:
    """Parts of the library are attributes of it only once somebody imported them."""
    code = (
        "import sys, pathlib\n"
        "from voxelboard.benchmark.errors import MissingPrerequisite\n"
        "from voxelboard.benchmark.models.hub import hub_folder\n"
        "try:\n"
        f"    hub_folder('org/model', {COMMIT!r}, ('config.json',), offline=True, cache_dir=pathlib.Path(sys.argv[1]))\n"
        "except MissingPrerequisite as error:\n"
        "    print(error)\n"
    )
    types = Path(__file__).parents[3] / ".types"
    environment = {**os.environ, "PYTHONPATH": f"{types}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment,
    )
    assert "is not in the cache" in done.stdout, done.stderr
