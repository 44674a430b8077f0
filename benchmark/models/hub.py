# SPDX-License-Identifier: Apache-2.0
"""Files of a pinned repository on the hub, through its own cache, with errors that say what to do."""

from dataclasses import dataclass
from pathlib import Path

from voxelboard.benchmark.errors import MissingPrerequisite, UserError
from voxelboard.benchmark.models.quiet import quiet_transformers


@dataclass(frozen=True)
class HubFolder:
    """A snapshot in the cache, and the names of all files of the repository (offline: of those in the cache)."""

    path: Path
    names: tuple[str, ...]


def hub_folder(
    repository: str, revision: str, patterns: tuple[str, ...], *, offline: bool, cache_dir: Path | None
) -> HubFolder:
    """Bring the files that match ``patterns`` into the cache; without patterns only list what there is.

    Raises
    ------
    MissingPrerequisite
        for a repository or commit that does not exist, is gated, or is not in the cache when offline.
    """
    import huggingface_hub
    from huggingface_hub import constants  # no attribute of the package before it is imported
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    offline = offline or constants.HF_HUB_OFFLINE
    try:
        with quiet_transformers():
            names = (
                [] if offline or patterns else huggingface_hub.HfApi().list_repo_files(repository, revision=revision)
            )
            path = Path(
                huggingface_hub.snapshot_download(
                    repository,
                    revision=revision,
                    allow_patterns=list(patterns) or ["config.json"],
                    cache_dir=cache_dir,
                    local_files_only=offline,
                )
            )
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise _not_cached(repository, revision, offline) from error
    except HfHubHTTPError as error:
        raise _hub_error(repository, revision, error) from error
    if offline:
        names = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
    return HubFolder(path, tuple(names))


def _not_cached(repository: str, revision: str, offline: bool) -> MissingPrerequisite:
    if offline:
        return MissingPrerequisite(
            f"{repository} at {revision[:12]} is not in the cache, and --offline (or HF_HUB_OFFLINE) is set",
            f"fetch it once on a machine with a network: hf download {repository} --revision {revision}",
        )
    return MissingPrerequisite(
        f"the hub cannot be reached, and {repository} at {revision[:12]} is not in the cache",
        "check the network and try again; what is in the cache runs with --offline",
    )


def _hub_error(repository: str, revision: str, error: Exception) -> UserError:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):  # before RepositoryNotFoundError, of which it is a kind
        return MissingPrerequisite(
            f"{repository} is gated: its owner wants its terms accepted first",
            f"accept them at https://huggingface.co/{repository}, then: hf auth login",
        )
    if isinstance(error, RevisionNotFoundError):
        return MissingPrerequisite(
            f"{repository} has no commit {revision}",
            "`voxelboard check --fix FILE` resolves a branch and writes it back",
        )
    if isinstance(error, RepositoryNotFoundError):
        return MissingPrerequisite(
            f"there is no repository {repository} on the hub, or it is private",
            "correct model.id; for a private one: hf auth login",
        )
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return MissingPrerequisite(f"the hub failed for {repository}: {first}", "try again later, or use --offline")
