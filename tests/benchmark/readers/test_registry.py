# SPDX-License-Identifier: Apache-2.0
"""Where data sets live: added once, verified, found again."""

import os
import shutil

import pytest

from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError
from voxelboard.benchmark.readers import registry
from voxelboard.benchmark.readers.cards import list_cards, load_card
from voxelboard.benchmark.readers.registry import (
    READERS,
    add_dataset,
    available_datasets,
    dataset_path,
    open_dataset,
    registered_datasets,
    remove_dataset,
    voxelboard_home,
)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    folder = tmp_path / "home"
    monkeypatch.setenv("VOXELBOARD_HOME", str(folder))
    return folder


def test_the_home_is_a_hidden_folder_unless_it_is_given(monkeypatch, home):
    assert voxelboard_home() == home
    monkeypatch.delenv("VOXELBOARD_HOME")
    assert voxelboard_home().name == ".voxelboard"


def test_every_card_has_a_reader():
    assert {load_card(name).reader for name in list_cards()} <= set(READERS)


def test_adding_remembers_and_removing_forgets(tmp_path, home):
    folder = tmp_path / "alice"
    folder.mkdir()
    assert registered_datasets() == {}
    card = add_dataset("alice2016", folder, verify=False)
    assert card.licence.name == "CC-BY-4.0"
    assert dataset_path("alice2016") == folder
    assert "alice2016" in available_datasets()
    assert [path.name for path in home.iterdir()] == ["data.json"]  # nothing temporary is left
    remove_dataset("alice2016")
    assert "alice2016" not in available_datasets()
    assert all(name.startswith("simulated-") for name in available_datasets())
    assert folder.is_dir()
    with pytest.raises(UserError, match="unknown registered data set"):
        remove_dataset("alice2016")


def test_a_data_set_that_was_not_added_says_what_to_type():
    with pytest.raises(MissingPrerequisite) as caught:
        open_dataset("lebel2023-pcs")
    assert caught.value.exit_code == 3
    assert "voxelboard data add lebel2023-pcs --from PATH" in caught.value.hint


def test_a_folder_that_went_away_says_so(tmp_path):
    folder = tmp_path / "alice"
    folder.mkdir()
    add_dataset("alice2016", folder, verify=False)
    folder.rmdir()
    with pytest.raises(MissingPrerequisite, match="which is gone"):
        dataset_path("alice2016")
    assert "alice2016" not in available_datasets()


def test_files_that_do_not_verify_are_not_registered(tmp_path):
    with pytest.raises(MissingPrerequisite, match="is missing"):
        add_dataset("alice2016", tmp_path)
    with pytest.raises(MissingPrerequisite, match="there is no folder"):
        add_dataset("alice2016", tmp_path / "nowhere", verify=False)
    assert registered_datasets() == {}


def test_a_truncated_npz_is_refused_when_it_is_added(tmp_path, shared_data):
    folder = tmp_path / "lebel"
    shutil.copytree(shared_data / "lebel2023_pcs", folder, copy_function=shutil.copyfile)
    path = folder / "uts02_pcs200_float16.npz"
    os.truncate(path, path.stat().st_size - 1000)
    with pytest.raises(DataError, match=r"uts02_pcs200_float16\.npz has \d+ bytes, the card says 12858111"):
        add_dataset("lebel2023-pcs", folder)
    assert registered_datasets() == {}


def test_unknown_and_generated_data_sets_cannot_be_added(tmp_path):
    with pytest.raises(UserError, match="Did you mean 'alice2016'"):
        add_dataset("alice2015", tmp_path)
    with pytest.raises(UserError, match="is generated"):
        add_dataset("simulated-narrative", tmp_path)


def test_a_crash_while_writing_keeps_the_old_registry(tmp_path, home, monkeypatch):
    add_dataset("alice2016", tmp_path, verify=False)
    before = (home / "data.json").read_bytes()

    def crash(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(registry.os, "replace", crash)
    with pytest.raises(OSError, match="No space left"):
        add_dataset("lebel2023-pcs", tmp_path, verify=False)
    assert (home / "data.json").read_bytes() == before
    assert len(list(home.iterdir())) == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"alice2016": 3}'])
def test_a_damaged_registry_is_reported(home, text):
    home.mkdir()
    (home / "data.json").write_text(text)
    with pytest.raises(UserError, match=r"data\.json"):
        registered_datasets()


def test_presets_and_seeds_of_the_simulated_data_set():
    tiny = open_dataset("simulated-narrative:tiny")
    assert (tiny.name, tiny.kind, len(tiny.subjects)) == ("simulated-narrative:tiny", "simulated", 3)
    other = open_dataset("simulated-narrative:tiny:7")
    assert other.name == "simulated-narrative:tiny:7"
    assert other.stories["test01"].text != tiny.stories["test01"].text
    assert open_dataset("simulated-narrative").name == "simulated-narrative"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("simulated-narrative:tini", "Did you mean 'tiny'"),
        ("simulated-narrative:tiny:x", "'x' is not a seed"),
        ("alice2016:6mm", "has no variants"),
        ("simulated-narative", "Did you mean 'simulated-narrative'"),
        ("../alice2016", "unknown data set"),
    ],
)
def test_names_that_cannot_be_opened(name, message):
    with pytest.raises(UserError, match=message):
        open_dataset(name)
