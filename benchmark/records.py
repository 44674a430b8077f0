# SPDX-License-Identifier: Apache-2.0
"""The record of one cell: what was asked, what was resolved, the scores, and what they can be recomputed from.

A record is a JSON file with a ``.npz`` of sufficient statistics beside it. Both are written under a temporary name
and renamed, so a reader never sees half a record. Records hold no NaN: a missing number is null with a reason.
"""

import hashlib
import io
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from voxelboard.benchmark.atomic import replace_file
from voxelboard.benchmark.collecting import collector_paused
from voxelboard.benchmark.errors import DataError, StorageError, UserError
from voxelboard.benchmark.private_paths import without_machine_paths
from voxelboard.benchmark.protocol import TaskName
from voxelboard.benchmark.record_stamps import (
    AttributionStamp,
    DatasetStamp,
    Environment,
    Frozen,
    ModelStamp,
    ProtocolStamp,
)
from voxelboard.benchmark.record_text import canonical, text_digest
from voxelboard.benchmark.unfolding import read_npz

SCHEMA_VERSION: Final = 1
STUDIES: Final = "studies"

Status = Literal["started", "success", "error", "cancelled"]
ErrorClass = Literal[
    "oom", "gated", "not_found", "remote_code_required", "nan_features", "canary", "timeout", "crash", "user", "bug"
]
Verification = Literal["self-reported", "schema-verified", "spot-checked", "re-run"]
Arrays = Mapping[str, NDArray[Any]]
# A record holds hundreds of these: as dataclasses with slots they take half of the memory and a quarter less time to read.
PART: Final = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True, config=PART)
class Estimate:
    """A number with its uncertainty. A missing number is null and says why."""

    estimate: float | None
    standard_error: float | None = None
    low: float | None = None
    """Lower end of the 95 % interval."""
    high: float | None = None
    """Upper end of the 95 % interval."""
    estimator: str
    """How the number and its interval were computed, e.g. ``H_u, 15-TR block influence, t``."""
    n: int
    """Independent units behind the interval: test blocks."""
    unit: str
    """``r`` (correlation), ``H`` (noise-corrected), ``pooled r`` or ``FVE``."""
    p: float | None = None
    """One-sided p against chance, from permuted blocks; None where it was not tested."""
    reason: str | None = None

    @model_validator(mode="after")
    def _explained(self) -> "Estimate":
        if self.estimate is None and not self.reason:
            raise ValueError("an estimate that is null needs a reason")
        return self


@dataclass(frozen=True, slots=True, kw_only=True, config=PART)
class LayerProfile:
    """One ROI over layers. Layer 0 is the embedding layer; the layer is chosen on ``inner`` alone."""

    chosen: tuple[int, ...]
    """The chosen layer of each outer fold."""
    inner: tuple[float | None, ...]
    """Pooled correlation of inner cross-validation on training data, mean over outer folds, per layer."""
    test: tuple[Estimate, ...]
    """The headline score of each layer on the test data: shown, never used to choose."""


@dataclass(frozen=True, slots=True, kw_only=True, config=PART)
class Facet:
    """Scores of one part of a cell: a level of annotation, an attribution method, an analysis, a condition."""

    axis: str
    """What kind of part: ``level``, ``method``, ``conductance layer``, ``hierarchy``, ``analysis``, ``control``, ..."""
    value: str
    """Which one, e.g. ``speech``."""
    roi: str | None = None
    """None: over all scored ROIs."""
    scores: dict[str, Estimate]


class ExposureProbe(Frozen):
    """Whether the model may have read the stimuli, as measured: disclosed and shown, no score depends on it."""

    loss: float
    """Bits per word on windows of the stimuli."""
    control_loss: float
    """Bits per word on spoken stories that were written for this project after the models."""
    excess: Estimate
    """How much more exchanged words cost on the stimuli than on the controls: above 0 for a text known by heart."""
    verbatim_share: float
    """Share of prompts that are continued word for word."""
    control_verbatim_share: float
    longest_verbatim_words: int
    n_prompts: int
    controls_version: int


class Checks(Frozen):
    """Canaries and receipts."""

    oasm: float | None = None
    """Share of variance that a feature explains which knows only when a TR happened; must be 0 (statistics.md E1)."""
    noise_brain: float | None = None
    """Mean r of the model's features on a brain of autocorrelated noise (E2)."""
    residual_sd_ratio: float | None = None
    """Test over training SD of the confound-free features; an alarm outside the protocol's range (F6)."""
    alpha_edge_share: float | None = None
    """Share of voxels whose alpha lies at an end of the grid."""
    context_shortened: float | None = None
    """Share of words that saw fewer words than the protocol asks because the model's input is shorter."""
    receipt_max_deviation: float | None = None
    """Greatest deviation of states extracted again at batch 1 in float32, on 1 % of the words."""
    receipt_words: int | None = None
    receipt_score_effect: float | None = None
    """Change of the headline of the main layer when deviations of that kind are taken off every TR."""
    main_layer: int | None = None
    """The layer that most scored ROIs chose: the one that the diagnostics below and their scores look at."""
    effective_rank: float | None = None
    """Participation ratio of that layer's features on training data; at most their number."""
    capacity_components: int | None = None
    """Principal components of the capacity-matched score: fewer than the protocol's for a narrower model."""
    shuffled_gap: float | None = None
    """Mean r under shuffled TRs minus that with stories left out, inside the training data (E3): leakage that was avoided."""
    shuffled_gap_noise: float | None = None
    """The same on a brain of noise."""
    significant_voxels: int | None = None
    """Voxels whose H_u is above chance at the false discovery rate that ``significance`` names."""
    significance: str = ""
    exposure: ExposureProbe | None = None
    exposure_reason: str = ""
    """Why exposure was not probed."""
    alarms: tuple[str, ...] = ()


class CellError(Frozen):
    """Why a cell has no scores."""

    kind: ErrorClass
    message: str


class Record(Frozen):
    """One cell: a model on a task, a data set and a subject."""

    schema_version: Literal[1] = SCHEMA_VERSION
    status: Status
    task: TaskName
    task_version: int
    subject: str
    protocol: ProtocolStamp
    dataset: DatasetStamp | None
    model: ModelStamp
    scores: dict[str, Estimate] = Field(default_factory=dict)
    """``unique`` is the headline; also raw_r, floor_r, joint_r, normalised, floor, ceiling, twin_unique, ..."""
    by_roi: dict[str, dict[str, Estimate]] = Field(default_factory=dict)
    layers: dict[str, LayerProfile] = Field(default_factory=dict)
    facets: tuple[Facet, ...] = ()
    attribution: AttributionStamp | None = None
    """None: run without attributions."""
    checks: Checks = Checks()
    partial: bool = False
    """Scored on a part of the stimuli or voxels (``--limit``): never ranked."""
    verification: Verification = "self-reported"
    statistics_sha256: str | None = None
    environment: Environment | None = None
    error: CellError | None = None
    invalidated: str | None = None
    edits: tuple[dict[str, str], ...] = ()

    @model_validator(mode="after")
    def _whole(self) -> "Record":
        if self.status == "success" and (not self.scores or self.dataset is None or not self.statistics_sha256):
            raise ValueError("a record with status success needs scores, its data set and its statistics")
        if self.status == "error" and self.error is None:
            raise ValueError("a record with status error needs the error")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of all but the environment: equal for equal inputs on equal hardware."""
        return text_digest(to_json(self).encode())


def slug(name: str) -> str:
    """A file name for ``org/name``: ``org__name``, other characters replaced by ``-``."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name.replace("/", "__")).strip(".") or "-"


def revision_folder(revision: str, weights: str, seed: int) -> str:
    """First 12 characters of the revision; random-weight twins carry their seed."""
    random = f"-random{seed}" if weights == "random" else ""
    return f"{slug(revision[:12])}{random}"


def cell_path(
    results: Path, protocol: str, submission: str, revision_folder: str, task: str, dataset: str, subject: str
) -> Path:
    """``results/<protocol>/<org>__<model>/<rev12>/<task>/<dataset>/<subject>.json``."""
    folder = cells_folder(results, protocol, submission, revision_folder, task, dataset)
    return folder / f"{slug(subject)}.json"


def cells_folder(results: Path, protocol: str, submission: str, revision_folder: str, task: str, dataset: str) -> Path:
    """The folder of the records of a model on a task and a data set, a file for each subject."""
    return results / protocol / slug(submission) / revision_folder / task / slug(dataset)


def record_path(results: Path, record: Record, dataset: str) -> Path:
    """Where a record belongs; see :func:`cell_path`."""
    model = record.model
    revision = revision_folder(model.revision, model.weights, model.seed)
    return cell_path(results, record.protocol.name, model.submission, revision, record.task, dataset, record.subject)


def statistics_path(record: Path) -> Path:
    """The ``.npz`` beside a record."""
    return record.with_suffix(".npz")


def write_record(path: Path, record: Record, arrays: Arrays | None = None) -> Record:
    """Write a record and its statistics atomically; return the record as written (with the statistics' hash).

    The statistics come first, so a record that exists is whole. On a full disk nothing is left behind and an older
    record stays as it was.

    Raises
    ------
    StorageError
        when the folder cannot be written (full disk, no permission).
    """
    record = without_private_paths(record)
    try:
        if arrays is not None:
            packed = _pack(arrays)
            record = record.model_copy(update={"statistics_sha256": hashlib.sha256(packed).hexdigest()})
            replace_file(statistics_path(path), lambda file: file.write(packed))
        replace_file(path, lambda file: file.write((to_json(record) + "\n").encode()))
    except OSError as error:
        raise StorageError(
            f"cannot write the record {path}: {error.strerror or error}",
            "free some space or choose another folder with --output, then run the same command: it resumes",
        ) from error
    return record


def without_private_paths(record: Record) -> Record:
    """The record with absolute paths cut to their last name in the command line, the error and the alarms."""
    changes: dict[str, Any] = {}
    if record.environment is not None:
        command = without_machine_paths(record.environment.command)
        if command != record.environment.command:
            changes["environment"] = record.environment.model_copy(update={"command": command})
    if record.error is not None:
        message = without_machine_paths(record.error.message)
        if message != record.error.message:
            changes["error"] = record.error.model_copy(update={"message": message})
    alarms = tuple(without_machine_paths(alarm) for alarm in record.checks.alarms)
    if alarms != record.checks.alarms:
        changes["checks"] = record.checks.model_copy(update={"alarms": alarms})
    return record.model_copy(update=changes) if changes else record


def to_json(record: Record) -> str:
    """Canonical JSON text: sorted keys, two blanks, no NaN."""
    return canonical(record.model_dump(mode="json"))


def read_record(path: Path) -> Record:
    """Read and check one record; raises DataError naming the file and the field."""
    try:
        return Record.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DataError(
            f"{path}: {where}: {first['msg']}", "the record is damaged or of another version: run its cell with --fresh"
        ) from error


def read_statistics(
    path: Path, record: Record, wanted: Callable[[str], bool] = lambda _: True
) -> dict[str, NDArray[Any]]:
    """The ``wanted`` arrays beside the record at ``path``; raises DataError when the file is missing or not the one recorded."""
    file = statistics_path(path)
    try:
        packed = file.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{file} is missing", "run its cell with --fresh") from error
    if hashlib.sha256(packed).hexdigest() != record.statistics_sha256:
        raise DataError(f"{file} is not the file that its record was written with", "run its cell with --fresh")
    try:
        return read_npz(packed, file.name, wanted)
    except zipfile.BadZipFile as error:
        raise DataError(f"{file} is no .npz file", "run its cell with --fresh") from error


def load_records(results: Path | str) -> list[tuple[Path, Record]]:
    """All records below a folder, in path order."""
    root = Path(results)
    if not root.is_dir():
        raise UserError(f"no folder {root}", "run `voxelboard run` first, or name the folder with --output")
    with collector_paused():
        return [(path, read_record(path)) for path in _record_files(root)]


def record_schema() -> dict[str, Any]:
    """JSON Schema of a record, committed as ``results/schema.json``."""
    return Record.model_json_schema()


def _record_files(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*.json")):
        # the schema, the snapshot of the queue and results of studies lie beside the records and are none
        place = path.relative_to(root)
        beside = place.name == "schema.json" or place.parts == ("queue.json",) or STUDIES in place.parts
        if not beside and not path.name.startswith("."):
            yield path


def statistics_sha256(arrays: Arrays) -> str:
    """SHA-256 of the ``.npz`` that :func:`write_record` would write."""
    return hashlib.sha256(_pack(arrays)).hexdigest()


def _pack(arrays: Arrays) -> bytes:
    buffer = io.BytesIO()
    # Keys in a fixed order and no timestamps (numpy writes 1980-01-01): equal arrays give equal bytes.
    packed: dict[str, Any] = {name: np.asarray(arrays[name]) for name in sorted(arrays)}
    for name, array in packed.items():
        if array.dtype.hasobject:  # numpy would pickle it; its keyword that forbids so is an array's name before 2.1
            raise TypeError(f"statistics {name!r} hold Python objects, expected numbers or text")
    np.savez_compressed(buffer, **packed)
    return buffer.getvalue()
