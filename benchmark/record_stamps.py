# SPDX-License-Identifier: Apache-2.0
"""What a record says of where its numbers come from: the protocol, the data, the model, the attributions, the machine."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from voxelboard.benchmark.protocol import Protocol, TaskName


class Frozen(BaseModel):
    """A part of a record: unknown fields are errors, and no number is NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ProtocolStamp(Frozen):
    """Which measurement this is."""

    name: str
    hash: str
    """Of the constants that the record's task depends on."""
    constants: dict[str, Any]

    @classmethod
    def of(cls, protocol: Protocol, task: TaskName) -> "ProtocolStamp":
        """The stamp of a task's records."""
        return cls(name=protocol.name, hash=protocol.hash_of(task), constants=protocol.constants(task))


class DatasetStamp(Frozen):
    """Which data were used."""

    name: str
    version: str
    kind: Literal["real", "simulated"]
    ceiling_kind: Literal["repeats", "inter_subject", "none"]
    stimuli_sha256: str
    responses_sha256: str
    scored_rois: tuple[str, ...]
    n_train: int
    """Rows of the training data, after trimming."""
    n_test: int
    row_unit: Literal["TR", "image", "sentence"] = "TR"
    """What a row of the responses is."""
    leak: bool = False
    """Test rows have neighbours in training, to show what that does: never ranked."""
    n_voxels: int
    n_repeats: int


class ModelStamp(Frozen):
    """What was asked for and what was resolved."""

    submission: str
    """Name of the submission, ``org/name``."""
    display_name: str
    row: Literal["submission", "baseline"]
    source: str
    loader: str
    revision: str
    weights: Literal["pretrained", "random", "none"]
    seed: int
    weights_sha256: str
    tokenizer_sha256: str
    dtype: str
    n_parameters: int
    n_layers: int
    n_features: int
    track: Literal["fixed", "open"] = "fixed"
    committed: dict[str, Any] = Field(default_factory=dict)
    """Open track: layer, context_words, pooling that the entry committed to."""
    visibility: str = "public"
    """``public``, ``private`` or ``embargo:YYYY-MM-DD``, as submitted: whether a published board may show the record."""
    metadata: dict[str, Any] = Field(default_factory=dict)


class AttributionStamp(Frozen):
    """How the record's attribution methods were computed; their scores are facets of axis ``method``."""

    hash: str
    """SHA-256 of the canonical JSON of ``constants``."""
    constants: dict[str, Any]
    """The protocol's section ``attribution``."""
    methods: tuple[str, ...]
    refused: dict[str, str] = Field(default_factory=dict)
    """Method -> why this model cannot give it."""
    n_words: int = 0
    """Words that were explained."""
    completeness_worst: float | None = None
    """Greatest relative error of ``sum of attributions = f(x) - f(x')`` over words and layers."""
    completeness_missed: int | None = None
    """Words whose error is above the protocol's tolerance."""


class Environment(Frozen):
    """What ran where. Volatile: left out of the digest."""

    versions: dict[str, str]
    git_commit: str | None = None
    git_dirty: bool | None = None
    device: str
    n_threads: int
    batch_size: int | None = None
    seconds: dict[str, float]
    """Wall seconds by stage."""
    peak_memory_bytes: int
    started_at: str
    command: str = ""
    """As typed. It may name folders of this machine, so it is left out of what a board publishes."""
