# SPDX-License-Identifier: Apache-2.0
"""What reading pictures needs of the installed transformers."""

from importlib.metadata import version
from importlib.util import find_spec

import pytest


def require_picture_reading() -> None:
    """Skip where pictures cannot be read: transformers before 5.18 wants torchvision for any of them."""
    pytest.importorskip("PIL", reason="pictures need Pillow: pip install 'voxelboard[media]'")
    major, minor = (int(part) for part in version("transformers").split(".")[:2])
    if (major, minor) < (5, 18) and find_spec("torchvision") is None:
        pytest.skip("pictures need transformers 5.18 or torchvision")
