# SPDX-License-Identifier: Apache-2.0
"""The simulated drama: films that nobody shot, described second by second at five levels, with the meanings behind them.

An episode is one stretch of time. Each level tells a series of items (an utterance, a view, a turn of the story, a
section, a scene) with a few core words; several annotators put them in their own words, and now and then leave them
out. Runs are cut from the episode afterwards, each but the first repeating the 20 s before it. Words and templates were
written for this project.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.stimuli.annotations import LEVELS, Annotation
from voxelboard.benchmark.stimuli.grammar import PARTS_OF_SPEECH, generate_sentence, spell
from voxelboard.benchmark.stimuli.lexicon import TOPICS
from voxelboard.benchmark.stimuli.simulated import World, ar1, build_world

FloatArray = NDArray[np.float64]

TITLES = ("harbour", "orchard", "nightshift", "observatory", "ferryman", "glasshouse", "signalbox", "saltmarsh")
OVERLAP_S = 20
OTHER_LANGUAGE = "speech@jp"
N_ACOUSTIC, N_VISUAL = 4, 4
_WORLD_SEED = 77  # what words mean is the same in every simulated drama, so that a model can be asked without its data
# Which of a word's 16 meanings a level's items are about: what voxels of that level respond to.
MEANINGS: Mapping[str, slice] = {
    "speech": slice(0, 6),
    "object": slice(3, 9),
    "story": slice(8, 14),
    "summary": slice(11, 15),
    "timeplace": slice(5, 9),
}
_SCENE_S = (12.0, 24.0)  # shortest and mean length of a scene; real ones are about six times as long, as are runs
_SECTION_S = (15.0, 30.0)
_STORY_S = 5
_OBJECT_CHANGE = 0.25  # probability that one of the three things in view is another one a second later
_ON_TOPIC = 0.5  # an item is about the topic of its scene
_OWN_WORD = 0.1  # an annotator's word for a core word is another one of its topic
_WRITES = {"speech": 1.0, "object": 0.97, "story": 0.95, "summary": 1.0, "timeplace": 0.95}
_SYLLABLES = [
    "か",
    "き",
    "く",
    "け",
    "こ",
    "さ",
    "し",
    "す",
    "せ",
    "そ",
    "た",
    "ち",
    "つ",
    "て",
    "と",
    "な",
    "に",
    "ぬ",
    "ね",
    "の",
    "は",
    "ひ",
    "ふ",
    "へ",
    "ほ",
    "ま",
    "み",
    "む",
    "め",
    "も",
    "や",
    "ゆ",
    "よ",
    "ら",
    "り",
    "る",
    "れ",
    "ろ",
    "わ",
]
_TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "object": ("a {0}, a {1} and a {2} are in view", "we see a {0} beside a {1}, and a {2}", "{0}, {1}, {2}"),
    "story": ("the {0} {1} the {2}", "it seems that the {0} {1} the {2}"),
    "summary": (
        "the {0} {1} the {2}, and later the {3} {4} the {5}",
        "first the {0} {1} the {2}; then the {3} {4} the {5}",
    ),
    "timeplace": ("{0}, at the {1}", "it is {0} near the {1}"),
}
_TIMES = ("morning", "evening", "night", "day")


@dataclass(frozen=True)
class Item:
    """Seconds ``start`` to ``stop - 1`` of a level and the words that matter in them, as entries of the lexicon."""

    start: int
    stop: int
    entries: tuple[int, ...]
    topic: int
    text: str = ""  # of speech, which everybody hears alike


@dataclass(frozen=True, eq=False)
class Episode:
    """One episode on a clock of seconds, before it is cut into runs.

    Attributes
    ----------
    annotations : level, or level@language -> texts.
    latents : level -> (n_seconds, n_meanings) mean meaning of the core words; 0 where there is no item.
    acoustics, visuals : (n_seconds, n_columns).
    """

    n_seconds: int
    annotations: Mapping[str, Annotation]
    latents: Mapping[str, FloatArray]
    acoustics: FloatArray
    visuals: FloatArray

    def cut(self, start: int, stop: int) -> "Episode":
        """Seconds ``start`` to ``stop - 1``."""
        return Episode(
            stop - start,
            {name: Annotation(tuple(row[start:stop] for row in a.texts)) for name, a in self.annotations.items()},
            {level: table[start:stop] for level, table in self.latents.items()},
            self.acoustics[start:stop],
            self.visuals[start:stop],
        )


@cache
def drama_world() -> World:
    """The lexicon of all simulated dramas and what its words mean."""
    return build_world(_WORLD_SEED)


@cache
def content_entries() -> Mapping[str, int]:
    """Content word (noun, verb, adjective), lower case -> its entry, in both languages."""
    lexicon = drama_world().lexicon
    wanted = [PARTS_OF_SPEECH.index(part) for part in ("noun", "verb", "adjective")]
    entries = {
        lexicon.words[entry].lower(): int(entry)
        for word_class in lexicon.classes.values()
        if word_class.part_of_speech in wanted
        for entry in word_class.entries
    }
    return {**entries, **{translate(word): entry for word, entry in entries.items()}}


def translate(word: str) -> str:
    """The word in the other language: syllables drawn by the word itself, as good as unique."""
    digest = sha256(word.lower().encode()).digest()
    return "".join(_SYLLABLES[byte % len(_SYLLABLES)] for byte in digest[:5])


def tell_episode(n_seconds: int, rng: np.random.Generator) -> Episode:
    """Invent an episode of ``n_seconds``: scenes, items of every level, their texts, sound and picture."""
    world = drama_world()
    scenes = list(_stretches(n_seconds, *_SCENE_S, rng))
    topics = np.empty(n_seconds, dtype=np.intp)
    for start, stop in scenes:
        topics[start:stop] = rng.integers(len(TOPICS))
    items = {
        "speech": _speak(n_seconds, topics, rng),
        "object": _look(scenes, topics, rng),
        "story": _items(_regular(n_seconds, _STORY_S), topics, ("NOUN", "TRANSITIVE", "NOUN"), rng),
        "summary": _items(_stretches(n_seconds, *_SECTION_S, rng), topics, ("NOUN", "TRANSITIVE", "NOUN") * 2, rng),
        "timeplace": [_scene(start, stop, int(topics[start]), rng) for start, stop in scenes],
    }
    annotations = {
        level.name: Annotation(
            tuple(_annotate(level.name, k, items[level.name], n_seconds, rng) for k in range(level.n_annotators))
        )
        for level in LEVELS
    }
    annotations[OTHER_LANGUAGE] = Annotation(
        (tuple(_in_other_language(text) for text in annotations["speech"].texts[0]),)
    )
    latents = {level: _latent(items[level], MEANINGS[level], n_seconds, world) for level in MEANINGS}
    sound = annotations["speech"].present[0]
    acoustics = (0.3 + sound)[:, None] * (1 + 0.5 * ar1(n_seconds, N_ACOUSTIC, 0.6, rng))
    visuals = ar1(n_seconds, N_VISUAL, 0.5, rng)
    for start, stop in scenes:  # another light in each scene
        visuals[start:stop] += rng.standard_normal(N_VISUAL)
    return Episode(n_seconds, annotations, latents, acoustics, visuals)


def cut_runs(episode: Episode, n_runs: int) -> list[tuple[Episode, int]]:
    """Runs of nearly equal length with the seconds at their start that repeat the run before."""
    edges = np.linspace(0, episode.n_seconds, n_runs + 1).round().astype(int).tolist()
    starts = [0, *(edge - OVERLAP_S for edge in edges[1:-1])]
    return [
        (episode.cut(start, stop), 0 if start == 0 else OVERLAP_S)
        for start, stop in zip(starts, edges[1:], strict=True)
    ]


def _stretches(n_seconds: int, shortest: float, mean: float, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    start = 0
    while start < n_seconds:
        stop = start + int(shortest + rng.gamma(2.0, (mean - shortest) / 2))
        stop = n_seconds if n_seconds - stop < shortest else stop
        yield start, stop
        start = stop


def _regular(n_seconds: int, every: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + every, n_seconds)) for start in range(0, n_seconds, every))


def _draw(word_class: str, topic: int, rng: np.random.Generator) -> int:
    members = drama_world().lexicon.classes[word_class]
    k = int(np.searchsorted(members.cumulative[topic], rng.random(), side="right"))
    return int(members.entries[min(k, len(members.entries) - 1)])


def _topic_near(topic: int, rng: np.random.Generator) -> int:
    return topic if rng.random() < _ON_TOPIC else int(rng.integers(len(TOPICS)))


def _items(
    stretches: Iterator[tuple[int, int]], topics: NDArray[np.intp], classes: tuple[str, ...], rng: np.random.Generator
) -> list[Item]:
    items = []
    for start, stop in stretches:
        topic = _topic_near(int(topics[start]), rng)
        items.append(Item(start, stop, tuple(_draw(name, topic, rng) for name in classes), topic))
    return items


def _scene(start: int, stop: int, topic: int, rng: np.random.Generator) -> Item:
    time = drama_world().lexicon.words.index(_TIMES[int(rng.integers(len(_TIMES)))])
    return Item(start, stop, (time, _draw("NOUN", topic, rng)), topic)


def _look(scenes: list[tuple[int, int]], topics: NDArray[np.intp], rng: np.random.Generator) -> list[Item]:
    items: list[Item] = []
    for start, stop in scenes:
        topic = _topic_near(int(topics[start]), rng)
        view = [_draw("NOUN", topic, rng) for _ in range(3)]
        first = start
        for second in range(start + 1, stop + 1):
            changes = second == stop or rng.random() < _OBJECT_CHANGE
            if changes:
                items.append(Item(first, second, tuple(view), topic))
                first = second
                view[int(rng.integers(3))] = _draw("NOUN", topic, rng)
    return items


def _speak(n_seconds: int, topics: NDArray[np.intp], rng: np.random.Generator) -> list[Item]:
    world, items, second = drama_world(), [], int(rng.integers(1, 4))
    content = content_entries()
    while second < n_seconds:
        topic = _topic_near(int(topics[second]), rng)
        words = spell(world.lexicon, generate_sentence(world.lexicon, topic, rng))[:9]
        entries = tuple(content[word.lower()] for word in words if word.lower() in content)
        stop = min(n_seconds, second + max(1, round(0.3 * len(words))))
        if entries:
            items.append(Item(second, stop, entries, topic, " ".join(words)))
        second = stop + int(rng.integers(0, 4))
    return items


def _annotate(
    level: str, annotator: int, items: list[Item], n_seconds: int, rng: np.random.Generator
) -> tuple[str, ...]:
    texts = [""] * n_seconds
    write = _writer(level, annotator, rng)
    for item in items:
        text = write(item) if rng.random() < _WRITES[level] else ""
        texts[item.start : item.stop] = [text] * (item.stop - item.start)
    return tuple(texts)


def _writer(level: str, annotator: int, rng: np.random.Generator) -> Callable[[Item], str]:
    if level == "speech":
        return lambda item: item.text
    lexicon = drama_world().lexicon
    template = _TEMPLATES[level][annotator % len(_TEMPLATES[level])]

    def write(item: Item) -> str:
        words = []
        for entry in item.entries:
            if rng.random() < _OWN_WORD:
                name = next(n for n, c in lexicon.classes.items() if entry in c.entries and n in ("NOUN", "TRANSITIVE"))
                entry = _draw(name, item.topic, rng)
            words.append(lexicon.words[entry])
        return template.format(*words)

    return write


def _in_other_language(text: str) -> str:
    return " ".join(translate(word) for word in reversed(text.split()))


def _latent(items: list[Item], meanings: slice, n_seconds: int, world: World) -> FloatArray:
    latent = np.zeros((n_seconds, meanings.stop - meanings.start))
    for item in items:
        latent[item.start : item.stop] = world.embeddings[list(item.entries), meanings].mean(axis=0)
    return latent
