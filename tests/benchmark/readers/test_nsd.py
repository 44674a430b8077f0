# SPDX-License-Identifier: Apache-2.0
"""The reader of the Natural Scenes Dataset on a small twin in its formats: HDF5, NIfTI, MGH, MATLAB, tables, JSON."""

import json
import shutil

import h5py
import numpy as np
import pytest
from nsd_twin import BETAS, GRIDS, N_SHARED, SUBJECTS, NsdTwin, twin_card

from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError
from voxelboard.benchmark.readers.captions_data import check_image_responses
from voxelboard.benchmark.readers.coco import read_coco
from voxelboard.benchmark.readers.nsd import Nsd
from voxelboard.benchmark.readers.volumes import read_surface_map
from voxelboard.benchmark.stimuli.captions import picture_statistics

ROIS = ("early", "ventral", "lateral", "parietal")


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    return NsdTwin(tmp_path_factory.mktemp("nsd")).write()


@pytest.fixture
def copy(twin, tmp_path):
    shutil.copytree(twin.folder, tmp_path / "nsd")
    return tmp_path / "nsd"


def open_nsd(folder, keep, variant=""):
    return Nsd(twin_card(), folder, variant, keep)


@pytest.fixture(scope="module")
def nsd(twin, tmp_path_factory):
    return open_nsd(twin.folder, tmp_path_factory.mktemp("prepared"))


def expected_patterns(twin, subject, n_units, columns):
    """What must come out: every session z-scored, then the trials of each image."""
    trials = twin.trials(subject, n_units)[:, :, columns]
    trials = np.rint(trials * 300) / 300
    z = (trials - trials.mean(axis=1, keepdims=True)) / trials.std(axis=1, keepdims=True)
    flat = z.reshape(-1, z.shape[2])
    shown = twin.shown(subject)
    return {image: flat[shown == image] for image in np.unique(shown)}


def test_images_have_the_captions_and_categories_of_coco(twin, nsd):
    images = nsd.images
    assert images.n_images == twin.n_images
    assert images.category_names == ("person", "car", "dog")
    image = 7
    said = images.captions[images.rows([image])[0]]
    assert said[:2] == ("Said 0 of 1007.", "Said 1 of 1007.")  # in the order of their annotation ids
    assert said[4] == "A picture number 1007 of a dog, said 4."  # without its line break
    assert images.categories[image].tolist() == [False, False, True]
    assert images.categories[10].tolist() == [False, False, False]  # COCO 1010 has no object


def test_the_split_is_the_shared_images_and_training_is_the_rest(twin, nsd):
    assert nsd.test_ids.tolist() == list(range(N_SHARED))
    for subject in SUBJECTS:
        assert set(nsd.train_ids(subject)) == set(twin.shown(subject)) - set(range(N_SHARED))


@pytest.mark.parametrize("suffix", [".hdf5", ".nii.gz", ".mat"])
def test_betas_are_scaled_z_scored_by_session_and_sorted_by_image(tmp_path, suffix):
    twin = NsdTwin(tmp_path / "nsd", suffix=suffix).write()
    data = open_nsd(tmp_path / "nsd", tmp_path / "prepared")
    for subject in SUBJECTS:
        responses = data.responses(subject)
        check_image_responses(responses, data.images)
        columns = np.ravel_multi_index(tuple(responses.positions.T), GRIDS[subject])
        expected = expected_patterns(twin, subject, int(np.prod(GRIDS[subject])), columns)
        for row, image in enumerate(responses.train_ids):
            assert responses.train[row] == pytest.approx(expected[image].mean(axis=0), abs=1e-5)
        for row, image in enumerate(responses.test_ids):
            assert responses.test[:, row] == pytest.approx(expected[image], abs=1e-5)
        assert responses.grid_shape == GRIDS[subject]
        assert set(responses.rois) == set(ROIS)


def test_the_released_ncsnr_is_that_of_each_voxel(twin, nsd, copy, tmp_path):
    responses = nsd.responses("subj01")
    columns = np.ravel_multi_index(tuple(responses.positions.T), GRIDS["subj01"])
    assert np.array_equal(responses.ncsnr, twin.ncsnr("subj01", int(np.prod(GRIDS["subj01"])))[columns])
    folder = copy / "nsddata_betas/ppdata/subj01/func1pt8mm" / BETAS
    shutil.copy(copy / "nsddata_betas/ppdata/subj02/func1pt8mm" / BETAS / "ncsnr.nii.gz", folder)
    with pytest.raises(DataError, match=r"ncsnr.nii.gz: \(6, 7, 8\), the regions are of \(7, 6, 5\)"):
        open_nsd(copy, tmp_path / "p").responses("subj01")
    (folder / "ncsnr.nii.gz").unlink()
    assert open_nsd(copy, tmp_path / "p").responses("subj01").ncsnr is None


def test_planted_gains_and_offsets_of_sessions_are_gone(twin, nsd):
    """A7: without noise the repeats of an image would be equal; here they differ by the noise of .1 only."""
    responses = nsd.responses("subj01")
    assert responses.test.std(axis=0, ddof=1).mean() < 0.25
    raw = twin.trials("subj01", int(np.prod(GRIDS["subj01"]))).reshape(330, -1)
    spread = [raw[twin.shown("subj01") == image].std(axis=0, ddof=1).mean() for image in range(5)]
    assert np.mean(spread) > 0.5


def test_regions_are_those_of_the_streams(twin, nsd):
    import nibabel

    streams = nibabel.load(twin.folder / "nsddata/ppdata/subj01/func1pt8mm/roi/streams.nii.gz").get_fdata()
    responses = nsd.responses("subj01")
    names = {1: "early", 5: "ventral", 6: "lateral", 7: "parietal"}
    assert [names[int(streams[tuple(p)])] for p in responses.positions] == responses.rois.tolist()
    assert len(responses.rois) == np.isin(streams, list(names)).sum()


def test_other_regions_are_those_that_all_subjects_have(twin, tmp_path):
    data = open_nsd(twin.folder, tmp_path, "floc-faces")
    assert (data.name, data.scored_rois) == ("nsd:floc-faces", ("OFA",))
    streams = open_nsd(twin.folder, tmp_path).responses("subj01")
    faces = data.responses("subj01")
    assert set(faces.rois) == {"OFA"}
    assert np.array_equal(faces.positions, streams.positions[streams.rois == "early"])  # as the twin has them
    assert np.array_equal(faces.test, streams.test[:, :, streams.rois == "early"])


def test_the_surface_is_read_as_stored_left_before_right(twin, tmp_path):
    data = open_nsd(twin.folder, tmp_path, "fsaverage")
    assert data.in_correspondence
    responses = data.responses("subj02")
    assert responses.positions is None
    assert np.array_equal(responses.ncsnr, twin.ncsnr("subj02", 44)[np.isin(twin.surface_labels, [1, 5, 6, 7])])
    assert responses.vertices is None  # 44 vertices are none of FreeSurfer's surfaces
    labels = np.arange(44) % 8
    columns = np.flatnonzero(np.isin(labels, [1, 5, 6, 7]))
    trials = twin.trials("subj02", 44)[:, :, columns].astype(np.float32).astype(np.float64)
    z = ((trials - trials.mean(axis=1, keepdims=True)) / trials.std(axis=1, keepdims=True)).reshape(330, -1)
    for row, image in enumerate(responses.test_ids[:5]):
        assert responses.test[:, row] == pytest.approx(z[twin.shown("subj02") == image], abs=1e-4)


def test_places_on_freesurfer_s_surface_reach_the_record(tmp_path):
    """Without them the board has no brain maps."""
    twin = NsdTwin(tmp_path / "nsd", n_vertices=(10_242, 10_242))
    twin.write_tables()
    twin.write_surface()
    data = open_nsd(twin.folder, tmp_path / "p", "fsaverage")
    assert (
        data.responses("subj01").vertices.tolist()
        == np.flatnonzero(np.isin(twin.surface_labels, [1, 5, 6, 7])).tolist()
    )


def test_a_vertex_without_data_is_left_out(twin, copy, tmp_path):
    import nibabel

    path = copy / "nsddata_betas/ppdata/subj01/fsaverage" / BETAS / "lh.betas_session02.mgh"
    values = read_surface_map(path).T.copy()
    values[1] = np.nan  # vertex 1 is early
    nibabel.save(nibabel.MGHImage(values[:, None, None], np.eye(4)), path)
    whole, without = (open_nsd(f, tmp_path / "p", "fsaverage").responses("subj01") for f in (twin.folder, copy))
    assert without.n_voxels == whole.n_voxels - 1
    assert (without.rois == "early").sum() == (whole.rois == "early").sum() - 1


def test_pictures_are_read_in_the_order_asked(twin, nsd):
    with h5py.File(twin.folder / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5") as file:
        brick = file["imgBrick"][:]
    assert np.array_equal(nsd.pixels([9, 2, 9, 5]), brick[[9, 2, 9, 5]])
    assert nsd.images.low_level == pytest.approx(picture_statistics(brick))


def test_sessions_are_read_once_and_again_when_a_file_changed(twin, copy, tmp_path, monkeypatch):
    from voxelboard.benchmark.readers import nsd as module

    read = []
    real = module.read_volume_session
    monkeypatch.setattr(module, "read_volume_session", lambda *a: (read.append(a[0].name), real(*a))[1])
    first = open_nsd(copy, tmp_path / "p").responses("subj01")
    again = open_nsd(copy, tmp_path / "p").responses("subj01")
    assert len(read) == 6
    assert again.sha256() == first.sha256()
    path = copy / "nsddata_betas/ppdata/subj01/func1pt8mm" / BETAS / "betas_session03.hdf5"
    with h5py.File(path, "a") as file:
        file["betas"][0] += 5
    assert open_nsd(copy, tmp_path / "p").responses("subj01").sha256() != first.sha256()
    assert len(read) == 12


def edit_table(folder, edit):
    path = folder / "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
    path.write_text(edit(path.read_text()))


def betas_path(folder, session=1):
    return folder / "nsddata_betas/ppdata/subj01/func1pt8mm" / BETAS / f"betas_session{session:02d}.hdf5"


def test_betas_of_another_scale_are_refused(twin, copy, tmp_path):
    path = betas_path(copy, 2)
    with h5py.File(path, "r") as file:
        values = file["betas"][:].astype(np.float32) * 3  # float: taken as percent as it is
    path.unlink()
    with h5py.File(path, "w") as file:
        file["betas"] = values
    with pytest.raises(DataError, match=r"betas_session02.hdf5: .* beyond 100 % signal change"):
        open_nsd(copy, tmp_path / "p").responses("subj01")


def test_a_missing_session_and_missing_repeats_are_told(copy, tmp_path):
    betas_path(copy, 4).unlink()
    with pytest.raises(MissingPrerequisite, match=r"no betas_session04.hdf5 .*"):
        open_nsd(copy, tmp_path / "p").responses("subj01")


def test_duplicated_repeats_are_refused(tmp_path):
    twin = NsdTwin(tmp_path / "nsd")
    twin.order[np.flatnonzero(twin.order == 50)[0]] = 49  # both are images of one subject
    twin.write()
    with pytest.raises(DataError, match="image 48 is shown 4 times"):
        open_nsd(tmp_path / "nsd", tmp_path / "p").train_ids("subj01")


def test_missing_repeats_of_a_test_image_are_refused(tmp_path):
    twin = NsdTwin(tmp_path / "nsd")
    twin.order[np.flatnonzero(twin.order == 1)[0]] = 110  # image 0 is shared; image 109 then has four
    twin.write()
    with pytest.raises(DataError, match="34 shared images have 3 repeats in all subjects, the card says 35"):
        open_nsd(tmp_path / "nsd", tmp_path / "p")


def test_a_mask_of_another_grid_is_refused(copy, tmp_path):
    shutil.copy(
        copy / "nsddata/ppdata/subj02/func1pt8mm/roi/streams.nii.gz",
        copy / "nsddata/ppdata/subj01/func1pt8mm/roi/streams.nii.gz",
    )
    with pytest.raises(DataError, match=r"\(7, 6, 5\) voxels, the regions are of \(6, 7, 8\)") as caught:
        open_nsd(copy, tmp_path / "p").responses("subj01")
    assert "another grid" in caught.value.hint


def test_tables_that_disagree_are_refused(copy, tmp_path):
    path = copy / "nsddata/ppdata/subj01/behav/responses.tsv"
    lines = path.read_text().splitlines()
    cells = lines[3].split("\t")
    cells[4] = str(int(cells[4]) + 1)
    path.write_text("\n".join([*lines[:3], "\t".join(cells), *lines[4:]]))
    with pytest.raises(DataError, match="trial 3: the log says image"):
        open_nsd(copy, tmp_path / "p").train_ids("subj01")


def test_ids_that_count_from_one_are_refused(copy, tmp_path):
    import pandas as pd

    path = copy / "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
    table = pd.read_csv(path, index_col=0)
    table["nsdId"] += 1
    table.to_csv(path)
    with pytest.raises(DataError, match="nsdId does not count the rows from 0"):
        open_nsd(copy, tmp_path / "p")


def test_images_without_captions_are_refused(copy, tmp_path):
    path = copy / "annotations/captions_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 1040]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="1 images of train2017 have no captions, the first is COCO image 1040"):
        open_nsd(copy, tmp_path / "p").images.n_images  # noqa: B018


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{", "truncated or damaged"),
        ("[]", "lacks a list annotations"),
        ('{"annotations": [{"image_id": 1}]}', "entry 0 of annotations lacks"),
        ('{"annotations": [{"image_id": 1, "id": 2, "caption": " "}]}', "is empty"),
    ],
)
def test_damaged_captions_are_refused(tmp_path, content, match):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/captions_train2017.json").write_text(content)
    with pytest.raises(DataError, match=match):
        read_coco(tmp_path, {"train2017": [1]})


def test_files_that_are_not_there_are_named_with_the_agreement(tmp_path, copy):
    shutil.rmtree(copy / "nsddata_betas")
    with pytest.raises(MissingPrerequisite, match="no betas of nsd") as caught:
        open_nsd(copy, tmp_path)
    assert "access agreement" in caught.value.hint
    with pytest.raises(MissingPrerequisite, match=r"nsd_expdesign.mat"):
        open_nsd(tmp_path / "nothing", tmp_path)


def test_an_unknown_variant_or_subject_is_refused(twin, nsd, tmp_path):
    with pytest.raises(UserError, match="no variant or regions 'mni'") as caught:
        open_nsd(twin.folder, tmp_path, "mni")
    assert "regions that are there: floc-faces, streams; the surface is fsaverage" in caught.value.hint
    for odd in ("../streams", "fsaverage:a:b", "mni:streams", ":"):
        with pytest.raises(UserError, match="no variant"):
            open_nsd(twin.folder, tmp_path, odd)
    with pytest.raises(UserError, match="subj09"):
        nsd.responses("subj09")
