# SPDX-License-Identifier: Apache-2.0
"""What a cell will take, before it runs: time, host and GPU memory, disk.

Tasks count their work (``benchmark/tasks/work.py``); here counts become seconds of this kind of machine, and then are corrected
by how long stored cells of the same data took (:func:`calibrate`). How far estimates and measured cells are apart is told in
docs/benchmarks.md. What is not known is None, never a guess of zero.
"""

import re
import statistics
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.protocol import Protocol
from voxelboard.benchmark.records import Record
from voxelboard.benchmark.submission import Submission
from voxelboard.benchmark.tasks.work import ModelSize, Reading, Work
from voxelboard.runners.workers.stages import Needs

# Sustained, not peak: a core at float32, and a GPU of the smaller kind. The fits are not all matrix products.
_CPU_FLOPS, _GPU_FLOPS = 3e10, 2e13
_START_SECONDS: Final = 2.0
_SECONDS_A_FIT: Final = 0.015
# what a token costs in each layer however small the layer is: of a table, and of a transformer
_SECONDS_A_TOKEN: Final = {"once": 1e-6, "strided": 1e-5, "prefixes": 1e-5}
_RESPONSE_BYTES_A_SECOND: Final = 1.3e8
_RECORD_BYTES: Final = 1 << 20
_PROCESS_BYTES: Final = 100 << 20
_TRANSFORMERS_BYTES: Final = 100 << 20  # the library and what a forward pass works in
_STRIDED = ("causal", "recurrent")
_BY_ITSELF = ("static", "simulated", "baseline")
_WIDTH = re.compile(r"-d(?P<width>\d+)")
_LAYERS = re.compile(r"-l(?P<layers>\d+)")


def size_of(submission: Submission, protocol: Protocol, *, offline: bool, allow_remote_code: bool) -> ModelSize | None:
    """The size of a submission's model: from its id or its configuration, else from what the submission states."""
    model = submission.model
    has_twins = not submission.is_baseline and submission.weights == "pretrained" and model.loader != "static"
    n_twins = protocol.score.n_twins if has_twins else 0
    reading = _reading(model.loader)
    if model.source in ("baseline", "simulated"):
        width, layers = _WIDTH.search(model.id or ""), _LAYERS.search(model.id or "")
        n_layers, n_features = int(layers["layers"]) if layers else 1, int(width["width"]) if width else 300
        row = (model.id or "").partition("-d")[0] if submission.is_baseline else ""
        return ModelSize(n_layers, n_features, 0, 0, n_twins, reading, row)
    from voxelboard.benchmark.models.load import describe_model
    from voxelboard.benchmark.submission import model_spec

    try:
        found = describe_model(model_spec(submission), offline=offline, allow_remote_code=allow_remote_code)
    except UserError:
        return _guess(submission, n_twins, reading)
    return ModelSize(
        found.n_layers,
        found.n_features,
        found.n_parameters,
        found.weight_bytes,
        n_twins,
        reading,
        max_tokens=found.max_tokens,
        n_vocabulary=found.n_vocabulary,
    )


def needs_of(work: Work, size: ModelSize, n_cells: int, threads: int, *, gpu: bool, stored: bool = False) -> Needs:
    """What the cells of one model take; ``stored``: its features are there already."""
    rate = _GPU_FLOPS if gpu else _CPU_FLOPS * threads
    fitting = work.flops / rate + work.n_fits * _SECONDS_A_FIT + work.response_bytes / _RESPONSE_BYTES_A_SECOND
    weights = _weights(size)
    return Needs(
        seconds=_START_SECONDS + fitting + (0.0 if stored else _reading_seconds(work, size, rate)),
        host_bytes=_PROCESS_BYTES + work.host_bytes + (0 if gpu else weights),
        device_bytes=max(work.device_bytes, weights) if gpu else 0,
        disk_bytes=(0 if stored else work.feature_bytes) + n_cells * _RECORD_BYTES + work.voxel_bytes,
    )


def feature_needs(work: Work, size: ModelSize, threads: int, base_bytes: int, *, gpu: bool) -> Needs:
    """What making the features of a model takes, with nothing fitted; ``base_bytes`` of a process that does nothing."""
    rate = _GPU_FLOPS if gpu else _CPU_FLOPS * threads
    weights = _weights(size)
    return Needs(
        seconds=_START_SECONDS + _reading_seconds(work, size, rate),
        host_bytes=_PROCESS_BYTES + base_bytes + (0 if gpu else weights),
        device_bytes=weights if gpu else 0,
        disk_bytes=work.feature_bytes,
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


def _reading_seconds(work: Work, size: ModelSize, rate: float) -> float:
    return work.tokens * (2.0 * size.n_parameters / rate + size.n_layers * _SECONDS_A_TOKEN[size.reading])


def _weights(size: ModelSize) -> int:
    library = _TRANSFORMERS_BYTES if size.weight_bytes and size.reading != "once" else 0
    return library + size.weight_bytes * (2 if size.n_twins else 1)  # a twin is drawn beside the model


def _reading(loader: str) -> Reading:
    if loader in _BY_ITSELF:
        return "once"
    return "strided" if loader in _STRIDED else "prefixes"


def _guess(submission: Submission, n_twins: int, reading: Reading) -> ModelSize | None:
    """Layers and width of a transformer with so many parameters: 12 layers of width² each, width about 64 times layers."""
    stated = submission.metadata.n_parameters
    if not stated:
        return None
    n_layers = max(2, round((stated / (12 * 64**2)) ** (1 / 3)))
    half = submission.model.dtype in ("bfloat16", "float16")
    return ModelSize(n_layers + 1, 64 * n_layers, stated, stated * (2 if half else 4), n_twins, reading)
