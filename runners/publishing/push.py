# SPDX-License-Identifier: Apache-2.0
"""Pushing an exported folder to the Hugging Face hub, through its own client."""

import os
import re
from pathlib import Path

from voxelboard.benchmark.errors import MissingPrerequisite, UserError

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def push_dataset(folder: Path, repository: str, *, private: bool = False, message: str = "voxelboard records") -> str:
    """Make the repository if it is not there, and commit the folder to it; files that left the folder are removed.

    The token is that of ``hf auth login`` or ``HF_TOKEN``; ``HF_ENDPOINT`` names another hub.

    Returns
    -------
    the address of the commit.

    Raises
    ------
    UserError
        for a name that is no ``organisation/name``.
    MissingPrerequisite
        without a token, and when the hub refuses or cannot be reached; the folder stays.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    if not _REPOSITORY.fullmatch(repository):
        raise UserError(f"{repository!r} is no name of a repository", "write ORGANISATION/NAME")
    token = get_token()
    if not token:
        raise MissingPrerequisite("there is no token for the hub", "hf auth login, or set HF_TOKEN")
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)
    try:
        api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            repo_type="dataset",
            folder_path=folder,
            commit_message=message,
            delete_patterns=["records/**", "data/*.parquet"],
        )
    except HfHubHTTPError as error:
        raise MissingPrerequisite(f"the hub refused {repository}: {error}", "check the token's rights") from error
    except Exception as error:
        # the HTTP library behind the client (httpx, httpx2) is the client's own choice, and so are its exceptions
        if isinstance(error, OSError) or type(error).__module__.startswith("httpx"):
            raise MissingPrerequisite(f"the hub cannot be reached: {error}", f"the export is in {folder}") from error
        raise
    return str(commit.commit_url)
