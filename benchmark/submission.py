# SPDX-License-Identifier: Apache-2.0
"""The submission: one YAML file per model revision, found by name, by path, or made from a checkpoint folder."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, cast

from voxelboard import _resources
from voxelboard.benchmark.errors import MissingPrerequisite, UserError, unknown_name
from voxelboard.benchmark.models.spec import Loader as SpecLoader
from voxelboard.benchmark.models.spec import ModelSpec
from voxelboard.benchmark.models.spec import Source as SpecSource
from voxelboard.benchmark.strict_yaml import read_yaml, validate
from voxelboard.benchmark.submission_schema import (
    NAME,
    Loader,
    Metadata,
    ModelEntry,
    Submission,
    Submitter,
    submission_schema,
)

__all__ = [
    "BASELINES",
    "Submission",
    "baseline_submissions",
    "check_distinct",
    "list_submissions",
    "load_submission",
    "loader_of",
    "model_spec",
    "submission_files",
    "submission_schema",
]

# The mandatory rows (statistics.md 2.5): what a score is worth that needs no language model. Their widths are fixed,
# so that no row depends on which other models are on the board.
BASELINES: Final = {
    "constant": ("constant-d1-s0", "Constant vector"),
    "context-noise": ("context-noise-d256-s0", "Context noise"),
    "random-word-vectors": ("random-word-vectors-d256-s0", "Random word vectors"),
    "static": ("static", "Static word vectors"),
    "confounds": ("confounds", "Confounds (word rate, length, position)"),
    "spectral": ("spectral", "Spectral energy (letter rate where there is no audio)"),
    "cross-subject": ("cross-subject", "Cross-subject predictor (the other listeners)"),
    "oracle": ("oracle", "Oracle (planted truth)"),
}


def submission_files(folder: Path | None = None) -> list[Path]:
    """The YAML files of a folder of submissions, by default the shipped ones."""
    return sorted((folder or _resources.entries_folder()).glob("*.yaml"))


def load_submission(path_or_name: str | Path) -> Submission:
    """Load a submission by file, by name (``openai-community/gpt2`` or ``gpt2``) or from a checkpoint folder.

    A checkpoint folder (with a ``config.json``) becomes a private submission in float32.

    Raises
    ------
    UserError
        for an unknown name, and with file, line and key for each fault of the file.
    MissingPrerequisite
        when the file or the checkpoint does not exist.
    """
    path = Path(path_or_name)
    if path.suffix in (".yaml", ".yml"):
        return _load_file(path)
    if path.is_dir():
        return _from_checkpoint(path)
    known = {file.stem.replace("__", "/", 1): file for file in submission_files()}
    name = str(path_or_name)
    short = [file for full, file in known.items() if full.rpartition("/")[2] == name]
    found = known.get(name) or known.get(name.replace("__", "/", 1)) or (short[0] if len(short) == 1 else None)
    if found is None:
        hint = "or give the path of a YAML file or of a checkpoint folder; `voxelboard list submissions` shows all"
        raise unknown_name("submission", name, known, hint)
    return _load_file(found)


def baseline_submissions(*, simulated: bool, static_vectors: bool = True) -> list[Submission]:
    """The harness' own rows for a data set. They are built in and never read from a file.

    Parameters
    ----------
    simulated : the truth is planted, so there is an oracle.
    static_vectors : the data set comes with a table of word vectors.
    """
    absent = {name for name, there in (("oracle", simulated), ("static", static_vectors)) if not there}
    return [
        Submission(
            schema_version=1,
            name=f"voxelboard/{name}",
            model=ModelEntry(source="baseline", id=model_id, loader="baseline", dtype="float32"),
            metadata=Metadata(display_name=display_name, family="baseline"),
            submitter=Submitter(name="voxelboard", relation="author"),
        )
        for name, (model_id, display_name) in BASELINES.items()
        if name not in absent
    ]


def list_submissions(folder: Path | None = None) -> list[Submission]:
    """All submissions of a folder in the order of their files; raises UserError on the first faulty one."""
    submissions = [_load_file(path) for path in submission_files(folder)]
    check_distinct(submissions)
    return submissions


def check_distinct(submissions: Iterable[Submission]) -> None:
    """Refuse two submissions of one name: their records would share a folder."""
    seen: set[str] = set()
    for submission in submissions:
        if submission.label in seen:
            raise UserError(f"two submissions are called {submission.label!r}", "give one of them another `name:`")
        seen.add(submission.label)


def _load_file(path: Path) -> Submission:
    submission = validate(read_yaml(path), Submission)
    if submission.is_baseline:
        raise UserError(f"{path}: model.source: baseline rows are the harness' own; allowed: hf, local, simulated")
    model = submission.model
    if model.path is not None:
        model = model.model_copy(update={"path": str((path.parent / Path(model.path).expanduser()).resolve())})
    name = submission.name or _name_of(path)
    return submission.model_copy(update={"name": name, "model": model})


def _name_of(path: Path) -> str:
    name = path.stem.replace("__", "/", 1)
    name = name if "/" in name else f"local/{name}"
    if not NAME.fullmatch(name):
        raise UserError(
            f"{path}: a file called {path.name!r} gives no name of the form org/name",
            "call it org__name.yaml or add `name: org/name`",
        )
    return name


def _from_checkpoint(folder: Path) -> Submission:
    folder = folder.resolve()
    loader = _infer_loader(folder)
    safe = re.sub(r"[^A-Za-z0-9._-]", "-", folder.name).strip("-.") or "checkpoint"
    return Submission(
        schema_version=1,
        name=f"local/{safe}",
        model=ModelEntry(source="local", path=str(folder), loader=loader, dtype="float32"),
        tasks=("narrative", "captions", "ablation"),
        metadata=Metadata(display_name=folder.name[:80]),
        submitter=Submitter(name="local run", relation="third-party"),
        visibility="private",
    )


def _infer_loader(folder: Path) -> Loader:
    config = folder / "config.json"
    try:
        content = json.loads(config.read_bytes())
        architectures = content.get("architectures") or []
    except FileNotFoundError as error:
        raise MissingPrerequisite(
            f"{folder} is not a checkpoint: it has no config.json", "save it with save_pretrained()"
        ) from error
    except (ValueError, AttributeError) as error:
        raise UserError(f"{config} is not a JSON object: {error}") from error
    if (folder / "modules.json").exists():
        return "sentence"
    if content.get("model_type") == "voxelboard-lstm":
        return "recurrent"
    if (loader := loader_of(architectures)) is not None:
        return loader
    raise UserError(
        f"{config} names the architectures {architectures}, from which no loader can be told",
        "write a submission with `loader:` (docs/submitting.md) and give its path",
    )


def loader_of(architectures: Iterable[object]) -> Loader | None:
    """The loader for the ``architectures`` of a ``config.json``, None when it cannot be told."""
    names = [str(name) for name in architectures]
    return next((loader for end, loader in _ENDINGS.items() if any(name.endswith(end) for name in names)), None)


_ENDINGS: Final[dict[str, Loader]] = {
    "ForCausalLM": "causal",
    "LMHeadModel": "causal",
    "ForMaskedLM": "masked",
    "ForPreTraining": "masked",
    "ForConditionalGeneration": "seq2seq",
}


def model_spec(submission: Submission) -> ModelSpec:
    """What the model loaders need of a submission.

    Raises
    ------
    UserError
        for planted models and baselines, which have no weights to load, and values that no loader handles.
    """
    model = submission.model
    if model.source in ("simulated", "baseline") or model.loader in ("simulated", "baseline"):
        raise UserError(f"{submission.label} has no weights: it is built by the harness")
    return ModelSpec(
        loader=cast("SpecLoader", model.loader),
        source=cast("SpecSource", model.source),
        id=model.id or "",
        revision=model.revision or "",
        path=Path(model.path) if model.path else None,
        subfolder=model.subfolder,
        tokenizer_id=model.tokenizer.id if model.tokenizer else "",
        tokenizer_revision=model.tokenizer.revision if model.tokenizer else "",
        dtype=model.dtype,
        weights=submission.weights,
        seed=submission.seed,
        trust_remote_code=model.trust_remote_code,
        remote_code_sha256=model.remote_code_sha256 or "",
    )
