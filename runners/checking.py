# SPDX-License-Identifier: Apache-2.0
"""What ``check`` does with one submission, step by step."""

import re
from collections.abc import Iterator
from pathlib import Path

from voxelboard.benchmark.atomic import replace_file
from voxelboard.benchmark.errors import MissingPrerequisite, UserError
from voxelboard.benchmark.strict_yaml import Document, read_yaml
from voxelboard.benchmark.submission import Submission, load_submission

# Three subjects, six short stories: seconds on a CPU.
SMALLEST_DATA = "simulated-narrative:tiny"
_COMMIT = re.compile(r"[0-9a-f]{40}")


def check_file(path: Path, *, fix: bool, quick: bool, offline: bool, allow_code: bool) -> Iterator[str]:
    """Check one submission and yield what passed, a few words each.

    Raises
    ------
    UserError
        for the first thing that is wrong.
    """
    if fix:
        for key, old, new in fix_revisions(path):
            yield f"{key}: {old} is now {new}"
    submission = load_submission(path)
    yield "schema"
    if quick:
        return
    from voxelboard.benchmark.revision import resolved_revision

    yield f"revision {resolved_revision(submission)[:12]}"
    if submission.model.source in ("hf", "local"):
        yield from _describe(submission, offline=offline, allow_code=allow_code)
    yield _simulated_run(submission, offline=offline, allow_code=allow_code)


def fix_revisions(path: Path) -> list[tuple[str, str, str]]:
    """Replace branches and tags in a submission by the commits that they mean now; keep everything else as it is.

    Returns (key, old, new) of each replacement.

    Raises
    ------
    MissingPrerequisite
        when the hub does not know the repository or revision, or cannot be reached.
    """
    document = read_yaml(path)
    model = document.values.get("model")
    if not isinstance(model, dict) or model.get("source") != "hf":
        return []
    tokenizer = model.get("tokenizer")
    places = [(("model",), model)] + ([(("model", "tokenizer"), tokenizer)] if isinstance(tokenizer, dict) else [])
    changes = []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for place, section in places:
        if "id" not in section:
            continue  # the schema says so in a moment
        old = str(section.get("revision") or "main")
        if not _COMMIT.fullmatch(old):
            new = _look_up(str(section.get("id")), old)
            _write_revision(document, lines, (*place, "revision"), new)
            changes.append((".".join((*place, "revision")), old, new))
    if changes:
        replace_file(path, lambda file: file.write(("".join(lines)).encode()))
    return changes


def _write_revision(document: Document, lines: list[str], place: tuple[str, ...], new: str) -> None:
    """Replace the value on its line, or insert a line below ``id``."""
    if place in document.lines:
        index = document.lines[place] - 1
        fixed, n = re.subn(r"(\brevision\s*:)[ \t]*[^#,}\n]*?(?=[ \t]*(#|,|\}|$))", rf"\1 {new}", lines[index], count=1)
        if n != 1:
            raise UserError(f"{document.path}:{index + 1}: cannot rewrite this line", f"write `revision: {new}` there")
        lines[index] = fixed
        return
    index = document.line((*place[:-1], "id")) - 1
    indent = lines[index][: len(lines[index]) - len(lines[index].lstrip())]
    if not lines[index].strip().startswith("id"):
        raise UserError(
            f"{document.path}:{index + 1}: cannot insert a line here", f"write `revision: {new}` below `id:`"
        )
    lines[index] = f"{lines[index].rstrip()}\n{indent}revision: {new}\n"


def _look_up(repository: str, revision: str) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled

    try:
        found = HfApi().model_info(repository, revision=revision, timeout=30).sha
    except GatedRepoError as error:
        raise MissingPrerequisite(
            f"{repository} is gated", "accept its terms on the hub, then: hf auth login"
        ) from error
    except HfHubHTTPError as error:
        raise MissingPrerequisite(
            f"the hub does not know {repository} at {revision!r}", "correct model.id or model.revision"
        ) from error
    except (OfflineModeIsEnabled, OSError) as error:
        raise MissingPrerequisite(f"the hub cannot be reached: {error}", "try again with a network") from error
    if found is None:
        raise MissingPrerequisite(f"the hub names no commit for {repository} at {revision!r}")
    return found


def _describe(submission: Submission, *, offline: bool, allow_code: bool) -> Iterator[str]:
    from voxelboard.benchmark.models.load import describe_model
    from voxelboard.benchmark.submission import model_spec

    description = describe_model(model_spec(submission), offline=offline, allow_remote_code=allow_code)
    yield f"{description.n_layers} layers of {description.n_features}, {description.n_parameters:,} parameters"
    claimed = submission.metadata.n_parameters
    # Heads and tied embeddings are counted in many ways; twice or half is another model.
    if claimed and not 0.5 <= description.n_parameters / claimed <= 2:
        raise UserError(
            f"metadata.n_parameters says {claimed:,}, the checkpoint has {description.n_parameters:,}", "correct it"
        )


def _simulated_run(submission: Submission, *, offline: bool, allow_code: bool) -> str:
    from voxelboard.benchmark.evaluate import measure
    from voxelboard.benchmark.protocol import load_protocol
    from voxelboard.benchmark.readers.registry import open_dataset
    from voxelboard.benchmark.settings import Settings

    settings = Settings(load_protocol("v1"), device="cpu", offline=offline, allow_remote_code=allow_code)
    subject = open_dataset(SMALLEST_DATA).subjects[0]
    record, _ = next(iter(measure(submission, "narrative", SMALLEST_DATA, (subject,), settings)))
    score = record.scores["unique"]
    number = "no score" if score.estimate is None else f"unique {score.estimate:.3f}"
    return f"simulated run, {number} on {record.model.n_layers} layers"
