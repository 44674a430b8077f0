# SPDX-License-Identifier: Apache-2.0
"""Code that comes with a checkpoint runs only when three sides agree, and never comes from elsewhere."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.models.checkpoint import code_sha256
from voxelboard.benchmark.models.load import load_model
from voxelboard.benchmark.models.spec import ModelSpec
from voxelboard.benchmark.protocol import ContextPolicy
from voxelboard.benchmark.stimuli.stories import Story


def local(folder: Path) -> ModelSpec:
    return ModelSpec(loader="causal", source="local", path=folder)


MODELLING = """
import transformers
class OwnConfig(transformers.GPT2Config):
    model_type = "own"
class OwnModel(transformers.GPT2Model):
    config_class = OwnConfig
"""


@pytest.fixture
def own_code(new_checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint whose architecture is in its own Python file."""
    folder = new_checkpoint()
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(MODELLING)
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    return folder


def test_code_runs_only_when_file_caller_and_hash_agree(
    own_code: Path, new_checkpoint: Callable[..., Path], tale: Story
) -> None:
    spec = local(own_code)
    with pytest.raises(UserError, match="'own' needs Python code from the checkpoint"):
        load_model(spec)
    with pytest.raises(UserError, match="needs Python code"):
        load_model(spec, allow_remote_code=True)
    trusting = replace(spec, trust_remote_code=True, remote_code_sha256=code_sha256(own_code))
    with pytest.raises(UserError, match="the command line does not allow it"):
        load_model(trusting)
    with pytest.raises(UserError, match=r"has the hash [0-9a-f]{64}, the submission pins nothing"):
        load_model(replace(trusting, remote_code_sha256=""), allow_remote_code=True)
    assert np.isfinite(load_model(trusting, allow_remote_code=True).states(tale, ContextPolicy(5))).all()
    (own_code / "own.py").write_text(MODELLING + "# changed\n")
    with pytest.raises(UserError, match="read the code again"):
        load_model(trusting, allow_remote_code=True)


def test_config_cannot_name_another_weights_file(new_checkpoint: Callable[..., Path]) -> None:
    folder = new_checkpoint()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"transformers_weights": "adapter_model.bin"}))
    with pytest.raises(UserError, match=r"names a weights file of its own \('adapter_model.bin'\)"):
        load_model(local(folder))


@pytest.mark.parametrize(
    "change",
    [
        {"auto_map": {"AutoModel": "org/elsewhere--own.OwnModel"}},
        {"attn_implementation": "org/kernel"},
        {"text_config": {"_attn_implementation": "org/kernel@main"}},
    ],
)
def test_settings_cannot_fetch_code_from_elsewhere(change: dict[str, Any], new_checkpoint: Callable[..., Path]) -> None:
    folder = new_checkpoint()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(UserError, match="fetch code from another repository"):
        load_model(local(folder))
