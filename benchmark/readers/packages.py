# SPDX-License-Identifier: Apache-2.0
"""Packages that only some data sets need: imported where they are used, missed with the line that installs them."""

import importlib
from typing import Any

from voxelboard.benchmark.errors import MissingPrerequisite


def load_package(name: str, what: str) -> Any:
    """Import ``name``, which reads ``what``.

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
            f"reading {what} needs {name}, which is not installed", 'pip install "voxelboard[data]"'
        ) from None
