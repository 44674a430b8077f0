# SPDX-License-Identifier: Apache-2.0
"""Text without some of its syntax or meaning: words replaced by the tag of their class, recipes, and controls.

An ablation looks at a parsed text and says for each token what takes its place. The catalogue: tag replacement after
the founding project ("Mary was a beautiful woman" becomes "NNOUN was a beautiful NNOUN"; only NNOUN is attested there, the other
tags are formed by its rule), the semantics-only and syntax-only corpora of Pasquiou et al. 2023, removal of a class,
and for each replacement a control that replaces as many words of every sentence, drawn at random.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from voxelboard.benchmark.errors import DataError, UserError, unknown_name
from voxelboard.benchmark.stimuli.syntax import PARTS_OF_SPEECH, ParsedText, Parser, Token

# Raise it when the code below changes what a corpus holds: it is part of every key.
VERSION = 1

# class -> the parts of speech that it holds
WORD_CLASSES: Mapping[str, tuple[str, ...]] = {
    "noun": ("NOUN", "PROPN"),
    "verb": ("VERB",),
    "adjective": ("ADJ",),
    "adverb": ("ADV",),
    "pronoun": ("PRON",),
    "determiner": ("DET",),
    "adposition": ("ADP",),
    "conjunction": ("CCONJ", "SCONJ"),
    "auxiliary": ("AUX",),
    "particle": ("PART",),
    "numeral": ("NUM",),
    "interjection": ("INTJ",),
}
CONTENT = ("noun", "verb", "adjective", "adverb")
FUNCTION = ("pronoun", "determiner", "adposition", "conjunction", "auxiliary", "particle")
_GROUPS: Mapping[str, tuple[str, ...]] = {
    **{name: (name,) for name in WORD_CLASSES},
    "content": CONTENT,
    "function": FUNCTION,
}
# The first letter of the universal tag twice: NOUN -> NNOUN. CONJ stands for both kinds of conjunction.
TAG_WORDS: Mapping[str, str] = {
    name: parts[0][0] + parts[0] for name, parts in WORD_CLASSES.items() if name != "conjunction"
} | {"conjunction": "CCONJ"}
RANDOM_WORD = "RRANDOM"
_WORDS_AT_A_TIME = 400  # of a transcript, which may have no sentences
_NOT_WORDS = ("PUNCT", "SPACE", "SYM")

# Closed lists of Pasquiou et al. 2023; a later entry wins, as in their precedence.
_SPATIAL = (
    "in with on at by out up into where under off within around near above behind across forward toward beyond beneath"
)
_NEGATIONS = "not no nor none neither never"
_QUANTITIES = (
    "much never most many every without few both quite often less more several alone various entirely bit scarcely lot"
)
PLACEHOLDERS: Mapping[str, str] = {
    **dict.fromkeys(_SPATIAL.split(), "POSITION"),
    **dict.fromkeys(_NEGATIONS.split(), "NEG"),
    **dict.fromkeys(_QUANTITIES.split(), "QUANTITY"),
}

Edits = list[str | None]  # one entry a token: what is written instead, None for nothing
Edit = Callable[[ParsedText, np.random.Generator], Edits]


@dataclass(frozen=True)
class Ablation:
    """One way to take something away.

    Attributes
    ----------
    name, summary : for lists and manifests.
    edit : (parsed text, generator) -> one entry a token.
    apart : tokens are written with blanks between them, instead of as they stood.
    """

    name: str
    summary: str
    edit: Edit
    apart: bool = False


def is_word(token: Token) -> bool:
    """Whether a token counts as a word: no punctuation and no symbol."""
    return token.part not in _NOT_WORDS


def tag_of(token: Token) -> str | None:
    """The tag word of a token's class, None for what has none (punctuation, symbols, foreign words)."""
    return _TAG_OF_PART.get(token.part)


_TAG_OF_PART = {part: TAG_WORDS[name] for name, parts in WORD_CLASSES.items() for part in parts}


def replace_parts(tags: Mapping[str, str]) -> Edit:
    """Write ``tags[part]`` for every token of a part of speech in ``tags``.

    Raises
    ------
    UserError
        for a part of speech that does not exist.
    """
    for part in tags:
        if part not in PARTS_OF_SPEECH:
            raise unknown_name("part of speech", part, PARTS_OF_SPEECH)

    def edit(parsed: ParsedText, _rng: np.random.Generator) -> Edits:
        return [tags.get(token.part, token.text) for token in parsed.tokens]

    return edit


def remove_parts(parts: Sequence[str]) -> Edit:
    """Write nothing for every token of these parts of speech."""
    gone = frozenset(parts)

    def edit(parsed: ParsedText, _rng: np.random.Generator) -> Edits:
        return [None if token.part in gone else token.text for token in parsed.tokens]

    return edit


def random_control(parts: Sequence[str]) -> Edit:
    """In every sentence write ``RANDOM_WORD`` for as many words as belong to ``parts``, drawn from all its words."""
    counted = frozenset(parts)

    def edit(parsed: ParsedText, rng: np.random.Generator) -> Edits:
        edits: Edits = [token.text for token in parsed.tokens]
        for sentence in parsed.sentences():
            words = [i for i in sentence if is_word(parsed.tokens[i])]
            n_wanted = sum(parsed.tokens[i].part in counted for i in sentence)
            for i in rng.choice(len(words), size=n_wanted, replace=False).tolist() if n_wanted else ():
                edits[words[i]] = RANDOM_WORD
        return edits

    return edit


def semantics_only(parsed: ParsedText, _rng: np.random.Generator) -> Edits:
    """Content words as they are, in lower case; pronouns, spatial prepositions, negations and quantities as one word each.

    Every other function word and all punctuation is gone. The source's list of pronouns is replaced by the parser's PRON.
    """
    edits: Edits = []
    for token in parsed.tokens:
        word = token.text.lower()
        placeholder = PLACEHOLDERS.get(word) or ("PRON" if token.part == "PRON" else None)
        content = is_word(token) and token.part not in _FUNCTION_PARTS
        edits.append(placeholder or (word if content else None))
    return edits


_FUNCTION_PARTS = frozenset(part for name in FUNCTION for part in WORD_CLASSES[name])


def syntax_only(parser: Parser) -> Edit:
    """Every token as one number of six digits: phrases that end with it (1), morphology (3), part of speech (2).

    Phrases are subtrees of a dependency parse where the source has closing nodes of a constituency parse (its parser's
    model does not install from the package index). Morphologies are numbered in the order of their names from 001;
    000 is none, 999 one that the model's rules do not list.
    """
    numbers = {name: i for i, name in enumerate(parser.morphologies, start=1)} | {"": 0}

    def edit(parsed: ParsedText, _rng: np.random.Generator) -> Edits:
        return [
            f"{token.closings}{numbers.get(token.morphology, 999):03d}{PARTS_OF_SPEECH.index(token.part):02d}"
            for token in parsed.tokens
        ]

    return edit


def ablation_names() -> tuple[str, ...]:
    """All names of the catalogue, the original first."""
    groups = tuple(_GROUPS)
    return (
        "original",
        *groups,
        *(f"remove-{name}" for name in groups),
        *(f"random-{name}" for name in groups),
        "semantics",
        "syntax",
    )


def load_ablation(name: str, parser: Parser) -> Ablation:
    """The ablation of a name; ``PART=TAG,PART=TAG`` is a replacement of your own.

    Raises
    ------
    UserError
        for an unknown name, with the nearest one.
    """
    if "=" in name:
        return _own_map(name)
    kind, _, group = name.rpartition("-")
    parts = [part for member in _GROUPS.get(group, ()) for part in WORD_CLASSES[member]]
    if name == "original":
        return Ablation(name, "the text as it is", replace_parts({}))
    if name == "semantics":
        return Ablation(name, "content words only (Pasquiou et al. 2023)", semantics_only, apart=True)
    if name == "syntax":
        return Ablation(name, "syntax only, as numbers (Pasquiou et al. 2023)", syntax_only(parser), apart=True)
    if parts and kind == "":
        return Ablation(
            name,
            f"{' '.join(parts)} replaced by the tag of the class",
            replace_parts({part: _TAG_OF_PART[part] for part in parts}),
        )
    if parts and kind == "remove":
        return Ablation(name, f"{' '.join(parts)} removed", remove_parts(parts))
    if parts and kind == "random":
        many = f"{group} words" if group in ("content", "function") else f"{group}s"
        return Ablation(name, f"as many random words as {many} replaced by {RANDOM_WORD}", random_control(parts))
    raise unknown_name("ablation", name, ablation_names(), "or PART=TAG,PART=TAG for a replacement of your own")


def _own_map(name: str) -> Ablation:
    tags = {}
    for pair in name.split(","):
        part, _, tag = pair.partition("=")
        if not part or not tag or any(c.isspace() for c in tag):
            raise UserError(
                f"{pair!r} in {name!r} is no PART=TAG",
                "write for instance NOUN=NNOUN,PROPN=NNOUN; versions with a name go into an --ablation of their own",
            )
        tags[part] = tag
    return Ablation(name, "a replacement of one's own", replace_parts(tags))


def tag_vocabulary() -> tuple[str, ...]:
    """Every word that an ablation of the catalogue may write besides words of the text, without the numbers of ``syntax``."""
    return (*TAG_WORDS.values(), RANDOM_WORD, "PRON", "POSITION", "NEG", "QUANTITY")


def generator(text: str, seed: int) -> np.random.Generator:
    """The generator of one text: the same wherever in a corpus, and in whatever process, the text is met."""
    digest = hashlib.sha256(text.encode()).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest[:16], dtype="<u4").tolist()])


@dataclass(frozen=True)
class Counts:
    """What an ablation did. ``words`` are tokens without punctuation; ``replaced`` and ``removed`` are those of them."""

    words: int = 0
    replaced: int = 0
    removed: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.words + other.words, self.replaced + other.replaced, self.removed + other.removed)


def ablate(parsed: ParsedText, ablation: Ablation, seed: int = 0, *, spoken: bool = False) -> tuple[str, Counts]:
    """The text that an ablation leaves, and what it did.

    Parameters
    ----------
    spoken : write it as a transcript: in lower case, without punctuation, with straight apostrophes. Tags stay as they are.
    """
    edits = ablation.edit(parsed, generator(parsed.text, seed))
    words = [(token, new) for token, new in zip(parsed.tokens, edits, strict=True) if is_word(token)]
    counts = Counts(
        len(words),
        sum(new is not None and _is_other(token, new) for token, new in words),
        sum(new is None for _, new in words),
    )
    if spoken:
        edits = [spoken_form(token, new) for token, new in zip(parsed.tokens, edits, strict=True)]
    return render(parsed, edits, apart=ablation.apart), counts


def spoken_form(token: Token, new: str | None) -> str | None:
    """What is written for a token in a transcript."""
    if new is None or not is_word(token):
        return None
    return new if _is_other(token, new) else _plain(new)


def _plain(text: str) -> str:
    return text.lower().replace("’", "'")


def _is_other(token: Token, new: str) -> bool:
    """Whether something else than the token is written, in whatever spelling."""
    return _plain(new) != _plain(token.text)


def render(parsed: ParsedText, edits: Sequence[str | None], *, apart: bool = False) -> str:
    """Write the edited tokens with a blank where blanks or a token that is gone were between them."""
    pieces: list[str] = []
    stop = 0
    gap, written_before = "", False
    for token, new in zip(parsed.tokens, edits, strict=True):
        gap += parsed.text[stop : token.start]
        stop = token.stop
        if new is None:
            gap += " "
            continue
        if pieces:
            # "John's" becomes "John PPART", but "NNOUN's" stays in one piece
            clitic = written_before and is_word(token) and _is_other(token, new)
            pieces.append(" " if apart or clitic or gap.isspace() else "")
        pieces.append(new)
        gap, written_before = "", is_word(token)
    return "".join(pieces)


def ablate_words(
    text: str, spans: Sequence[tuple[int, int]], ablation: Ablation, parser: Parser, seed: int = 0
) -> list[str | None]:
    """What becomes of each word of a transcript, read with its text; None for a word that is gone.

    Parameters
    ----------
    text, spans : as in :class:`~voxelboard.benchmark.stimuli.stories.Story`.

    Raises
    ------
    DataError
        for a word in which the parser finds no token.
    """
    words: list[str | None] = []
    for first in range(0, len(spans), _WORDS_AT_A_TIME):
        part = spans[first : first + _WORDS_AT_A_TIME]
        base = part[0][0]
        (parsed,) = parser.parse([text[base : part[-1][1]]])
        edits = ablation.edit(parsed, generator(parsed.text, seed))
        stops = np.array([stop - base for _, stop in part])
        own: list[list[int]] = [[] for _ in part]
        for i, token in enumerate(parsed.tokens):
            row = int(np.searchsorted(stops, token.start, side="right"))
            if token.stop > part[row][0] - base:  # else it lies between two words: punctuation
                own[row].append(i)
        for row, tokens in enumerate(own):
            if not tokens:
                raise DataError(
                    f"the parser finds no token in word {first + row} {text[part[row][0] : part[row][1]]!r}",
                    "correct the transcript of this word",
                )
            within = ParsedText(parsed.text, tuple(parsed.tokens[i] for i in tokens))
            words.append(render(within, [edits[i] for i in tokens], apart=ablation.apart) or None)
    return words
