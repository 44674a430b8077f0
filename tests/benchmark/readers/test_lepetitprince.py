# SPDX-License-Identifier: Apache-2.0
"""The reader of ds003643 on a twin in its formats."""

import lpp_twin as twin
import nibabel
import numpy as np
import pytest

from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError
from voxelboard.benchmark.readers.base import check_responses
from voxelboard.benchmark.readers.cards import load_card
from voxelboard.benchmark.readers.lepetitprince import N_VOLUMES, LePetitPrince

CARD = load_card("lepetitprince")


def opened(folder, variant=""):
    return LePetitPrince(CARD, folder, variant, twin.VOLUMES)


@pytest.fixture
def written(tmp_path):
    scans = twin.write_lpp(tmp_path)
    twin.write_mask(tmp_path)
    return scans


def test_the_card_and_the_release_agree():
    languages = [subject[4:6] for subject in CARD.subjects]
    assert [languages.count(language) for language in ("EN", "FR", "CN")] == [49, 28, 35]
    assert {language: (len(runs), sum(runs)) for language, runs in N_VOLUMES.items()} == {
        "EN": (9, 2816),
        "FR": (9, 2937),
        "CN": (9, 2977),
    }


def test_runs_are_sections_whatever_their_numbers(tmp_path, written):
    data = opened(tmp_path)
    assert data.subjects == ("sub-EN057", "sub-EN058")
    mask = np.ones(twin.GRID, dtype=bool)
    mask[0] = False
    for subject in data.subjects:
        responses = data.responses(subject)
        check_responses(responses, data.stories, min_trs=15)
        for k, name in enumerate(data.stories, 1):
            np.testing.assert_array_equal(responses.runs[name][0], written[subject, k][mask].T)
    assert set(responses.rois.tolist()) == {"brain"}
    assert len(data.split.folds) == 9
    assert all(len(train) == 8 for train, _ in data.split.folds)
    assert (data.name, data.ceiling_kind) == ("lepetitprince", "inter_subject")


def test_the_word_table_loses_its_defects(tmp_path, written):
    story = opened(tmp_path).stories["section4"]
    assert story.n_words == 20
    assert "twice" not in story.words
    assert story.words[7] == "comma, word"
    # between its neighbours; and a word that starts too early starts with the word before it
    np.testing.assert_allclose([story.onsets[3], story.offsets[3]], [3.6, 6.1])
    np.testing.assert_allclose(story.onsets[4:6], [6.1, 6.1])
    assert story.n_trs == 23


def test_other_languages_and_regions(tmp_path, written):
    french = opened(tmp_path, "FR")
    assert (french.subjects, french.name) == (("sub-FR001",), "lepetitprince:FR")
    parcels = np.zeros(twin.GRID, dtype=np.int16)
    parcels[1], parcels[2] = 1, 2
    nibabel.save(nibabel.Nifti1Image(parcels, twin.AFFINE), tmp_path / "rois/parcels.nii.gz")
    (tmp_path / "rois/parcels.txt").write_text("1 STG\n2 IFG\n")
    data = opened(tmp_path, "EN:rois")
    responses = data.responses("sub-EN057")
    assert (data.scored_rois, responses.n_voxels) == (("IFG", "STG"), 30)
    np.testing.assert_array_equal(
        responses.runs["section1"][0][:, responses.rois == "IFG"], written["sub-EN057", 1][2].reshape(15, -1).T
    )


@pytest.mark.parametrize(
    ("variant", "error", "message"),
    [
        ("DE", UserError, "no variant 'DE'"),
        ("CN", MissingPrerequisite, "no scans of CN"),
        ("EN:schaefer-150", UserError, "unknown atlas 'schaefer-150'"),
    ],
)
def test_what_is_not_there(tmp_path, written, variant, error, message):
    with pytest.raises(error, match=message):
        opened(tmp_path, variant)


def scan(folder, run):
    name = f"sub-EN058_task-lppEN_run-{run:02d}_space-MNIColin27_desc-preproc_bold.nii.gz"
    return folder / "derivatives/sub-EN058/func" / name


def test_runs_that_are_missing_short_or_dead_are_told(tmp_path, written):
    series = written["sub-EN058", 2].copy()
    nibabel.save(nibabel.Nifti1Image(series[..., :-1], twin.AFFINE), scan(tmp_path, 2))
    with pytest.raises(DataError, match=r"run-02.*expected \(4, 5, 3, 21\)"):
        opened(tmp_path).responses("sub-EN058")
    series[1, 0, 0] = 7.0
    nibabel.save(nibabel.Nifti1Image(series, twin.AFFINE), scan(tmp_path, 2))
    with pytest.raises(DataError, match="1 voxels of the mask are constant"):
        _ = opened(tmp_path).responses("sub-EN058").runs["section2"]
    scan(tmp_path, 2).unlink()
    with pytest.raises(DataError, match="sub-EN058 has 8 runs"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text.replace("onset", "start", 1), "no column onset"),
        (lambda text: text.replace(",9,1,2,3", ",8,1,2,3"), r"sections \[1, 2, 3, 4, 5, 6, 7, 8\]"),
        (lambda text: text.replace("0.100,0.600", "soon,0.600", 1), "line 2: could not convert"),
        (lambda text: text.replace(",NOUN,1,1,2,3", "", 1), "line 2"),
    ],
)
def test_a_damaged_word_table_is_told(tmp_path, written, edit, message):
    path = tmp_path / "annotation/EN/lppEN_word_information.csv"
    path.write_text(edit(path.read_text(encoding="utf-8-sig")))
    with pytest.raises(DataError, match=message):
        opened(tmp_path)


def test_without_a_mask_it_is_the_brain_of_the_template(tmp_path):
    pytest.importorskip("nilearn", reason="the template's mask comes with nilearn")
    twin.write_lpp(tmp_path, ("sub-EN057",))
    data = opened(tmp_path)
    assert 0 < data.responses("sub-EN057").n_voxels <= np.prod(twin.GRID)
