# SPDX-License-Identifier: Apache-2.0
"""Files that appear whole or not at all."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO


def replace_file(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Call ``write`` with a temporary file beside ``path``, then rename it to ``path``.

    A crash, a kill or a full disk leaves the old file or the new one, on disk, and nothing else. The folder is made when it is
    missing.

    Raises
    ------
    OSError
        of the disk; the temporary file is gone then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644  # mkstemp's 0600 would hide results from colleagues
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
