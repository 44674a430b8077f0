# SPDX-License-Identifier: Apache-2.0
"""Why a cell failed: one word for the record, the table and the exit code."""

from voxelboard.benchmark.errors import InvalidNumbers, MissingPrerequisite, UserError
from voxelboard.benchmark.records import ErrorClass

# Classes that mean "something is missing on this machine": exit code 3 when nothing else failed and nothing is done.
PREREQUISITES: frozenset[ErrorClass] = frozenset({"gated", "not_found", "oom"})

# Exceptions of libraries that are not imported here (torch, huggingface_hub), by the name of a class in their line.
_BY_CLASS_NAME: dict[str, ErrorClass] = {
    "OutOfMemoryError": "oom",
    "GatedRepoError": "gated",
    "RepositoryNotFoundError": "not_found",
    "RevisionNotFoundError": "not_found",
    "EntryNotFoundError": "not_found",
    "LocalEntryNotFoundError": "not_found",
    "OfflineModeIsEnabled": "not_found",
}


def classify(error: BaseException) -> ErrorClass:
    """The class of an exception; ``bug`` for whatever nobody foresaw."""
    chain = [error, *_causes(error)]
    for link in chain:
        for ancestor in type(link).__mro__:
            if ancestor.__name__ in _BY_CLASS_NAME:
                return _BY_CLASS_NAME[ancestor.__name__]
        if isinstance(link, MemoryError) or "out of memory" in str(link).lower():
            return "oom"
        if isinstance(link, TimeoutError):
            return "timeout"
    if isinstance(error, InvalidNumbers):
        return "canary" if "canary" in str(error).lower() else "nan_features"
    if isinstance(error, UserError):
        if "trust-remote-code" in str(error) or "remote_code_sha256" in str(error):
            return "remote_code_required"
        return "not_found" if isinstance(error, MissingPrerequisite) else "user"
    return "bug"


def message_of(error: BaseException) -> str:
    """What a record and a table say: the error's message with its hint, bounded, never empty."""
    text = str(error).strip() or type(error).__name__
    if not isinstance(error, UserError):
        text = f"{type(error).__name__}: {text}" if str(error).strip() else text
    return text if len(text) <= 2000 else f"{text[:1997]}..."


def _causes(error: BaseException) -> list[BaseException]:
    causes: list[BaseException] = []
    while (error.__cause__ is not None) and len(causes) < 10:
        error = error.__cause__
        causes.append(error)
    return causes
