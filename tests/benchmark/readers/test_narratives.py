# SPDX-License-Identifier: Apache-2.0
"""The reader of the Narratives collection on a twin in its formats."""

import narrative_twins as twins
import numpy as np
import pytest

from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError
from voxelboard.benchmark.readers.base import Responses, check_responses
from voxelboard.benchmark.readers.cards import load_card
from voxelboard.benchmark.readers.narratives import Narratives

CARD = load_card("narratives")
# sub-001's two scans are excluded by the release, and the second of sub-013
SCANS = {
    "sub-001_task-pieman_run-1": 300,
    "sub-001_task-pieman_run-2": 300,
    "sub-002_task-pieman_run-1": 300,
    "sub-002_task-pieman_run-2": 300,
    "sub-023_task-pieman": 300,
    "sub-024_task-pieman": 200,
}
ALIGN = "stimuli/gentle/pieman/align.csv"


@pytest.fixture
def written(tmp_path):
    return twins.write_narratives(tmp_path, SCANS)


def opened(folder, variant="pieman"):
    return Narratives(CARD, folder, variant, n_vertices=twins.N_VERTICES)


def surface(folder, scan, hemisphere):
    name = f"{scan}_space-fsaverage6_hemi-{hemisphere}_desc-clean.func.gii"
    return folder / "derivatives/afni-nosmooth" / scan.partition("_")[0] / "func" / name


def test_the_card_has_the_published_windows_and_exclusions():
    windows = CARD.split.stories
    assert len(windows) == 20
    assert (windows["pieman"].onset_trs, windows["pieman"].n_trs) == (10, 281)
    assert (windows["reach"].task, windows["reach"].onset_trs, windows["reach"].n_trs) == ("slumlordreach", 646, 550)
    assert len(windows["pieman"].subjects) == 82
    assert len(windows["pieman"].excluded_scans) == 10
    assert len(windows["milkywayvodka"].subjects) == 18


@pytest.mark.parametrize("name", list(CARD.split.stories))
def test_stories_start_with_the_volume_that_the_event_files_say(name):
    window = CARD.split.stories[name]
    assert abs(window.story_onset_s - window.onset_trs * CARD.tr_s) <= CARD.tr_s  # half seconds, whole volumes
    assert window.audio_start_s <= window.story_onset_s


def test_missing_alignments_stand_between_their_neighbours(tmp_path, written):
    story = opened(tmp_path).stories["pieman"]
    assert story.words == ("I", "began", "my, illustrious", "career", "in", "last")  # the late word has no time at all
    # the story starts with volume 10, second 15; two words share the 1.2 s between "I" and "career"
    np.testing.assert_allclose(story.onsets, [0.1, 0.3, 0.9, 1.5, 2.0, 285.0])
    np.testing.assert_allclose(story.offsets, [0.3, 0.9, 1.5, 2.0, 2.2, 285.4])
    assert (story.n_trs, story.tr) == (281, 1.5)


def test_the_first_scan_that_is_not_excluded_is_cut_to_the_story(tmp_path, written):
    data = opened(tmp_path)
    assert "sub-001" not in data.subjects
    assert len(data.subjects) == 82 - 7  # excluded for good; of sub-013 and sub-014 only the second scans are
    assert {"sub-013", "sub-014"} <= set(data.subjects)
    responses = data.responses("sub-002")
    np.testing.assert_array_equal(responses.runs["pieman"][0], written["sub-002_task-pieman_run-1"][10:291])
    assert responses.rois.tolist() == ["left"] * 6 + ["right"] * 6
    check_responses(responses, data.stories, min_trs=15)
    assert data.responses("sub-023").runs["pieman"].shape == (1, 281, 12)
    assert (data.name, data.ceiling_kind) == ("narratives:pieman", "inter_subject")
    assert len(data.split.folds) == 4
    assert sum(s.stop - s.start for s in data.split.test_segments) == 281


def test_vertices_can_be_labelled_and_left_out(tmp_path, written):
    (tmp_path / "rois").mkdir()
    (tmp_path / "rois/fsaverage6.txt").write_text("\n".join(["STG", "-", "IFG"] * 4))
    data = opened(tmp_path, "pieman:rois")
    responses = data.responses("sub-002")
    assert (data.scored_rois, responses.n_voxels) == (("IFG", "STG"), 8)
    whole = written["sub-002_task-pieman_run-1"][10:291]
    np.testing.assert_array_equal(responses.runs["pieman"][0], whole[:, [0, 2, 3, 5, 6, 8, 9, 11]])


def test_scans_that_cannot_be_used_are_named(tmp_path, written):
    data = opened(tmp_path)
    with pytest.raises(UserError, match="scans of sub-001 are excluded"):
        data.responses("sub-001")
    with pytest.raises(UserError, match="unknown subject"):
        data.responses("sub-999")
    with pytest.raises(MissingPrerequisite, match="there is no scan sub-013_task-pieman"):
        data.responses("sub-013")
    with pytest.raises(DataError, match="200 volumes, the story lasts until volume 291"):
        data.responses("sub-024").runs["pieman"]
    surface(tmp_path, "sub-023_task-pieman", "R").unlink()
    with pytest.raises(MissingPrerequisite, match="hemi-R"):
        data.responses("sub-023").runs["pieman"]


def test_damaged_surfaces_are_refused(tmp_path, written):
    data, path = opened(tmp_path), surface(tmp_path, "sub-002_task-pieman_run-1", "L")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="is truncated or damaged"):
        data.responses("sub-002").runs["pieman"]
    twins.write_surface(path, np.ones((300, 5)))
    with pytest.raises(DataError, match="5 vertices, fsaverage6 has 6"):
        data.responses("sub-002").runs["pieman"]
    series = np.ones((300, 6))
    series[50, 3] = np.nan
    twins.write_surface(path, series)
    with pytest.raises(DataError, match="1 vertices with NaN or infinite values, the first is 3"):
        data.responses("sub-002").runs["pieman"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("I,i,0.1,0.3\nbegan,began,0.3,0.5\n", "the first word comes never"),
        ("I,i,19.6,19.7\n", r"comes \+4\.6 s after the start"),
        ("I,i,10.5,10.7\nbegan,began,15.1,15.3\n", r"comes -4\.5 s after the start"),
        ("I,i,15.1\n", "line 1: 3 cells"),
        ("I,i,15.1,early\n", "line 1: offset 'early' is not a number"),
        ("I,i,15.1,\n", "has the onset '15.1' and offset ''"),
        ("I,,,\n", "the first word comes never"),
        ("", "the first word comes never"),
    ],
)
def test_words_that_do_not_start_with_the_story_are_refused(tmp_path, written, text, message):
    (tmp_path / ALIGN).write_text(text)
    with pytest.raises(DataError, match=message):
        opened(tmp_path)


def test_an_unknown_story_lists_the_others(tmp_path, written):
    with pytest.raises(UserError, match=r"unknown story of narratives 'pieman2'.*Did you mean 'pieman'\?"):
        opened(tmp_path, "pieman2")
    with pytest.raises(UserError, match="narratives:pieman"):
        opened(tmp_path, "")
    with pytest.raises(UserError, match="no variant 'roi'"):
        opened(tmp_path, "pieman:roi")
    with pytest.raises(MissingPrerequisite, match=r"sherlock/align\.csv"):
        opened(tmp_path, "sherlock")


def test_vertices_have_their_places_on_the_shared_surface(tmp_path, written):
    full = Narratives(CARD, tmp_path, "pieman").responses("sub-023")  # nothing is read before a story is looked up
    assert full.vertices.shape == (81_924,)
    # the first 10,242 vertices of each hemisphere of fsaverage6 are those of fsaverage5
    assert full.vertices[[0, 10_241, 10_242, 40_961, 40_962, 51_203, 51_204]].tolist() == [
        0,
        10241,
        -1,
        -1,
        10242,
        20483,
        -1,
    ]
    assert (np.sort(full.vertices[full.vertices >= 0]) == np.arange(20_484)).all()
    small = opened(tmp_path).responses("sub-023")
    assert small.vertices is None
    assert small.sha256() == Responses(small.subject, small.runs, small.rois, np.zeros(1, dtype=np.int32)).sha256()
