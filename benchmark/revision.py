# SPDX-License-Identifier: Apache-2.0
"""Which weights a submission means, as one hash: what a record carries and what a plan compares."""

import hashlib
from pathlib import Path

from voxelboard.benchmark.errors import MissingPrerequisite, UserError
from voxelboard.benchmark.models.checkpoint import open_checkpoint
from voxelboard.benchmark.protocol import hash_json
from voxelboard.benchmark.submission import Submission, model_spec


def resolved_revision(submission: Submission) -> str:
    """The commit of a model on the hub, the hash of a local checkpoint's contents, or that of a built-in row's id.

    Reads all files of a local checkpoint.

    Raises
    ------
    UserError
        when a local checkpoint is not the one that its submission pins, or a file of it is a link that leaves it.
    MissingPrerequisite
        when a local checkpoint does not exist.
    """
    model = submission.model
    if model.source == "hf":
        return model.revision or ""
    if model.source != "local":
        return hash_json({"source": model.source, "id": model.id})
    found = _table_revision(submission) if model.loader == "static" else _checkpoint_revision(submission)
    if model.revision is not None and model.revision != found:
        raise UserError(
            f"{submission.label}: the checkpoint at {model.path} has SHA-256 {found}, not {model.revision}",
            "it changed since it was submitted: give it another name, or correct `revision:`",
        )
    return found


def _checkpoint_revision(submission: Submission) -> str:
    pretrained = submission.weights == "pretrained"
    checkpoint = open_checkpoint(model_spec(submission), offline=True, cache_dir=None, with_weights=pretrained)
    return checkpoint.resolved_revision(checkpoint.weights_sha256() if pretrained else "")


def _table_revision(submission: Submission) -> str:
    path = Path(submission.model.path or "")
    if not path.is_file():
        raise MissingPrerequisite(f"no file {path}", "give the text file of the static vectors as model.path")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
