# SPDX-License-Identifier: Apache-2.0
"""A folder of pages replaced as a whole: built beside its place, then swapped in."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from voxelboard.benchmark.errors import UserError

# Written into every site, so that a later render knows which folders it may replace.
MARKER = ".voxelboard-site"


def check_output(target: Path, source: Path) -> None:
    """Raise UserError unless ``target`` is new, empty or an earlier render, and apart from the records in ``source``."""
    if target == source or source in target.parents or target in source.parents:
        raise UserError(
            f"the site {target} and the records {source} must lie in separate folders", "choose another --output"
        )
    if target.exists() and not target.is_dir():
        raise UserError(f"{target} is a file, not a folder", "choose another --output")
    if target.is_dir() and any(target.iterdir()) and not (target / MARKER).is_file():
        raise UserError(
            f"{target} holds files that are not an earlier render", "choose a new or an empty folder with --output"
        )


def replace_site(target: Path, build: Callable[[Path], None]) -> None:
    """Build a site in a temporary folder beside ``target`` and swap it in; on any error the old site stays as it was.

    Raises
    ------
    UserError
        when the folder cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        workplace = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            site, old = workplace / "new", workplace / "old"
            site.mkdir()
            build(site)
            (site / MARKER).write_bytes(b"")
            _swap(site, target, old)
        finally:
            shutil.rmtree(workplace, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"cannot write the site {target}: {error.strerror or error}",
            "free some space or choose another folder with --output",
            exit_code=3,
        ) from error


def _swap(site: Path, target: Path, old: Path) -> None:
    """Two renames within one file system; the first is undone when the second fails."""
    replaced = target.exists()
    if replaced:
        os.replace(target, old)
    try:
        os.replace(site, target)
    except OSError:
        if replaced:
            os.replace(old, target)
        raise
