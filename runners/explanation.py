# SPDX-License-Identifier: Apache-2.0
"""The arithmetic behind a stored score, recomputed from the sufficient statistics beside its records.

Nothing is taken from the record's own scores: they are compared with what is recomputed here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voxelboard.benchmark.errors import DataError, UserError, unknown_name
from voxelboard.benchmark.records import Record, load_records, read_statistics
from voxelboard.benchmark.statistics.gates import signal_gate
from voxelboard.benchmark.statistics.influence import macro_influence
from voxelboard.benchmark.statistics.intervals import Interval, single_subject_interval, two_way_interval
from voxelboard.benchmark.statistics.scores import BlockStatistics, FloatArray, coarsen, noise_corrected
from voxelboard.leaderboard.cells import score_policy

# The stored score and the recomputed one come from the same float64 sums.
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class RoiSums:
    """One region: ``score = c / sqrt(q s)``; None where its signal power does not pass the gate."""

    roi: str
    c: float
    q: float
    s: float
    score: float | None


@dataclass(frozen=True)
class SubjectExplanation:
    """One subject: its regions, the mean of those that pass the gate, and the interval over test blocks."""

    subject: str
    record: str
    rois: tuple[RoiSums, ...]
    mean: float
    interval: Interval
    stored: float
    n_blocks: int


@dataclass(frozen=True)
class Explanation:
    """One model at one revision on one data set."""

    model: str
    revision: str
    task: str
    dataset: str
    protocol: str
    protocol_hash: str
    unit: str
    block_trs: int
    gate: float
    subjects: tuple[SubjectExplanation, ...]
    mean: float
    interval: Interval

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def explain_scores(results: Path, model: str, task: str, dataset: str | None = None) -> list[Explanation]:
    """Explain the headline of a model, one explanation per data set and revision.

    Raises
    ------
    UserError
        when there is no such record with scores.
    DataError
        when statistics are damaged, or a stored score is not what they give.
    """
    records = load_records(results)
    names = {record.model.submission for _, record in records}
    full = _full_name(model, names)
    groups: dict[tuple[str, ...], list[tuple[Path, Record]]] = {}
    for path, record in records:
        stamp = record.dataset
        if record.model.submission != full or record.task != task or record.status != "success" or stamp is None:
            continue
        if dataset in (None, stamp.name) and not record.invalidated:
            version = f"{stamp.name} {stamp.version}"
            revision = f"{record.model.revision}{record.model.seed if record.model.weights == 'random' else ''}"
            partial = "partial" if record.partial else ""
            groups.setdefault((version, record.protocol.hash, revision, partial), []).append((path, record))
    if not groups:
        where = f" on {dataset}" if dataset else ""
        raise UserError(f"{full} has no scores for {task}{where} in {results}", "`voxelboard status` says why")
    return [_explain(group) for _, group in sorted(groups.items())]


def _full_name(model: str, names: set[str]) -> str:
    short = [name for name in names if name.rpartition("/")[2] == model]
    if model in names:
        return model
    if len(short) == 1:
        return short[0]
    raise unknown_name("model with records", model, names)


def _explain(group: Sequence[tuple[Path, Record]]) -> Explanation:
    explained = [_explain_subject(path, record) for path, record in group]
    subjects = tuple(subject for subject, _ in explained)
    tables = [influence for _, influence in explained]
    path, first = group[0]
    if len({len(table) for table in tables}) > 1:
        raise DataError(f"the subjects beside {path} have different test blocks", "run their cells with --fresh")
    policy, stamp = score_policy(first, path), first.dataset
    return Explanation(
        model=first.model.submission,
        revision=first.model.revision,
        task=first.task,
        dataset=f"{stamp.name} {stamp.version}" if stamp else "",
        protocol=first.protocol.name,
        protocol_hash=first.protocol.hash,
        unit=first.scores["unique"].unit,
        block_trs=policy.inference_block_trs,
        gate=policy.gate_standard_errors,
        subjects=subjects,
        mean=float(np.mean([subject.mean for subject in subjects])),
        interval=two_way_interval(np.stack(tables), confidence=policy.confidence),
    )


def _explain_subject(path: Path, record: Record) -> tuple[SubjectExplanation, FloatArray]:
    """The explanation and the (n_blocks,) influence values behind its interval."""
    policy = score_policy(record, path)
    names, stats = _headline_sums(path, record, policy.stored_block_trs)
    stats = coarsen(stats, policy.inference_block_trs)
    passed = signal_gate(stats, policy.gate_standard_errors)
    rois = tuple(
        RoiSums(name, float(c), float(q), float(s), noise_corrected(float(c), float(q), float(s)) if enters else None)
        for name, c, q, s, enters in zip(names, *stats.totals(), passed, strict=True)
    )
    stored = record.scores["unique"].estimate
    scores = [roi.score for roi in rois if roi.score is not None]
    mean = float(np.mean(scores)) if scores else None
    if stored is None or mean is None or abs(stored - mean) > _TOLERANCE:
        raise DataError(
            f"{path}: the record says unique {stored}, its statistics give {mean}",
            "the record was edited or damaged: run its cell with --fresh",
        )
    influence = macro_influence(stats, passed)
    interval = single_subject_interval(influence, confidence=policy.confidence)
    explanation = SubjectExplanation(record.subject, str(path), rois, mean, interval, stored, len(influence))
    return explanation, influence


def _headline_sums(path: Path, record: Record, block_trs: int) -> tuple[list[str], BlockStatistics]:
    """Names of the regions, and the sums of the headline by stored block."""
    arrays = read_statistics(path, record)
    try:
        names = [str(name) for name in arrays["rois"]]
        c, q, s = np.moveaxis(np.asarray(arrays["stats__unique"], dtype=np.float64), -1, 0)
        return names, BlockStatistics(c, q, s, np.asarray(arrays["block_segment"], dtype=np.int64), block_trs)
    except (KeyError, ValueError) as error:
        raise DataError(f"{path.with_suffix('.npz')}: {error}", "run its cell with --fresh") from error


def show_explanation(explanation: Explanation) -> Iterator[str]:
    """The arithmetic as lines of text."""
    e = explanation
    yield f"{e.model} @ {e.revision[:12]} · {e.task} · {e.dataset} · protocol {e.protocol} ({e.protocol_hash[:12]})"
    yield "H = c / sqrt(q s), sums over test TRs and voxels: c covariance, q variance of the prediction, s signal power"
    yield f"a region enters where s exceeds {e.gate:g} standard errors of its blocks"
    for subject in e.subjects:
        yield f"subject {subject.subject}  ({subject.record})"
        yield from (f"  {_roi_line(roi)}" for roi in subject.rois)
        scores = [roi.score for roi in subject.rois if roi.score is not None]
        terms = " + ".join(f"{score:.6f}" for score in scores)
        yield f"  mean of {len(scores)} regions: ({terms}) / {len(scores)} = {subject.mean:.6f}"
        yield f"  {_interval(subject.interval)}, from {subject.n_blocks} blocks of {e.block_trs} TRs"
    terms = " + ".join(f"{subject.mean:.6f}" for subject in e.subjects)
    yield f"mean of {len(e.subjects)} subjects: ({terms}) / {len(e.subjects)} = {e.mean:.6f} {e.unit}"
    yield _interval(e.interval)


def _roi_line(roi: RoiSums) -> str:
    if roi.score is None:
        return f"{roi.roi:<8} does not enter: s = {roi.s:.6g} is not above the gate"
    sums = f"{roi.c:.6g} / sqrt({roi.q:.6g} x {roi.s:.6g})"
    return f"{roi.roi:<8} {sums} = {roi.c:.6g} / {np.sqrt(roi.q * roi.s):.6g} = {roi.score:.6f}"


def _interval(interval: Interval) -> str:
    half = (interval.high - interval.low) / 2
    return (
        f"95 % interval: {interval.estimate:.6f} ± {half:.6f} = [{interval.low:.6f}, {interval.high:.6f}] "
        f"(se {interval.se:.6f}, t with {interval.df:.1f} df; {interval.estimator})"
    )
