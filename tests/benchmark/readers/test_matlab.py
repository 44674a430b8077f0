# SPDX-License-Identifier: Apache-2.0
"""MATLAB files: the same variables from a version 5 and a version 7.3 file, and damage told."""

import h5py
import numpy as np
import pytest
import scipy.io

from voxelboard.benchmark.errors import DataError, MissingPrerequisite
from voxelboard.benchmark.readers.matlab import is_hdf5, read_matlab

MATRIX = np.arange(12.0).reshape(3, 4)  # as MATLAB shows it: 3 rows, 4 columns
SENTENCES = ["Bees make honey.", "Übung macht den Meister."]


def write_v5(path):
    scipy.io.savemat(
        path,
        {
            "examples": MATRIX,
            "keys": np.array(SENTENCES, dtype=object)[:, None],
            "title": "words",
            "meta": {"dimx": 88, "rois": np.array(["LH", "RH"], dtype=object)},
        },
    )


def write_v73(path):
    """As MATLAB does: a 512-byte header, axes reversed, text as code points, cells as references."""
    with h5py.File(path, "w", userblock_size=512) as file:

        def put(name, values, kind):
            item = file.create_dataset(name, data=values)
            item.attrs["MATLAB_class"] = np.bytes_(kind)
            return item

        put("examples", MATRIX.T, "double")
        put("title", np.array([[ord(c)] for c in "words"], dtype=np.uint16), "char")
        put("flags", np.array([[1, 0, 1]], dtype=np.uint8).T, "logical")
        references = np.empty((1, 2), dtype=h5py.ref_dtype)
        for k, sentence in enumerate(SENTENCES):
            codes = np.array([[ord(c)] for c in sentence], dtype=np.uint16)
            references[0, k] = put(f"#refs#/{k}", codes, "char").ref
        put("keys", references, "cell")
        empty = put("nothing", np.zeros(2, dtype=np.uint64), "double")
        empty.attrs["MATLAB_empty"] = np.uint8(1)
        file.create_group("meta").attrs["MATLAB_class"] = np.bytes_("struct")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116))


@pytest.mark.parametrize("write", [write_v5, write_v73])
def test_both_versions_give_the_same_variables(tmp_path, write):
    path = tmp_path / "data.mat"
    write(path)
    assert is_hdf5(path) == (write is write_v73)
    found = read_matlab(path, "examples", "keys", "title")
    np.testing.assert_array_equal(found["examples"], MATRIX)
    assert [str(text) for text in found["keys"]] == SENTENCES
    assert str(found["title"]) == "words"
    with pytest.raises(DataError, match="no variable sentences, it holds "):
        read_matlab(path, "sentences")


def test_logicals_empties_and_structs(tmp_path):
    path = tmp_path / "data.mat"
    write_v73(path)
    found = read_matlab(path, "flags", "nothing")
    assert found["flags"].tolist() == [True, False, True]
    assert found["flags"].dtype == np.bool_
    assert found["nothing"].size == 0
    with pytest.raises(DataError, match="'meta' is a struct"):
        read_matlab(path)
    write_v5(path)
    assert read_matlab(path, "meta")["meta"].dimx == 88


@pytest.mark.parametrize("write", [write_v5, write_v73])
def test_damage_is_told(tmp_path, write):
    path = tmp_path / "data.mat"
    write(path)
    path.write_bytes(path.read_bytes()[:180])
    with pytest.raises(DataError, match=r"data\.mat"):
        read_matlab(path, "examples")
    path.write_text("no MATLAB file at all, but long enough to look like one" * 20)
    with pytest.raises(DataError, match=r"data\.mat"):
        read_matlab(path, "examples")
    with pytest.raises(MissingPrerequisite):
        read_matlab(tmp_path / "none.mat")
