# SPDX-License-Identifier: Apache-2.0
"""Bring your own: the folder of the documentation, in every format, with every fault told once."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import narrative_twins as twins
import nibabel
import numpy as np
import pytest
import torch
import yaml
from scipy.io import wavfile

from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.readers.base import check_responses
from voxelboard.benchmark.readers.registry import open_dataset
from voxelboard.benchmark.tasks.cohort_scores import ModelFeatures
from voxelboard.benchmark.tasks.narrative import Narrative

TEMPLATE = re.search(
    r"```yaml\n(# dataset\.yaml\n.*?)```",
    (Path(__file__).parents[3] / "docs/datasets.md").read_text(encoding="utf-8"),
    flags=re.DOTALL,
)[1]
STORIES = ("garden", "harbour", "market", "night-train")
N_TRS, TR, N_VOXELS = 40, 2.0, 4


def word_rows(n_trs=N_TRS):
    """Words every 1.5 s of a recording that starts 4 s before the first response row; two have no time."""
    rows = [(f"w{k}", f"{4 + 1.5 * k:.2f}", f"{4.5 + 1.5 * k:.2f}") for k in range(int(n_trs * TR / 1.5) - 1)]
    rows[3] = (rows[3][0], "", "")
    rows[4] = (rows[4][0], "n/a", "n/a")
    return [("before", "1.0", "1.5"), *rows]


def write_words(path, rows, header=("word", "onset", "offset"), delimiter=","):
    path.parent.mkdir(exist_ok=True)
    lines = [delimiter.join(header), *(delimiter.join(row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")  # as a spreadsheet saves it


def runs_of(subject, n_trs=N_TRS):
    rng = np.random.default_rng([int(subject[-2:]), 7])
    runs = {story: rng.standard_normal((n_trs, N_VOXELS)) for story in STORIES}
    return {**runs, "night-train": rng.standard_normal((3, n_trs, N_VOXELS))}


@pytest.fixture
def folder(tmp_path):
    """What the documentation describes: two subjects, npy, three training stories and a repeated test story."""
    (tmp_path / "dataset.yaml").write_text(TEMPLATE, encoding="utf-8")
    for story in STORIES:
        write_words(tmp_path / f"words/{story}.csv", word_rows())
    for subject in ("s01", "s02"):
        (tmp_path / "responses" / subject).mkdir(parents=True)
        for story, run in runs_of(subject).items():
            if (subject, story) != ("s02", "market"):
                np.save(tmp_path / f"responses/{subject}/{story}.npy", run)
        (tmp_path / "rois").mkdir(exist_ok=True)
        (tmp_path / f"rois/{subject}.txt").write_text("STG\nSTG\n-\nIFG\n")
    return tmp_path


def edit(folder, **changes):
    value = {**yaml.safe_load((folder / "dataset.yaml").read_text()), **changes}
    value = {key: item for key, item in value.items() if item is not None}
    (folder / "dataset.yaml").write_text(yaml.safe_dump(value))


def test_the_documented_folder_opens_by_its_path(folder):
    data = open_dataset(str(folder))
    assert (data.name, data.version, data.kind, data.ceiling_kind) == ("my-stories", "1.0.0", "real", "repeats")
    story = data.stories["garden"]
    assert story.words[:5] == ("w0", "w1", "w2", "w3", "w4")  # "before" came before the first row
    np.testing.assert_allclose(story.onsets[:6], [0, 1.5, 3.0, 3.5, 5.5, 7.5])  # w3 and w4 between their neighbours
    responses = data.responses("s01")
    assert {name: run.shape for name, run in responses.runs.items()} == {
        "garden": (1, 40, 3),
        "harbour": (1, 40, 3),
        "market": (1, 40, 3),
        "night-train": (3, 40, 3),
    }
    np.testing.assert_array_equal(responses.runs["garden"][0], runs_of("s01")["garden"][:, [0, 1, 3]].astype("f4"))
    assert responses.rois.tolist() == ["STG", "STG", "IFG"]
    assert data.scored_rois == ("STG", "IFG")
    assert set(data.responses("s02").runs) == {"garden", "harbour", "night-train"}
    check_responses(responses, data.stories, min_trs=15)
    assert open_dataset(str(folder / "dataset.yaml")).stories["garden"].sha256 == story.sha256


def test_the_name_of_a_public_data_set_wins_over_a_folder(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    folder.rename(folder.parent / "simulated-narrative")
    assert open_dataset("simulated-narrative:tiny").kind == "simulated"
    assert open_dataset("./simulated-narrative").name == "my-stories"


def as_hdf5(folder, subject, story, run):
    twins.write_hf5(folder / f"responses/{subject}/{story}.h5", bold=run)


def as_surface(folder, subject, story, run):
    for hemisphere, half in (("L", run[..., :2]), ("R", run[..., 2:])):
        twins.write_surface(folder / f"responses/{subject}/{story}_{hemisphere}.func.gii", half)


def as_volume(folder, subject, story, run):
    mask = np.zeros((2, 3, 1))
    mask[[0, 0, 1, 1], [0, 2, 0, 1], 0] = 1
    volume = np.full((2, 3, 1, len(run)), 9.0, dtype=np.float32)
    volume[mask > 0] = run.T
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), folder / f"responses/{subject}/{story}.nii.gz")
    nibabel.save(nibabel.Nifti1Image(mask.astype(np.uint8), np.eye(4)), folder / f"mask_{subject}.nii.gz")


@pytest.mark.parametrize(
    ("write", "changes"),
    [
        (as_hdf5, {"responses": "responses/{subject}/{story}.h5", "hdf5_key": "bold"}),
        (as_surface, {"responses": "responses/{subject}/{story}_{hemi}.func.gii"}),
        (as_volume, {"responses": "responses/{subject}/{story}.nii.gz", "mask": "mask_{subject}.nii.gz"}),
    ],
)
def test_every_format_gives_the_numbers_of_npy(folder, write, changes):
    for subject in ("s01", "s02"):
        for story, run in runs_of(subject).items():
            write(folder, subject, story, run if run.ndim == 2 else run[0])
    edit(folder, **changes, ceiling="none", not_heard=None)
    responses = open_dataset(str(folder)).responses("s01")
    for story, run in runs_of("s01").items():
        expected = (run if run.ndim == 2 else run[0])[:, [0, 1, 3]].astype(np.float32)
        np.testing.assert_array_equal(responses.runs[story], expected[None])


def test_a_surface_of_another_size_is_refused(folder):
    for subject in ("s01", "s02"):
        for story, run in runs_of(subject).items():
            as_surface(folder, subject, story, run if run.ndim == 2 else run[0])
    responses = "responses/{subject}/{story}_{hemi}.func.gii"
    edit(folder, responses=responses, ceiling="none", not_heard=None, surface="fsaverage6")
    with pytest.raises(DataError, match=r"4 vertices, fsaverage6 has 81,924 on both hemispheres"):
        open_dataset(str(folder)).responses("s01")
    edit(folder, surface="fs_LR")
    with pytest.raises(UserError, match="surface"):
        open_dataset(str(folder))


@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ";"), ("tsv", "\t"), ("csv", ",")])
def test_word_tables_with_other_delimiters_and_columns(folder, suffix, delimiter):
    for story in STORIES:
        rows = [(offset, "noun", word, onset) for word, onset, offset in word_rows()]
        header = ("Offset", "pos", "Word", "Onset")
        write_words(folder / f"words/{story}.{suffix}", rows, header, delimiter)
    edit(folder, words=f"words/{{story}}.{suffix}")
    assert open_dataset(str(folder)).stories["garden"].onsets[:3].tolist() == [0, 1.5, 3.0]


def test_a_single_story_is_cut_into_segments(folder):
    split = {"kind": "segments", "story": "garden", "n_segments": 4}
    edit(folder, split=split, ceiling="inter_subject", not_heard=None)
    data = open_dataset(str(folder))
    assert [(s.start, s.stop) for s in data.split.test_segments] == [(0, 10), (10, 20), (20, 30), (30, 40)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tr_s": -2}, r"dataset\.yaml:\d+: tr_s: got -2"),
        ({"trs": 2}, "unknown key trs.*Did you mean 'tr_s'"),
        ({"name": "alice2016"}, "is the name of a public data set"),
        ({"version": "1"}, "version: got '1'"),
        ({"subjects": ["../s01"]}, "subjects"),
        ({"responses": "../{subject}/{story}.npy"}, "inside the data set's folder"),
        ({"responses": "responses/{story}.npy"}, r"needs \['subject'\]"),
        ({"responses": "responses/{subject}/{story}.mat"}, r"must end in one of \.npy"),
        ({"responses": "responses/{subject}/{story}.nii"}, "mask: give one with NIfTI"),
        ({"words": "words.csv"}, r"needs \['story'\]"),
        ({"words": "words/{story}.txt"}, r"must end in one of \.csv, \.tsv, \.json, \.textgrid"),
        ({"rois": "atlas.nii.gz"}, "a parcellation needs NIfTI responses"),
        ({"atlas": "schaefer-400"}, "atlas: needs NIfTI responses with a mask"),
        ({"ceiling": "repeat"}, "ceiling: got 'repeat'; allowed: .*Did you mean 'repeats'"),
        ({"not_heard": {"s02": ["night-train"]}}, "must name training stories, got night-train"),
        ({"not_heard": {"s07": ["market"]}}, "not_heard of unknown subjects: s07"),
        ({"split": {"kind": "stories", "train": ["a"], "test": ["a"]}}, "stories in train and in test: a"),
        ({"scored_rois": ["V1"]}, r"scored_rois \['V1'\] are not labels of every subject; these are: IFG, STG"),
        ({"first_row_s": 100}, "words lie outside the 40 rows of 2 s that start at 100 s"),
        ({"tr_s": 1.0}, "words lie outside the 40 rows of 1 s"),
    ],
)
def test_a_wrong_dataset_yaml_is_told(folder, changes, message):
    edit(folder, **changes)
    with pytest.raises(UserError, match=message):
        open_dataset(str(folder)).responses("s01")


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (word_rows(), ("word", "begin", "offset"), r"garden\.csv: no column onset; the first line says word, begin"),
        ([("a", "4,5", "5")], ("word", "onset", "offset"), "line 2: 4 cells in 3 columns"),
        ([("a", "x", "5")], ("word", "onset", "offset"), "line 2: onset 'x' is not a number of seconds"),
        ([("a", "5", "4")], ("word", "onset", "offset"), "line 2: 'a' has the onset '5' and offset '4'"),
        ([("", "5", "6")], ("word", "onset", "offset"), "line 2: there is no word"),
        ([("a", "9", "9.5"), ("b", "8", "9")], ("word", "onset", "offset"), "starts before the word before it"),
        ([], ("word", "onset", "offset"), "0 of 0 words"),
    ],
)
def test_a_wrong_word_table_is_told(folder, rows, header, message):
    write_words(folder / "words/garden.csv", rows, header)
    with pytest.raises(DataError, match=message):
        open_dataset(str(folder))


def test_responses_that_do_not_fit_are_told(folder):
    path = folder / "responses/s01/harbour.npy"
    whole = path.read_bytes()

    def message_of(error=DataError):
        with pytest.raises(error) as caught:
            open_dataset(str(folder)).responses("s01").runs["harbour"]
        return caught.value.message

    path.write_bytes(whole[:-100])
    assert re.search(r"harbour\.npy is truncated or damaged", message_of())
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    assert "harbour.npy is truncated or damaged" in message_of()
    np.save(path, np.full((40, 4), "x"))
    assert "expected real numbers" in message_of()
    np.save(path, np.ones((40, 5)))
    assert "'harbour': 40 rows of 5 voxels, expected 40 of 4" in message_of()
    np.save(path, np.ones(40))
    assert "expected (n_trs, n_voxels) or (n_repeats, n_trs, n_voxels)" in message_of()
    np.save(path, np.where(np.arange(160).reshape(40, 4) == 7, np.nan, 1.0))
    assert "1 voxels with NaN or infinite values, the first is 3" in message_of()
    path.unlink()
    assert "harbour.npy" in message_of(MissingPrerequisite)


def test_subjects_must_have_the_same_rows_and_repeats(folder):
    np.save(folder / "responses/s02/garden.npy", np.ones((39, 4)))
    with pytest.raises(DataError, match="subject s02, story 'garden': 39 rows of 4 voxels, expected 40"):
        open_dataset(str(folder)).responses("s02")
    np.save(folder / "responses/s01/night-train.npy", np.ones((1, 40, 4)))
    with pytest.raises(DataError, match="a ceiling from repeats needs two presentations or more, got 1"):
        open_dataset(str(folder)).responses("s01")
    np.save(folder / "responses/s01/night-train.npy", np.ones((2, 40, 4)))
    (folder / "rois/s01.txt").write_text("STG\nIFG\n-\n")
    with pytest.raises(DataError, match="3 labels for the 4 voxels of s01"):
        open_dataset(str(folder)).responses("s01")


def test_a_folder_without_a_dataset_yaml_and_a_missing_package_say_what_to_do(folder, monkeypatch):
    with pytest.raises(MissingPrerequisite, match=r"there is no dataset\.yaml"):
        open_dataset(str(folder / "words"))
    as_hdf5(folder, "s01", "garden", np.ones((40, 4)))
    edit(folder, responses="responses/{subject}/{story}.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingPrerequisite, match="needs h5py, which is not installed") as caught:
        open_dataset(str(folder))
    assert caught.value.hint == 'pip install "voxelboard[data]"'


def test_the_narrative_task_finds_a_planted_feature_in_the_folder(folder):
    """Responses that are an FIR of the features, and noise: the true features score near one, others near nothing."""
    n_trs = 120
    rng = np.random.default_rng(11)
    names = [*(f"train{k}" for k in range(5)), "test"]
    weights = rng.standard_normal((8, N_VOXELS)) / np.sqrt(8)
    features = {}
    for story in names:
        features[story] = rng.standard_normal((1, n_trs, 2)).astype(np.float32)
        delayed = [np.vstack([np.zeros((d, 2)), features[story][0, :-d]]) for d in (1, 2, 3, 4)]
        signal = np.concatenate(delayed, axis=1) @ weights
        n_repeats = 4 if story == "test" else 1
        noisy = signal + 0.5 * rng.standard_normal((n_repeats, n_trs, N_VOXELS))
        np.save(folder / f"responses/s01/{story}.npy", noisy.astype(np.float32))
        onsets = 4 + np.sort(rng.uniform(0, n_trs * TR - 1, 200))
        words = ["".join(rng.choice(list("abcdefg"), rng.integers(1, 9))) for _ in onsets]
        rows = [(word, f"{on:.3f}", f"{on + 0.2:.3f}") for word, on in zip(words, onsets, strict=True)]
        write_words(folder / f"words/{story}.csv", rows)
    split = {"kind": "stories", "train": names[:-1], "test": ["test"]}
    edit(folder, subjects=["s01"], split=split, not_heard=None)
    data = open_dataset(str(folder))
    protocol = replace(V1, name="quick", score=replace(V1.score, noise_brain_voxels=256))
    (true,) = Narrative().run(data, ("s01",), ModelFeatures(features), protocol, torch.device("cpu"))
    assert true.scores["normalised"].estimate == pytest.approx(1, abs=0.1)
    assert (true.n_voxels, true.n_repeats, set(true.by_roi)) == (3, 4, {"STG", "IFG"})


def test_regions_come_from_a_parcellation_and_words_from_a_textgrid(folder):
    """All stories as volumes on a (2, 2, 3) grid; the parcels lie on a finer one."""
    mask = np.zeros((2, 2, 3), dtype=np.uint8)
    mask[0] = 1
    parcels = np.repeat(np.arange(1, 4)[None, None], 2, axis=0).repeat(2, axis=1).repeat(2, axis=2)  # 1-mm steps in z
    fine = np.diag([2.0, 2.0, 1.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(mask, np.diag([2.0, 2, 2, 1])), folder / "mask.nii.gz")
    nibabel.save(nibabel.Nifti1Image(parcels.astype(np.int16), fine), folder / "atlas.nii.gz")
    (folder / "atlas.txt").write_text("1 AC\n2 STG\n3 Unknown\n")
    for subject in ("s01", "s02"):
        for story, run in runs_of(subject).items():
            n_trs = run.shape[-2]
            volume = np.random.default_rng(1).standard_normal((2, 2, 3, n_trs)).astype(np.float32)
            nibabel.save(
                nibabel.Nifti1Image(volume, np.diag([2.0, 2, 2, 1])), folder / f"responses/{subject}/{story}.nii.gz"
            )
    marks = "".join(f'{4 + 1.5 * k} {4.5 + 1.5 * k} "w{k}"\n' for k in range(50))
    grid = (
        f'File type = "ooTextFile"\nObject class = "TextGrid"\n0 90 <exists> 1\n"IntervalTier" "words" 0 90 50\n{marks}'
    )
    for story in STORIES:
        (folder / f"words/{story}.TextGrid").write_text(grid)
    edit(
        folder,
        words="words/{story}.TextGrid",
        responses="responses/{subject}/{story}.nii.gz",
        mask="mask.nii.gz",
        rois="atlas.nii.gz",
        ceiling="none",
        scored_rois=None,
        roi_order=None,
    )
    data = open_dataset(str(folder))
    assert data.scored_rois == ("AC", "STG")
    assert data.stories["garden"].words[:2] == ("w0", "w1")
    assert data.responses("s01").rois.tolist() == ["AC", "STG"] * 2  # the third z is in no region


def test_sound_and_word_counts_become_confounds(folder):
    rate = 800
    (folder / "counts.tsv").write_text("word\tcount\na\t10\n", encoding="utf-8")
    stories = list(open_dataset(str(folder)).stories)
    for name in stories:
        wavfile.write(folder / f"{name}.wav", rate, np.full(rate * 2 * N_TRS, 1000, dtype=np.int16))
    edit(folder, audio="{story}.wav", frequencies="counts.tsv")
    data = open_dataset(str(folder))
    for story in data.stories.values():
        assert story.acoustics is not None
        assert story.acoustics.shape == (story.n_trs, 9)
        assert story.annotations["log_frequency"].shape == (story.n_words, 1)
    edit(folder, audio="sound.wav")
    with pytest.raises(UserError, match=r"audio: 'sound\.wav' needs"):
        open_dataset(str(folder))
