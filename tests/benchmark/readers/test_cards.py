# SPDX-License-Identifier: Apache-2.0
"""Cards: valid, bounded, and the files that they promise."""

import hashlib
import re
from pathlib import Path

import pytest
import yaml

from voxelboard._resources import cards_folder
from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError
from voxelboard.benchmark.readers.card_files import verify_files
from voxelboard.benchmark.readers.card_sources import CardFile, FilePattern
from voxelboard.benchmark.readers.cards import MAX_CARD_BYTES, Card, card_schema, list_cards, load_card, read_card
from voxelboard.benchmark.readers.simulated import DEFAULT_PRESET, VERSION, open_simulated


def edited(tmp_path: Path, **changes: object) -> Path:
    """The simulated card with some keys changed."""
    value = yaml.safe_load((cards_folder() / "simulated-narrative.yaml").read_text())
    path = tmp_path / "simulated-narrative.yaml"
    path.write_text(yaml.safe_dump({**value, **changes}))
    return path


def card_of_files(folder: Path, contents: dict[str, bytes]) -> Card:
    """A card of files that are written to ``folder``."""
    files = []
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        files.append(CardFile(path=name, n_bytes=len(content), sha256=hashlib.sha256(content).hexdigest()))
    return load_card("alice2016").model_copy(update={"files": tuple(files)})


def test_the_committed_schema_is_the_generated_one():
    assert (cards_folder() / "schema.json").read_text(encoding="utf-8") == card_schema()


@pytest.mark.parametrize("name", list_cards())
def test_every_card_validates_and_names_its_schema(name):
    card = load_card(name)
    assert card.name == name
    first = (cards_folder() / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=./schema.json"


def test_the_three_cards_are_there():
    assert set(list_cards()) >= {"alice2016", "lebel2023-pcs", "simulated-narrative"}


def test_the_simulated_card_says_what_the_generator_makes():
    card, data = load_card("simulated-narrative"), open_simulated()
    assert card.options["preset"] == DEFAULT_PRESET
    assert card.version == VERSION
    assert card.subjects == data.subjects
    assert card.scored_rois == data.scored_rois
    assert set(card.roi_sets[0].labels) == set(data.rois)
    assert card.ceiling_kind == data.ceiling_kind
    ((train, test),) = data.split.folds
    assert (card.split.train, card.split.test) == (tuple(s.story for s in train), tuple(s.story for s in test))


def test_an_unknown_data_set_is_answered_with_the_nearest_name():
    with pytest.raises(UserError, match=r"unknown data set 'alice2061'.*alice2016.*Did you mean 'alice2016'\?"):
        load_card("alice2061")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licnce": "CC0"}, r"licnce: unknown key 'licnce'.*Did you mean 'licence'"),
        ({"licence": {"name": "CC0", "url": "https://x.org", "town": 1}}, r"licence\.town: unknown key 'town'"),
        ({"tr_s": -2.0}, r"tr_s: .*greater than 0, got '-2.0'"),
        ({"tr_s": "2.0"}, r"tr_s: .*valid number"),
        ({"tr_s": float("nan")}, "tr_s"),
        ({"tr_s": float("inf")}, "tr_s"),
        ({"kind": "real"}, "the source 'generated'"),
        ({"scored_rois": ["V1"]}, "scored_rois that no roi_set has: V1"),
        ({"subjects": ["sim01", "sim01"]}, "subjects are listed twice"),
        ({"subjects": []}, "subjects"),
        ({"n_voxels": {"nobody": 3}}, "n_voxels of unknown subjects: nobody"),
        ({"version": "1"}, "version"),
        ({"split": {"kind": "stories", "train": ["a", "b"], "test": ["b"]}}, "stories in train and in test: b"),
        ({"split": {"kind": "shuffled"}}, "split"),
        ({"name": "other-name"}, "call the file other-name.yaml"),
    ],
)
def test_a_wrong_card_is_refused_with_the_key(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        read_card(edited(tmp_path, **changes))


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a/../../b", "C:/x", "a\\b"])
def test_a_card_cannot_name_a_file_outside_its_folder(tmp_path, path):
    file = {"path": path, "n_bytes": 1, "sha256": "0" * 64}
    with pytest.raises(UserError, match="inside the data set's folder"):
        read_card(edited(tmp_path, files=[file]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2", "is not YAML"),
        ("a: &x [1]\nb: *x", "aliases are not allowed"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
        ("\xff", "is not"),
        ("just text", "is not a valid card"),
        ("date: 2020-01-01", "is not a valid card"),
        ("[" * 5000, "is not YAML"),
        ("a: " + "x" * MAX_CARD_BYTES, "larger than"),
    ],
)
def test_a_file_that_is_no_card_is_refused(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=message):
        read_card(path)


def test_verifying_reads_every_byte_once(tmp_path):
    card = card_of_files(tmp_path, {"a.bin": b"x" * 3_000_000, "sub/b.bin": b"y" * 10, "empty": b""})
    seen: list[tuple[str, int, int]] = []
    verify_files(card, tmp_path, lambda *step: seen.append(step))
    assert seen[-1] == ("sub/b.bin", 3_000_010, 3_000_010)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_a_truncated_file_is_named_with_both_sizes(tmp_path):
    card = card_of_files(tmp_path, {"a.npz": b"0123456789"})
    (tmp_path / "a.npz").write_bytes(b"01234")
    with pytest.raises(DataError, match=r"a\.npz has 5 bytes, the card says 10"):
        verify_files(card, tmp_path)


def test_a_changed_file_is_named_with_both_hashes(tmp_path):
    card = card_of_files(tmp_path, {"a.npz": b"0123456789"})
    (tmp_path / "a.npz").write_bytes(b"0123456780")
    expected, found = (hashlib.sha256(b).hexdigest() for b in (b"0123456789", b"0123456780"))
    with pytest.raises(DataError, match=re.escape(f"a.npz has SHA-256 {found}, the card says {expected}")):
        verify_files(card, tmp_path)


def test_files_whose_source_has_md5_sums_or_none_at_all(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.hf5").write_bytes(b"0123456789")
    files = (CardFile(path="a.hf5", n_bytes=10, md5=hashlib.md5(b"0123456789").hexdigest()),)
    patterns = (FilePattern(glob="sub/*.gii", what="surfaces"),)
    card = load_card("alice2016").model_copy(update={"files": files, "file_patterns": patterns})
    with pytest.raises(MissingPrerequisite, match=r"no file sub/\*\.gii \(surfaces\)"):
        verify_files(card, tmp_path)
    (tmp_path / "sub/x.gii").write_bytes(b"")
    verify_files(card, tmp_path)
    (tmp_path / "a.hf5").write_bytes(b"0123456780")
    with pytest.raises(DataError, match=r"a\.hf5 has MD5 \w{32}, the card says \w{32}"):
        verify_files(card, tmp_path)


@pytest.mark.parametrize("hashes", [{}, {"sha256": "0" * 64, "md5": "0" * 32}])
def test_a_file_has_one_hash(tmp_path, hashes):
    with pytest.raises(UserError, match="give one hash: sha256, or"):
        read_card(edited(tmp_path, files=[{"path": "a", "n_bytes": 1, **hashes}]))


def test_missing_files_and_folders_are_missing_prerequisites(tmp_path):
    card = card_of_files(tmp_path, {"a.npz": b"0123456789"})
    (tmp_path / "a.npz").unlink()
    with pytest.raises(MissingPrerequisite, match=r"a\.npz is missing") as caught:
        verify_files(card, tmp_path)
    assert caught.value.exit_code == 3
    with pytest.raises(MissingPrerequisite, match="there is no folder"):
        verify_files(card, tmp_path / "elsewhere")


@pytest.mark.parametrize(("name", "folder"), [("alice2016", "alice2016"), ("lebel2023-pcs", "lebel2023_pcs")])
def test_the_real_files_are_those_of_the_card(shared_data, name, folder):
    verify_files(load_card(name), shared_data / folder)
