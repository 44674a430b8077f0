# SPDX-License-Identifier: Apache-2.0
"""The confound band: what a listener's brain follows without understanding a word.

Word rate, letter rate, speech presence, acoustics where there is audio, word length, sentence position and, where a table
is given, log frequency in one-hot bins (bounded, so nothing extrapolates to a longer word), position in the story. Source: statistics.md 2.3; position
and word rate after Feghhi et al. 2024 and Hadidi et al. 2025.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from voxelboard.benchmark.features.resample import tr_mean, tr_sum
from voxelboard.benchmark.protocol import ConfoundPolicy
from voxelboard.benchmark.stimuli.frequencies import LOG_FREQUENCY
from voxelboard.benchmark.stimuli.stories import Story

FloatArray = NDArray[np.float64]

SENTENCE_POSITION = "sentence_position"  # the annotation that readers give where sentences are known


@dataclass(frozen=True)
class ConfoundBins:
    """Bin edges, from training stories alone."""

    length: tuple[float, ...]
    sentence_position: tuple[float, ...] | None  # None when a story has no sentence positions
    frequency: tuple[float, ...] | None = None  # None when a story has no word frequencies


def letters(story: Story) -> FloatArray:
    """(n_words,) letters and digits of each word."""
    return np.array([sum(c.isalnum() for c in word) for word in story.words], dtype=np.float64)


def confound_bins(stories: Iterable[Story], policy: ConfoundPolicy) -> ConfoundBins:
    """Quantile edges over the words of the training stories."""
    training = list(stories)
    length = _edges(np.concatenate([letters(story) for story in training]), policy.length_bins)
    positions = _annotated(training, SENTENCE_POSITION, policy.position_bins)
    return ConfoundBins(length, positions, _annotated(training, LOG_FREQUENCY, policy.frequency_bins))


def _annotated(stories: Sequence[Story], name: str, n_bins: int) -> tuple[float, ...] | None:
    """Edges of an annotation, None unless all stories have it."""
    if not all(name in story.annotations for story in stories):
        return None
    return _edges(np.concatenate([story.annotations[name][:, 0] for story in stories]), n_bins)


def _edges(values: FloatArray, n_bins: int) -> tuple[float, ...]:
    return tuple(np.quantile(values, np.linspace(0, 1, n_bins + 1)[1:-1]).tolist())


def confound_features(story: Story, bins: ConfoundBins, policy: ConfoundPolicy) -> FloatArray:
    """(n_trs, n_confounds) undelayed confounds of one story: TR sums and TR means of the word columns, acoustics."""
    order, n_words = story.word_places
    length = letters(story)
    columns = [
        np.ones(story.n_words),
        length,
        order / n_words,
        np.exp(-order / policy.story_onset_decay_words),
        *_one_hot(length, bins.length),
    ]
    if bins.sentence_position is not None:
        position = story.annotations[SENTENCE_POSITION][:, 0]
        columns += [(position == 0).astype(np.float64), *_one_hot(position, bins.sentence_position)]
    if bins.frequency is not None:
        columns += _one_hot(story.annotations[LOG_FREQUENCY][:, 0], bins.frequency)
    words = np.stack(columns, axis=1)  # (n_words, n_columns)
    parts = [tr_sum(words, story), tr_mean(words, story)]
    if story.acoustics is not None:
        parts.append(story.acoustics)
    return np.concatenate(parts, axis=1)


def _one_hot(values: FloatArray, edges: Sequence[float]) -> list[FloatArray]:
    bins = np.digitize(values, edges)
    return [(bins == b).astype(np.float64) for b in range(len(edges) + 1)]


def canonical_hrf(tr: float, duration: float = 32.0) -> FloatArray:
    """(n_samples,) double-gamma response at the TR, unit energy (peak 6 s, undershoot 16 s, ratio 1/6)."""
    time = np.arange(0.0, duration, tr)

    def gamma(shape: float) -> FloatArray:
        """Density of a gamma distribution of this shape."""
        safe = np.maximum(time, 1e-9)
        density = np.exp((shape - 1) * np.log(safe) - safe - gammaln(shape))
        return np.where(time > 0, density, 0.0)

    response = gamma(6.0) - gamma(16.0) / 6
    normalised: FloatArray = response / np.sqrt((response**2).sum())
    return normalised


def convolved_confounds(features: Mapping[str, FloatArray], tr: float) -> dict[str, FloatArray]:
    """Confounds as BOLD would follow them: name -> (n_trs, n_confounds), HRF-convolved.

    With their derivatives they span the test-side projector of H_u (statistics.md 2.3).
    """
    kernel = canonical_hrf(tr)
    return {
        name: np.stack([np.convolve(column, kernel)[: len(column)] for column in columns.T], axis=1)
        for name, columns in features.items()
    }
