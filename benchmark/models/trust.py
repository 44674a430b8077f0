# SPDX-License-Identifier: Apache-2.0
"""Whether code that comes with a checkpoint may run: only if the submission and the caller say so, with its hash."""

from collections.abc import Iterator
from typing import Any

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.models.checkpoint import Checkpoint, read_json
from voxelboard.benchmark.models.spec import ModelSpec


def may_run_code(spec: ModelSpec, checkpoint: Checkpoint, allow_remote_code: bool) -> bool:
    """True when the checkpoint's own Python files may be run.

    Raises
    ------
    UserError
        when the checkpoint needs code that was not allowed, whose hash is another, or that lies elsewhere.
    """
    config = checkpoint.config()
    _refuse_foreign_code(spec, checkpoint, config)
    if not spec.trust_remote_code:
        if "auto_map" in config and not _is_known(config):
            raise UserError(
                f"{spec.name}: the architecture {config.get('model_type')!r} needs Python code from the checkpoint",
                "read that code; then set trust_remote_code and remote_code_sha256, and run with --trust-remote-code",
            )
        return False
    if not allow_remote_code:
        raise UserError(
            f"{spec.name}: the submission asks to run code from the checkpoint, the command line does not allow it",
            "read that code, then add --trust-remote-code",
        )
    _check_hash(spec, checkpoint)
    return True


def _check_hash(spec: ModelSpec, checkpoint: Checkpoint) -> None:
    found = checkpoint.code_sha256()
    if found != spec.remote_code_sha256:
        pinned = spec.remote_code_sha256 or "nothing"
        raise UserError(
            f"{spec.name}: the code of the checkpoint has the hash {found}, the submission pins {pinned}",
            "read the code again, then set remote_code_sha256 to the hash",
        )
    folder = checkpoint.tokenizer_folder
    if not folder.is_relative_to(checkpoint.root) and any(folder.rglob("*.py")):
        raise UserError(
            f"{spec.name}: the tokenizer {spec.tokenizer_id} comes with code of its own, whose hash is not pinned",
            "use a tokenizer without code",
        )


def _is_known(config: dict[str, Any]) -> bool:
    """Whether Transformers itself has the architecture."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return config.get("model_type") in CONFIG_MAPPING


def _refuse_foreign_code(spec: ModelSpec, checkpoint: Checkpoint, config: dict[str, Any]) -> None:
    """Refuse settings by which Transformers would read code or weights other than those that are hashed."""
    if (checkpoint.folder / "adapter_config.json").exists():
        raise UserError(
            f"{spec.name}: this is an adapter, its base model lies elsewhere",
            "merge it (peft: merge_and_unload) and save the merged model",
        )
    if "transformers_weights" in config:
        raise UserError(
            f"{spec.name}: config.json names a weights file of its own ({config['transformers_weights']!r})",
            "remove the key transformers_weights and call the file model.safetensors",
        )
    settings = [config]
    tokenizer = checkpoint.tokenizer_folder / "tokenizer_config.json"
    if tokenizer.is_file():
        settings.append(read_json(tokenizer))
    for key, value in (pair for content in settings for pair in _strings(content)):
        if (key == "auto_map" and "--" in value) or (key.endswith("_implementation") and "/" in value):
            raise UserError(
                f"{spec.name}: its settings fetch code from another repository ({value!r})",
                "code can only be pinned when it lies in the checkpoint itself",
            )


def _strings(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """All strings of a JSON value with the key that they hang on; what hangs below auto_map keeps that key."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _strings(value, key if key == "auto_map" or key.endswith("_implementation") else str(name))
    elif isinstance(content, list):
        for value in content:
            yield from _strings(value, key)
    elif isinstance(content, str):
        yield key, content
