# SPDX-License-Identifier: Apache-2.0
"""Responses that are read story by story, and the labels of their voxels."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.readers.arrays import require_file
from voxelboard.benchmark.readers.base import Responses, run_sha256

FloatArray = NDArray[np.float32]

LEFT_OUT = "-"  # the label of a voxel that is not analysed


class LazyRuns(Mapping[str, FloatArray]):
    """story -> (n_repeats, n_trs, n_voxels) float32; one story lies in memory at a time, and no longer than it is used.

    Parameters
    ----------
    stories : in order.
    read : reads one story; called at every access.
    """

    def __init__(self, stories: Sequence[str], read: Callable[[str], FloatArray]) -> None:
        self._stories = tuple(stories)
        self._read = read
        self._hashes: dict[str, str] = {}

    def __getitem__(self, story: str) -> FloatArray:
        if story not in self._stories:
            raise KeyError(story)
        run = self._read(story)
        if story not in self._hashes:
            self._hashes[story] = run_sha256(run)
        return run

    def run_sha256(self, story: str) -> str:
        """Hash of a run, from when it was first read: whoever has scored a subject does not read it again for its hash."""
        if story not in self._hashes:
            _ = self[story]
        return self._hashes[story]

    def __contains__(self, story: object) -> bool:
        return story in self._stories  # without reading it

    def __iter__(self) -> Iterator[str]:
        return iter(self._stories)

    def __len__(self) -> int:
        return len(self._stories)


Method = TypeVar("Method", bound=Callable[..., Responses])


def keep_by_subject(responses: Method) -> Method:
    """For a reader's ``responses``: the same object for the same subject. It holds hashes, not numbers: runs stay on disk."""

    @wraps(responses)
    def kept(self: Any, subject: str) -> Responses:
        known: dict[str, Responses] = vars(self).setdefault("_responses_by_subject", {})
        if subject not in known:
            known[subject] = responses(self, subject)
        return known[subject]

    return cast("Method", kept)


def read_labels(path: Path, n_voxels: int | None = None) -> NDArray[np.str_]:
    """(n_voxels,) the label of each voxel: a text file with one a line; ``-`` leaves a voxel out.

    Raises
    ------
    MissingPrerequisite
        when there is no such file.
    DataError
        for another number of lines than voxels, an empty line, or a file that leaves everything out.
    """
    require_file(path, "one label a line, '-' for a voxel that is left out")
    try:
        labels = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8 text: {error}") from error
    if n_voxels is not None and len(labels) != n_voxels:
        raise DataError(f"{path.name}: {len(labels)} labels for {n_voxels} voxels")
    if "" in labels:
        raise DataError(f"{path.name}, line {labels.index('') + 1} is empty", "write - for a voxel that is left out")
    if all(label == LEFT_OUT for label in labels):
        raise DataError(f"{path.name} leaves every voxel out")
    return np.array(labels)
