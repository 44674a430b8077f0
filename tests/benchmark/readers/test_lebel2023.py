# SPDX-License-Identifier: Apache-2.0
"""The reader of ds003020 on a twin in its formats."""

import hashlib
import json
import os

import narrative_twins as twins
import numpy as np
import pytest

from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError
from voxelboard.benchmark.readers.base import check_responses
from voxelboard.benchmark.readers.card_files import verify_files
from voxelboard.benchmark.readers.card_sources import CardFile
from voxelboard.benchmark.readers.cards import StorySplit, load_card
from voxelboard.benchmark.readers.lebel2023 import Lebel2023

CARD = load_card("lebel2023")
SMALL = CARD.model_copy(
    update={
        "split": StorySplit(kind="stories", train=("apples", "birds"), test=(twins.TEST_STORY,)),
        "subjects": ("UTS01", "UTS04"),
        "n_voxels": {"UTS01": 7, "UTS04": 7},
        "not_heard": {"UTS04": ("birds",)},
    }
)


@pytest.fixture
def folder(tmp_path):
    twins.write_lebel(tmp_path)
    return tmp_path


def md5_of(path):
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def hf5(folder, story, subject="UTS01"):
    return folder / "derivative/preprocessed_data" / subject / f"{story}.hf5"


def test_the_card_has_the_published_standard_set():
    assert (len(CARD.split.train), CARD.split.test) == (26, (twins.TEST_STORY,))
    sizes = {file.path: file.n_bytes for file in CARD.files}
    # Every file is its header and 8 bytes a value: so many rows are N - 20, N of respdict.json (363 and 375).
    for subject, n_voxels in CARD.n_voxels.items():
        for story, volumes in (("alternateithicatom", 363), ("souls", 375)):
            size = sizes[f"derivative/preprocessed_data/{subject}/{story}.hf5"]
            assert size == 2048 + 8 * (volumes - 20) * n_voxels
        heard = [path for path in sizes if f"/{subject}/" in path]
        assert len(heard) == 27 - len(CARD.not_heard.get(subject, ()))


@pytest.mark.parametrize("story", list(twins.LEBEL_STORIES))
def test_both_forms_of_textgrid_give_the_same_clock(folder, story):
    data = Lebel2023(SMALL, folder)
    heard = data.stories[story]
    assert heard.n_trs == twins.LEBEL_STORIES[story]
    # Second 10 of the sound is second 0 of the responses. Marks, and words that start outside, are not words.
    assert heard.words[:5] == ("word0", "word1", "word3", "overlaps", "word5")
    assert heard.onsets[:5].tolist() == [0.0, 2.0, 6.0, 6.0, 10.0]  # set back by 2 s: the order of the text stays
    assert heard.words[-1] == f"word{heard.n_trs - 1}"
    assert not {"early", "straddles", "late", "{br}"} & set(heard.words)


def test_the_test_story_comes_as_single_presentations(tmp_path):
    repeats = twins.write_lebel(tmp_path)
    data = Lebel2023(SMALL, tmp_path)
    responses = data.responses("UTS01")
    assert list(responses.runs) == ["apples", "birds", twins.TEST_STORY]
    assert {name: run.shape for name, run in responses.runs.items()} == {
        "apples": (1, 33, 7),
        "birds": (1, 30, 7),
        twins.TEST_STORY: (5, 31, 7),
    }
    np.testing.assert_array_equal(responses.runs[twins.TEST_STORY], repeats["UTS01"].astype(np.float32))
    assert responses.runs["apples"].dtype == np.float32
    assert set(responses.rois.tolist()) == {"cortex"}
    check_responses(responses, data.stories, min_trs=15)
    assert data.ceiling_kind == "repeats"


def test_a_story_that_the_release_lacks_is_left_out_for_its_subject(folder):
    data = Lebel2023(SMALL, folder)
    assert list(data.responses("UTS04").runs) == ["apples", twins.TEST_STORY]
    hf5(folder, "apples", "UTS04").unlink()
    with pytest.raises(MissingPrerequisite, match=r"UTS04/apples\.hf5"):
        Lebel2023(SMALL, folder).responses("UTS04")


def test_who_takes_one_subject_needs_no_other(folder):
    files = tuple(
        CardFile(
            path=str(path.relative_to(folder)), n_bytes=path.stat().st_size, md5=md5_of(path), subject=path.parent.name
        )
        for path in sorted(folder.rglob("*.hf5"))
    )
    card = SMALL.model_copy(update={"files": files})
    for path in hf5(folder, "", "UTS04").parent.iterdir():
        path.unlink()
    verify_files(card, folder)
    data = Lebel2023(SMALL, folder)
    assert data.subjects == ("UTS01",)
    with pytest.raises(MissingPrerequisite, match="no responses of UTS04"):
        data.responses("UTS04")
    hf5(folder, "birds").unlink()
    with pytest.raises(MissingPrerequisite, match=r"UTS01/birds\.hf5 is missing"):
        verify_files(card, folder)
    for path in hf5(folder, "").parent.iterdir():
        path.unlink()
    with pytest.raises(MissingPrerequisite, match=r"UTS01/apples\.hf5 is missing"):
        verify_files(card, folder)
    with pytest.raises(MissingPrerequisite, match="there are no responses"):
        Lebel2023(SMALL, folder)


def test_stories_are_read_alone_and_only_when_looked_up(folder):
    data = Lebel2023(SMALL, folder)
    responses = data.responses("UTS01")
    hf5(folder, "birds").unlink()
    assert responses.runs["apples"].shape == (1, 33, 7)
    assert "birds" in responses.runs
    with pytest.raises(MissingPrerequisite, match=r"birds\.hf5"):
        responses.runs["birds"]
    with pytest.raises(KeyError):
        responses.runs["cakes"]


@pytest.mark.parametrize("size", [0, 100, 1500])
def test_a_truncated_hf5_is_refused(folder, size):
    os.truncate(hf5(folder, "apples"), size)
    with pytest.raises(DataError, match=r"apples\.hf5 is truncated or damaged"):
        Lebel2023(SMALL, folder).responses("UTS01")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"data": np.ones((33, 6))}, "33 rows of 6 voxels, expected 33 .respdict.json less 20. of 7"),
        ({"data": np.ones((34, 7))}, "34 rows of 7 voxels, expected 33"),
        ({"other": np.ones((33, 7))}, "no array 'data' of 2 axes"),
        ({"data": np.ones(33)}, "no array 'data' of 2 axes"),
    ],
)
def test_responses_of_another_shape_are_refused(folder, arrays, message):
    twins.write_hf5(hf5(folder, "apples"), **arrays)
    with pytest.raises(DataError, match=message):
        Lebel2023(SMALL, folder).responses("UTS01")


def test_a_test_story_without_its_presentations_is_refused(folder):
    twins.write_hf5(hf5(folder, twins.TEST_STORY), data=np.ones((31, 7)))
    with pytest.raises(DataError, match="no array 'individual_repeats' of 3 axes"):
        Lebel2023(SMALL, folder).responses("UTS01")


def test_voxels_with_nan_are_named_and_can_be_left_out(folder):
    series = np.random.default_rng(5).standard_normal((33, 7))
    series[4, 2] = np.nan
    twins.write_hf5(hf5(folder, "apples"), data=series)
    with pytest.raises(DataError, match="1 voxels with NaN or infinite values, the first is 2 of the file") as caught:
        Lebel2023(SMALL, folder).responses("UTS01").runs["apples"]
    assert "rois/UTS01.txt" in caught.value.hint
    (folder / "rois").mkdir()
    (folder / "rois/UTS01.txt").write_text("A\nA\n-\nB\nB\nC\nC\n")
    (folder / "rois/UTS04.txt").write_text("A\nA\nB\nB\n-\n-\n-\n")
    data = Lebel2023(SMALL, folder, "rois")
    assert (data.name, data.scored_rois) == ("lebel2023:rois", ("A", "B"))
    responses = data.responses("UTS01")
    assert responses.rois.tolist() == ["A", "A", "B", "B", "C", "C"]
    np.testing.assert_array_equal(responses.runs["apples"][0], series[:, [0, 1, 3, 4, 5, 6]].astype(np.float32))
    assert data.responses("UTS04").n_voxels == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A\nB\n", "2 labels for 7 voxels"),
        ("A\n\nB\n\n-\n-\n-\n", "line 2 is empty"),
        ("-\n" * 7, "leaves every voxel out"),
    ],
)
def test_label_files_that_do_not_fit_are_refused(folder, text, message):
    (folder / "rois").mkdir()
    (folder / "rois/UTS01.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        Lebel2023(SMALL, folder, "rois")


def test_what_is_missing_is_named(folder):
    with pytest.raises(UserError, match="unknown subject of lebel2023 'UTS09'"):
        Lebel2023(SMALL, folder).responses("UTS09")
    with pytest.raises(UserError, match="has no variant 'roi'"):
        Lebel2023(SMALL, folder, "roi")
    with pytest.raises(DataError, match="needs files of labels"):
        Lebel2023(SMALL, folder, "rois")
    grid = folder / "derivative/TextGrids/birds.TextGrid"
    grid.unlink()
    grid.symlink_to("../../.git/annex/objects/x")  # as git-annex leaves a file that was not fetched
    with pytest.raises(MissingPrerequisite, match="is a link to content that is not here") as caught:
        Lebel2023(SMALL, folder)
    assert "datalad get" in caught.value.hint


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"apples": 53}, "does not know the story 'birds'"),
        ({"apples": 5}, "does not say how many"),
        ([], "does not say"),
    ],
)
def test_a_wrong_number_of_volumes_is_refused(folder, value, message):
    (folder / "derivative/respdict.json").write_text(json.dumps(value))
    with pytest.raises(DataError, match=message):
        Lebel2023(SMALL, folder)


def test_words_on_another_clock_are_refused(folder):
    marks = [(a + 200, b + 200, w) for a, b, w in twins.spoken(30)]
    (folder / "derivative/TextGrids/birds.TextGrid").write_text(twins.long_textgrid(marks))
    with pytest.raises(DataError, match="words lie outside the 30 rows of 2 s that start at 10 s"):
        Lebel2023(SMALL, folder)
