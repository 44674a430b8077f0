# SPDX-License-Identifier: Apache-2.0
"""What a cell will take, before it runs: time, host and GPU memory, disk.

Memory of the fit is that of ``benchmark/encoding/memory.py``, checked there against measured peaks. Time is floating point
operations over a rate, and then corrected by how long stored cells of the same data took (:func:`calibrate`): trust it
to a factor of three before, to a third after. What is not known is None, never a guess of zero.
"""

import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.protocol import Protocol
from voxelboard.benchmark.records import Record
from voxelboard.benchmark.submission import Submission
from voxelboard.runners.plan import Cell
from voxelboard.runners.workers.stages import Needs

# Sustained, not peak: a core at float32 (docs/benchmarks.md), and a GPU of the smaller kind.
_CPU_FLOPS, _GPU_FLOPS = 3e10, 2e13
_START_SECONDS: Final = 4.0
_TOKENS_PER_WORD: Final = 1.35
_FORWARDS_PER_TOKEN: Final = 2  # strided chunks overlap by half
_SCORED_DESIGNS: Final = 2  # as they are, and without what confounds can say
_RECORD_BYTES: Final = 1 << 20
_WIDTH = re.compile(r"-d(?P<width>\d+)")
_LAYERS = re.compile(r"-l(?P<layers>\d+)")


@dataclass(frozen=True)
class Workload:
    """The size of a data set, as the fit sees it.

    Attributes
    ----------
    n_train, n_test : rows. ``n_rows``: of all stimuli. ``n_words``: that a model reads.
    n_voxels : subject -> voxels.
    """

    n_train: int
    n_test: int
    n_rows: int
    n_words: int
    n_voxels: dict[str, int]


@dataclass(frozen=True)
class ModelSize:
    """The size of a model; ``weight_bytes`` as it lies on the device."""

    n_layers: int
    n_features: int
    n_parameters: int
    weight_bytes: int
    n_twins: int


def workload_of(data: Any) -> Workload | None:
    """The size of an opened data set of stories; None for one that is not made of stories."""
    stories, split = getattr(data, "stories", None), getattr(data, "split", None)
    if not stories or split is None:
        return None
    train, test = split.folds[0]
    counted = _card_voxels(data.name)
    if not counted:
        first = data.responses(data.subjects[0]).n_voxels
        counted = dict.fromkeys(data.subjects, first)
    return Workload(
        n_train=sum(segment.stop - segment.start for segment in train),
        n_test=sum(segment.stop - segment.start for segment in test),
        n_rows=sum(story.n_trs for story in stories.values()),
        n_words=sum(story.n_words for story in stories.values()),
        n_voxels={subject: counted.get(subject, max(counted.values())) for subject in data.subjects},
    )


def size_of(submission: Submission, protocol: Protocol, *, offline: bool, allow_remote_code: bool) -> ModelSize | None:
    """The size of a submission's model: from its id or its configuration, else from what the submission states."""
    model = submission.model
    has_twins = not submission.is_baseline and submission.weights == "pretrained" and model.loader != "static"
    n_twins = protocol.score.n_twins if has_twins else 0
    if model.source in ("baseline", "simulated"):
        width, layers = _WIDTH.search(model.id or ""), _LAYERS.search(model.id or "")
        n_layers = int(layers["layers"]) if layers else 1
        return ModelSize(n_layers, int(width["width"]) if width else 300, 0, 0, n_twins)
    from voxelboard.benchmark.models.load import describe_model
    from voxelboard.benchmark.submission import model_spec

    try:
        found = describe_model(model_spec(submission), offline=offline, allow_remote_code=allow_remote_code)
    except UserError:
        return _guess(submission, n_twins)
    return ModelSize(found.n_layers, found.n_features, found.n_parameters, found.weight_bytes, n_twins)


def needs_of(
    cells: Sequence[Cell],
    size: ModelSize | None,
    workload: Workload | None,
    protocol: Protocol,
    threads: int,
    gpu: bool,
) -> Needs:
    """What the scores of some cells of one model take, its features included."""
    if size is None or workload is None:
        return Needs()
    from voxelboard.benchmark.encoding.memory import estimate_memory

    n_delays, n_alphas = len(protocol.design.delays_trs), len(protocol.encoding.relative_alphas)
    n_targets = sum(workload.n_voxels[cell.subject] for cell in cells)
    memory = estimate_memory(
        n_train=workload.n_train,
        n_test=workload.n_test,
        n_features=size.n_features,
        n_delays=n_delays,
        n_targets=n_targets,
        n_layers=size.n_layers,
        n_alphas=n_alphas,
        n_folds=protocol.encoding.n_inner_folds,
        on_gpu=gpu,
    )
    rate = _GPU_FLOPS if gpu else _CPU_FLOPS * threads
    reading = 2.0 * size.n_parameters * workload.n_words * _TOKENS_PER_WORD * _FORWARDS_PER_TOKEN
    fitting = (
        _SCORED_DESIGNS * size.n_layers * _fit_flops(workload.n_train, size.n_features * n_delays, n_targets, n_alphas)
    )
    features = 4 * size.n_layers * workload.n_rows * size.n_features
    weights = size.weight_bytes * (2 if size.n_twins else 1)  # a twin is drawn beside the model
    return Needs(
        seconds=_START_SECONDS + (1 + size.n_twins) * (reading + fitting) / rate,
        host_bytes=memory.host + (0 if gpu else weights),
        device_bytes=max(memory.device, weights) if gpu else 0,
        disk_bytes=(1 + size.n_twins) * features + len(cells) * _RECORD_BYTES,
    )


def calibrate(needs: Needs, factor: float | None) -> Needs:
    """``needs`` with its time times ``factor``."""
    if factor is None or needs.seconds is None:
        return needs
    return replace(needs, seconds=needs.seconds * factor)


def calibration(pairs: Iterable[tuple[Needs, Record]]) -> float | None:
    """How many times longer stored cells took than was expected, the median; None without any.

    Each pair is the expectation for all cells of a job and its last record, whose stopwatch ran through the job.
    """
    ratios = [
        sum(record.environment.seconds.values()) / needs.seconds
        for needs, record in pairs
        if needs.seconds and record.environment is not None and record.environment.seconds
    ]
    return statistics.median(ratios) if ratios else None


def _fit_flops(n: int, n_columns: int, n_targets: int, n_alphas: int) -> float:
    """Cross-validated ridge: factors once, then a product with the responses for each alpha."""
    width = min(n, n_columns)
    return 2.0 * n * width * n_columns + 10.0 * width**3 + 2.0 * n_alphas * n * width * n_targets


def _guess(submission: Submission, n_twins: int) -> ModelSize | None:
    """Layers and width of a transformer with so many parameters: 12 layers of width² each, width about 64 times layers."""
    stated = submission.metadata.n_parameters
    if not stated:
        return None
    n_layers = max(2, round((stated / (12 * 64**2)) ** (1 / 3)))
    half = submission.model.dtype in ("bfloat16", "float16")
    return ModelSize(n_layers + 1, 64 * n_layers, stated, stated * (2 if half else 4), n_twins)


def _card_voxels(name: str) -> dict[str, int]:
    from voxelboard.benchmark.readers.cards import list_cards, load_card

    return dict(load_card(name).n_voxels) if name in list_cards() else {}
