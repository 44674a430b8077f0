# SPDX-License-Identifier: Apache-2.0
"""Times of words: what is interpolated, what is dropped, on which clock."""

import numpy as np
import pytest

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.stimuli.word_tables import WordTable, fill_times, read_gentle, read_word_table, story_on_clock

NAN = float("nan")


def test_words_without_a_time_divide_the_gap_evenly():
    onsets, offsets = fill_times(
        np.array([NAN, 1.0, NAN, NAN, NAN, 5.0, 6.0, NAN]), np.array([NAN, 2.0, NAN, NAN, NAN, 5.5, 7.0, NAN])
    )
    np.testing.assert_array_equal(onsets, [NAN, 1, 2, 3, 4, 5, 6, NAN])
    np.testing.assert_array_equal(offsets, [NAN, 2, 3, 4, 5, 5.5, 7, NAN])


def test_between_neighbours_that_overlap_there_is_no_gap_and_the_order_stays():
    onsets, offsets = fill_times(np.array([1.0, NAN, NAN, 2.0]), np.array([2.6, NAN, NAN, 3.0]))
    np.testing.assert_array_equal(onsets, [1, 2, 2, 2])
    np.testing.assert_array_equal(offsets, [2.6, 2, 2, 3])


def test_nothing_is_known_of_a_table_without_times():
    onsets, _ = fill_times(np.array([NAN, NAN]), np.array([NAN, NAN]))
    assert np.isnan(onsets).all()
    assert len(fill_times(np.empty(0), np.empty(0))[0]) == 0


def test_the_clock_of_a_story_is_that_of_its_responses():
    table = WordTable(("a", "b", "c", "d"), np.array([9.9, 10.0, 13.99, 14.0]), np.array([10.2, 10.5, 14.2, 14.5]))
    story = story_on_clock("s", table, first_row_s=10.0, n_trs=2, tr=2.0)
    assert story.words == ("b", "c")
    np.testing.assert_allclose(story.onsets, [0, 3.99])
    assert story.word_trs.tolist() == [0, 1]
    assert story.text == "b c"
    assert story_on_clock("s", table, first_row_s=10.0, n_trs=2, tr=2.0, max_lost_share=0.5).n_words == 2
    with pytest.raises(DataError, match="2 of 4 words lie outside the 2 rows of 2 s that start at 10 s"):
        story_on_clock("s", table, first_row_s=10.0, n_trs=2, tr=2.0, max_lost_share=0.4)
    with pytest.raises(DataError, match="4 of 4 words"):
        story_on_clock("s", table, first_row_s=100.0, n_trs=2, tr=2.0)


def test_gentle_tables_have_no_header_and_quoted_words(tmp_path):
    path = tmp_path / "align.csv"
    path.write_bytes('\ufeffWell,well,0.5,0.7\r\n"no, ""sir""",,,\r\nhm,<unk>,1.1,1.3\r\n\r\n'.encode())
    table = read_gentle(path)
    assert table.words == ("Well", 'no, "sir"', "hm")
    np.testing.assert_allclose(table.onsets, [0.5, 0.7, 1.1])
    np.testing.assert_allclose(table.offsets, [0.7, 1.1, 1.3])
    assert table.n_interpolated == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"word,onset,offset\n\xff\xfe,1,2\n", "is not UTF-8"),
        (b'word,onset,offset\n"a,1,2\n', "is not a table"),
        (b"word;onset;offset\na;4,5;5,0\n", "line 2: onset '4,5' is not a number of seconds"),
        (b"", "no column word, onset, offset; the first line says nothing"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, message):
    path = tmp_path / "words.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_word_table(path)
