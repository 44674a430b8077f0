# SPDX-License-Identifier: Apache-2.0
"""TextGrids as Praat and aligners write them."""

import pytest

from voxelboard.benchmark.errors import DataError, MissingPrerequisite
from voxelboard.benchmark.stimuli.textgrid import Interval, read_textgrid, word_intervals

LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 3.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "word"
        xmin = 0
        xmax = 3.5
        intervals: size = 5
        intervals [1]:
            xmin = 0
            xmax = 1.25
            text = "sp"
        intervals [2]:
            xmin = 1.25
            xmax = 2
            text = "said ""no"" 7 times "
        intervals [3]:
            xmin = 2
            xmax = 2.5
            text = ""
        intervals [4]:
            xmin = 2.5
            xmax = 3e0
            text = "café"
        intervals [5]:
            xmin = 3
            xmax = 3.5
            text = "SIL"
    item [2]:
        class = "TextTier"
        name = "clicks"
        xmin = 0
        xmax = 3.5
        points: size = 1
        points [1]:
            number = 0.75
            mark = "click"
""".replace("\n", " \n")  # Praat ends its lines with a blank
SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0
3.5
<exists>
1
"IntervalTier"
"word"
0
3.5
2
0
1.25
"sp"
1.25
3.5
"hello"
"""


def test_long_format_with_quotes_numbers_and_pauses(tmp_path):
    path = tmp_path / "a.TextGrid"
    path.write_text(LONG, encoding="utf-8")
    words, clicks = read_textgrid(path)
    assert (words.name, clicks.name) == ("word", "clicks")
    assert word_intervals(words) == (Interval(1.25, 2.0, 'said "no" 7 times'), Interval(2.5, 3.0, "café"))
    assert clicks.intervals == (Interval(0.75, 0.75, "click"),)


def test_short_format(tmp_path):
    path = tmp_path / "a.TextGrid"
    path.write_text(SHORT, encoding="utf-8")
    (words,) = read_textgrid(path)
    assert word_intervals(words) == (Interval(1.25, 3.5, "hello"),)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_every_encoding_reads_the_same(tmp_path, encoding):
    path = tmp_path / "a.TextGrid"
    path.write_bytes(LONG.encode(encoding))
    assert word_intervals(read_textgrid(path)[0])[1].label == "café"


def test_big_endian_utf16_with_carriage_returns(tmp_path):
    path = tmp_path / "a.TextGrid"
    path.write_bytes(b"\xfe\xff" + LONG.replace("\n", "\r\n").encode("utf-16-be"))
    assert word_intervals(read_textgrid(path)[0])[1].label == "café"


@pytest.mark.parametrize("keep", [0, 30, 200, 500, len(LONG) - 40])
def test_a_truncated_file_is_refused(tmp_path, keep):
    path = tmp_path / "cut.TextGrid"
    path.write_text(LONG[:keep], encoding="utf-8")
    with pytest.raises(DataError, match=r"cut\.TextGrid is not a whole TextGrid"):
        read_textgrid(path)


def test_a_text_where_a_time_should_be_is_refused(tmp_path):
    path = tmp_path / "a.TextGrid"
    path.write_text(LONG.replace("xmax = 1.25", 'xmax = "late"'), encoding="utf-8")
    with pytest.raises(DataError, match="a number should stand where '\"late\"' stands"):
        read_textgrid(path)


def test_a_missing_file_is_a_missing_prerequisite(tmp_path):
    with pytest.raises(MissingPrerequisite, match="there is no TextGrid"):
        read_textgrid(tmp_path / "none.TextGrid")


CHRONOLOGICAL = """"Praat chronological TextGrid text file"
0 3.5   ! Time domain.
3   ! Number of tiers: 3 of 3 "kinds"
"IntervalTier" "phone" 0 3.5
"IntervalTier" "word" 0 3.5
"TextTier" "clicks" 0 3.5

1 0 1.25
"sp"
2 0 1.25
"sp"
3 0.75
"click"
! word:
2 1.25 2
"said ""no"" 7 times! "
1 1.25 3.5
"EH1"
2 2 3.5
"café ! 2 1 2"
"""


def test_the_chronological_form_is_read_by_tier(tmp_path):
    path = tmp_path / "a.TextGrid"
    path.write_text(CHRONOLOGICAL, encoding="utf-8-sig")
    phones, words, clicks = read_textgrid(path)
    assert phones.intervals == (Interval(0, 1.25, "sp"), Interval(1.25, 3.5, "EH1"))
    assert (words.name, [word.label for word in word_intervals(words)]) == (
        "word",
        ['said "no" 7 times!', "café ! 2 1 2"],
    )
    assert clicks.intervals == (Interval(0.75, 0.75, "click"),)


@pytest.mark.parametrize(
    "text", [CHRONOLOGICAL.replace("\n3 0.75", "\n4 0.75"), CHRONOLOGICAL.rpartition('"')[0], CHRONOLOGICAL[:100]]
)
def test_a_damaged_chronological_file_is_refused(tmp_path, text):
    path = tmp_path / "a.TextGrid"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="is not a whole TextGrid"):
        read_textgrid(path)
