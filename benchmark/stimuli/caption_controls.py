# SPDX-License-Identifier: Apache-2.0
"""What a caption says without being a caption: categories, single words, scrambled and exchanged words.

Each control turns the captions of an image into texts that a model embeds one by one; an image's vector is the mean over
its texts, as for captions. A model that is no better with captions than with a control does not use what only a whole caption
says. Definitions after Doerig et al. 2025.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import UserError, unknown_name
from voxelboard.benchmark.stimuli.captions import CaptionedImages
from voxelboard.benchmark.stimuli.tagging import PUNCTUATION_TAGS, WORD_CLASSES, TaggedWord, tag_text

Float32Array = NDArray[np.float32]
Texts = tuple[tuple[str, ...], ...]  # for each image the texts whose embeddings are averaged

SOMETHING: Final = "something"  # what stands for nothing to say
_FALLBACKS: Final = {"verbs": "is"}  # an image without a verb; all other classes: SOMETHING
_CLOSING: Final = frozenset(",.?!;:'’")
TEXT_CONTROLS: Final = (
    "category string",
    "nouns",
    "verbs",
    "adjectives",
    "adverbs",
    "prepositions",
    "word average",
    "scrambled",
    "random words",
)


class TaggedCaptions:
    """The captions of a set of images, tagged once."""

    def __init__(self, images: CaptionedImages) -> None:
        self.images = images
        self.tagged: tuple[tuple[tuple[TaggedWord, ...], ...], ...] = tuple(
            tuple(tag_text(caption) for caption in captions) for captions in images.captions
        )

    def pool(self, word_class: str) -> tuple[str, ...]:
        """All different words of a class in the captions, lower case, sorted."""
        tags = _tags(word_class)
        return tuple(
            sorted(
                {w.text.lower() for captions in self.tagged for caption in captions for w in caption if w.tag in tags}
            )
        )


@lru_cache(maxsize=2)
def tag_captions(images: CaptionedImages) -> TaggedCaptions:
    """The captions of these images, tagged; the same object for the same images: tagging takes longer than reading."""
    return TaggedCaptions(images)


def control_texts(name: str, captions: TaggedCaptions, seed: int, vectors: Mapping[str, Float32Array]) -> Texts:
    """The texts of the control called ``name``; ``vectors`` as in :func:`exchange_words`, which alone uses them."""
    if name not in _CONTROLS:
        raise unknown_name("control", name, TEXT_CONTROLS)
    return _CONTROLS[name](captions, seed, vectors)


def category_strings(images: CaptionedImages) -> Texts:
    """The names of the categories that an image shows, joined with blanks; "something" where it shows none."""
    names = np.array(images.category_names, dtype=object)
    return tuple((" ".join(names[shown]) or SOMETHING,) for shown in images.categories)


def words_of_class(captions: TaggedCaptions, word_class: str) -> Texts:
    """Every word of a class in all captions of an image, each a text of its own, as often as it occurs."""
    tags = _tags(word_class)
    fallback = _FALLBACKS.get(word_class, SOMETHING)
    return tuple(
        tuple(w.text.lower() for caption in image for w in caption if w.tag in tags) or (fallback,)
        for image in captions.tagged
    )


def single_words(captions: TaggedCaptions) -> Texts:
    """Every word of all captions of an image, each a text of its own; punctuation is left out."""
    return tuple(
        tuple(w.text.lower() for caption in image for w in caption if w.tag not in PUNCTUATION_TAGS) or (SOMETHING,)
        for image in captions.tagged
    )


def scrambled(captions: TaggedCaptions, seed: int) -> Texts:
    """The words of each caption in another order; the same words, as often."""
    rng = np.random.default_rng([seed, 31])
    return tuple(
        tuple(join_tokens([caption[i].text for i in rng.permutation(len(caption))]) for caption in image)
        for image in captions.tagged
    )


def exchange_words(
    captions: TaggedCaptions,
    word_classes: Sequence[str],
    seed: int,
    vectors: Mapping[str, Float32Array],
    min_distance: float = 0.2,
) -> Texts:
    """Each word of the classes replaced by a random one of the same class; the same word by the same throughout an image.

    Parameters
    ----------
    vectors : word (lower case) -> (n_features,); a replacement lies at least ``min_distance`` (cosine) from the word,
        so that it is no synonym. Words without a vector are replaced by any other word of the class.

    Raises
    ------
    UserError
        for a distance outside 0 to 2.
    """
    if not 0 <= min_distance <= 2:
        raise UserError(f"a cosine distance of {min_distance}; it lies between 0 and 2")
    rng = np.random.default_rng([seed, 32])
    pools = {name: captions.pool(name) for name in word_classes}
    classes = {tag: name for name in word_classes for tag in _tags(name)}
    far = {name: _far_words(pool, vectors, min_distance) for name, pool in pools.items()}
    texts = []
    for image in captions.tagged:
        replaced: dict[tuple[str, str], str] = {}
        said = []
        for caption in image:
            words = []
            for word in caption:
                name = classes.get(word.tag)
                if name is None:
                    words.append(word.text)
                    continue
                key = (name, word.text.lower())
                if key not in replaced:
                    replaced[key] = _draw(far[name].get(key[1], ()), key[1], rng)
                words.append(replaced[key])
            said.append(join_tokens(words))
        texts.append(tuple(said))
    return tuple(texts)


def join_tokens(tokens: Sequence[str]) -> str:
    """Tokens joined with blanks, none before ``, . ? ! ; :`` or an apostrophe."""
    text = ""
    for token in tokens:
        text += token if not text or token[0] in _CLOSING else f" {token}"
    return text


def _far_words(
    pool: Sequence[str], vectors: Mapping[str, Float32Array], min_distance: float
) -> dict[str, tuple[str, ...]]:
    """Word -> the words of the pool that are far enough from it."""
    known = [word for word in pool if word in vectors and np.linalg.norm(vectors[word]) > 0]
    if not known:
        return {word: tuple(other for other in pool if other != word) for word in pool}
    table = np.stack([vectors[word] / np.linalg.norm(vectors[word]) for word in known]).astype(np.float64)
    distances = dict(zip(known, 1 - table @ table.T, strict=True))
    near = {
        word: {other for other, distance in zip(known, distances[word], strict=True) if distance < min_distance}
        for word in known
    }
    return {word: tuple(other for other in pool if other != word and other not in near.get(word, ())) for word in pool}


def _draw(choices: Sequence[str], word: str, rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))] if choices else word


def _tags(word_class: str) -> frozenset[str]:
    if word_class not in WORD_CLASSES:
        raise unknown_name("class of words", word_class, WORD_CLASSES)
    return WORD_CLASSES[word_class]


_Control = Callable[[TaggedCaptions, int, Mapping[str, Float32Array]], Texts]


def _of_class(word_class: str) -> _Control:
    return lambda captions, seed, vectors: words_of_class(captions, word_class)


_CONTROLS: dict[str, _Control] = {
    "category string": lambda captions, seed, vectors: category_strings(captions.images),
    **{name: _of_class(name) for name in WORD_CLASSES},
    "word average": lambda captions, seed, vectors: single_words(captions),
    "scrambled": lambda captions, seed, vectors: scrambled(captions, seed),
    "random words": lambda captions, seed, vectors: exchange_words(captions, tuple(WORD_CLASSES), seed, vectors),
}
