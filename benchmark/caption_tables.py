# SPDX-License-Identifier: Apache-2.0
"""The files of ``voxelboard captions``: what they hold, and reading them without the libraries that made them.

Each analysis is one JSON file with a stamp that says of which model, data and protocol it is. The board shows those that lie
in ``studies/captions/`` in the folder of records.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from voxelboard.benchmark.atomic import replace_file
from voxelboard.benchmark.errors import DataError

FOLDER = "captions"
Analysis = Literal["searchlight", "contrasts", "decoding", "networks", "vision"]
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


@with_config(_STRICT)
@dataclass(frozen=True)
class AnalysisStamp:
    """What an analysis was made of.

    Attributes
    ----------
    model, visibility : label and visibility of the submission whose embeddings of captions entered; layer : of them.
    kind : of the data; simulated results are never shown beside real ones.
    protocol_hash : of the task's sections.
    n_test : images that the maps rest on.
    settings : what else was chosen (radius, controls, preset, epochs, ...), as it is shown.
    """

    analysis: Analysis
    model: str
    visibility: str
    layer: int
    dataset: str
    dataset_version: str
    kind: Literal["real", "simulated"]
    protocol: str
    protocol_hash: str
    subjects: tuple[str, ...]
    n_test: int
    settings: Mapping[str, str]


@with_config(_STRICT)
@dataclass(frozen=True)
class RegionTest:
    """One map in one region: the mean over voxels of each subject, tested over subjects (the images are those shown).

    Attributes
    ----------
    mean, low, high : over subjects, with a 95 % t interval; low, high, p, adjusted (Benjamini and Hochberg over all maps and
        regions) are None for one subject.
    n_voxels : of the first subject. significant : share of voxels that are significant over subjects after correction; None
        where voxels are not in correspondence.
    """

    map: str
    roi: str
    mean: float
    by_subject: tuple[float, ...]
    p: float | None
    adjusted: float | None
    n_voxels: int
    significant: float | None
    low: float | None = None
    high: float | None = None


@with_config(_STRICT)
@dataclass(frozen=True)
class Alignment:
    """RSA r of one place of a network with one region, mean over sets and subjects.

    layer : ``layer 0`` .. or ``readout``; timestep from 0; by_subject : in the order of the subjects; seed : of the network.
    """

    network: str
    layer: str
    timestep: int
    roi: str
    r: float
    by_subject: tuple[float, ...]
    seed: int = 0


@with_config(_STRICT)
@dataclass(frozen=True)
class Difference:
    """Two readouts at the last timestep apart, in RSA r with one region over all test images, mean over subjects and seeds.

    low, high : 95 % of draws of images and seeds together. by_seed : on the images themselves.
    """

    first: str
    second: str
    roi: str
    difference: float
    low: float
    high: float
    by_seed: tuple[float, ...]


@with_config(_STRICT)
@dataclass(frozen=True)
class PairedComparison:
    """Two models in one region, paired over subjects.

    difference : mean of first minus second; t, p : two-sided paired t test; adjusted : p after Benjamini-Hochberg over all
    pairs and regions that were tested together.
    """

    first: str
    second: str
    roi: str
    difference: float
    t: float
    p: float
    adjusted: float


@with_config(_STRICT)
@dataclass(frozen=True)
class Losses:
    """Losses of one network, an epoch each."""

    network: str
    seed: int
    train: tuple[float, ...]
    held_out: tuple[float, ...]


@with_config(_STRICT)
@dataclass(frozen=True)
class SubjectScore:
    """One number of one subject with its 95 % interval over images; None where there is none."""

    name: str
    subject: str
    estimate: float | None
    low: float | None
    high: float | None


@with_config(_STRICT)
@dataclass(frozen=True)
class DecodedImage:
    """A test image and the captions of a library that are nearest to what a brain predicts, nearest first.

    Attributes
    ----------
    quality_rank : place of the image among the test images by the similarity of its own prediction and embedding, 0 the best.
    candidate_rank : of its own embedding when it is added to the library, 0 the best; ties count half.
    said : its first caption; nearest, similarity : of the library.
    """

    subject: str
    image: int
    quality_rank: int
    candidate_rank: float
    said: str
    nearest: tuple[str, ...]
    similarity: tuple[float, ...]


@with_config(_STRICT)
@dataclass(frozen=True)
class AnalysisTables:
    """One file: tests of maps (searchlight, contrasts), scores and images (decoding), or alignments of networks with what belongs
    to them.
    """

    stamp: AnalysisStamp
    tests: tuple[RegionTest, ...] = ()
    alignments: tuple[Alignment, ...] = ()
    differences: tuple[Difference, ...] = ()
    comparisons: tuple[PairedComparison, ...] = ()
    losses: tuple[Losses, ...] = ()
    scores: tuple[SubjectScore, ...] = ()
    images: tuple[DecodedImage, ...] = ()

    def save(self, path: Path) -> None:
        """Write the file in one step."""
        text = json.dumps(asdict(self), indent=1, allow_nan=False) + "\n"
        replace_file(path, lambda file: file.write(text.encode()))


def read_analysis(path: Path) -> AnalysisTables:
    """One file; raises DataError when it is not there or damaged."""
    try:
        return TypeAdapter(AnalysisTables).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = _first(error) if isinstance(error, ValidationError) else str(error)
        raise DataError(
            f"{path} holds no analysis of captions ({reason})", "make it again: voxelboard captions"
        ) from error


def find_analyses(studies: Path) -> tuple[AnalysisTables, ...]:
    """All analyses below ``studies/captions``, by path.

    Raises
    ------
    DataError
        for a damaged one.
    """
    names = ("searchlight.json", "contrasts.json", "decoding.json", "networks.json", "vision-*.json")
    paths = sorted(path for name in names for path in (studies / FOLDER).rglob(name))
    return tuple(read_analysis(path) for path in paths)


def _first(error: ValidationError) -> str:
    problem: Any = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where}: {problem['msg']}" if where else str(problem["msg"])
