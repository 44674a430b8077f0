# SPDX-License-Identifier: Apache-2.0
"""Words and tokens find each other by characters, for every way in which a tokenizer can cut a text."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from voxelboard.benchmark.errors import DataError, UserError
from voxelboard.benchmark.models.alignment import FastTokenizer, Tokens, align
from voxelboard.benchmark.stimuli.stories import Story, join_words

Fast = transformers.PreTrainedTokenizerFast


def pieces_of(tokenizer: Any, words: list[str]) -> list[list[str]]:
    text, spans = join_words(words)
    tokens = FastTokenizer(tokenizer, "it").encode([text])[0]
    mapping = align(tokens, text, spans, "it")
    return [tokenizer.convert_ids_to_tokens(tokens.ids[mapping.of(row)].tolist()) for row in range(len(words))]


def test_stories260k_pieces(shared_models: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(shared_models / "stories260K")
    assert pieces_of(tokenizer, ["Once", "“girl”", "naïve", "日", "don't", "end"]) == [
        ["▁Once"],
        ["“", "g", "ir", "l", "”"],  # its blank is a token of its own and is not counted
        ["▁n", "a", "<0xC3>", "<0xAF>", "ve"],
        ["<0xE6>", "<0x97>", "<0xA5>"],
        ["▁d", "on", "'", "t"],
        ["▁e", "nd"],
    ]


def test_the_prepended_blank_of_the_first_word_is_not_counted(shared_models: Path) -> None:
    """Its offset is that of the quote, (0, 1); elsewhere in the text the same word has no such token."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(shared_models / "stories260K")
    first, second = pieces_of(tokenizer, ["“girl”", "“girl”"])
    assert first == second == ["“", "g", "ir", "l", "”"]


@pytest.mark.parametrize("kind", ["byte_level", "byte_level_untrimmed", "roberta_level"])
def test_the_bytes_of_a_word_decode_to_the_word(kind: str, tokenizers: dict[str, Fast], tale: Story) -> None:
    tokenizer = tokenizers[kind]
    tokens = FastTokenizer(tokenizer, "it").encode([tale.text])[0]
    mapping = align(tokens, tale.text, tale.spans, "it")
    decoded = [tokenizer.decode(tokens.ids[mapping.of(row)].tolist()).strip() for row in range(tale.n_words)]
    assert decoded == list(tale.words)
    assert not mapping.reaches_on.any()


def test_trimmed_and_untrimmed_offsets_give_the_same_mapping(tokenizers: dict[str, Fast], tale: Story) -> None:
    mappings = []
    for kind in ("byte_level", "byte_level_untrimmed"):
        tokens = FastTokenizer(tokenizers[kind], kind).encode([tale.text])[0]
        mappings.append(align(tokens, tale.text, tale.spans, kind))
    np.testing.assert_array_equal(mappings[0].indices, mappings[1].indices)
    np.testing.assert_array_equal(mappings[0].starts, mappings[1].starts)


def test_a_lower_casing_tokenizer_that_strips_accents(tokenizers: dict[str, Fast]) -> None:
    assert pieces_of(tokenizers["word_piece"], ["CAFÉ", "The", "日本"]) == [["cafe"], ["the"], ["[UNK]", "[UNK]"]]


def test_unknown_letters_in_byte_fallback_share_one_offset(tokenizers: dict[str, Fast]) -> None:
    word, after = pieces_of(tokenizers["unigram"], ["語学", "the"])
    assert bytes(int(piece[3:5], 16) for piece in word).decode() == "語学"
    assert "".join(after) == "▁the"


def test_several_words_in_one_token_each_get_it(tokenizers: dict[str, Fast]) -> None:
    tokenizer = tokenizers["across_words"]
    words = ["and", "the", "cat"]
    text, spans = join_words(words)
    tokens = FastTokenizer(tokenizer, "it").encode([text])[0]
    mapping = align(tokens, text, spans, "it")
    shared = set(mapping.of(0).tolist()) & set(mapping.of(1).tolist())
    assert len(shared) == 1
    assert mapping.reaches_on.tolist()[0]
    assert not mapping.reaches_on.tolist()[-1]


def tokens_of(offsets: list[tuple[int, int]], special: list[int] | None = None) -> Tokens:
    n = len(offsets)
    flags = np.zeros(n, dtype=bool)
    flags[special or []] = True
    return Tokens(np.arange(n), np.array(offsets), flags, np.zeros(n, dtype=bool))


def test_bytes_with_an_empty_offset_belong_to_their_letter() -> None:
    tokens = tokens_of([(0, 0), (0, 1), (1, 1), (1, 1), (2, 4), (0, 0)], special=[0, 5])
    mapping = align(tokens, "日 ab", [(0, 1), (2, 4)], "it")
    assert [mapping.of(row).tolist() for row in range(2)] == [[1, 2, 3], [4]]


def test_special_tokens_never_count_even_with_an_offset() -> None:
    mapping = align(tokens_of([(0, 2), (0, 2), (0, 2)], special=[0, 2]), "ab", [(0, 2)], "it")
    assert mapping.of(0).tolist() == [1]


def test_selected_rows_keep_their_tokens() -> None:
    tokens = tokens_of([(0, 1), (1, 2), (3, 5), (6, 7)])
    mapping = align(tokens, "ab cd e", [(0, 2), (3, 5), (6, 7)], "it")
    chosen = mapping.select([0, 2])
    assert [chosen.of(row).tolist() for row in range(len(chosen))] == [[0, 1], [3]]


def test_a_word_without_a_token_is_named(tokenizers: dict[str, Fast]) -> None:
    with pytest.raises(DataError, match=r"'\\u200b' gets no token from the tokenizer of it"):
        pieces_of(tokenizers["word_piece"], ["the", "\u200b", "cat"])


def test_a_slow_tokenizer_is_refused() -> None:
    with pytest.raises(UserError, match=r"tokenizer of org/byt5 \(ByT5Tokenizer\) has no character offsets"):
        FastTokenizer(transformers.ByT5Tokenizer(), "org/byt5")


def test_stored_truncation_and_padding_are_switched_off(
    tokenizers: dict[str, Fast], tale: Story, tmp_path: Path
) -> None:
    tokenizers["word_piece"].save_pretrained(tmp_path)
    stored = transformers.AutoTokenizer.from_pretrained(tmp_path)
    stored.backend_tokenizer.enable_truncation(4)
    stored.backend_tokenizer.enable_padding(length=512)
    stored.save_pretrained(tmp_path)
    reopened = FastTokenizer(transformers.AutoTokenizer.from_pretrained(tmp_path), "it")
    whole = FastTokenizer(tokenizers["word_piece"], "it")
    texts = [tale.text, "the cat"]
    for one, other in zip(reopened.encode(texts), whole.encode(texts), strict=True):
        np.testing.assert_array_equal(one.ids, other.ids)


def test_lower_case_keeps_the_number_of_letters(tokenizers: dict[str, Fast]) -> None:
    tokenizer = FastTokenizer(tokenizers["byte_level"], "it", lower_case=True)
    plain = FastTokenizer(tokenizers["byte_level"], "it")
    np.testing.assert_array_equal(tokenizer.encode(["The CAT"])[0].ids, plain.encode(["the cat"])[0].ids)
    assert tokenizer.encode(["İİ the"])[0].offsets.max() == len("İİ the")


def test_nothing_to_encode(tokenizers: dict[str, Fast]) -> None:
    assert FastTokenizer(tokenizers["byte_level"], "it").encode([]) == []


def test_the_limit_that_a_tokenizer_states(tokenizers: dict[str, Fast], checkpoints: Callable[[str], Path]) -> None:
    assert FastTokenizer(tokenizers["byte_level"], "it").max_tokens is None
    short = transformers.AutoTokenizer.from_pretrained(checkpoints("gpt2"), model_max_length=77)
    assert FastTokenizer(short, "it").max_tokens == 77
