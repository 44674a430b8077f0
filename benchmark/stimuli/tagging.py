# SPDX-License-Identifier: Apache-2.0
"""Parts of speech of English text, by TextBlob's pattern tagger: its lexicon and rules come inside the package.

Tags are those of the Penn Treebank. The models of NLTK and spaCy are not on the package registry and would be fetched
at run time from elsewhere; TextBlob's lexicon (94,000 word forms), suffix rules and context rules are. It knows few
finite verbs of captions (``a dog chases a bird``: the lexicon says plural noun), so one contextual rule is added, see
:func:`tag_words`. Measured on sentences whose tags are known: docs/captions.md.
"""

import re
import warnings
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Final, NamedTuple

from voxelboard.benchmark.errors import MissingPrerequisite

# Penn Treebank tags of a class of words.
NOUNS: Final = frozenset({"NN", "NNS", "NNP", "NNPS"})
VERBS: Final = frozenset({"VB", "VBD", "VBG", "VBN", "VBP", "VBZ"})
ADJECTIVES: Final = frozenset({"JJ", "JJR", "JJS"})
ADVERBS: Final = frozenset({"RB", "RBR", "RBS"})
PREPOSITIONS: Final = frozenset({"IN"})
PRONOUNS: Final = frozenset({"PRP", "PRP$", "WP", "WP$"})
WORD_CLASSES: Final = {
    "nouns": NOUNS,
    "verbs": VERBS,
    "adjectives": ADJECTIVES,
    "adverbs": ADVERBS,
    "prepositions": PREPOSITIONS,
}
PUNCTUATION_TAGS: Final = frozenset({".", ",", ":", "(", ")", "''", "``", '"', "#", "$", "SYM"})

# Words may hold apostrophes, hyphens and digits; a possessive 's and any other mark that is no blank stand alone.
_TOKEN = re.compile(r"['’]s\b|[^\W_]+(?:[-'’.](?!s\b)[^\W_]+)*|[^\w\s]|_")
_BEFORE_A_VERB = frozenset({"NN", "NNP", "PRP", "RB"})
_BEFORE_AN_OBJECT = frozenset({"DT", "PRP$", "CD"})


class TaggedWord(NamedTuple):
    """One token of a text.

    text : as written; tag : Penn Treebank.
    start, stop : ``text[start:stop]`` of the whole text is the token.
    """

    text: str
    tag: str
    start: int
    stop: int


def tag_text(text: str) -> tuple[TaggedWord, ...]:
    """Cut a sentence into words and punctuation, and tag them in their context."""
    matches = list(_TOKEN.finditer(text))
    tags = tag_words([match.group() for match in matches])
    return tuple(TaggedWord(m.group(), tag, m.start(), m.end()) for m, tag in zip(matches, tags, strict=True))


def tag_words(words: Sequence[str]) -> tuple[str, ...]:
    """(n_words,) Penn tags of the words of one sentence, in order; punctuation counts as words.

    A plural noun after a singular noun, pronoun or adverb and before a determiner, possessive or number is a verb in the third
    person (``dog chases a``): the lexicon lists such forms as nouns.

    Raises
    ------
    MissingPrerequisite
        when TextBlob is not installed.
    """
    if not words:
        return ()
    tags = [str(tag) for _, tag in _parser().find_tags(list(words))]
    for i in range(1, len(tags) - 1):
        if tags[i] == "NNS" and tags[i - 1] in _BEFORE_A_VERB and tags[i + 1] in _BEFORE_AN_OBJECT:
            tags[i] = "VBZ"
    return tuple(tags)


def tagger_version() -> str:
    """What tagged, for cache keys and records."""
    return f"textblob {version('textblob')}, rules 1"


@lru_cache(maxsize=1)
def _parser() -> Any:
    try:
        from textblob.en import parser
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "textblob":
            raise
        raise MissingPrerequisite(
            "tagging words needs textblob, which is not installed", "pip install textblob"
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves the files of its lexicon to the garbage collector
        parser.find_tags(["warm"])
    return parser
