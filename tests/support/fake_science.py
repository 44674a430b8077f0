# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the science: cells of known scores, without a model or a brain."""

from collections.abc import Callable, Iterable

import numpy as np

from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.record_stamps import DatasetStamp, ProtocolStamp
from voxelboard.benchmark.records import Arrays, Estimate, Record
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.statistics.influence import macro_influence
from voxelboard.benchmark.statistics.intervals import single_subject_interval
from voxelboard.benchmark.statistics.scores import BlockStatistics, coarsen
from voxelboard.runners.local import StageProgress, unresolved_model
from voxelboard.runners.plan import Job

N_BLOCKS = 24  # of 5 TRs: eight inference blocks


def scored_cell(job: Job, subject: str, seed: int = 0) -> tuple[Record, Arrays]:
    """A record whose headline is what its statistics give, by the functions of the statistics package."""
    rng = np.random.default_rng([seed, sum(map(ord, subject + job.submission.label))])
    c, q = rng.uniform(0.5, 1.0, (N_BLOCKS, 2)), rng.uniform(1.0, 2.0, (N_BLOCKS, 2))
    # signal power is a property of the responses: the same for all models of a subject
    s = np.random.default_rng(sum(map(ord, subject))).uniform(4.0, 6.0, (N_BLOCKS, 2))
    stats = BlockStatistics(c, q, s, np.zeros(N_BLOCKS, dtype=np.int64), V1.score.stored_block_trs)
    influence = macro_influence(coarsen(stats, V1.score.inference_block_trs), np.array([True, True]))
    interval = single_subject_interval(influence)
    unique = Estimate(
        estimate=interval.estimate,
        standard_error=interval.se,
        low=interval.low,
        high=interval.high,
        estimator="H_u",
        n=interval.n,
        unit="H",
    )
    record = Record(
        status="success",
        task=job.task,
        task_version=1,
        subject=subject,
        protocol=ProtocolStamp.of(V1, job.task),
        dataset=DatasetStamp(
            name=job.dataset,
            version="1.0.0",
            kind="simulated",
            ceiling_kind="repeats",
            stimuli_sha256="a" * 64,
            responses_sha256="b" * 64,
            scored_rois=("AC", "IFG"),
            n_train=100,
            n_test=N_BLOCKS * 5,
            n_voxels=8,
            n_repeats=2,
        ),
        model=unresolved_model(job.submission, job.revision),
        scores={"unique": unique},
        statistics_sha256="0" * 64,
    )
    arrays = {
        "rois": np.array(["AC", "IFG"]),
        "block_segment": stats.block_segment,
        "voxel_roi": np.repeat(["AC", "IFG"], 4),
        "stats__unique": np.stack([c, q, s], axis=-1),
    }
    return record, arrays


class FakeScience:
    """Scores every cell, except where ``fail`` raises. Remembers what it was asked for."""

    def __init__(self, fail: Callable[[Job, str], None] = lambda job, subject: None) -> None:
        self.fail = fail
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    def __call__(self, job: Job, settings: Settings, progress: StageProgress) -> Iterable[tuple[Record, Arrays | None]]:
        self.asked.append((job.submission.label, job.subjects))
        progress("features, story 1/2", 1, 2)
        for subject in job.subjects:
            self.fail(job, subject)
            record, arrays = scored_cell(job, subject)
            yield record.model_copy(update={"partial": settings.limit is not None}), arrays
