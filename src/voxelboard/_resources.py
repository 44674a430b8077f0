# SPDX-License-Identifier: Apache-2.0
"""Where the YAML folders lie: packaged in a wheel, or at the root of a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent.parent


def _folder(packaged: str, checkout: str) -> Path:
    inside = _PACKAGE / packaged
    return inside if inside.is_dir() else _CHECKOUT / checkout


def cards_folder() -> Path:
    """The folder of data set cards (``datasets/`` in a checkout)."""
    return _folder("cards", "datasets")


def entries_folder() -> Path:
    """The folder of submissions (``submissions/`` in a checkout)."""
    return _folder("entries", "submissions")
