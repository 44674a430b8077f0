# SPDX-License-Identifier: Apache-2.0
"""The schema of a submission: which model is measured, at which revision, and what is known of it.

The descriptions below its fields are those of ``submissions/schema.json``.
"""

import re
from datetime import date
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from voxelboard.benchmark.protocol import TaskName

SCHEMA_VERSION: Final = 1

Source = Literal["hf", "local", "simulated"]
Loader = Literal["causal", "masked", "seq2seq", "sentence", "vision_language", "static", "recurrent", "simulated"]
Exposure = Literal["none", "likely", "yes", "unknown"]
_Text = Annotated[str, StringConstraints(max_length=300)]
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_Name = Annotated[str, StringConstraints(pattern=f"^{NAME.pattern}$")]

_HF_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
_SHA1 = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PLANTED = re.compile(r"planted-(q[0-9.]+|lex[0-9.]+-syn[0-9.]+-sem[0-9.]+)-d[0-9]+-l[0-9]+-s[0-9]+")


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Tokenizer(_Frozen):
    """A tokenizer that does not lie beside the weights."""

    id: Annotated[str, StringConstraints(max_length=200)]
    """Repository on the Hugging Face Hub, ``org/name``."""
    revision: str
    """Full commit hash, 40 hexadecimal digits."""

    @field_validator("revision")
    @classmethod
    def _pinned(cls, revision: str) -> str:
        return _commit(revision)


class ModelEntry(_Frozen):
    """Which weights, and how they are loaded."""

    source: Source | SkipJsonSchema[Literal["baseline"]]
    """``hf``: the Hugging Face Hub. ``local``: a folder or file. ``simulated``: a model with planted truth, which
    exists for simulated data sets only."""
    id: Annotated[str, StringConstraints(max_length=200)] | None = None
    """``hf``: repository, ``org/name``. ``simulated``: ``planted-q<fidelity>-d<width>-l<layers>-s<seed>``."""
    path: Annotated[str, StringConstraints(max_length=1000)] | None = None
    """``local``: the checkpoint folder (or the text file of static vectors), relative to this file."""
    revision: str | None = None
    """``hf``: full commit hash, 40 hexadecimal digits; a branch or tag moves and is refused. ``local``: SHA-256 of the
    checkpoint's contents; computed when left out, compared when given."""
    subfolder: Annotated[str, StringConstraints(max_length=200)] = ""
    """Folder of the weights inside the repository or checkpoint."""
    tokenizer: Tokenizer | None = None
    """By default the tokenizer beside the weights."""
    loader: Loader | SkipJsonSchema[Literal["baseline"]]
    """How text becomes states: which family of architectures this is."""
    dtype: Literal["float32", "bfloat16", "float16"]
    """Precision of the forward pass."""
    trust_remote_code: bool = False
    """Whether the repository's own Python code is needed. It runs only if the command line says so too."""
    remote_code_sha256: str | None = None
    """SHA-256 of that code, required with ``trust_remote_code``."""

    @field_validator("id")
    @classmethod
    def _plausible_id(cls, value: str | None, info: ValidationInfo) -> str | None:
        source = info.data.get("source")
        if value is not None and source == "hf" and (not _HF_ID.fullmatch(value) or ".." in value):
            raise ValueError(f"got {value!r}; expected a repository like 'openai-community/gpt2'")
        if value is not None and source == "simulated" and not _PLANTED.fullmatch(value):
            raise ValueError(f"got {value!r}; expected planted-q<fidelity>-d<width>-l<layers>-s<seed>")
        return value

    @field_validator("revision")
    @classmethod
    def _pinned(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        if info.data.get("source") == "hf":
            return _commit(value)
        if info.data.get("source") == "local" and not _SHA256.fullmatch(value):
            raise ValueError(
                f"got {value!r}; expected the SHA-256 of the checkpoint (64 hexadecimal digits) or nothing"
            )
        return value

    @field_validator("subfolder")
    @classmethod
    def _inside(cls, value: str) -> str:
        if value.startswith(("/", "\\")) or ".." in value.replace("\\", "/").split("/"):
            raise ValueError(f"got {value!r}; a subfolder cannot leave the checkpoint's folder")
        return value

    @model_validator(mode="after")
    def _whole(self) -> "ModelEntry":
        needed = "path" if self.source == "local" else "id"
        other = "id" if self.source == "local" else "path"
        if getattr(self, needed) is None:
            raise ValueError(f"source {self.source} needs {needed}")
        if getattr(self, other) is not None:
            raise ValueError(f"source {self.source} has no {other}")
        if self.source == "hf" and self.revision is None:
            raise ValueError("source hf needs revision, the full commit hash: `voxelboard check --fix` writes it")
        if (self.source == "simulated") != (self.loader == "simulated"):
            raise ValueError("source simulated and loader simulated belong together")
        if self.trust_remote_code and not _SHA256.fullmatch(self.remote_code_sha256 or ""):
            raise ValueError("trust_remote_code needs remote_code_sha256 (64 hexadecimal digits)")
        return self


class Committed(_Frozen):
    """What an entry of the open track fixes beforehand instead of leaving it to the protocol."""

    layer: Annotated[int, Field(ge=0)] | None = None
    """The one layer that is scored (0 is the embedding layer)."""
    context_words: Annotated[int, Field(ge=1)] | None = None
    """Preceding words that the model sees."""
    pooling: Literal["mean", "last"] | None = None
    """How the tokens of a word become its state."""


class Metadata(_Frozen):
    """What is known of the model. Shown, never scored."""

    display_name: Annotated[str, StringConstraints(max_length=80)]
    """Name in the table."""
    family: _Text = ""
    """Models of one family are drawn together."""
    n_parameters: Annotated[int, Field(ge=0)] | None = None
    """Number of parameters."""
    release_date: date | None = None
    """First public release, YYYY-MM-DD."""
    training_step: Annotated[int, Field(ge=0)] | None = None
    """Step of a training checkpoint."""
    licence: _Text = ""
    """SPDX identifier or name of the licence of the weights."""
    training_data: _Text = ""
    """What the model was trained on, in a line."""
    stimulus_exposure: dict[TaskName, Exposure] = Field(default_factory=dict)
    """Per task: whether the stimuli were in the training data."""
    openness: Literal["full", "weights", "restricted"] | None = None
    """``full``: weights, code and data are public; ``weights``: only those; ``restricted``: behind an agreement."""
    citation: Annotated[str, StringConstraints(max_length=4000)] = ""
    """BibTeX entry, DOI or address of the paper."""


class Submitter(_Frozen):
    """Who asks for this row."""

    name: _Text
    """Person or group."""
    contact: _Text = ""
    """E-mail address or GitHub handle."""
    relation: Literal["author", "third-party"]
    """``author`` of the model, or ``third-party``."""


class Submission(_Frozen):
    """One model at one revision."""

    schema_version: Literal[1]
    """Version of this schema."""
    name: _Name | None = None
    """``org/name`` of the row. By default the file's name, ``org__name.yaml``."""
    model: ModelEntry
    """Which weights, and how they are loaded."""
    track: Literal["fixed", "open"] = "fixed"
    """``fixed``: the protocol chooses layer, context and pooling. ``open``: the entry commits to them beforehand."""
    committed: Committed | None = None
    """What an entry of the open track commits to."""
    tasks: Annotated[tuple[TaskName, ...], Field(min_length=1)] = ("narrative",)
    """Tasks that this model is entered for."""
    weights: Literal["pretrained", "random"] = "pretrained"
    """``random``: the same architecture with fresh weights drawn from ``seed``."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of random weights."""
    metadata: Metadata
    """What is known of the model."""
    submitter: Submitter
    """Who asks for this row."""
    visibility: Annotated[str, StringConstraints(max_length=20)] = "public"
    """``public``, ``private`` (stays on this machine) or ``embargo:YYYY-MM-DD``."""

    @field_validator("visibility")
    @classmethod
    def _visible(cls, value: str) -> str:
        if value in ("public", "private"):
            return value
        try:
            date.fromisoformat(value.removeprefix("embargo:"))
        except ValueError:
            value = ""
        if not value.startswith("embargo:"):
            raise ValueError("allowed: public, private, embargo:YYYY-MM-DD")
        return value

    @model_validator(mode="after")
    def _committed(self) -> "Submission":
        if (self.track == "open") != (self.committed is not None):
            raise ValueError("track open and the section `committed` belong together")
        return self

    @property
    def label(self) -> str:
        """The name; ``load_submission`` always sets it."""
        return self.name or self.metadata.display_name

    @property
    def is_baseline(self) -> bool:
        """Whether this is one of the harness' own rows."""
        return self.model.source == "baseline"


def submission_schema() -> dict[str, Any]:
    """JSON Schema of a submission, committed as ``submissions/schema.json``."""
    schema: dict[str, Any] = Submission.model_json_schema()
    return schema


def _commit(revision: str) -> str:
    if not _SHA1.fullmatch(revision):
        raise ValueError(
            f"got {revision!r}, a branch, a tag or a short hash, which moves; expected a full commit hash "
            "(40 hexadecimal digits): `voxelboard check --fix` looks it up and writes it"
        )
    return revision
