# SPDX-License-Identifier: Apache-2.0
"""The ablation study: corpora without some syntax or meaning, models trained on them, and how well they predict brains.

Four stages, each resumed where it stopped: corpora, training, encoding, results. Every model reads the transcripts twice:
as they are (``original``), and ablated as its corpus was (``ablated``); the two are never mixed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from voxelboard.benchmark.atomic import replace_file
from voxelboard.benchmark.errors import DataError, UserError
from voxelboard.benchmark.features.extract import extract_features
from voxelboard.benchmark.features.store import FeatureStore, default_store_folder
from voxelboard.benchmark.models.load import load_model
from voxelboard.benchmark.models.spec import ModelSpec
from voxelboard.benchmark.protocol import ContextPolicy, Protocol, hash_json
from voxelboard.benchmark.readers.base import NarrativeData
from voxelboard.benchmark.readers.registry import open_dataset
from voxelboard.benchmark.statistics.scores import BlockStatistics
from voxelboard.benchmark.stimuli.ablated_stories import ablate_story
from voxelboard.benchmark.stimuli.ablations import load_ablation
from voxelboard.benchmark.stimuli.corpora import CorpusRequest, prepare_corpus, slug, training_texts
from voxelboard.benchmark.stimuli.syntax import load_parser
from voxelboard.benchmark.studies.encoding import PreparedData, SubjectScores
from voxelboard.benchmark.training.presets import Architecture, TrainingPreset, load_preset
from voxelboard.benchmark.training.tokens import train_tokenizer
from voxelboard.benchmark.training.trainer import read_result, train_model

ORIGINAL = "original"
LOADERS = {"lstm": "recurrent", "gpt2": "causal"}
StudyProgress = Callable[[str, int, int], None]  # (stage, done, total)


@dataclass(frozen=True)
class StudyPlan:
    """All that determines a study.

    Attributes
    ----------
    folder : of everything that it makes.
    corpus : of its texts; see :class:`~voxelboard.benchmark.stimuli.corpora.CorpusRequest`.
    preset : of the models; see :mod:`~voxelboard.benchmark.training.presets`.
    datasets : names of narrative data sets.
    n_train : data set -> training segments of each fold that are used; all where it is not named.
    short_context : words; the models of the original corpus also read the transcripts with ``short_context`` to twice as
        many words less one. 0 for none.
    """

    folder: Path
    corpus: CorpusRequest
    preset: str = "small"
    architectures: tuple[Architecture, ...] = ("lstm", "gpt2")
    seeds: tuple[int, ...] = (0, 1, 2)
    datasets: tuple[str, ...] = ()
    n_train: Mapping[str, int] = field(default_factory=dict)
    short_context: int = 4

    def __post_init__(self) -> None:
        if ORIGINAL not in self.corpus.ablations:
            raise UserError(
                "a study needs the version 'original': every difference is one to it",
                f"add it: --ablation {','.join((ORIGINAL, *self.corpus.ablations))}",
            )


@dataclass(frozen=True)
class StudyModel:
    """One trained model of a study."""

    architecture: Architecture
    ablation: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.architecture}-{slug(self.ablation)}-s{self.seed}"


@dataclass(frozen=True)
class Reading:
    """A model and what it reads: ``original``, ``ablated``, or ``short`` (the original with little context)."""

    model: StudyModel
    text: str

    @property
    def name(self) -> str:
        return f"{self.model.name}-{self.text}"


def study_models(plan: StudyPlan) -> Iterator[StudyModel]:
    """All models, seed by seed: what stops early has whole tables of fewer seeds."""
    for seed in plan.seeds:
        for architecture in plan.architectures:
            for ablation in plan.corpus.ablations:
                yield StudyModel(architecture, ablation, seed)


def study_readings(plan: StudyPlan) -> list[Reading]:
    """All readings, in the order of the models."""
    readings = []
    for model in study_models(plan):
        readings.append(Reading(model, ORIGINAL))
        if model.ablation != ORIGINAL:
            readings.append(Reading(model, "ablated"))
        elif plan.short_context:
            readings.append(Reading(model, "short"))
    return readings


def run_study(
    plan: StudyPlan,
    protocol: Protocol,
    *,
    workers: int = 1,
    device: str = "cpu",
    progress: StudyProgress = lambda stage, done, total: None,
) -> None:
    """All stages, model by model, so that encoding does not wait for the last training. Stopped, it goes on where it was.

    Raises
    ------
    UserError
        for data sets, ablations and presets that do not exist.
    MissingPrerequisite
        for data and packages that are not here.
    """
    prepare_corpus(plan.corpus, workers=workers, progress=lambda shards, passages: progress("corpus", passages, 0))
    encoders = {name: _Encoder(plan, open_dataset(name, "narrative"), protocol, device) for name in plan.datasets}
    models = list(study_models(plan))
    for done, model in enumerate(models):
        train_study_model(plan, model, partial(progress, f"training {done + 1}/{len(models)}"))
        for name, encoder in encoders.items():
            for reading in (r for r in study_readings(plan) if r.model == model):
                progress(f"{name}: {reading.name}", done, len(models))
                encoder.encode(reading)


def train_study_model(
    plan: StudyPlan, model: StudyModel, progress: Callable[[int, int], None] = lambda done, total: None
) -> None:
    """Train one model of a study, or go on with it; nothing where it is finished."""
    preset = load_preset(plan.preset)
    train_model(
        preset,
        model.architecture,
        plan.corpus.output / slug(model.ablation),
        shared_tokenizer(plan, preset),
        model.seed,
        plan.folder / "models" / model.name,
        tokens_folder=plan.folder / "tokens",
        progress=progress,
    )


def shared_tokenizer(plan: StudyPlan, preset: TrainingPreset) -> Any:
    """The tokenizer of all versions, trained on the original."""
    texts = training_texts(plan.corpus.output / ORIGINAL)
    return train_tokenizer(texts, preset.vocabulary, plan.folder / f"tokenizer-{preset.vocabulary}")


class _Encoder:
    """Scores the readings of a study on one data set and keeps them as files."""

    def __init__(self, plan: StudyPlan, data: NarrativeData, protocol: Protocol, device: str) -> None:
        self._plan = plan
        self._data = data
        self._protocol = protocol
        self._device = device
        self._prepared: PreparedData | None = None
        self._store = FeatureStore(default_store_folder())

    def encode(self, reading: Reading) -> None:
        """Score one model's reading on this data set and store it; what is stored with the same key is left alone."""
        path = scores_path(self._plan, self._data.name, reading)
        n_train = self._plan.n_train.get(self._data.name)
        key = _reading_key(self._plan, self._data, self._protocol.hash_of("narrative"), reading)
        if _stored_keys(path)[0] == key:
            return
        if self._prepared is None:
            self._prepared = PreparedData(self._data, self._protocol, torch.device(self._device), n_train)
        prepared = self._prepared
        scores = prepared.score(self._features(reading, prepared))
        _write_scores(path, key, self._protocol.hash_of("narrative"), scores)

    def _features(self, reading: Reading, prepared: PreparedData) -> dict[str, NDArray[np.float32]]:
        spec = ModelSpec(
            loader=LOADERS[reading.model.architecture],  # type: ignore[arg-type]
            source="local",
            path=self._plan.folder / "models" / reading.model.name,
        )
        model = load_model(spec, device=self._device)
        stories = {name: self._data.stories[name] for name in prepared.stories}
        protocol = self._protocol
        if reading.text == "ablated":
            parser = load_parser()
            ablation = load_ablation(reading.model.ablation, parser)
            stories = {
                name: ablate_story(story, ablation, parser, self._plan.corpus.seed) for name, story in stories.items()
            }
        elif reading.text == "short":
            protocol = replace(protocol, context=ContextPolicy(stride_words=self._plan.short_context))
        return extract_features(model, stories, protocol, self._store)


def scores_path(plan: StudyPlan, dataset: str, reading: Reading) -> Path:
    """Where the scores of a reading lie."""
    return plan.folder / "scores" / dataset.replace(":", "-") / f"{reading.name}.npz"


def _reading_key(plan: StudyPlan, data: NarrativeData, protocol_hash: str, reading: Reading) -> str:
    """Hash of all that determines the scores of a reading; raises DataError where its model is not trained."""
    trained = read_result(plan.folder / "models" / reading.model.name)
    short = plan.short_context if reading.text == "short" else None
    return hash_json([trained.key, protocol_hash, data.name, data.version, plan.n_train.get(data.name), short])


def _stored_keys(path: Path) -> tuple[str, str]:
    """Key and protocol hash of a file of scores; empty where there is none."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return str(archive["key"]), str(archive["protocol_hash"])
    except (OSError, ValueError, KeyError):
        return "", ""


def _is_of_its_model(plan: StudyPlan, data: NarrativeData, reading: Reading) -> bool:
    """Whether a reading was scored, and with the model that is there now."""
    key, protocol_hash = _stored_keys(scores_path(plan, data.name, reading))
    try:
        return bool(key) and key == _reading_key(plan, data, protocol_hash, reading)
    except DataError:
        return False


def _write_scores(path: Path, key: str, protocol_hash: str, scores: Mapping[str, SubjectScores]) -> None:
    arrays: dict[str, NDArray[Any]] = {
        "key": np.array(key),
        "protocol_hash": np.array(protocol_hash),
        "subjects": np.array(list(scores)),
    }
    for subject, found in scores.items():
        for name, table in found.stats.as_arrays().items():
            arrays[f"{subject}__{name}"] = table
        arrays[f"{subject}__voxel_r"] = found.voxel_r
    replace_file(path, lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]


def read_scores(path: Path) -> dict[str, SubjectScores]:
    """Subject -> the scores of a reading; raises DataError when they are not there."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {
                subject: SubjectScores(
                    BlockStatistics.from_arrays(
                        {name: archive[f"{subject}__{name}"] for name in ("c", "q", "s", "block_segment", "block_trs")}
                    ),
                    archive[f"{subject}__voxel_r"],
                )
                for subject in archive["subjects"].tolist()
            }
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} holds no scores ({error})", "`voxelboard study run` makes what is missing") from error


def protocol_hash_of(paths: Iterable[Path]) -> str:
    """The protocol under which scores were measured.

    Raises
    ------
    DataError
        when they are of more than one: a difference between them would be one of protocols.
    """
    found: dict[str, Path] = {}
    for path in paths:
        with np.load(path, allow_pickle=False) as archive:
            found.setdefault(str(archive["protocol_hash"]), path)
    if len(found) != 1:
        names = ", ".join(f"{value[:12]} ({path.name})" for value, path in found.items()) or "none"
        raise DataError(f"scores of several protocols: {names}", "`voxelboard study run` measures what is stale again")
    return next(iter(found))


def complete_seeds(plan: StudyPlan, data: NarrativeData) -> tuple[int, ...]:
    """The seeds of which every reading is scored on a data set; scores of a model that was trained anew since do not count."""
    stale = {reading.model.seed for reading in study_readings(plan) if not _is_of_its_model(plan, data, reading)}
    return tuple(seed for seed in plan.seeds if seed not in stale)


def write_plan(plan: StudyPlan) -> None:
    """Keep the plan beside what it made, for reports and for the next run."""
    content = TypeAdapter(StudyPlan).dump_json(plan, indent=2) + b"\n"
    replace_file(plan.folder / "plan.json", lambda file: file.write(content))


def read_plan(folder: Path) -> StudyPlan:
    """The plan of a study's folder; raises DataError when there is none."""
    try:
        return TypeAdapter(StudyPlan).validate_json((folder / "plan.json").read_bytes())
    except (OSError, ValidationError) as error:
        raise DataError(f"{folder} holds no study ({error})", "start one with `voxelboard study run`") from error


def texts_of(ablation: str) -> Sequence[str]:
    """What the models of a corpus read: the original is its own ablation."""
    return (ORIGINAL,) if ablation == ORIGINAL else (ORIGINAL, "ablated")
