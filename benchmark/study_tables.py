# SPDX-License-Identifier: Apache-2.0
"""The tables of a committed study, read without the libraries that trained its models."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from voxelboard.benchmark.errors import DataError

ALL_ROIS = "mean over regions"
STUDY_FILE = "study.json"


@dataclass(frozen=True)
class Quantity:
    """One number of a study with its interval.

    Attributes
    ----------
    kind : ``score`` (H_u), ``delta`` (original minus this), ``beyond_control`` (delta minus that of the control), ``context``
        (long minus short context).
    text : what the model read, ``original`` or ``ablated``.
    roi : of the data set, or ``mean over regions``.
    by_subject : subject -> mean over blocks and seeds.
    """

    dataset: str
    architecture: str
    ablation: str
    text: str
    kind: str
    roi: str
    estimate: float
    low: float
    high: float
    standard_error: float
    df: float
    estimator: str
    by_subject: Mapping[str, float]


@dataclass(frozen=True)
class Overlap:
    """How far two kinds of models predict the same voxels, one subject; models of all seeds together.

    Attributes
    ----------
    jaccard : of the voxels above the 90th percentile of r beyond the confounds, models without function words and models
        without content words.
    chance : of two random tenths.
    specificity : quartiles of log10(r without function words / r without content words) over voxels; positive where what
        is left of meaning predicts more than what is left of syntax. Empty where no voxel has an r above 0.
    """

    dataset: str
    architecture: str
    subject: str
    jaccard: float
    chance: float
    specificity: tuple[float, ...]


@dataclass(frozen=True)
class DatasetOfStudy:
    """What was measured on."""

    name: str
    version: str
    subjects: tuple[str, ...]
    rois: tuple[str, ...]
    n_blocks: int
    n_train_stories: int
    n_test_stories: int


@dataclass(frozen=True)
class CorpusCounts:
    """Words of a version of the corpus, and how many of them are another word or gone."""

    words: int
    replaced: int
    removed: int


@dataclass(frozen=True)
class CorpusOfStudy:
    """One version of the corpus."""

    ablation: str
    counts: CorpusCounts


@dataclass(frozen=True)
class TrainingOfStudy:
    """One trained model; losses in nats a token.

    curve : (step, validation loss). baselines : name of an n-gram model -> its loss; ``bigram``, ``bigram seen`` (of as many
    tokens as the model saw), ...
    """

    architecture: str
    ablation: str
    seed: int
    n_parameters: int
    tokens_seen: int
    validation_loss: float
    ngram_loss: float
    baselines: Mapping[str, float] = field(default_factory=dict)
    curve: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class StudyTables:
    """What can be shown of a study; the whole is ``StudyResults`` of :mod:`voxelboard.benchmark.studies.results`."""

    name: str
    protocol: str
    protocol_hash: str
    seeds: tuple[int, ...]
    corpora: tuple[CorpusOfStudy, ...]
    trainings: tuple[TrainingOfStudy, ...]
    datasets: tuple[DatasetOfStudy, ...]
    quantities: tuple[Quantity, ...]
    overlaps: tuple[Overlap, ...]


def read_tables(folder: Path) -> StudyTables:
    """The tables of a study; raises DataError when they are not there or damaged."""
    try:
        return TypeAdapter(StudyTables).validate_json((folder / STUDY_FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise DataError(
            f"{folder} holds no results of a study ({error})", "make them: voxelboard study report"
        ) from error
