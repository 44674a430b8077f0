# SPDX-License-Identifier: Apache-2.0
"""Sentence sets on twins in their formats: rows, texts, folds, and whose amplitude is whose."""

import h5py
import numpy as np
import pytest
import sentence_twins as twins

from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError
from voxelboard.benchmark.readers.base import check_responses
from voxelboard.benchmark.readers.blank2014 import open_blank2014
from voxelboard.benchmark.readers.cards import load_card
from voxelboard.benchmark.readers.pereira2018 import open_pereira2018
from voxelboard.benchmark.readers.sentence_sets import SHUFFLED, SentenceRow, fold_rows
from voxelboard.benchmark.readers.tuckute2024 import open_tuckute2024

PEREIRA, TUCKUTE, BLANK = load_card("pereira2018"), load_card("tuckute2024"), load_card("blank2014")


def sentences(data):
    """Fold -> the sentences of its rows, put together from the words of each row."""
    return {
        name: [" ".join(np.array(s.words)[s.word_trs == k].tolist()) for k in range(s.n_trs)]
        for name, s in data.stories.items()
    }


def amplitudes_of(data, subject):
    """Sentence -> (n_voxels,) amplitudes."""
    runs = data.responses(subject).runs
    return {text: runs[fold][0, k] for fold, texts in sentences(data).items() for k, text in enumerate(texts)}


def test_pereira_amplitudes_belong_to_their_sentences(tmp_path):
    rows, values = twins.write_pereira(tmp_path)
    data = open_pereira2018(PEREIRA, tmp_path, "")
    assert (data.name, data.subjects, len(data.stories)) == ("pereira2018", twins.PEOPLE, 8)
    found = amplitudes_of(data, "199")
    wanted = {row["stimulus"]: values[i, 4:8] for i, row in enumerate(rows) if row["experiment"] == "384sentences"}
    assert found.keys() == wanted.keys()
    for text, amplitudes in wanted.items():
        np.testing.assert_array_equal(found[text], amplitudes.astype(np.float32))
    check_responses(data.responses("199"), data.stories, min_trs=1)
    other = open_pereira2018(PEREIRA, tmp_path, "243")
    assert other.subjects == ("018", "199")  # 215 did not take part
    assert sum(story.n_trs for story in other.stories.values()) == 40
    with pytest.raises(UserError, match="unknown subject of pereira2018:243 '215'"):
        other.responses("215")


def test_topics_stay_together_and_passages_are_read_in_order(tmp_path):
    twins.write_pereira(tmp_path)
    data = open_pereira2018(PEREIRA, tmp_path, "384")
    topics = {fold: {text.split()[1] for text in texts} for fold, texts in sentences(data).items()}
    assert sum(map(len, topics.values())) == len(twins.TOPICS)  # no topic in two folds
    for story in data.stories.values():
        first_words = [" ".join(story.words[start : start + 5]) for start in story.text_starts]
        assert len(story.text_starts) == len({*first_words})
        for start in story.text_starts:
            assert story.words[start : start + 8][-1] == "0."  # a passage starts with its first sentence
        assert story.annotations["sentence_position"][:, 0].tolist() == list(range(8)) * story.n_trs
    assert [len(train) for train, _ in data.split.folds] == [7] * 8
    for train, test in data.split.folds:
        assert not {s.story for s in train} & {s.story for s in test}


def test_the_leak_demonstration_is_labelled_and_breaks_passages(tmp_path):
    twins.write_pereira(tmp_path)
    data = open_pereira2018(PEREIRA, tmp_path, f"384:{SHUFFLED}")
    assert data.name == f"pereira2018:384:{SHUFFLED}"
    topics = [{text.split()[1] for text in texts} for texts in sentences(data).values()]
    assert sum(map(len, topics)) > len(twins.TOPICS)  # topics lie on both sides
    assert all(len(story.text_starts) == story.n_trs for story in data.stories.values())
    again = open_pereira2018(PEREIRA, tmp_path, SHUFFLED)
    assert sentences(again) == sentences(data)


def test_the_authors_files_give_the_same_rows(tmp_path):
    examples = twins.write_pereira_release(tmp_path)
    data = open_pereira2018(PEREIRA, tmp_path, "")
    assert (data.subjects, data.scored_rois) == (("M02", "P01"), ("brain",))
    found = amplitudes_of(data, "P01")
    rows = [row for row in twins.pereira_sentences() if row["experiment"] == "384sentences"]
    for i, row in enumerate(rows):
        np.testing.assert_array_equal(
            found[row["stimulus"]], examples["P01"][i, 1:].astype(np.float32)
        )  # NaN column out
    (tmp_path / "rois").mkdir()
    for person, n_voxels in (("M02", 6), ("P01", 7)):
        (tmp_path / "rois" / f"{person}.txt").write_text("\n".join(["-", "LH", *["RH"] * (n_voxels - 2)]))
    labelled = open_pereira2018(PEREIRA, tmp_path, "")
    assert labelled.scored_rois == ("LH", "RH")
    assert labelled.responses("M02").rois.tolist() == ["LH", "RH", "RH", "RH", "RH"]
    twins.write_pereira(tmp_path / "both")
    with pytest.raises(UserError, match=r"no variant '627'.*\n.*pereira2018:243"):
        open_pereira2018(PEREIRA, tmp_path, "627")


def test_what_is_missing_or_damaged_is_told(tmp_path):
    with pytest.raises(MissingPrerequisite, match=r"neither assy_Pereira2018_language\.nc nor any PERSON/examples_384"):
        open_pereira2018(PEREIRA, tmp_path, "")
    twins.write_pereira(tmp_path)
    path = tmp_path / "assy_Pereira2018_language.nc"
    with h5py.File(path, "r+") as file:
        del file["experiment"]
    with pytest.raises(DataError, match=r"no presentation coordinate experiment, it has .*passage_index"):
        open_pereira2018(PEREIRA, tmp_path, "")
    path.write_bytes(b"CDF\x01 netCDF 3" * 40)
    with pytest.raises(DataError, match="truncated or damaged"):
        open_pereira2018(PEREIRA, tmp_path, "")


def test_tuckute_takes_baseline_sentences_of_the_training_people(tmp_path):
    truth = twins.write_tuckute(tmp_path)
    data = open_tuckute2024(TUCKUTE, tmp_path, "")
    assert data.subjects == ("848", "853", "865", "875", "876")
    assert [story.n_trs for story in data.stories.values()] == [6] * 10
    found = amplitudes_of(data, "865")
    for item in (1, 7, 60):
        wanted = [truth["865", region, item] for region in twins.REGIONS]
        np.testing.assert_allclose(found[f"People, number {item}, walk home."], wanted, rtol=1e-6)
    assert data.responses("848").rois.tolist() == list(twins.REGIONS)
    assert data.ceiling_kind == "inter_subject"
    # each sentence is read alone, and neighbours in the list are left out together
    numbers = [[int(text.split()[2].strip(",")) for text in texts] for texts in sentences(data).values()]
    assert sorted(numbers) == [list(range(start, start + 6)) for start in range(1, 61, 6)]
    assert all(len(story.text_starts) == story.n_trs for story in data.stories.values())


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text.replace("response_target,", "other,"), "not the table of the release"),
        (lambda text: text.replace(",B,", ",D,"), "no baseline sentences"),
        (lambda text: text + text.splitlines()[1] + "\n", "comes twice|no baseline"),
        (
            lambda text: "\n".join(line for line in text.splitlines() if "IFGorb,848,7," not in line),
            "1 responses are missing",
        ),
    ],
)
def test_a_strange_table_is_refused(tmp_path, edit, message):
    twins.write_tuckute(tmp_path)
    path = tmp_path / "data" / "brain-lang-data_participant_20230728.csv"
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    lines[1:] = sorted(lines[1:], key=lambda line: (",848," not in line, ",B," not in line, "netw" in line))
    path.write_text(edit("\n".join(lines) + "\n"))
    with pytest.raises(DataError, match=message):
        open_tuckute2024(TUCKUTE, tmp_path, "").responses("848")


def test_blank_fragments_follow_each_other_and_stories_are_left_out(tmp_path):
    coordinates, values = twins.write_blank(tmp_path)
    data = open_blank2014(BLANK, tmp_path, "")
    assert data.subjects == ("061", "085", "088")
    assert len(data.split.folds) == 4
    for story in data.stories.values():
        assert story.text_starts == (0,)
        assert len({word for word in story.words if word in twins.STORIES}) == 1
        assert " ".join(story.words).split()[2::3] == [f"{s}.{p}" for s in range(6) for p in range(3)]
    found = amplitudes_of(data, "085")
    own = coordinates["subject_id"] == "085"
    for i in (0, 5, 40):
        text = str(coordinates["stimulus"][i]).strip()
        by_area = dict(zip(coordinates["fROI_area"][own], values[i, own], strict=True))
        np.testing.assert_allclose(found[text], [by_area[area] for area in twins.AREAS], rtol=1e-6)
    assert open_blank2014(BLANK, tmp_path, SHUFFLED).name == f"blank2014:{SHUFFLED}"


def test_groups_are_dealt_evenly_whatever_the_order():
    rows = [SentenceRow(f"word {g} {k}", f"p{g}", f"g{g}") for g in range(7) for k in range(1 + g % 3)]
    folds = fold_rows(rows, 3)
    sizes = [len(own) for own in folds.values()]
    assert sum(sizes) == len(rows)
    assert max(sizes) - min(sizes) <= 1
    backwards = list(reversed(rows))
    texts = {frozenset(rows[i].text for i in own) for own in folds.values()}
    assert texts == {frozenset(backwards[i].text for i in own) for own in fold_rows(backwards, 3).values()}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([SentenceRow(" ", "a", "a")], "sentence 0 is empty"),
        ([SentenceRow("x", "a", "1"), SentenceRow("y", "a", "2")], "passage 'a' lies in the groups '1' and '2'"),
        ([SentenceRow("x", "a", "1"), SentenceRow("y", "b", "2")], "2 groups of passages for 2 folds"),
    ],
)
def test_rows_that_cannot_be_left_out(rows, message):
    with pytest.raises(DataError, match=message):
        fold_rows(rows, 2)
