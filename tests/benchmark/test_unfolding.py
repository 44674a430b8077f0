# SPDX-License-Identifier: Apache-2.0
"""Bombs: a few kilobytes that claim to be terabytes are refused before memory is taken for them."""

import io
import resource
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from voxelboard.benchmark.errors import DataError, UserError
from voxelboard.benchmark.models.static import _lines
from voxelboard.benchmark.readers.arrays import read_hdf5, response_shape
from voxelboard.benchmark.readers.npz import open_npz, read_array
from voxelboard.benchmark.strict_yaml import read_yaml
from voxelboard.benchmark.unfolding import check_unfolding, read_npz
from voxelboard.runners.fetching.archives import unpack

TERA = 1 << 40


@pytest.fixture(autouse=True)
def little_memory():  # type: ignore[no-untyped-def]
    """A reader that falls for a bomb fails here instead of taking the machine down."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (6 << 30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_DATA, before)


def npy(shape: str, data: bytes = b"", dtype: str = "<f4") -> bytes:
    """An array file with a header of one's choice."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    padded = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded.encode() + data


def test_an_npz_of_zeros_that_unfolds(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    chunk = bytes(1 << 20)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("data.npy", "w", force_zip64=True) as member,
    ):
        member.write(npy(f"({300 << 18},)"))
        for _ in range(300):
            member.write(chunk)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DataError, match=r"bomb.npz would unfold from 3\d\d,\d+ to 314,\d+,\d+ bytes"), open_npz(path):
        pass


def test_a_header_that_claims_more_than_there_is(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.npy", npy(f"({TERA}, 4)", bytes(64)))
    with pytest.raises(DataError, match=r"the header claims 17,592,186,044,\d+ bytes, there are 192"), open_npz(path):
        pass


def test_an_honest_npz_is_read(tmp_path: Path) -> None:
    path = tmp_path / "fine.npz"
    np.savez_compressed(path, a=np.zeros((1000, 1000), dtype=np.float32), b=np.arange(3.0), c=np.array(["x", "yz"]))
    with open_npz(path) as archive:
        np.testing.assert_array_equal(read_array(archive, "b"), [0, 1, 2])
        assert read_array(archive, "a").shape == (1000, 1000)


def test_a_record_s_statistics_cannot_be_a_bomb(tmp_path: Path) -> None:
    import hashlib

    from fake_science import scored_cell

    from voxelboard.benchmark.records import read_statistics
    from voxelboard.benchmark.submission import load_submission
    from voxelboard.runners.plan import Job

    entry = load_submission("planted-q0.9")
    record, _ = scored_cell(Job(entry, "r", "narrative", "toy", ()), "s1")
    path = tmp_path / "s1.json"
    with zipfile.ZipFile(path.with_suffix(".npz"), "w") as archive:
        archive.writestr("rois.npy", npy(f"({TERA},)"))
    packed = path.with_suffix(".npz").read_bytes()
    record = record.model_copy(update={"statistics_sha256": hashlib.sha256(packed).hexdigest()})
    with pytest.raises(DataError, match="the header claims"):
        read_statistics(path, record)


def test_statistics_are_read_as_numpy_reads_them(tmp_path: Path) -> None:
    arrays = {
        "text": np.array(["AC", "pSTS"]),
        "none": np.zeros((0, 3)),
        "scalar": np.array(5),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "small": np.arange(7, dtype=np.float16),
        "bytes": np.array([b"x", b"yz"]),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "fine.npz", **arrays)
        packed = (tmp_path / "fine.npz").read_bytes()
        found = read_npz(packed, "fine.npz")
        with np.load(io.BytesIO(packed), allow_pickle=False) as archive:
            assert set(found) == set(archive.files)
            for name in found:
                np.testing.assert_array_equal(found[name], archive[name])
                assert found[name].dtype == archive[name].dtype
                assert found[name].flags.writeable
        assert set(read_npz(packed, "fine.npz", lambda name: name == "text")) == {"text"}


def test_damaged_and_pickled_members_are_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "fine.npz", a=np.random.default_rng(0).normal(size=500))
    packed = bytearray((tmp_path / "fine.npz").read_bytes())
    packed[len(packed) // 2] ^= 0xFF
    with pytest.raises(zipfile.BadZipFile):
        read_npz(bytes(packed), "x.npz")
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="holds Python objects"):
        read_npz((tmp_path / "objects.npz").read_bytes(), "objects.npz")
    with zipfile.ZipFile(tmp_path / "odd.npz", "w") as archive:
        archive.writestr("a.npy", b"no array at all")
    with pytest.raises(DataError, match="is no array"):
        read_npz((tmp_path / "odd.npz").read_bytes(), "odd.npz")


def test_an_hdf5_array_that_is_all_fill_value(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "bomb.hf5"
    with h5py.File(path, "w") as file:
        file.create_dataset("data", shape=(TERA, 2), dtype="f4", chunks=(1024, 2), fillvalue=1.0)
        file.create_dataset("fine", data=np.ones((20, 3), dtype="f4"), compression="gzip")
    assert path.stat().st_size < 1 << 16
    for read in (read_hdf5, response_shape):
        with pytest.raises(DataError, match=r"bomb.hf5, data would unfold from 0 to 8,796,\d+"):
            read(path, "data")
    assert read_hdf5(path, "fine").shape == (20, 3)


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_an_archive_that_unfolds(tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / f"bomb.{kind}", tmp_path / "out"
    target.mkdir()
    zeros = bytes(1 << 20)
    if kind == "zip":
        with (
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open("zeros", "w", force_zip64=True) as member,
        ):
            for _ in range(300):
                member.write(zeros)
    else:
        with tarfile.open(path, "w:gz") as packed:
            info = tarfile.TarInfo("zeros")
            info.size = 300 << 20

            class Zeros(io.RawIOBase):
                def read(self, size: int = -1) -> bytes:
                    return bytes(size)

            packed.addfile(info, Zeros())  # type: ignore[arg-type]
    with pytest.raises(DataError, match="would unfold from"):
        unpack(path, target)
    assert list(target.iterdir()) == []


def test_a_text_table_without_line_ends(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "vectors.txt.gz"
    with gzip.open(path, "wb") as file:
        for _ in range(8):
            file.write(b"1 " * (1 << 20))
    with pytest.raises(DataError, match="line 1 has more than 4 MiB"):
        list(_lines(path))


def test_deep_yaml_is_refused_without_recursion(tmp_path: Path) -> None:
    path = tmp_path / "deep.yaml"
    path.write_text("a: " + "[" * 20_000, encoding="utf-8")
    with pytest.raises(UserError, match="nested deeper than"):
        read_yaml(path)


def test_small_files_may_pack_well_and_large_ones_within_reason() -> None:
    check_unfolding("x", 200 << 20, 1)
    check_unfolding("x", 10 << 30, 30 << 20)
    with pytest.raises(DataError):
        check_unfolding("x", 10 << 30, 20 << 20)
