# SPDX-License-Identifier: Apache-2.0
"""Packages that only some uses need: imported where they are used, missed with the line that installs them."""

import importlib
from typing import Any

from voxelboard.benchmark.errors import MissingPrerequisite


def load_optional(name: str, what: str, extra: str) -> Any:
    """Import ``name``, which ``what`` needs and the extra ``extra`` installs.

    Raises
    ------
    MissingPrerequisite
        when it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise MissingPrerequisite(
            f"{what} needs {name}, which is not installed", f'pip install "voxelboard[{extra}]"'
        ) from None
