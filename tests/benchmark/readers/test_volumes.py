# SPDX-License-Identifier: Apache-2.0
"""Parcellations on other grids, surface maps, tables of label names."""

import nibabel
import numpy as np
import pytest

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.readers.volumes import Volume, labels_at, read_label_names, read_surface_map, read_volume


def test_labels_come_from_the_nearest_voxel_of_another_grid():
    # 2-mm parcels with the number of their x index + 1; a 1-mm mask shifted by 0.4 mm, and wider than the parcels
    parcels = Volume(np.repeat(np.arange(1, 4)[:, None, None], 2, axis=1).repeat(2, axis=2), np.diag([2.0, 2, 2, 1]))
    affine = np.eye(4)
    affine[0, 3] = 0.4
    mask = Volume(np.zeros((9, 3, 3)), affine)
    mask.values[:, 1, 1] = 1
    x_mm = np.arange(9) + 0.4
    expected = [int(np.rint(x / 2)) + 1 if np.rint(x / 2) <= 2 else 0 for x in x_mm]
    assert labels_at(parcels, mask).tolist() == expected


def test_the_same_grid_gives_the_same_numbers_in_mask_order():
    values = np.random.default_rng(0).integers(0, 9, (4, 5, 6))
    affine = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
    mask = np.random.default_rng(1).random((4, 5, 6)) < 0.5
    np.testing.assert_array_equal(labels_at(Volume(values, affine), Volume(mask, affine)), values[mask])


def test_volumes_and_surface_maps_are_read(tmp_path):
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4, 1)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 2, 2, 1])), tmp_path / "roi.nii.gz")
    volume = read_volume(tmp_path / "roi.nii.gz")
    np.testing.assert_array_equal(volume.values, values[..., 0])
    assert volume.affine[0, 0] == 2
    surface = np.arange(10, dtype=np.float32).reshape(5, 1, 1, 2)
    nibabel.save(nibabel.MGHImage(surface, np.eye(4)), tmp_path / "lh.betas.mgh")
    np.testing.assert_array_equal(read_surface_map(tmp_path / "lh.betas.mgh"), surface[:, 0, 0].T)
    with pytest.raises(DataError, match="expected one volume"):
        read_volume(tmp_path / "lh.betas.mgh")
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2, 3)), np.eye(4)), tmp_path / "series.nii")
    with pytest.raises(DataError, match="expected one volume"):
        read_volume(tmp_path / "series.nii")
    (tmp_path / "damaged.nii").write_bytes(b"x" * 100)
    with pytest.raises(DataError, match="truncated or damaged"):
        read_volume(tmp_path / "damaged.nii")


def test_label_tables(tmp_path):
    table = tmp_path / "streams.mgz.ctab"
    table.write_text("\ufeff0 Unknown 0 0 0 0\n# comment\n\n1  early  1 2 3 0\n5\tventral\n", encoding="utf-8")
    assert read_label_names(table) == {0: "Unknown", 1: "early", 5: "ventral"}
    table.write_text("1 early\n1 late\n")
    with pytest.raises(DataError, match="line 2: the number 1 comes twice"):
        read_label_names(table)
    table.write_text("early 1\n")
    with pytest.raises(DataError, match="line 1"):
        read_label_names(table)
