# SPDX-License-Identifier: Apache-2.0
"""From a submission to what it makes of the texts of a drama, whatever kind of row it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.features.annotation_features import annotation_features, film_confounds
from voxelboard.benchmark.models.base import ModelIdentity, WordModel
from voxelboard.benchmark.models.load import load_exact
from voxelboard.benchmark.models.texts import read_texts
from voxelboard.benchmark.models.transformer import TransformerModel
from voxelboard.benchmark.protocol import hash_json
from voxelboard.benchmark.readers.drama_base import DramaData
from voxelboard.benchmark.revision import resolved_revision
from voxelboard.benchmark.sources import build_model, twin_seeds
from voxelboard.benchmark.stimuli.annotations import Run
from voxelboard.benchmark.stimuli.simulated import ar1
from voxelboard.benchmark.submission import Submission, model_spec
from voxelboard.benchmark.tasks.base import RunContext
from voxelboard.benchmark.tasks.drama_encode import LevelFeatures

_NOISE_WIDTH, _NOISE_AR = 64, 0.95
RECEIPT_SHARE = 0.01  # of the different texts are read again


@dataclass(frozen=True)
class DramaSources:
    """The features of a row and what was resolved on the way.

    features : () -> level -> run -> (n_layers, n_trs, n_features); one made-up level for rows without texts.
    twins : seed -> the same for the untrained twin; empty for the harness' own rows.
    by_subject : None, or subject -> features on the clock of the responses (no delays): the other viewers.
    receipt : () -> fields of the record's checks that tell how exact the states are.
    """

    identity: ModelIdentity
    n_layers: int
    n_features: int
    features: Callable[[], LevelFeatures]
    twins: Mapping[int, Callable[[], LevelFeatures]] = field(default_factory=dict)
    by_subject: Callable[[str], LevelFeatures] | None = None
    receipt: Callable[[], dict[str, Any]] = dict


def open_drama_sources(submission: Submission, data: DramaData, context: RunContext) -> DramaSources:
    """Load the model of a submission, or build the harness' own row.

    Raises
    ------
    UserError, MissingPrerequisite
        as the loading of the model.
    """
    if submission.is_baseline and (built := _built_in(submission.model.id or "", data)) is not None:
        return built
    model = build_model(submission, data, context.settings, context.device)

    def features(model: WordModel = model, stage: str = "features") -> LevelFeatures:
        def report(runs_done: int, n_runs: int, texts_done: int, n_texts: int) -> None:
            context.progress(f"{stage}, run {runs_done + 1}/{n_runs}", texts_done, n_texts)

        window = context.protocol.drama.window_s
        return annotation_features(model, data.runs, data.levels, context.store, window_s=window, progress=report)

    def twin(seed: int) -> LevelFeatures:
        random = submission.model_copy(update={"weights": "random", "seed": seed})
        return features(build_model(random, data, context.settings, context.device), f"untrained twin {seed}")

    return DramaSources(
        identity=replace(model.identity, revision=resolved_revision(submission)),
        n_layers=model.n_layers,
        n_features=model.n_features,
        features=features,
        twins={seed: partial(twin, seed) for seed in twin_seeds(submission, context.protocol)},
        receipt=lambda: _receipt(submission, model, data, context),
    )


def _built_in(model_id: str, data: DramaData) -> DramaSources | None:
    """The rows that need no text: confounds, noise, the other viewers and the planted truth; None for all others."""
    name = model_id.partition("-d")[0]
    if name == "confounds":
        tables = {run: film_confounds(shown, data.levels) for run, shown in data.runs.items()}
        return _without_texts(
            model_id, {"form": {run: table[None].astype(np.float32) for run, table in tables.items()}}
        )
    if name == "spectral":
        return _without_texts(model_id, {"low": {run: _low_level(shown) for run, shown in data.runs.items()}})
    if name == "context-noise":
        return _without_texts(model_id, {level: _noise(level, data) for level in data.levels})
    if name == "oracle":
        if any(level not in run.latents for run in data.runs.values() for level in data.levels):
            raise UserError(f"{data.name} has no planted truth: the oracle exists for simulated data only")
        return _without_texts(
            model_id,
            {
                level: {name: run.latents[level][None].astype(np.float32) for name, run in data.runs.items()}
                for level in data.levels
            },
        )
    if name != "cross-subject":
        return None
    if len(data.subjects) < 2 or data.ceiling_kind == "none":
        raise UserError(f"{data.name}: nobody else predicts a subject whose voxels have no counterpart in another")
    others = {subject: partial(_others, data, subject) for subject in data.subjects}
    sources = _without_texts(model_id, {"viewers": others[data.subjects[0]]()["viewers"]})
    return replace(sources, by_subject=lambda subject: others[subject]())


def _without_texts(model_id: str, features: LevelFeatures) -> DramaSources:
    revision = hash_json({"source": "baseline", "id": model_id})
    identity = ModelIdentity("baseline", model_id, revision, revision, "", "float32", 0, None)
    first = next(iter(next(iter(features.values())).values()))
    return DramaSources(identity, len(first), first.shape[2], lambda: features)


def _low_level(run: Run) -> NDArray[np.float32]:
    """(1, n_trs, n_columns) sound and picture."""
    tables = [table for table in (run.acoustics, run.visuals) if table is not None]
    if not tables:
        raise UserError(f"run {run.name!r} comes without sound and picture", "leave the spectral row out")
    return np.concatenate(tables, axis=1)[None].astype(np.float32)


def _noise(level: str, data: DramaData) -> dict[str, NDArray[np.float32]]:
    """Slow noise (lag-1 autocorrelation .95) on the clock of the responses: width and slowness without content."""
    noise = {}
    for number, (name, run) in enumerate(data.runs.items()):
        rng = np.random.default_rng([12, data.levels.index(level), number])
        noise[name] = ar1(run.n_trs, _NOISE_WIDTH, _NOISE_AR, rng)[None].astype(np.float32)
    return noise


def _others(data: DramaData, subject: str) -> LevelFeatures:
    runs = [data.responses(other).runs for other in data.subjects if other != subject]
    common = [name for name in data.runs if all(name in seen for seen in runs)]
    return {
        "viewers": {name: np.concatenate([seen[name].mean(axis=0) for seen in runs], axis=1)[None] for name in common}
    }


def _receipt(submission: Submission, model: WordModel, data: DramaData, context: RunContext) -> dict[str, Any]:
    """Read a fixed share of the texts again, one at a time and in float32, and count texts that were cut.

    The deviation is the largest over texts, features and layers, in units of the layer's SD.
    """
    if not isinstance(model, TransformerModel):
        return {}
    window = context.protocol.drama.window_s
    windows = (
        text
        for run in data.runs.values()
        for level in data.levels
        for row in run.annotations[level].windows(window)
        for text in row
        if text
    )
    texts = list(dict.fromkeys(windows))
    sample = texts[:: max(1, round(1 / RECEIPT_SHARE))]
    exact = load_exact(
        model_spec(submission),
        device=context.device,
        offline=context.settings.offline,
        allow_remote_code=context.settings.allow_remote_code,
    )
    asked, again = read_texts(model, sample), read_texts(exact, sample)
    spread = again.std(axis=(1, 2), keepdims=True)
    worst = float((np.abs(asked - again) / np.where(spread > 0, spread, 1.0)).max())
    return {
        "receipt_max_deviation": worst,
        "receipt_words": sum(len(text.split()) for text in sample),
        "context_shortened": model.count_cut_texts(texts) / len(texts),
    }
