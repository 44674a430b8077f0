# SPDX-License-Identifier: Apache-2.0
"""The work of the tasks that read stories or sets of sentences: narrative and ablation."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from voxelboard.benchmark.protocol import Protocol
from voxelboard.benchmark.readers.base import NarrativeData, Segment
from voxelboard.benchmark.tasks.encode import for_rows
from voxelboard.benchmark.tasks.work import (
    DESIGNS,
    EIGEN,
    FLOAT32,
    TOKENS_PER_WORD,
    Fit,
    ModelSize,
    Work,
    kept_bytes,
    memory_of,
    permutation_flops,
    targets_of,
    voxel_bytes,
    voxel_counts,
)

# Condition of the task ablation -> share of the words that it replaces and the letters of what it writes for each: the
# transcripts of lebel2023-pcs, within .03 those of alice2016.
_REPLACED: Final[Mapping[str, tuple[float, int]]] = {
    "noun": (0.19, 5),
    "verb": (0.21, 5),
    "content": (0.52, 5),
    "function": (0.45, 5),
    "random-noun": (0.19, 7),
    "random-verb": (0.21, 7),
    "random-content": (0.52, 7),
    "random-function": (0.45, 7),
}
# Tokenizers of fewer tokens spell a tag letter by letter after a blank (stories260K, 512 tokens: 2.56 tokens a word of
# lebel2023-pcs); others write it in about three pieces.
_SPELLS_BELOW, _SPELLED_WORD, _TAG_PIECES = 2000, 2.5, 3
# Reading responses, taking blocks of them and putting predictions in order, in operations for each number of the responses.
_PASSES = 2000.0
_TAGGER_BYTES = 36 << 20

_DIAGNOSTIC_FITS = (
    7  # of the main layer: shifted, exact, capacity, static, two shares of the training, two halves of it
)


def narrative_work(
    data: NarrativeData, subjects: Sequence[str], size: ModelSize, protocol: Protocol, *, on_gpu: bool
) -> Work:
    """All layers of a model and its twins, raw and unique, in every outer fold; diagnostics for submissions."""
    if size.row == "cross-subject":
        return _cross_subject_work(data, subjects, size, protocol, on_gpu=on_gpu)
    diagnostics = 0 if size.row else _DIAGNOSTIC_FITS
    return _work(data, subjects, size, protocol, on_gpu=on_gpu, n_models=size.n_models, beside=diagnostics)


def ablation_work(
    data: NarrativeData, subjects: Sequence[str], size: ModelSize, protocol: Protocol, *, on_gpu: bool
) -> Work:
    """The task narrative without its diagnostics, the test texts of each condition, and one unique fit for all texts and
    for each removal of a property, at every layer that may be chosen.
    """
    n_conditions = len(protocol.ablation.conditions)
    n_chosen = min(size.n_layers, len(data.scored_rois) * len(subjects))
    n_removals = 2 * len(protocol.ablation.removals)  # each with its control
    tested = dict.fromkeys(segment.story for segment in data.split.test_segments)
    n_words = sum(data.stories[name].n_words for name in tested)
    n_rows = sum(data.stories[name].n_trs for name in tested) * n_conditions
    work = _work(
        data,
        subjects,
        size,
        protocol,
        on_gpu=on_gpu,
        n_models=size.n_models,
        beside=(1 + n_removals) * n_chosen,
        n_times_tested=1 + n_conditions,
    )
    return replace(
        work,
        host_bytes=work.host_bytes + _TAGGER_BYTES,
        tokens=work.tokens
        + n_words * sum(tokens_of_condition(name, size, protocol) for name in protocol.ablation.conditions),
        feature_bytes=work.feature_bytes + FLOAT32 * size.n_layers * n_rows * size.n_features,
    )


def tokens_of_condition(condition: str, size: ModelSize, protocol: Protocol) -> float:
    """Tokens that go through the model for each word of a perturbed text.

    Tags take more tokens than words. Where a chunk of the context then has more than the model accepts, every word
    beyond is read by itself, with as many tokens as fit (``models/passages.py``).
    """
    spells = 0 < size.n_vocabulary < _SPELLS_BELOW
    share, letters = _REPLACED.get(condition, (0.0, 0))
    word, tag = (_SPELLED_WORD, 1 + letters) if spells else (TOKENS_PER_WORD, _TAG_PIECES)
    per_word = word + share * (tag - word)
    tokens = size.passes(protocol) * per_word
    if size.max_tokens is None:
        return tokens
    if size.reading == "prefixes":
        return min(tokens, size.max_tokens)
    stride = protocol.context.stride_words
    beyond = min(1.0, max(0.0, 2.0 - size.max_tokens / per_word / stride))
    return tokens + beyond * size.max_tokens


def _work(
    data: NarrativeData,
    subjects: Sequence[str],
    size: ModelSize,
    protocol: Protocol,
    *,
    on_gpu: bool,
    n_models: int,
    beside: int = 0,
    n_times_tested: int = 1,
) -> Work:
    protocol = for_rows(protocol, data.stories)
    n_delays = len(protocol.design.delays_trs)
    fitted = data.subjects if data.ceiling_kind == "inter_subject" else subjects
    counted = _voxels(data)
    n_targets = targets_of(counted, fitted, protocol)
    fit = _largest_fold(data, size.n_features * n_delays, n_targets)
    n_folds = len(data.split.folds)
    n_fits = n_folds * (DESIGNS * size.n_layers * n_models + beside)
    n_test = sum(segment.stop - segment.start for segment in data.split.test_segments)
    n_voxels = sum(counted[subject] for subject in subjects)
    tested = fit._replace(n_test=fit.n_test * n_times_tested)
    memory = memory_of(tested, size, protocol, n_delays, on_gpu=on_gpu)
    n_rows = sum(story.n_trs for story in data.stories.values())
    n_words = sum(story.n_words for story in data.stories.values())
    return Work(
        tokens=size.n_models * TOKENS_PER_WORD * size.passes(protocol) * n_words,
        flops=n_fits * _fit_flops(fit, protocol) + permutation_flops(n_test, n_voxels, protocol),
        n_fits=n_fits,
        response_bytes=FLOAT32 * n_rows * n_targets,
        host_bytes=memory.host + kept_bytes(n_test, n_targets, 4 + 2 * size.n_twins + 3 * n_times_tested),
        device_bytes=memory.device,
        feature_bytes=size.n_models * FLOAT32 * size.n_layers * n_rows * size.n_features,
        voxel_bytes=voxel_bytes(n_test, n_voxels, protocol),
    )


def _fit_flops(fit: Fit, protocol: Protocol) -> float:
    """As :meth:`Fit.flops`; a narrow design is scored in feature space, where rows are gone through once."""
    policy = protocol.encoding
    width = fit.n_columns
    if width > fit.n_train // policy.n_inner_folds:
        return fit.flops(protocol)
    # Grams of all rows and of each fold, rows in the eigenbasis, a decomposition a fold: float64, at half the rate
    factors = 2 * (6.0 * fit.n_train * width**2 + EIGEN * (policy.n_inner_folds + 1) * width**3)
    products = 2.0 * fit.n_train * width * fit.n_targets
    forms = 2.0 * len(policy.relative_alphas) * policy.n_inner_folds * width**2 * fit.n_targets
    return factors + products + forms + _PASSES * fit.n_train * fit.n_targets


def _cross_subject_work(
    data: NarrativeData, subjects: Sequence[str], size: ModelSize, protocol: Protocol, *, on_gpu: bool
) -> Work:
    """One fit a subject, from the voxels of all others without delays; nothing is read or kept in the store."""
    counted = _voxels(data)
    one = replace(size, row="others", n_layers=1, n_twins=0)
    still = replace(protocol, design=replace(protocol.design, delays_trs=(0,)))
    works = []
    for subject in subjects:
        n_features = sum(counted[other] for other in data.subjects if other != subject)
        own = replace(one, n_features=n_features)
        works.append(_work(data, [subject], own, still, on_gpu=on_gpu, n_models=1))
    largest = max(works, key=lambda work: work.host_bytes)
    n_rows = sum(story.n_trs for story in data.stories.values())
    means = FLOAT32 * n_rows * sum(counted.values())
    return replace(
        largest,
        tokens=0.0,
        flops=sum(work.flops for work in works),
        n_fits=sum(work.n_fits for work in works),
        response_bytes=sum(work.response_bytes for work in works) + means,
        host_bytes=largest.host_bytes + means,
        feature_bytes=0,
    )


def _voxels(data: NarrativeData) -> dict[str, int]:
    counted = voxel_counts(data)
    # responses are read when they are looked up: labels alone are at hand
    return counted if all(counted.values()) else voxel_counts(data, data.responses(data.subjects[0]).n_voxels)


def _largest_fold(data: NarrativeData, n_columns: int, n_targets: int) -> Fit:
    def length(segments: Sequence[Segment]) -> int:
        return sum(segment.stop - segment.start for segment in segments)

    train, test = max(data.split.folds, key=lambda fold: length(fold[0]))
    return Fit(length(train), length(test), n_columns, n_targets)
