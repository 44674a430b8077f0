# SPDX-License-Identifier: Apache-2.0
"""Packages that only some data sets need."""

from typing import Any

from voxelboard.benchmark.optional import load_optional


def load_package(name: str, what: str) -> Any:
    """Import ``name``, which reads ``what``; raises MissingPrerequisite when it is not installed."""
    return load_optional(name, f"reading {what}", "data")
