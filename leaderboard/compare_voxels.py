# SPDX-License-Identifier: Apache-2.0
"""Two submissions voxel by voxel, from what their records store of each block."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError, UserError
from voxelboard.benchmark.records import load_records, read_statistics
from voxelboard.benchmark.statistics.paired import PairedVoxels, paired_voxel_test
from voxelboard.leaderboard.board import Column
from voxelboard.leaderboard.cells import Cell
from voxelboard.leaderboard.compare import pairs_by_column

BLOCKS: Final = "voxel_blocks__unique"
SEED: Final = 20_240_117  # the draws are the same for all pairs


@dataclass(frozen=True, eq=False)
class VoxelComparison:
    """``a`` minus ``b`` in every voxel of one subject: r beyond the confounds, in blocks that both have.

    Attributes
    ----------
    rois : (n_voxels,) labels.
    tested : the differences with their p and q values.
    rate : the false discovery rate of :attr:`better` and :attr:`worse`.
    """

    column: Column
    subject: str
    rois: NDArray[np.str_]
    tested: PairedVoxels
    rate: float

    def counts(self) -> dict[str, tuple[int, int, int]]:
        """ROI (and ``all``) -> voxels, voxels where ``a`` is better, voxels where ``b`` is better."""
        better, worse = self.tested.better(self.rate), self.tested.worse(self.rate)
        masks = {"all": np.ones(len(self.rois), dtype=bool)}
        masks |= {str(roi): self.rois == roi for roi in np.unique(self.rois)}
        return {name: (int(m.sum()), int((better & m).sum()), int((worse & m).sum())) for name, m in masks.items()}


def compare_voxels(
    results: Path | str,
    a: str,
    b: str,
    *,
    rate: float = 0.05,
    progress: Callable[[str], None] = lambda message: None,
) -> Iterator[VoxelComparison]:
    """Compare two submissions in every column and subject that both have, one subject in memory at a time.

    Names as in :func:`~voxelboard.leaderboard.compare.compare`; p values are corrected within a subject.

    Raises
    ------
    UserError
        for names that do not fit, and for test data of too few blocks.
    DataError
        when the records do not hold blocks of voxels.
    """
    for column, first, second, subjects in pairs_by_column(load_records(results), a, b):
        for subject in subjects:
            progress(f"{column.label}, {subject}")
            yield _subject(column, subject, first.cells[subject], second.cells[subject], rate)


def _subject(column: Column, subject: str, first: Cell, second: Cell, rate: float) -> VoxelComparison:
    blocks, rois = zip(*(_stored(column, cell) for cell in (first, second)), strict=True)
    if blocks[0].shape != blocks[1].shape or not np.array_equal(*rois):
        raise DataError(
            f"{first.path} and {second.path} hold other voxels or blocks: {blocks[0].shape} and {blocks[1].shape}",
            "run both with the same version and --fresh",
        )
    difference = blocks[0].astype(np.float64) - blocks[1].astype(np.float64)
    try:
        tested = paired_voxel_test(difference, seed=SEED, rate=rate, segments=first.block_segment)
    except UserError as error:
        raise UserError(f"{column.label}, {subject}: {error}", "leave out --voxels: compare by region") from error
    return VoxelComparison(column, subject, rois[0], tested, rate)


def _stored(column: Column, cell: Cell) -> tuple[NDArray[np.float16], NDArray[Any]]:
    arrays = read_statistics(cell.path, cell.record)
    if BLOCKS not in arrays:
        raise DataError(
            f"{cell.path.with_suffix('.npz')} holds no blocks of voxels: it was written before they were stored",
            f"run `voxelboard run -t {column.task} --data {column.dataset} -m {cell.record.model.submission} --fresh` (or with "
            "the YAML file that it was run from), or leave out --voxels",
        )
    return arrays[BLOCKS], arrays["voxel_roi"]
