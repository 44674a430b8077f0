# SPDX-License-Identifier: Apache-2.0
"""From a submission to the features of its model and of its untrained twins, whatever kind of row it is."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.features.confounds import confound_bins, confound_features, letters
from voxelboard.benchmark.features.extract import extract_features, resample_states
from voxelboard.benchmark.features.resample import tr_sum
from voxelboard.benchmark.features.store import FeatureStore, default_store_folder
from voxelboard.benchmark.models.base import ModelIdentity, WordModel
from voxelboard.benchmark.models.baselines import baseline_model
from voxelboard.benchmark.models.exposure import WINDOW_WORDS, load_head, probe, summarise_exposure
from voxelboard.benchmark.models.load import load_exact, load_model
from voxelboard.benchmark.models.simulated import OracleModel, planted_model
from voxelboard.benchmark.models.transformer import TransformerModel
from voxelboard.benchmark.protocol import Protocol, hash_json
from voxelboard.benchmark.readers.base import Dataset, NarrativeData
from voxelboard.benchmark.revision import resolved_revision
from voxelboard.benchmark.scratch import working_array
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.stimuli.stories import Story, make_story
from voxelboard.benchmark.submission import Submission, model_spec

Features = Mapping[str, NDArray[np.float32]]  # story -> (n_layers, n_trs, n_features)
StageProgress = Callable[[str, int, int], None]

_BASELINE = re.compile(r"(?P<name>[a-z-]+?)(-d(?P<width>\d+)-s(?P<seed>\d+))?")
_MEANS_IN_MEMORY = 256 << 20  # of one subject, for the cross-subject row: those of all are needed at once
RECEIPT_SHARE = 0.01  # of the words are read again
RECEIPT_WORDS = 128  # from the start of a story: chunks there are the same as in the whole story


@dataclass(frozen=True, eq=False)
class Receipt:
    """How exact the states are.

    Attributes
    ----------
    fields : of the record's checks.
    deviation : None, or (n_layers, n_trs_read, n_features) features at TRs minus those extracted again one text at a time
        in float32.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    deviation: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Sources:
    """The features of a row and what was resolved on the way.

    features : () -> story -> (n_layers, n_trs, n_features), through the store.
    twins : seed -> the same for the untrained twin; empty for baselines.
    by_subject : None, or subject -> features of the cross-subject predictor; ``features`` is then not used.
    receipt : () -> how exact the states are.
    exposure : () -> fields of the record's checks that tell whether the model has read the stimuli.
    read : None for rows that read no words, or stories -> their features, for stories that the data set does not have.
    """

    identity: ModelIdentity
    n_layers: int
    n_features: int
    features: Callable[[], Features]
    twins: Mapping[int, Callable[[], Features]]
    receipt: Callable[[], Receipt]
    exposure: Callable[[], dict[str, Any]] = dict
    by_subject: Callable[[str], Features] | None = None
    read: Callable[[Mapping[str, Story]], Features] | None = None


def twin_seeds(submission: Submission, protocol: Protocol) -> range:
    """Seeds of the untrained twins of a submission; none for baselines, fresh weights and tables of words."""
    has_twins = (
        not submission.is_baseline and submission.weights == "pretrained" and submission.model.loader != "static"
    )
    return range(protocol.score.n_twins if has_twins else 0)


def open_sources(
    submission: Submission,
    data: NarrativeData,
    settings: Settings,
    store: FeatureStore,
    device: torch.device,
    progress: StageProgress,
) -> Sources:
    """Load the model of a submission, or build the harness' own row.

    Raises
    ------
    UserError, MissingPrerequisite
        as :func:`load_model`.
    """
    if submission.is_baseline and submission.model.id == "confounds":
        return _confounds(data, settings.protocol)
    if submission.is_baseline and submission.model.id == "spectral":
        return _spectral(data)
    if submission.is_baseline and submission.model.id == "cross-subject":
        return _cross_subject(data)
    model = build_model(submission, data, settings, device)

    def features(
        model: WordModel = model, stage: str = "features", stories: Mapping[str, Story] = data.stories
    ) -> Features:
        def report(stories_done: int, n_stories: int, words_done: int, n_words: int) -> None:
            progress(f"{stage}, story {stories_done + 1}/{n_stories}", words_done, n_words)

        return extract_features(model, stories, settings.protocol, store, report)

    def twin(seed: int) -> Features:
        random = submission.model_copy(update={"weights": "random", "seed": seed})
        return features(build_model(random, data, settings, device), f"untrained twin {seed}")

    return Sources(
        identity=replace(model.identity, revision=resolved_revision(submission)),
        n_layers=model.n_layers,
        n_features=model.n_features,
        features=features,
        twins={seed: partial(twin, seed) for seed in twin_seeds(submission, settings.protocol)},
        receipt=lambda: _receipt(submission, model, data, settings, device),
        exposure=lambda: _exposure(submission, model, data, settings, device, progress),
        read=lambda stories: features(stage="perturbed", stories=stories),
    )


def build_model(submission: Submission, data: Dataset, settings: Settings, device: torch.device) -> WordModel:
    """The model of a submission, ready to read stories."""
    entry = submission.model
    if entry.source == "simulated":
        seed = submission.seed if submission.weights == "random" else None
        return planted_model(entry.id or "", submission.weights, seed)
    if submission.is_baseline:
        return _baseline(entry.id or "", data)
    return load_model(
        model_spec(submission),
        device=device,
        dtype=settings.dtype,
        batch_size=settings.batch_size,
        offline=settings.offline,
        allow_remote_code=settings.allow_remote_code,
        token_pooling=settings.protocol.design.token_pooling,
    )


def _baseline(model_id: str, data: Dataset) -> WordModel:
    if model_id == "oracle":
        return OracleModel()
    match = _BASELINE.fullmatch(model_id)
    if match is None:
        raise UserError(f"unknown baseline {model_id!r}")
    width, seed = int(match["width"] or 1), int(match["seed"] or 0)
    return baseline_model(match["name"], width, seed, data.static_vectors)


def static_features(data: NarrativeData, protocol: Protocol) -> dict[str, NDArray[np.float32]] | None:
    """Story -> (n_trs, n_features) of the data set's static word vectors; None without a table."""
    if data.static_vectors is None:
        return None
    model = baseline_model("static", 1, 0, data.static_vectors)
    return {
        name: resample_states(model.states(story, protocol.context), story, protocol)[0]
        for name, story in data.stories.items()
    }


def _confounds(data: NarrativeData, protocol: Protocol) -> Sources:
    """The confound band as if it were a model: what the floor of every other row scores by itself."""
    train, _ = data.split.folds[0]
    bins = confound_bins([data.stories[name] for name in dict.fromkeys(s.story for s in train)], protocol.confounds)
    columns = {name: confound_features(story, bins, protocol.confounds) for name, story in data.stories.items()}
    return _rows_at_hand("confounds", columns)


def _spectral(data: NarrativeData) -> Sources:
    """The sound of the stories, or how many letters are heard where a data set has no sound (statistics.md 2.3)."""
    columns = {
        name: tr_sum(letters(story)[:, None], story) if story.acoustics is None else story.acoustics
        for name, story in data.stories.items()
    }
    if len({table.shape[1] for table in columns.values()}) != 1:
        columns = {name: tr_sum(letters(story)[:, None], story) for name, story in data.stories.items()}
    return _rows_at_hand("spectral", columns)


def _rows_at_hand(model_id: str, columns: Mapping[str, NDArray[np.float64]]) -> Sources:
    """A baseline of one layer whose features (n_trs, n_features) are there already."""
    features = {name: table[None].astype(np.float32) for name, table in columns.items()}
    n_features = next(iter(features.values())).shape[2]
    revision = hash_json({"source": "baseline", "id": model_id})
    identity = ModelIdentity("baseline", model_id, revision, revision, "", "float32", 0, None)
    return Sources(identity, 1, n_features, lambda: features, {}, Receipt)


def _cross_subject(data: NarrativeData) -> Sources:
    """The responses of all other subjects to the same TRs: how much of a brain other brains predict."""
    if len(data.subjects) < 2:
        raise UserError(f"{data.name} has one subject: nobody else predicts it", "leave the cross-subject row out")

    means: dict[str, dict[str, NDArray[np.float32]]] = {}  # subject -> story -> (n_trs, n_voxels)

    def mean_runs(subject: str) -> dict[str, NDArray[np.float32]]:
        if subject not in means:  # every subject is read once, whoever it predicts; large ones lie on disk
            means[subject] = _mean_runs(data, subject)
        return means[subject]

    def by_subject(subject: str) -> Features:
        runs = [mean_runs(other) for other in data.subjects if other != subject]
        common = [name for name in data.stories if all(name in heard for heard in runs)]
        return {name: np.concatenate([heard[name] for heard in runs], axis=1)[None] for name in common}

    first = by_subject(data.subjects[0])
    revision = hash_json({"source": "baseline", "id": "cross-subject"})
    identity = ModelIdentity("baseline", "cross-subject", revision, revision, "", "float32", 0, None)
    return Sources(identity, 1, next(iter(first.values())).shape[2], lambda: first, {}, Receipt, by_subject=by_subject)


def _mean_runs(data: NarrativeData, subject: str) -> dict[str, NDArray[np.float32]]:
    """Story -> (n_trs, n_voxels): the mean over repeats, of all stories one below the other in one (large: nameless) file."""
    responses = data.responses(subject)
    lengths = {name: data.stories[name].n_trs for name in responses.runs}
    stops = np.cumsum(list(lengths.values())).tolist()
    kept = working_array((stops[-1], responses.n_voxels), default_store_folder(), in_memory_bytes=_MEANS_IN_MEMORY)
    means = {}
    for (name, n_trs), stop in zip(lengths.items(), stops, strict=True):
        means[name] = kept[stop - n_trs : stop]
        means[name][...] = responses.runs[name].mean(axis=0)
    return means


def _receipt(
    submission: Submission,
    model: WordModel,
    data: NarrativeData,
    settings: Settings,
    device: torch.device,
) -> Receipt:
    """Read a fixed share of the words again, one text at a time and in float32, and count shortened contexts.

    The deviation is the largest over words, features and layers, in units of the layer's SD.
    """
    if not isinstance(model, TransformerModel):
        return Receipt()
    exact = load_exact(
        model_spec(submission),
        device=device,
        offline=settings.offline,
        allow_remote_code=settings.allow_remote_code,
        token_pooling=settings.protocol.design.token_pooling,
    )
    context = settings.protocol.context
    stories = data.stories.values()
    n_words = sum(story.n_words for story in stories)
    n_wanted = RECEIPT_SHARE * n_words
    worst, n_read, deviations = 0.0, 0, []
    for story in stories:
        if n_read >= n_wanted:
            break
        part = first_words(story, RECEIPT_WORDS)
        asked, again = model.states(part, context), exact.states(part, context)
        spread = again.std(axis=(1, 2), keepdims=True)
        worst = max(worst, float((np.abs(asked - again) / np.where(spread > 0, spread, 1.0)).max()))
        heard = np.unique(part.word_trs)
        by_tr = [resample_states(states, part, settings.protocol)[:, heard] for states in (asked, again)]
        deviations.append(by_tr[0] - by_tr[1])
        n_read += part.n_words
    shortened = sum(model.count_shortened(story, context) for story in stories) / n_words
    fields = {"receipt_max_deviation": worst, "receipt_words": n_read, "context_shortened": shortened}
    return Receipt(fields, np.concatenate(deviations, axis=1))


def _exposure(
    submission: Submission,
    model: WordModel,
    data: NarrativeData,
    settings: Settings,
    device: torch.device,
    progress: StageProgress,
) -> dict[str, Any]:
    """Probe a causal model's head on the test stories; fields of the record's checks."""
    if submission.is_baseline:
        return {}
    if not isinstance(model, TransformerModel):
        return {"exposure_reason": "only causal language models have a loss on a text"}
    head = load_head(
        model_spec(submission),
        device=device,
        offline=settings.offline,
        allow_remote_code=settings.allow_remote_code,
        max_tokens=model.identity.max_tokens,
    )
    if isinstance(head, str):
        return {"exposure_reason": head}
    names = dict.fromkeys(segment.story for segment in data.split.test_segments)
    tested = {name: data.stories[name] for name in names}
    if not any(story.n_words >= WINDOW_WORDS for story in tested.values()):
        return {"exposure_reason": f"no test story has {WINDOW_WORDS} words"}
    found = probe(
        head,
        tested,
        seed=settings.protocol.seed,
        progress=lambda done, total: progress("exposure", done, total),
    )
    return {"exposure": summarise_exposure(found)}


def first_words(story: Story, n_words: int) -> Story:
    """The story up to its ``n_words``-th word."""
    n = min(n_words, story.n_words)
    return make_story(
        story.name,
        story.words[:n],
        story.onsets[:n],
        story.offsets[:n],
        n_trs=story.n_trs,
        tr=story.tr,
        text=story.text[: story.spans[n - 1][1]],
        spans=story.spans[:n],
        row_unit=story.row_unit,
        text_starts=[start for start in story.text_starts if start < n],
    )
