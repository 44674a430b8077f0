# SPDX-License-Identifier: Apache-2.0
"""The simulated listener's stories: sentences of the grammar, spoken in time, with the latents behind them."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from voxelboard.benchmark.stimuli.grammar import (
    PARTS_OF_SPEECH,
    Lexicon,
    ParsedWord,
    build_lexicon,
    generate_sentence,
    spell,
)
from voxelboard.benchmark.stimuli.lexicon import TOPICS

FloatArray = NDArray[np.float64]

N_EMBEDDING = 16
N_SPECTRAL_BANDS = 6
_TOPIC_SHARE = 0.3  # of the variance of a content word's embedding
_TOPIC_SWITCH = 0.12  # probability per sentence
_MEANING_DECAY = 0.94  # leaky integrator of the words' embeddings: half-life 11 words
_TOPIC_DECAY = 0.98  # slow topic state: half-life 34 words
_TOPIC_NOISE = 0.3
_REFERENCE_SENTENCES = 2000  # from which the rate of each word class is estimated
_FIRST_WORD_S = 1.0
_SILENT_END_S = 2.0
_COLUMNS = {"lex": N_EMBEDDING + 1, "syn": 4 + len(PARTS_OF_SPEECH), "sem": 2 * N_EMBEDDING}


def ar1(n_steps: int, n_series: int, phi: float, rng: np.random.Generator) -> FloatArray:
    """(n_steps, n_series) stationary first-order autoregressive noise of unit variance."""
    burn_in = 100
    shocks = rng.standard_normal((n_steps + burn_in, n_series))
    series: FloatArray = lfilter([1.0], [1.0, -phi], shocks, axis=0)[burn_in:]
    series *= np.sqrt(1 - phi**2)
    return series


@dataclass(frozen=True, eq=False)
class World:
    """What all stories of one seed share: the lexicon and what its words mean."""

    lexicon: Lexicon
    embeddings: FloatArray  # (n_entries, N_EMBEDDING)
    log_frequency: FloatArray  # (n_entries,) natural log of a word's probability
    topics: FloatArray  # (n_topics, N_EMBEDDING)

    def entry_vectors(self, entries: NDArray[np.intp]) -> FloatArray:
        """(n_words, N_EMBEDDING + 1): embedding and negative log frequency."""
        vectors: FloatArray = np.column_stack([self.embeddings[entries], -self.log_frequency[entries]])
        return vectors


def build_world(seed: int) -> World:
    """Draw the meanings of the words."""
    rng = np.random.default_rng([seed, 1])
    lexicon = build_lexicon()
    topics = rng.standard_normal((len(TOPICS), N_EMBEDDING))
    embeddings = rng.standard_normal((len(lexicon), N_EMBEDDING))
    topical = lexicon.topics >= 0
    embeddings[topical] = (
        np.sqrt(_TOPIC_SHARE) * topics[lexicon.topics[topical]] + np.sqrt(1 - _TOPIC_SHARE) * embeddings[topical]
    )
    return World(lexicon, embeddings, _log_frequency(lexicon, rng), topics)


def _log_frequency(lexicon: Lexicon, rng: np.random.Generator) -> FloatArray:
    """Expected over topics, given the rates of the word classes in a reference sample of sentences."""
    sample = [word for k in range(_REFERENCE_SENTENCES) for word in generate_sentence(lexicon, k % len(TOPICS), rng)]
    counts = Counter(word.word_class for word in sample)
    frequency = np.zeros(len(lexicon))
    for name, word_class in lexicon.classes.items():
        frequency[word_class.entries] += counts[name] / len(sample) * word_class.probabilities.mean(axis=0)
    return np.asarray(np.log(frequency), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class SpokenStory:
    """One story as told: timed words and raw latents."""

    name: str
    n_trs: int
    text: str
    words: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    entries: NDArray[np.intp]  # (n_words,) into the lexicon
    onsets: FloatArray  # (n_words,) seconds
    durations: FloatArray  # (n_words,) seconds
    position: FloatArray  # (n_words,) words before it in the sentence
    depth: FloatArray  # (n_words,)
    surprisal: FloatArray  # (n_words,) nats
    latents: dict[str, FloatArray]  # space -> (n_words, n_columns), before standardising
    spectrum: FloatArray  # (n_steps, N_SPECTRAL_BANDS) on the fine grid, gated by speech


def tell_story(world: World, name: str, n_trs: int, tr: float, step: float, rng: np.random.Generator) -> SpokenStory:
    """Tell one story of ``n_trs`` TRs of ``tr`` seconds; the spectrum comes on a grid of ``step`` seconds.

    Words last 0.08 s a letter (log-normal) plus 0.08 s; sentences end in gamma-distributed pauses; whole sentences only.
    """
    sentences, topics, onsets, durations = _speak(world, n_trs * tr - _SILENT_END_S, rng)
    parsed = [word for sentence in sentences for word in sentence]
    text, words, spans = _print_sentences(world.lexicon, sentences)
    entries = np.array([word.entry for word in parsed], dtype=np.intp)
    position = np.array([word.position for word in parsed], dtype=np.float64)
    depth = np.array([word.depth for word in parsed], dtype=np.float64)
    surprisal = np.array([word.surprisal for word in parsed])
    embeddings = world.embeddings[entries]
    topic_drive = world.topics[topics] + _TOPIC_NOISE * rng.standard_normal(embeddings.shape)
    syntax = [
        depth,
        np.array([word.closings for word in parsed], dtype=np.float64),
        surprisal,
        position,
        np.eye(len(PARTS_OF_SPEECH))[[world.lexicon.classes[word.word_class].part_of_speech for word in parsed]],
    ]
    latents = {
        "lex": world.entry_vectors(entries),
        "syn": np.column_stack(syntax),
        "sem": np.column_stack([_leaky(embeddings, _MEANING_DECAY), _leaky(topic_drive, _TOPIC_DECAY)]),
    }
    n_steps = round(n_trs * tr / step)
    speech = sum_to_grid(durations[:, None], onsets, n_steps, step)
    spectrum = speech * (1 + 0.5 * ar1(n_steps, N_SPECTRAL_BANDS, 0.7, rng))
    return SpokenStory(
        name, n_trs, text, words, spans, entries, onsets, durations, position, depth, surprisal, latents, spectrum
    )


def sum_to_grid(values: FloatArray, onsets: FloatArray, n_steps: int, step: float) -> FloatArray:
    """(n_steps, n_columns): the sum of the rows of ``values`` that start in each step of ``step`` seconds."""
    grid = np.zeros((n_steps, values.shape[1]))
    np.add.at(grid, np.minimum((onsets / step).astype(np.intp), n_steps - 1), values)
    return grid


def n_columns(space: str) -> int:
    """Width of the word latents of ``space`` (lex, syn or sem)."""
    return _COLUMNS[space]


def _leaky(drive: FloatArray, decay: float) -> FloatArray:
    state: FloatArray = lfilter([np.sqrt(1 - decay**2)], [1.0, -decay], drive, axis=0)
    return state


def _speak(
    world: World, end: float, rng: np.random.Generator
) -> tuple[list[list[ParsedWord]], NDArray[np.intp], FloatArray, FloatArray]:
    """Sentences, and per word its topic, onset and duration in seconds."""
    sentences: list[list[ParsedWord]] = []
    topics: list[int] = []
    onsets: list[FloatArray] = []
    durations: list[FloatArray] = []
    time = _FIRST_WORD_S
    topic = int(rng.integers(len(TOPICS)))
    while True:
        if rng.random() < _TOPIC_SWITCH:
            topic = int(rng.integers(len(TOPICS)))
        sentence = generate_sentence(world.lexicon, topic, rng)
        letters = np.array([len(world.lexicon.words[word.entry]) for word in sentence])
        lasts = 0.08 * letters * np.exp(rng.normal(0.1, 0.25, len(sentence))) + 0.08
        starts = time + np.concatenate([[0.0], lasts.cumsum()[:-1]])
        time += float(lasts.sum())
        if time >= end:
            return sentences, np.array(topics, dtype=np.intp), np.concatenate(onsets), np.concatenate(durations)
        sentences.append(sentence)
        topics.extend([topic] * len(sentence))
        onsets.append(starts)
        durations.append(lasts)
        time += float(rng.gamma(2.0, 0.25))


def _print_sentences(
    lexicon: Lexicon, sentences: list[list[ParsedWord]]
) -> tuple[str, tuple[str, ...], tuple[tuple[int, int], ...]]:
    """The text with its punctuation, the words without, and where they stand in the text."""
    pieces: list[str] = []
    words: list[str] = []
    spans: list[tuple[int, int]] = []
    at = 0
    for sentence in sentences:
        for word, parsed in zip(spell(lexicon, sentence), sentence, strict=True):
            piece = word + parsed.punctuation
            words.append(word)
            spans.append((at, at + len(word)))
            pieces.append(piece)
            at += len(piece) + 1
    return " ".join(pieces), tuple(words), tuple(spans)
