# SPDX-License-Identifier: Apache-2.0
"""Reading parts of large files: against the whole array, in every layout that the formats allow."""

import h5py
import nibabel
import numpy as np
import pytest

from voxelboard.benchmark.errors import DataError, MissingPrerequisite
from voxelboard.benchmark.readers import arrays
from voxelboard.benchmark.readers.arrays import read_hdf5_columns, read_responses, rows_at_once

BETAS = np.random.default_rng(1).integers(-3000, 3000, (23, 4, 3, 5)).astype(np.int16)  # (trials, z, y, x)


@pytest.fixture
def betas(tmp_path):
    path = tmp_path / "betas.hdf5"
    with h5py.File(path, "w") as file:
        file.create_dataset("betas", data=BETAS, chunks=(2, 4, 3, 5), compression="gzip")
        file.create_dataset("names", data=np.array([b"a"]))
    return path


@pytest.mark.parametrize("block_bytes", [1, 400, 1 << 20])
@pytest.mark.parametrize("rows", [None, slice(5, 14), slice(-3, None), slice(7, 7)])
def test_voxels_of_a_mask_are_those_of_the_whole_array(betas, monkeypatch, block_bytes, rows):
    monkeypatch.setattr(arrays, "BLOCK_BYTES", block_bytes)
    mask = np.random.default_rng(2).random((4, 3, 5)) < 0.3
    found = read_hdf5_columns(betas, "betas", mask, rows)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, BETAS[rows or slice(None)][:, mask])


def test_voxels_of_indices_come_in_their_order(betas):
    wanted = np.array([59, 0, 17])
    np.testing.assert_array_equal(read_hdf5_columns(betas, "betas", wanted), BETAS.reshape(23, -1)[:, wanted])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (np.ones((5, 3, 4), dtype=bool), r"a mask of shape \(5, 3, 4\) for rows of shape \(4, 3, 5\)"),
        (np.array([60]), "voxels 60 to 60 of 60"),
        (np.array([-1]), "voxels -1 to -1 of 60"),
    ],
)
def test_voxels_that_are_not_there_are_refused(betas, columns, message):
    with pytest.raises(DataError, match=message):
        read_hdf5_columns(betas, "betas", columns)


def test_what_is_no_number_or_not_there_is_refused(betas, tmp_path):
    with pytest.raises(DataError, match="no array 'beta', it holds betas, names"):
        read_hdf5_columns(betas, "beta", np.array([0]))
    with pytest.raises(DataError, match="expected real numbers"):
        read_hdf5_columns(betas, "names", np.array([0]))
    with pytest.raises(MissingPrerequisite):
        read_hdf5_columns(tmp_path / "none.hdf5", "betas", np.array([0]))
    betas.write_bytes(betas.read_bytes()[:300])
    with pytest.raises(DataError, match="truncated or damaged"):
        read_hdf5_columns(betas, "betas", np.array([0]))


def test_a_stretch_is_whole_chunks_and_never_nothing():
    assert rows_at_once((1000, 10), 8, 7) % 7 == 0
    assert rows_at_once((1000, arrays.BLOCK_BYTES), 8) == 1


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("block_bytes", [1, 1 << 20])
def test_a_scaled_volume_is_read_in_stretches(tmp_path, monkeypatch, suffix, block_bytes):
    monkeypatch.setattr(arrays, "BLOCK_BYTES", block_bytes)
    values = np.random.default_rng(3).integers(-500, 500, (3, 4, 5, 9)).astype(np.int16)
    image = nibabel.Nifti1Image(values, np.eye(4))
    image.header.set_slope_inter(0.5, 10)
    path = tmp_path / f"bold{suffix}"
    nibabel.save(image, path)
    mask = np.random.default_rng(4).random((3, 4, 5)) < 0.4
    stored = np.asarray(nibabel.load(path).dataobj)
    np.testing.assert_allclose(read_responses(path, mask=mask), stored[mask].T, rtol=1e-6)
    with pytest.raises(DataError, match=r"expected .* of the mask and time"):
        read_responses(path, mask=mask.T)
