# SPDX-License-Identifier: Apache-2.0
"""Ablations against sentences done by hand, the parser's own counts, and properties that must hold for any text."""

import re
from collections import Counter

import pytest

from voxelboard.benchmark.errors import DataError, UserError
from voxelboard.benchmark.stimuli.ablations import (
    CONTENT,
    FUNCTION,
    RANDOM_WORD,
    WORD_CLASSES,
    ablate,
    ablate_words,
    ablation_names,
    is_word,
    load_ablation,
)
from voxelboard.benchmark.stimuli.stories import join_words
from voxelboard.benchmark.stimuli.syntax import PARTS_OF_SPEECH, ParsedText, Parser, Token, load_parser

TEXT = (
    "Mary was a beautiful woman. “Don’t you see the well-known John’s dog?” she said, running to the 3 old houses. "
    "Nobody had many doubts; it never rained in town, and oh, the quick brown foxes jumped over them quietly."
)


@pytest.fixture(scope="module")
def parser() -> Parser:
    return load_parser()


@pytest.fixture(scope="module")
def parsed(parser: Parser) -> ParsedText:
    (found,) = parser.parse([TEXT])
    return found


@pytest.mark.parametrize(
    ("name", "sentence", "expected"),
    [
        # the sentence of the founding project
        ("noun", "Mary was a beautiful woman", "NNOUN was a beautiful NNOUN"),
        ("noun", "Mary was a beautiful woman.", "NNOUN was a beautiful NNOUN."),
        ("verb", "She saw the dog and ran.", "She VVERB the dog and VVERB."),
        ("content", "The old dog slept quietly.", "The AADJ NNOUN VVERB AADV."),
        ("function", "The old dog slept in a box.", "DDET old dog slept AADP DDET box."),
        ("remove-noun", "The dog saw a cat.", "The saw a ."),
        ("remove-function", "The dog saw a cat.", "dog saw cat."),
        ("noun", "John’s dog didn’t run away.", "NNOUN’s NNOUN didn’t run away."),
        ("function", "John’s dog didn’t run away.", "John PPART dog AAUX PPART run away."),
        ("semantics", "The dog was not in the old house with her.", "dog NEG POSITION old house POSITION PRON"),
        ("NOUN=THING,VERB=DO", "The dog saw a cat.", "The THING DO a THING."),
    ],
)
def test_sentences_done_by_hand(parser: Parser, name: str, sentence: str, expected: str) -> None:
    (found,) = parser.parse([sentence])
    assert ablate(found, load_ablation(name, parser))[0] == expected


@pytest.mark.parametrize("group", [*WORD_CLASSES, "content", "function"])
def test_counts_are_the_parser_s_own(parser: Parser, parsed: ParsedText, group: str) -> None:
    members = {"content": CONTENT, "function": FUNCTION}.get(group, (group,))
    parts = {part for name in members for part in WORD_CLASSES[name]}
    expected = sum(token.part in parts for token in parsed.tokens)
    words = sum(is_word(token) for token in parsed.tokens)
    text, replaced = ablate(parsed, load_ablation(group, parser))
    assert (replaced.words, replaced.replaced, replaced.removed) == (words, expected, 0)
    assert len(re.findall(r"[A-Z]{3,}", text)) == expected
    _, removed = ablate(parsed, load_ablation(f"remove-{group}", parser))
    assert (removed.words, removed.replaced, removed.removed) == (words, 0, expected)
    text, control = ablate(parsed, load_ablation(f"random-{group}", parser))
    assert (control.words, control.replaced, control.removed) == (words, expected, 0)
    assert text.count(RANDOM_WORD) == expected


def test_a_control_replaces_as_many_words_of_every_sentence_and_the_same_ones_again(
    parser: Parser, parsed: ParsedText
) -> None:
    control = load_ablation("random-noun", parser)
    once = ablate(parsed, control, seed=3)[0]
    assert once == ablate(parsed, control, seed=3)[0]
    assert once != ablate(parsed, control, seed=4)[0]
    first = parsed.sentences()[0]  # ends at the first full stop
    nouns = sum(parsed.tokens[i].part in ("NOUN", "PROPN") for i in first)
    assert once.split(".")[0].count(RANDOM_WORD) == nouns == 2


def test_the_original_is_the_text_itself(parser: Parser, parsed: ParsedText) -> None:
    assert ablate(parsed, load_ablation("original", parser))[0] == TEXT


def test_spoken_text_is_a_transcript(parser: Parser, parsed: ParsedText) -> None:
    spoken = ablate(parsed, load_ablation("original", parser), spoken=True)[0]
    assert spoken.startswith("mary was a beautiful woman don't you see the well known john's dog she said running to")
    assert not set(spoken) & set(".,;:?!“”’")
    tagged = ablate(parsed, load_ablation("noun", parser), spoken=True)[0]
    assert tagged.startswith("NNOUN was a beautiful NNOUN don't")


def test_syntax_ids_by_hand_and_invariant_to_other_words_of_the_same_syntax(parser: Parser) -> None:
    syntax = load_ablation("syntax", parser)
    one, other = parser.parse(["The old dog saw a cat.", "The red car hit a tree."])
    ids = ablate(one, syntax)[0].split()
    assert ids == ablate(other, syntax)[0].split()
    number = {name: i for i, name in enumerate(parser.morphologies, start=1)}
    part = PARTS_OF_SPEECH.index
    # "The old dog" ends one phrase; "a cat" ends one, and the full stop the sentence
    expected = [
        f"1{number['Definite=Def|PronType=Art']:03d}{part('DET'):02d}",
        f"1{number['Degree=Pos']:03d}{part('ADJ'):02d}",
        f"2{number['Number=Sing']:03d}{part('NOUN'):02d}",
        f"1{number['Tense=Past|VerbForm=Fin']:03d}{part('VERB'):02d}",
        f"1{number['Definite=Ind|PronType=Art']:03d}{part('DET'):02d}",
        f"2{number['Number=Sing']:03d}{part('NOUN'):02d}",
        f"2{number['PunctType=Peri']:03d}{part('PUNCT'):02d}",
    ]
    assert ids == expected


def test_quantity_wins_over_negation_and_position_as_in_the_source(parser: Parser) -> None:
    (found,) = parser.parse(["Without many words he never came in."])
    assert ablate(found, load_ablation("semantics", parser))[0].split()[:3] == ["QUANTITY", "QUANTITY", "words"]


def test_words_of_a_transcript_are_ablated_one_by_one(parser: Parser) -> None:
    words = ["mary", "didn't", "see", "john's", "dog", "in", "the", "house"]
    text, spans = join_words(words)
    assert ablate_words(text, spans, load_ablation("original", parser), parser) == words
    nouns = ablate_words(text, spans, load_ablation("noun", parser), parser)
    assert (nouns[1], nouns[2], nouns[4], nouns[7]) == ("didn't", "see", "NNOUN", "NNOUN")
    gone = ablate_words(text, spans, load_ablation("remove-noun", parser), parser)
    assert gone[4] is None
    assert gone[7] is None
    numbers = ablate_words(text, spans, load_ablation("syntax", parser), parser)
    assert [len((word or "").split()) for word in numbers] == [1, 2, 1, 2, 1, 1, 1, 1]


def test_a_long_transcript_is_read_in_parts_and_keeps_its_words(parser: Parser) -> None:
    words = ["the", "old", "dog", "saw", "a", "cat", "and", "ran", "into", "the", "house"] * 100
    text, spans = join_words(words)
    ablated = ablate_words(text, spans, load_ablation("noun", parser), parser)
    assert len(ablated) == len(words)
    assert Counter(ablated)["NNOUN"] >= 0.9 * 300
    assert [new for new, word in zip(ablated, words, strict=True) if word in ("the", "a", "and")] == [
        word for word in words if word in ("the", "a", "and")
    ]


def test_punctuation_of_a_text_belongs_to_no_word(parser: Parser) -> None:
    text = "Mary, a woman, slept."
    spans = [(0, 4), (6, 7), (8, 13), (15, 20)]
    assert ablate_words(text, spans, load_ablation("noun", parser), parser) == ["NNOUN", "a", "NNOUN", "slept"]


def test_names_that_are_not_in_the_catalogue_are_refused_with_the_nearest(parser: Parser) -> None:
    with pytest.raises(UserError, match="Did you mean 'random-noun'"):
        load_ablation("random-nouns", parser)
    with pytest.raises(UserError, match="unknown part of speech 'NOUNS'"):
        load_ablation("NOUNS=X", parser)
    with pytest.raises(UserError, match="no PART=TAG"):
        load_ablation("NOUN=", parser)
    assert all(load_ablation(name, parser).name == name for name in ablation_names())


def test_a_word_without_a_token_is_an_error(parser: Parser) -> None:
    with pytest.raises(DataError, match="no token in word 1"):
        ablate_words("a   b", [(0, 1), (2, 3), (4, 5)], load_ablation("noun", parser), parser)


def test_tokens_have_the_columns_of_the_stored_parse() -> None:
    assert list(Token.__dataclass_fields__) == [
        *("text", "start", "stop", "part", "tag", "morphology", "closings", "sentence"),
    ]
