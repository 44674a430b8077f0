# SPDX-License-Identifier: Apache-2.0
"""Which model, at which revision, read how: the part of a submission that determines the states."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from voxelboard.benchmark.errors import UserError, unknown_name

Source = Literal["hf", "local"]
Loader = Literal["causal", "masked", "seq2seq", "sentence", "static", "recurrent"]
Weights = Literal["pretrained", "random"]

SOURCES = ("hf", "local")
LOADERS = ("causal", "masked", "seq2seq", "sentence", "static", "recurrent")
WEIGHTS = ("pretrained", "random")
DTYPES = ("float32", "bfloat16", "float16")

_LATER_LOADERS = ("vision_language",)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True)
class ModelSpec:
    """A model as a submission names it. Importing this module imports neither torch nor Transformers.

    Attributes
    ----------
    loader : one of ``LOADERS``.
    source : ``hf`` (``id`` and ``revision``) or ``local`` (``path``).
    id : repository on the hub, ``owner/name``.
    revision : 40-hex commit on the hub; a branch can move, so it is refused.
    path : folder of a local checkpoint, or file of a static table.
    subfolder : of the checkpoint; never leads out of it.
    tokenizer_id, tokenizer_revision : another hub repository for the tokenizer; empty: the checkpoint's own.
    dtype : of the weights and the forward pass on an accelerator; one of ``DTYPES``.
    weights : ``random`` is the untrained twin: the same architecture, drawn with ``seed``.
    trust_remote_code, remote_code_sha256 : hub code runs only if both are set, and the caller allows it as well.

    Raises
    ------
    UserError
        for a value outside of what is said above.
    """

    loader: Loader
    source: Source = "hf"
    id: str = ""
    revision: str = ""
    path: Path | None = None
    subfolder: str = ""
    tokenizer_id: str = ""
    tokenizer_revision: str = ""
    dtype: str = "float32"
    weights: Weights = "pretrained"
    seed: int = 0
    trust_remote_code: bool = False
    remote_code_sha256: str = ""

    def __post_init__(self) -> None:
        if self.loader in _LATER_LOADERS:
            raise UserError(f"loader {self.loader!r} is not built yet", f"allowed: {', '.join(LOADERS)}")
        for kind, got, allowed in (
            ("loader", self.loader, LOADERS),
            ("source", self.source, SOURCES),
            ("weights", self.weights, WEIGHTS),
            ("dtype", self.dtype, DTYPES),
        ):
            if got not in allowed:
                raise unknown_name(kind, got, allowed)
        if self.seed < 0:
            raise UserError(f"seed {self.seed} of {self.name}: a seed is 0 or greater")
        self._check_place()
        self._check_tokenizer()

    def _check_place(self) -> None:
        if self.source == "local":
            if self.path is None:
                raise UserError("a local model needs a path", "set model.path to the folder of the checkpoint")
            return
        _check_hub_id(self.id, "model.id")
        _check_commit(self.revision, self.id, "model.revision")

    def _check_tokenizer(self) -> None:
        if self.tokenizer_id:
            _check_hub_id(self.tokenizer_id, "model.tokenizer.id")
            _check_commit(self.tokenizer_revision, self.tokenizer_id, "model.tokenizer.revision")
        elif self.tokenizer_revision:
            raise UserError(
                "a tokenizer revision without a tokenizer id", "set model.tokenizer.id or drop the revision"
            )

    @property
    def name(self) -> str:
        """What messages and identities call the model: the hub id, or the last part of the local path."""
        if self.source == "local" and self.path is not None:
            return self.path.name or self.path.resolve().name
        return self.id


def _check_hub_id(hub_id: str, key: str) -> None:
    if not _HUB_ID.fullmatch(hub_id) or ".." in hub_id:
        raise UserError(f"{key} {hub_id!r} is not a repository on the hub", "write it as owner/name")


def _check_commit(revision: str, hub_id: str, key: str) -> None:
    if not _COMMIT.fullmatch(revision):
        raise UserError(
            f"{key} {revision!r} of {hub_id} is not a commit: 40 hexadecimal digits are needed, branches and tags move",
            "`voxelboard check --fix FILE` resolves it and writes it back",
        )
