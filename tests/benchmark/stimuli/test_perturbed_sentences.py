# SPDX-License-Identifier: Apache-2.0
"""The whole catalogue on sets of sentences, by hand."""

from collections import Counter
from pathlib import Path

import pytest

from voxelboard.benchmark.errors import DataError, UserError
from voxelboard.benchmark.stimuli.perturbed_sentences import (
    Sentence,
    perturb_sentences,
    read_sentences,
    sentence_perturbations,
)

TEXTS = [
    "The old dog chased a small cat.",
    "It ran home quickly, and slept!",
    "A woman opened the heavy door.",
    "She called her lazy dog back.",
    "Rivers carry cold water south.",
    "The long bridge crosses a river.",
    "Boats pass under it slowly.",
    "Fishermen mend their nets there.",
]
SET = [Sentence(text, passage=f"p{k // 2}", topic=f"t{k // 4}") for k, text in enumerate(TEXTS)]
INTACT = perturb_sentences(SET, "intact")


def words(texts: list[str]) -> Counter[str]:
    return Counter(word for text in texts for word in text.rstrip(".").split())


def test_intact_is_lower_case_without_punctuation() -> None:
    assert INTACT[1] == "it ran home quickly and slept."


@pytest.mark.parametrize("name", sentence_perturbations())
def test_every_name_gives_a_text_for_each_sentence_and_the_same_again(name: str) -> None:
    found = perturb_sentences(SET, name)
    assert found == perturb_sentences(SET, name)
    assert len(found) == len(SET)
    assert all(text == "" or text.endswith(".") for text in found)
    assert name == "intact" or found != INTACT


@pytest.mark.parametrize("name", ["shuffle-7", "backward", "low-pmi", "low-pmi-random"])
def test_orders_keep_the_words_of_every_sentence(name: str) -> None:
    for before, after in zip(INTACT, perturb_sentences(SET, name), strict=True):
        assert words([before]) == words([after])


@pytest.mark.parametrize("name", ["word-list", "word-list-by-class"])
def test_word_lists_deal_all_words_and_keep_the_lengths(name: str) -> None:
    found = perturb_sentences(SET, name)
    assert words(found) == words(INTACT)
    assert [len(text.split()) for text in found] == [len(text.split()) for text in INTACT]


def test_kept_and_constant_words() -> None:
    kept, rest = perturb_sentences(SET, "keep-content"), perturb_sentences(SET, "keep-function")
    assert words(kept) + words(rest) == words(INTACT)
    assert perturb_sentences(SET, "constant-unknown")[0] == " ".join(["jdfh"] * 7) + "."
    assert set(perturb_sentences(SET, "one-word")) == {"the."}
    assert len(perturb_sentences(SET, "random-nouns")[4].split()) == len(
        perturb_sentences(SET, "keep-nouns")[4].split()
    )


@pytest.mark.parametrize(
    ("name", "label", "same"),
    [
        ("shuffle-sentences", "text", False),
        ("shuffle-sentences-within-passage", "passage", True),
        ("shuffle-sentences-across-passages", "passage", False),
        ("shuffle-sentences-within-topic", "topic", True),
        ("shuffle-sentences-across-topics", "topic", False),
    ],
)
def test_sentences_change_their_places_under_the_labels(name: str, label: str, same: bool) -> None:
    found = perturb_sentences(SET, name)
    assert sorted(found) == sorted(INTACT)
    for place, text in enumerate(found):
        source = INTACT.index(text)
        assert source != place
        assert (getattr(SET[source], label) == getattr(SET[place], label)) is same


def test_what_cannot_be_done_is_said() -> None:
    plain = [Sentence(text) for text in TEXTS]
    with pytest.raises(UserError, match="sentence 1 has no topic"):
        perturb_sentences(plain, "shuffle-sentences-within-topic")
    with pytest.raises(UserError, match="cannot all change"):
        perturb_sentences(SET[:3], "shuffle-sentences-within-passage")
    with pytest.raises(UserError, match="Did you mean 'backward'"):
        perturb_sentences(SET, "backwards")
    with pytest.raises(DataError, match="sentence 2"):
        perturb_sentences([SET[0], Sentence("...")], "backward")


def test_files_of_sentences(tmp_path: Path) -> None:
    text = tmp_path / "set.txt"
    text.write_text("One cat sat.\nIt slept.\n\nRain fell.\n", encoding="utf-8")
    assert [s.passage for s in read_sentences(text)] == ["0", "0", "1"]
    lines = tmp_path / "set.jsonl"
    lines.write_text('{"text": "One cat sat.", "passage": 3, "topic": "cats"}\n', encoding="utf-8")
    assert read_sentences(lines) == [Sentence("One cat sat.", "3", "cats")]
    lines.write_text('{"text": "One cat sat."}\n["no object"]\n', encoding="utf-8")
    with pytest.raises(DataError, match="line 2"):
        read_sentences(lines)
    text.write_text("\n\n", encoding="utf-8")
    with pytest.raises(DataError, match="no sentence"):
        read_sentences(text)
    text.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match="UTF-8"):
        read_sentences(text)
    with pytest.raises(UserError, match="is not there"):
        read_sentences(tmp_path / "none.txt")
