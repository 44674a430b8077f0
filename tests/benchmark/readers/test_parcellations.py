# SPDX-License-Identifier: Apache-2.0
"""Regions from atlases: tables in three forms, annotations of surfaces, and what nilearn has."""

from types import SimpleNamespace

import nibabel
import numpy as np
import pytest

from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError
from voxelboard.benchmark.readers import parcellations
from voxelboard.benchmark.readers.parcellations import (
    atlas_files,
    brain_mask,
    find_annotations,
    language_hierarchy,
    parcel_labels,
    surface_labels,
)
from voxelboard.benchmark.readers.volumes import Volume

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
MASK = Volume(np.ones((3, 1, 1)), AFFINE)
XML = """<?xml version="1.0"?><atlas><data>
<label index="0" x="1" y="2" z="3">Frontal Pole</label><label index="1" x="1" y="2" z="3">Insular Cortex</label></data></atlas>"""


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "atlas.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.array([1, 2, 0], dtype=np.int16).reshape(3, 1, 1), AFFINE), path)
    return path


@pytest.mark.parametrize(
    ("name", "text", "labels"),
    [
        (
            "t.txt",
            "1\t7Networks_LH_Vis_1\t120 18 131 0\n2 7Networks_LH_Som_1 1 2 3 0\n",
            ["7Networks_LH_Vis_1", "7Networks_LH_Som_1", "-"],
        ),
        ("t.csv", "index,name\n0,Background\n1,L G_cuneus\n2,L Medial_wall\n", ["L G_cuneus", "L Medial_wall", "-"]),
        ("t.xml", XML, ["Frontal Pole", "Insular Cortex", "-"]),
        ("t.txt", "1 Unknown\n2 STG\n", ["-", "STG", "-"]),
    ],
)
def test_tables_of_every_form(tmp_path, image, name, text, labels):
    (tmp_path / name).write_text(text)
    assert parcel_labels(image, tmp_path / name, MASK).tolist() == labels


def test_a_parcel_without_a_name_or_an_empty_overlap_is_told(tmp_path, image):
    table = tmp_path / "t.txt"
    table.write_text("1 STG\n")
    with pytest.raises(DataError, match=r"no name for the parcels \[2\]"):
        parcel_labels(image, table, MASK)
    table.write_text("1 STG\n2 IFG\n")
    far = AFFINE.copy()
    far[0, 3] = 500
    with pytest.raises(DataError, match="no voxel of the mask lies in a parcel"):
        parcel_labels(image, table, Volume(MASK.values, far))
    (tmp_path / "t.xml").write_text('<!DOCTYPE x [<!ENTITY a "b">]><x/>')
    with pytest.raises(DataError, match="no table of labels"):
        parcel_labels(image, tmp_path / "t.xml", MASK)


def write_annot(path, numbers, names):
    colours = np.array([[k * 20 + 10, 5, 7, 0, 0] for k in range(len(names))])
    nibabel.freesurfer.write_annot(path, np.array(numbers), colours, [name.encode() for name in names], fill_ctab=True)


def test_annotations_of_both_hemispheres(tmp_path):
    names = ["Unknown", "G_front_inf", "S_temporal_sup"]
    write_annot(tmp_path / "lh.aparc.a2009s.annot", [0, 1, 2], names)
    write_annot(tmp_path / "rh.aparc.a2009s.annot", [2, 2, 0], names)
    found = find_annotations(tmp_path)
    assert surface_labels(*found).tolist() == [
        "-", "L G_front_inf", "L S_temporal_sup", "R S_temporal_sup", "R S_temporal_sup", "-",
    ]  # fmt: skip
    write_annot(tmp_path / "lh.HCP-MMP1.annot", [0, 1, 2], names)
    with pytest.raises(UserError, match="2 annotations"):
        find_annotations(tmp_path)
    assert find_annotations(tmp_path / "none") is None


def test_regions_of_destrieux_are_ordered_from_sound_to_language():
    names = ("S_temporal_sup", "G_temp_sup-G_T_transv", "G_front_inf-Triangul", "G_front_inf-Opercular", "G_cuneus")
    order = language_hierarchy([f"{side} {name}" for name in names for side in "RL"])
    assert order == (
        ("L G_temp_sup-G_T_transv", "R G_temp_sup-G_T_transv"),
        ("L S_temporal_sup", "R S_temporal_sup"),
        ("L G_front_inf-Opercular", "R G_front_inf-Opercular", "L G_front_inf-Triangul", "R G_front_inf-Triangul"),
    )
    assert language_hierarchy(["L_A1_ROI"]) == ()


def test_an_atlas_that_nilearn_has_is_used_and_none_is_fetched(tmp_path, monkeypatch):
    real = parcellations.load_package

    def package(name, what):
        if name == "nilearn.datasets":
            return SimpleNamespace(get_data_dirs=lambda: [str(tmp_path / "a"), str(tmp_path / "b")])
        return real(name, what)

    monkeypatch.setattr(parcellations, "load_package", package)
    with pytest.raises(MissingPrerequisite, match=r"schaefer-400.*\n.*fetch_atlas_schaefer_2018\(n_rois=400\)"):
        atlas_files("schaefer-400")
    folder = tmp_path / "b" / "schaefer_2018"
    folder.mkdir(parents=True)
    for name in ("FSLMNI152_1mm.nii.gz", None):
        end = f"order_{name}" if name else "order.txt"
        (folder / f"Schaefer2018_400Parcels_7Networks_{end}").touch()
    image, table = atlas_files("schaefer-400")
    assert image.parent == table.parent == folder
    with pytest.raises(UserError, match="unknown atlas 'glaser'"):
        atlas_files("glaser")


def test_a_mask_comes_on_the_grid_of_the_scans(tmp_path):
    fine = np.zeros((6, 2, 2), dtype=np.uint8)
    fine[:2] = 1
    nibabel.save(nibabel.Nifti1Image(fine, np.diag([1.0, 1, 1, 1])), tmp_path / "mask.nii.gz")
    grid = Volume(np.zeros((3, 1, 1)), AFFINE)
    assert brain_mask(tmp_path, grid).values[:, 0, 0].tolist() == [1, 0, 0]
    far = AFFINE.copy()
    far[0, 3] = 500
    with pytest.raises(DataError, match="no voxel inside"):
        brain_mask(tmp_path, Volume(grid.values, far))
