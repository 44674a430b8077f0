# SPDX-License-Identifier: Apache-2.0
"""Stories with a perturbed text, at the times at which the original was heard."""

import hashlib

import numpy as np

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.stimuli.perturbations import (
    Slot,
    TaggedWords,
    load_perturbation,
)
from voxelboard.benchmark.stimuli.sentences import sentences_at, windows_of
from voxelboard.benchmark.stimuli.stories import Story, make_story
from voxelboard.benchmark.stimuli.tagging import tag_words

SENTENCE_POSITION = "sentence_position"


def tagged_words(story: Story, window_words: int) -> TaggedWords:
    """The words of a story with their tags.

    Sentences are those of the annotation ``sentence_position``; a story without it is cut into runs of ``window_words``.
    """
    position = story.annotations.get(SENTENCE_POSITION)
    sentences = windows_of(story.n_words, window_words) if position is None else sentences_at(position[:, 0])
    tags = [tag for sentence in sentences for tag in tag_words([story.words[i] for i in sentence])]
    return TaggedWords(story.words, tuple(tags), sentences)


def perturb_story(story: Story, name: str, window_words: int, seed: int) -> Story:
    """The story under a perturbation of the catalogue.

    A place keeps its onset and offset, its text (passage), and what stood before it (a comma, a blank); a place without a
    word is gone. Annotations move with their words; those of a word that is not of the story are 0, so that a planted model knows
    nothing of it. The random draws depend on the seed, the perturbation and the story's name.

    Raises
    ------
    DataError
        when no word is left.
    UserError
        for an unknown perturbation.
    """
    perturb = load_perturbation(name)
    number = int.from_bytes(hashlib.sha256(f"{name}|{story.name}".encode()).digest()[:8], "little")
    slots = perturb(tagged_words(story, window_words), np.random.default_rng([seed, number]))
    places = [place for place, slot in enumerate(slots) if slot.word is not None]
    if not places:
        raise DataError(f"story {story.name!r}: no word is left by the perturbation {name!r}")
    return _rewritten(story, slots, places)


def _rewritten(story: Story, slots: list[Slot], places: list[int]) -> Story:
    text, spans, words = "", [], []
    for k, place in enumerate(places):
        if k:
            before = story.text[story.spans[place - 1][1] : story.spans[place][0]]
            text += before or " "
        word = slots[place].word or ""
        words.append(word)
        spans.append((len(text), len(text) + len(word)))
        text += word
    starts = np.searchsorted(places, story.text_starts)  # a text of which no word is left starts nowhere
    sources = [slots[place].source for place in places]
    known = np.array([source is not None for source in sources])
    rows = np.array([0 if source is None else source for source in sources])
    return make_story(
        story.name,
        words,
        story.onsets[places],
        story.offsets[places],
        n_trs=story.n_trs,
        tr=story.tr,
        text=text,
        spans=spans,
        acoustics=story.acoustics,
        annotations={name: np.where(known[:, None], table[rows], 0.0) for name, table in story.annotations.items()},
        row_unit=story.row_unit,
        text_starts=np.unique(starts[starts < len(places)]).tolist(),
    )
