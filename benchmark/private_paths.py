# SPDX-License-Identifier: Apache-2.0
"""Records are published, and folders of a machine are nobody's business: absolute paths are cut to their last name."""

import re

# A path of two parts or more that starts at the root, at a home folder or at a drive; not the path of a web address.
_POSIX = re.compile(
    r"(?:file://)?(?<![\w.:/~-])(?:~[\w.-]*)?(?:/[^\s/'\"<>|:;,()\[\]{}=]+)+/?([^\s/'\"<>|:;,()\[\]{}=]*)"
)
_WINDOWS = re.compile(r"(?:\b[A-Za-z]:[\\/]|\\\\)(?:[^\s\\/'\"<>|:;,()]+[\\/])*([^\s\\/'\"<>|:;,()]*)")


def without_machine_paths(text: str) -> str:
    """``voxelboard run -m /home/jane/thesis/mine`` becomes ``voxelboard run -m …/mine``.

    Addresses (``https://…``), names (``org/model``) and relative paths stay.
    """
    text = re.sub(r"file://(?:localhost)?(?=/)", "", text)
    return _WINDOWS.sub(_last, _POSIX.sub(_last, text))


def _last(match: re.Match[str]) -> str:
    parts = [part for part in re.split(r"[\\/]", match[0]) if part]
    if len(parts) < 2:  # "/" or "/x" names no folder of anybody
        return match[0]
    return f"…/{parts[-1]}"
