# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest

from voxelboard.benchmark.errors import DataError, UserError
from voxelboard.benchmark.stimuli.annotation_tables import read_each_second, read_table
from voxelboard.benchmark.stimuli.annotations import LEVEL_NAMES, Annotation, make_run


def _write(folder: Path, name: str, lines: list[str]) -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_window_keeps_the_order_of_presentation_and_holds_a_text_once() -> None:
    # Sorted and made unique, as np.unique does, the window would read "a, b" and lose that "a" came back.
    held = Annotation((("b", "b", "a", "", "b"),))
    assert held.windows(1) == [["b", "b", "a", "", "b"]]
    assert held.windows(3) == [["b", "b", "b, a", "b, a", "a, b"]]
    assert held.windows(9)[0][-1] == "b, a, b"
    with pytest.raises(UserError, match="window of 0 s"):
        held.windows(0)


def test_splits_are_three_and_two_of_five_annotators() -> None:
    five = Annotation(tuple((str(k),) for k in range(5)))
    assert [row[0] for row in five.split("A").texts] == ["0", "1", "2"]
    assert [row[0] for row in five.split("B").texts] == ["3", "4"]
    assert five.split("all") is five
    with pytest.raises(UserError, match="one annotator"):
        Annotation((("x",),)).split("A")
    with pytest.raises(UserError, match="unknown annotator split 'C'"):
        five.split("C")  # type: ignore[arg-type]


@pytest.mark.parametrize(("seconds", "word"), [(11, "longer"), (9, "shorter")])
def test_annotation_of_another_length_than_the_run_is_refused(seconds: int, word: str) -> None:
    with pytest.raises(DataError, match=rf"{seconds} seconds, {word} than the run \(10 s\)"):
        make_run("r", "t", n_trs=10, annotations={"story": Annotation((("x",) * seconds,))})


def test_unknown_level_names_the_nearest() -> None:
    with pytest.raises(UserError, match="Did you mean 'story'") as caught:
        make_run("r", "t", n_trs=2, annotations={"storyy": Annotation((("x", "y"),))})
    assert all(level in str(caught.value) for level in LEVEL_NAMES)


def test_run_hash_sees_every_text() -> None:
    def run(last: str) -> str:
        return make_run("r", "t", n_trs=2, annotations={"story": Annotation((("x", last),))}).sha256

    assert run("y") == run("y") != run("z")


def test_seconds_of_rows_with_another_tr() -> None:
    run = make_run("r", "t", n_trs=4, tr=1.5, annotations={"story": Annotation((tuple("abcdef"),))})
    np.testing.assert_array_equal(run.seconds, [0, 1, 3, 4])


def test_table_with_several_annotators_and_missing_text(tmp_path: Path) -> None:
    path = _write(tmp_path, "a.txt", ["a dog\t..\tthe dog", "..\t..\t..", "a cat\ttwo cats\t.."])
    assert read_table(path, 3, 3).texts == (("a dog", "", "a cat"), ("", "", "two cats"), ("the dog", "", ""))


def test_missing_column_is_refused_with_its_second(tmp_path: Path) -> None:
    path = _write(tmp_path, "a.txt", ["a\tb\tc", "a\tb", "a\tb\tc"])
    with pytest.raises(DataError, match=r"second 1: 2 columns, expected 3 annotators"):
        read_table(path, 3, 3)


def test_header_is_not_taken_for_second_0(tmp_path: Path) -> None:
    path = _write(tmp_path, "a.txt", ["annotator 1\tannotator 2", "a\tb", "c\td"])
    with pytest.raises(DataError, match="is a header"):
        read_table(path, 2, 2)
    assert read_table(path, 2, 2, header=True).texts == (("a", "c"), ("b", "d"))


def test_second_0_is_not_lost_to_a_header_that_is_not_there(tmp_path: Path) -> None:
    path = _write(tmp_path, "a.txt", ["a\tb", "c\td"])
    with pytest.raises(DataError, match="second 0 would be lost"):
        read_table(path, 2, 2, header=True)
    assert read_table(path, 2, 2).texts[0][0] == "a"


@pytest.mark.parametrize(("n", "word"), [(4, "longer"), (2, "shorter")])
def test_table_of_another_length_is_refused(tmp_path: Path, n: int, word: str) -> None:
    with pytest.raises(DataError, match=f"{n} lines, {word} than the run"):
        read_table(_write(tmp_path, "a.txt", ["a\tb"] * n), 3, 2)


def test_each_second_transcript(tmp_path: Path) -> None:
    lines = ["[00:00]メイン#ハル:こんにちは/アキ:やあ", "[00:01]メイン#..", "[00:02]メイン#ハル:不明/ええ"]
    read = read_each_second(_write(tmp_path, "s.txt", lines), 3, 1, speech=True)
    assert read.texts == (("こんにちは やあ", "", "ええ"),)
    with pytest.raises(DataError, match="second 0: no 'メイン#'"):
        read_each_second(_write(tmp_path, "s.txt", ["[00:00]こんにちは"]), 1, 1, speech=True)


def test_each_second_annotators(tmp_path: Path) -> None:
    lines = ["[00:00]男が立つ/女が笑う", "[00:01]..", "[00:02]海\u3000/../山"]
    path = _write(tmp_path, "o.txt", lines)
    assert read_each_second(path, 3, 3, speech=False).texts == (
        ("男が立つ", "", "海"),
        ("女が笑う", "", ""),
        ("", "", "山"),
    )
    with pytest.raises(DataError, match="second 2: 3 texts"):
        read_each_second(path, 3, 2, speech=False)
    with pytest.raises(DataError, match=r"no '\]'"):
        read_each_second(_write(tmp_path, "o.txt", ["text"]), 1, 2, speech=False)


def test_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.txt"
    path.write_bytes("[00:00]海".encode("cp932"))
    with pytest.raises(DataError, match="not UTF-8"):
        read_each_second(path, 1, 1, speech=False)
