# SPDX-License-Identifier: Apache-2.0
"""What a task is: it takes a submission and a data set, and yields the scores of one subject after the other."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.environment import Stopwatch
from voxelboard.benchmark.features.store import FeatureStore
from voxelboard.benchmark.protocol import Protocol as Measurement
from voxelboard.benchmark.protocol import TaskName
from voxelboard.benchmark.readers.base import DatasetFacts
from voxelboard.benchmark.record_stamps import AttributionStamp, DatasetStamp, ModelStamp
from voxelboard.benchmark.records import Checks, Estimate, Facet, LayerProfile
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.submission import Submission
from voxelboard.benchmark.tasks.work import ModelSize, Work

Arrays = dict[str, NDArray[np.generic]]
StageProgress = Callable[[str, int, int], None]  # (stage, done, total)


@dataclass(frozen=True)
class RunContext:
    """Where and how a task runs: nothing in it but the protocol may change a score.

    ``progress`` is called as ``(stage, done, total)``; ``stopwatch`` collects wall seconds by stage.
    """

    settings: Settings
    store: FeatureStore
    device: torch.device
    stopwatch: Stopwatch
    progress: StageProgress = lambda stage, done, total: None

    @property
    def protocol(self) -> Measurement:
        return self.settings.protocol


@dataclass(frozen=True, eq=False)
class CellResult:
    """Scores of one subject.

    Attributes
    ----------
    scores : name -> over all scored ROIs; ``unique`` is the headline.
    by_roi : ROI -> name -> estimate.
    layers : ROI -> profile over layers.
    checks : canaries and receipts.
    arrays : what the scores can be recomputed from. ``rois`` (n_rois,) names; ``block_segment`` (n_blocks,) and
        ``block_trs`` say what a block is; ``stats__<row>`` (n_blocks, n_rois, 3) hold c, q and s of statistics.md 2.2, with
        ``stats__unique`` behind the headline; ``voxel_roi`` (n_voxels,) labels and ``voxel_r__<row>`` (n_voxels,);
        ``condition_stats__<condition>`` (n_inference_blocks, n_rois, 2) c and q of a perturbed text;
        ``voxel_blocks__unique`` (n_inference_blocks, n_voxels) to compare two models voxel by voxel;
        where responses lie on a shared surface ``surface``, ``voxel_vertex`` (-1: at none) and ``voxel_layer`` (n_voxels,).
    n_train, n_test : rows of the design.
    facets : scores of parts of the cell; attribution : how those of its attribution methods were made.
    """

    subject: str
    scores: dict[str, Estimate]
    by_roi: dict[str, dict[str, Estimate]]
    layers: dict[str, LayerProfile]
    checks: Checks
    arrays: Arrays
    n_train: int
    n_test: int
    n_voxels: int
    n_repeats: int
    facets: tuple[Facet, ...] = ()
    attribution: AttributionStamp | None = None


class MeasuredCell(NamedTuple):
    """The scores of one subject, with what was measured on and what was resolved of the model."""

    dataset: DatasetStamp
    model: ModelStamp
    result: CellResult


class Task(Protocol):
    """One task. ``default_data`` is what it is run on when no data set is named."""

    name: TaskName
    version: int
    default_data: str

    def mandatory_rows(self, data: DatasetFacts) -> list[Submission]:
        """The harness' own rows, without which a score on this data set cannot be read."""
        ...

    def measure(
        self, submission: Submission, data: Any, subjects: Sequence[str], context: RunContext
    ) -> Iterator[MeasuredCell]:
        """Score a submission, one subject after the other; ``data`` is an opened data set of this task.

        Raises
        ------
        UserError
            for what a user can fix.
        InvalidNumbers
            when a canary finds something: the numbers would mean nothing.
        """
        ...

    def work(self, data: Any, subjects: Sequence[str], size: ModelSize, protocol: Measurement, *, on_gpu: bool) -> Work:
        """What ``measure`` will take for a model of this size; reads sizes and texts of the data set, no responses."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """A task whose features can be made before, and shared by, the cells of a model: a stage of its own on a cluster."""

    def prepare(self, submission: Submission, data: Any, context: RunContext) -> None:
        """Fill ``context.store`` with every feature that ``measure`` will ask for, whoever the subjects are."""
        ...


def merged_checks(checks: Checks, fields: Mapping[str, Any]) -> Checks:
    """``checks`` with other fields filled in, validated again."""
    return Checks.model_validate({**checks.model_dump(), **fields})
