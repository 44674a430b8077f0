# SPDX-License-Identifier: Apache-2.0
"""What a study found: deltas with intervals over subjects, story blocks and training seeds, from its stored scores."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from voxelboard.benchmark.atomic import replace_file
from voxelboard.benchmark.errors import DataError, InvalidNumbers
from voxelboard.benchmark.protocol import Protocol
from voxelboard.benchmark.readers.base import NarrativeData
from voxelboard.benchmark.statistics.deltas import (
    crossed_interval,
    delta_intervals,
    describe_factors,
    jaccard,
    peak_regions,
    specificity_index,
)
from voxelboard.benchmark.statistics.intervals import MIN_RANDOM_SUBJECTS, Interval
from voxelboard.benchmark.stimuli.corpora import Manifest, read_manifest, slug
from voxelboard.benchmark.studies.ablation import (
    ORIGINAL,
    Reading,
    StudyModel,
    StudyPlan,
    complete_seeds,
    protocol_hash_of,
    read_scores,
    scores_path,
    study_readings,
    texts_of,
)
from voxelboard.benchmark.studies.encoding import SubjectScores, stack_influence
from voxelboard.benchmark.study_tables import ALL_ROIS, STUDY_FILE, DatasetOfStudy, Overlap, Quantity
from voxelboard.benchmark.training.presets import TrainingPreset, load_preset
from voxelboard.benchmark.training.trainer import TrainingResult, read_result

FloatArray = NDArray[np.float64]
ARRAYS_FILE = "study.npz"


@dataclass(frozen=True)
class StudyResults:
    """A study as it is committed; :func:`read_results` reads it back.

    ``protocol_hash`` is that of the task narrative under which all scores were measured.
    """

    name: str
    protocol: str
    protocol_hash: str
    seeds: tuple[int, ...]
    preset: TrainingPreset
    corpora: tuple[Manifest, ...]
    trainings: tuple[TrainingResult, ...]
    datasets: tuple[DatasetOfStudy, ...]
    quantities: tuple[Quantity, ...]
    overlaps: tuple[Overlap, ...]


class _Scores:
    """The stored scores of the complete seeds of a study on one data set."""

    def __init__(self, plan: StudyPlan, data: NarrativeData, protocol: Protocol, seeds: Sequence[int]) -> None:
        self.plan, self.data, self.protocol, self.seeds = plan, data, protocol, tuple(seeds)
        self.subjects = tuple(self.of("lstm" if "lstm" in plan.architectures else "gpt2", ORIGINAL, ORIGINAL)[0])

    def of(self, architecture: str, ablation: str, text: str) -> list[dict[str, SubjectScores]]:
        """The scores of each seed."""
        return [
            read_scores(
                scores_path(
                    self.plan,
                    self.data.name,
                    Reading(StudyModel(architecture, ablation, seed), text),  # type: ignore[arg-type]
                )
            )
            for seed in self.seeds
        ]

    def tables(self, architecture: str, ablation: str, text: str) -> dict[str, FloatArray]:
        """ROI that enters, and the mean over these -> (n_subjects, n_blocks, n_seeds) influence values.

        Raises
        ------
        DataError
            when no region has signal power above the gate.
        """
        models = [{s: found.stats for s, found in seed.items()} for seed in self.of(architecture, ablation, text)]
        values, enters = stack_influence(models, self.subjects, self.protocol)
        if not enters.any():
            raise DataError(f"no region of {self.data.name} passes the signal gate", "leave this data set out")
        tables = {ALL_ROIS: values[..., enters].mean(axis=-1)}
        for k in np.flatnonzero(enters).tolist():
            tables[self.data.scored_rois[k]] = values[..., k]
        return tables

    def voxel_r(self, architecture: str, ablation: str, text: str) -> dict[str, FloatArray]:
        """Subject -> (n_voxels,) r beyond the confounds, mean over seeds."""
        models = self.of(architecture, ablation, text)
        return {s: np.mean([m[s].voxel_r for m in models], axis=0, dtype=np.float64) for s in self.subjects}


def study_results(
    plan: StudyPlan, name: str, data: Sequence[NarrativeData], protocol: Protocol
) -> tuple[StudyResults, dict[str, NDArray[Any]]]:
    """Everything that a study found, and the arrays behind it.

    Only seeds of which every reading is scored on every data set enter.

    Raises
    ------
    DataError
        when no seed is complete.
    """
    seeds = sorted(set.intersection(*(set(complete_seeds(plan, d)) for d in data)) if data else set())
    if not seeds:
        raise DataError("no seed of this study is complete on every data set", "`voxelboard study run` goes on with it")
    quantities: list[Quantity] = []
    overlaps: list[Overlap] = []
    arrays: dict[str, NDArray[Any]] = {}
    described = []
    for one in data:
        scores = _Scores(plan, one, protocol, seeds)
        quantities += _quantities(scores)
        overlaps += _overlaps(scores)
        arrays |= _arrays(scores)
        described.append(_describe(plan, one, scores))
    results = StudyResults(
        name=name,
        protocol=protocol.name,
        protocol_hash=protocol_hash_of(
            scores_path(plan, one.name, reading)
            for one in data
            for reading in study_readings(plan)
            if reading.model.seed in seeds
        ),
        seeds=tuple(seeds),
        preset=load_preset(plan.preset),
        corpora=tuple(read_manifest(plan.corpus.output / slug(a)) for a in plan.corpus.ablations),
        trainings=tuple(
            read_result(plan.folder / "models" / StudyModel(architecture, ablation, seed).name)
            for architecture in plan.architectures
            for ablation in plan.corpus.ablations
            for seed in seeds
        ),
        datasets=tuple(described),
        quantities=tuple(quantities),
        overlaps=tuple(overlaps),
    )
    return results, arrays


def _describe(plan: StudyPlan, data: NarrativeData, scores: _Scores) -> DatasetOfStudy:
    train = plan.n_train.get(data.name)
    n_train = max(len(part) for part, _ in data.split.folds)
    table = scores.tables(plan.architectures[0], ORIGINAL, ORIGINAL)[ALL_ROIS]
    return DatasetOfStudy(
        data.name,
        data.version,
        scores.subjects,
        tuple(data.scored_rois),
        table.shape[1],
        n_train if train is None else train,
        len(data.split.test_segments),
    )


def _quantities(scores: _Scores) -> Iterator[Quantity]:
    for architecture in scores.plan.architectures:
        yield from _of_architecture(scores, architecture)


def _of_architecture(scores: _Scores, architecture: str) -> Iterator[Quantity]:
    base = scores.tables(architecture, ORIGINAL, ORIGINAL)
    yield from _scores_of(scores, architecture, ORIGINAL, ORIGINAL, base)
    pairs: list[tuple[str, str, str, dict[str, FloatArray], dict[str, FloatArray]]] = []
    if scores.plan.short_context:
        short = scores.tables(architecture, ORIGINAL, "short")
        pairs.append((ORIGINAL, ORIGINAL, "context", base, short))
    for ablation in scores.plan.corpus.ablations:
        for text in texts_of(ablation) if ablation != ORIGINAL else ():
            table = scores.tables(architecture, ablation, text)
            yield from _scores_of(scores, architecture, ablation, text, table)
            pairs.append((ablation, text, "delta", base, table))
            control = f"random-{ablation}"
            if control in scores.plan.corpus.ablations:
                # both deltas start from the same original: their difference is control minus ablated
                pairs.append((ablation, text, "beyond_control", scores.tables(architecture, control, text), table))
    for roi in base:
        intervals = delta_intervals([one[roi] for *_, one, _ in pairs], [other[roi] for *_, other in pairs])
        for (ablation, text, kind, one, other), interval in zip(pairs, intervals, strict=True):
            yield _quantity(scores, (architecture, ablation, text, kind, roi), one[roi] - other[roi], interval)


def _scores_of(
    scores: _Scores, architecture: str, ablation: str, text: str, tables: Mapping[str, FloatArray]
) -> Iterator[Quantity]:
    for roi, table in tables.items():
        n_subjects, _, n_seeds = table.shape
        interval = crossed_interval(table, (n_subjects >= MIN_RANDOM_SUBJECTS, True, n_seeds > 1))
        yield _quantity(scores, (architecture, ablation, text, "score", roi), table, interval)


def _quantity(scores: _Scores, labels: tuple[str, str, str, str, str], table: FloatArray, found: Interval) -> Quantity:
    architecture, ablation, text, kind, roi = labels
    n_subjects, _, n_seeds = table.shape
    means = table.mean(axis=(1, 2))
    return Quantity(
        dataset=scores.data.name,
        architecture=architecture,
        ablation=ablation,
        text=text,
        kind=kind,
        roi=roi,
        estimate=found.estimate,
        low=found.low,
        high=found.high,
        standard_error=found.se,
        df=found.df,
        estimator=f"{found.estimator}; {describe_factors(n_subjects, n_seeds)}",
        by_subject=dict(zip(scores.subjects, means.tolist(), strict=True)),
    )


def _overlaps(scores: _Scores) -> Iterator[Overlap]:
    wanted = {"function", "content"}
    if not wanted <= set(scores.plan.corpus.ablations):
        return
    for architecture in scores.plan.architectures:
        meaning = scores.voxel_r(architecture, "function", "ablated")
        syntax = scores.voxel_r(architecture, "content", "ablated")
        for subject in scores.subjects:
            n_voxels = len(meaning[subject])
            if n_voxels < 20:
                continue  # a tenth of a few regions is none
            one, other = peak_regions(meaning[subject]), peak_regions(syntax[subject])
            index = specificity_index(meaning[subject], syntax[subject])
            known = index[np.isfinite(index)]
            quartiles = tuple(np.quantile(known, [0.25, 0.5, 0.75]).tolist()) if len(known) else ()
            share = one.sum() / n_voxels
            yield Overlap(
                scores.data.name, architecture, subject, jaccard(one, other), float(share / (2 - share)), quartiles
            )


def _arrays(scores: _Scores) -> dict[str, NDArray[Any]]:
    """``<data set>__<architecture>__<ablation>__<text>`` -> (n_subjects, n_blocks, n_seeds) of the mean over regions,
    and with ``__delta_r`` (n_subjects, n_voxels) r(original) - r(this), mean over seeds.
    """
    arrays: dict[str, NDArray[Any]] = {f"{scores.data.name}__subjects": np.array(scores.subjects)}
    for architecture in scores.plan.architectures:
        base = scores.voxel_r(architecture, ORIGINAL, ORIGINAL)
        for ablation in scores.plan.corpus.ablations:
            for text in texts_of(ablation):
                name = f"{scores.data.name}__{architecture}__{slug(ablation)}__{text}"
                arrays[name] = scores.tables(architecture, ablation, text)[ALL_ROIS].astype(np.float32)
                if ablation != ORIGINAL:
                    own = scores.voxel_r(architecture, ablation, text)
                    arrays[f"{name}__delta_r"] = np.stack(
                        [(base[subject] - own[subject]).astype(np.float16) for subject in scores.subjects]
                    )
    return arrays


def write_results(folder: Path, results: StudyResults, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write ``study.json`` and ``study.npz``; refuses numbers that are not finite."""
    for quantity in results.quantities:
        if not np.isfinite([quantity.estimate, quantity.low, quantity.high]).all():
            raise InvalidNumbers(f"a number of the study is not finite: {asdict(quantity)}")
    content = TypeAdapter(StudyResults).dump_json(results, indent=1) + b"\n"
    ordered = {name: arrays[name] for name in sorted(arrays)}
    replace_file(folder / ARRAYS_FILE, lambda file: np.savez_compressed(file, **ordered))  # type: ignore[arg-type]
    replace_file(folder / STUDY_FILE, lambda file: file.write(content))


def read_results(folder: Path) -> StudyResults:
    """The results of a study; raises DataError when they are not there or damaged."""
    try:
        return TypeAdapter(StudyResults).validate_json((folder / STUDY_FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise DataError(
            f"{folder} holds no results of a study ({error})", "make them: voxelboard study report"
        ) from error
