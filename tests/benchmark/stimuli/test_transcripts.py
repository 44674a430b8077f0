# SPDX-License-Identifier: Apache-2.0
"""The same words and times from every form of transcript, with the quirks of each."""

import json

import numpy as np
import pytest

from voxelboard.benchmark.errors import DataError, MissingPrerequisite
from voxelboard.benchmark.stimuli.transcripts import read_transcript

WORDS = ("In", "1984,", "bees", "sang.")
ONSETS, OFFSETS = [0.5, 0.8, 1.4, 2.0], [0.8, 1.4, 1.9, 2.5]

CSV = 'word,onset,offset\nIn,0.5,0.8\n"1984,",,\nbees,1.4,1.9\nsang.,2.0,2.5\n'
BIDS = (
    "onset\tduration\ttrial_type\tvalue\n0\t9\tstory\tn/a\n0.5\t0.3\tword\tIn\nn/a\tn/a\tword\t1984,\n"
    "1.4\t0.5\tword\tbees\n2.0\t0.5\tword\tsang.\n2.5\t1\tsilence\tn/a\n"
)
STARTS = "start;end;text\n0.5;0.8;In\n;;1984,\n1.4;1.9;bees\n2.0;2.5;sang.\n"
WHISPERX = {
    "segments": [
        {"start": 0.5, "end": 1.9, "text": " In 1984, bees", "words": [
            {"word": "In", "start": 0.5, "end": 0.8, "score": 0.9},
            {"word": "1984,"},
            {"word": "bees", "start": 1.4, "end": 1.9, "score": 0.8},
        ]},
        {"start": 2.0, "end": 2.5, "text": " sang.", "words": [{"word": "sang.", "start": 2.0, "end": 2.5}]},
    ],
    "word_segments": [],
}  # fmt: skip
WHISPER = {
    "text": " In 1984, bees sang.",
    "segments": [{"words": [
        {"word": " In", "start": 0.5, "end": 0.8}, {"word": " 1984,", "start": 0.8, "end": 1.4},
        {"word": " bees", "start": 1.4, "end": 1.9}, {"word": " sang.", "start": 2.0, "end": 2.5},
    ]}],
}  # fmt: skip
GENTLE = {
    "words": [
        {"word": "In", "alignedWord": "in", "case": "success", "start": 0.5, "end": 0.8},
        {"word": "1984,", "case": "not-found-in-audio"},
        {"word": "bees", "case": "success", "start": 1.4, "end": 1.9},
        {"word": "sang.", "case": "success", "start": 2.0, "end": 2.5},
    ]
}
PRAAT = """File type = "ooTextFile"
Object class = "TextGrid"

0 3 <exists> 2
"IntervalTier" "phones" 0 3 1
0 3 "x"
"IntervalTier" "Words" 0 3 6
0 0.5 "sp"
0.5 0.8 "In"
0.8 1.4 "1984,"
1.4 1.9 "bees"
1.9 2.0 "{NS}"
2.0 2.5 "sang."
"""

FORMS = {
    "a.csv": CSV, "a.tsv": BIDS, "b.csv": STARTS, "a.TextGrid": PRAAT,
    "x.json": json.dumps(WHISPERX), "w.json": json.dumps(WHISPER), "g.json": json.dumps(GENTLE),
    "l.json": json.dumps(GENTLE["words"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_every_form_gives_the_same_words(tmp_path, name, encoding):
    path = tmp_path / name
    path.write_text(FORMS[name], encoding=encoding)
    table = read_transcript(path)
    assert table.words == WORDS
    np.testing.assert_allclose(table.onsets, ONSETS)
    np.testing.assert_allclose(table.offsets, OFFSETS)


def test_words_that_overlap_keep_their_order(tmp_path):
    words = [
        {"word": "a", "start": 1.0, "end": 1.5},
        {"word": "b", "start": 0.9, "end": 0.95},
        {"word": "<noise>", "start": 2, "end": 3},
    ]
    (tmp_path / "w.json").write_text(json.dumps(words))
    table = read_transcript(tmp_path / "w.json")
    assert (table.words, table.onsets.tolist(), table.offsets.tolist()) == (("a", "b"), [1.0, 1.0], [1.5, 1.0])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{", "truncated or damaged"),
        ("a.json", '{"text": "hello"}', "no words with times"),
        ("a.json", '{"segments": [{"text": "no words"}]}', "no words with times"),
        ("a.json", '[{"word": 3}]', "word 0: .* has no text"),
        ("a.json", '[{"word": "a", "start": "soon", "end": 1}]', "word 0 'a': the times"),
        ("a.json", "[]", "holds no words"),
        ("a.txt", "hello", "is no transcript"),
        ("a.csv", "word,onset\na,1\n", "no column offset"),
        ("a.tsv", "onset\tduration\tvalue\n1\tlong\ta\n", "line 2: duration 'long' is not a number"),
        ("a.TextGrid", PRAAT.replace("Words", "syllables"), "no tier of words, its tiers are phones, syllables"),
    ],
)
def test_what_is_no_transcript_is_told(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_transcript(tmp_path / name)
    with pytest.raises(MissingPrerequisite):
        read_transcript(tmp_path / "none.json")
