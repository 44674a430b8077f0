# SPDX-License-Identifier: Apache-2.0
"""``voxelboard doctor``: what this machine has, and what is missing."""

from voxelboard.runners.console import put, put_json
from voxelboard.runners.options import Json


def doctor(as_json: Json = False) -> None:
    """Versions, GPUs, caches, disk, data sets and whether the machine works offline."""
    from voxelboard.runners.machine import describe_machine

    report = describe_machine()
    if as_json:
        put_json(report)
        return
    for section, facts in report.items():
        put(section)
        for name, value in facts.items():
            put(f"  {name:<18} {value}")
