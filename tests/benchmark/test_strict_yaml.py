# SPDX-License-Identifier: Apache-2.0
"""The YAML reader: what a stranger may write, and on which line it is wrong."""

from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict

from voxelboard.benchmark import strict_yaml
from voxelboard.benchmark.errors import MissingPrerequisite, UserError
from voxelboard.benchmark.strict_yaml import read_yaml, validate


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    colour: Literal["red", "green"] = "red"
    sizes: tuple[int, ...] = ()


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    inner: Inner | None = None
    by_task: dict[str, Literal["yes", "no"]] = {}


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "file.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-1.5e3", -1500.0),
        ("1e5", 1e5),
        ("2019-02-14", "2019-02-14"),
        ("12:30", "12:30"),
        ("0x1f", "0x1f"),
        ("'12'", "12"),
        ("1234567890123456789012345678901234567890", "1234567890123456789012345678901234567890"),
        ("1234e56789012345678901234567890123456789", "1234e56789012345678901234567890123456789"),
        ("[a, 1]", ["a", 1]),
    ],
)
def test_scalars_follow_yaml_1_2_and_hashes_stay_text(tmp_path: Path, text: str, value: object) -> None:
    got = read_yaml(write(tmp_path, f"key: {text}\n")).values["key"]
    assert got == value
    assert type(got) is type(value)


def test_every_fault_is_told_with_its_line(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "nmae: x\ninner:\n  colour: gren\n  sizes:\n    - 1\n    - two\n  weight: 3\nby_task:\n  narrative: maybe\n",
    )
    with pytest.raises(UserError) as caught:
        validate(read_yaml(path), Outer)
    assert caught.value.exit_code == 2
    assert caught.value.message.splitlines() == [
        f"{path}:1: name is missing",
        f"{path}:1: unknown key nmae; allowed: name, inner, by_task. Did you mean 'name'?",
        f"{path}:3: inner.colour: got 'gren'; allowed: red, green. Did you mean 'green'?",
        f"{path}:6: inner.sizes.1: got 'two'; input should be a valid integer, unable to parse string as an integer",
        f"{path}:7: unknown key inner.weight; allowed: colour, sizes.",
        f"{path}:9: by_task.narrative: got 'maybe'; allowed: yes, no.",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", r"file\.yaml:3: key 'a' stands twice, first on line 1"),
        ("a:\n  b: 1\n  b: 2\n", r":3: key 'b' stands twice"),
        ("a: [1\nb: 2\n", r":2: not valid YAML"),
        ("a: \tb: c\n", r":1: not valid YAML"),
        ("- 1\n- 2\n", r":1: expected a mapping"),
        ("", r":1: expected a mapping"),
        (b"a: \xff\n", "not UTF-8"),
        ("a: !!python/object/apply:os.system [echo]\n", r":1: tag .*python/object.* is not allowed"),
        ("a: !!binary aGk=\n", "is not allowed"),
        ("a: !mine 1\n", "is not allowed"),
        ("1: a\n? [x]\n: b\n", r":2: a key must be plain text"),
        ("base: &b {x: 1}\nother:\n  <<: *b\n", r":3: a key must be plain text"),
        ("a: " + "[" * 50 + "]" * 50, "nested deeper than"),
        ("a: " + "[" * 30_000, "nested deeper than"),
        ("a: [" + "1," * 5000 + "]", "more entries than"),
        ("a: &a [1]\nb: [" + "*a," * 40 + "]", "more aliases than"),
        ("a: " + "x" * 70_000, "larger than 64 KiB"),
        ("a: *nothing\n", "not valid YAML"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_yaml(write(tmp_path, text))


def test_aliases_that_unfold_are_stopped_before_they_are_built(tmp_path: Path) -> None:
    # Nine levels of ten entries would be 10^9 values; each level has one alias less than the bound.
    levels = ["l0: &l0 [" + ",".join("1" * 12) + "]"]
    levels += [f"l{i}: &l{i} [" + ",".join([f"*l{i - 1}"] * 4) + "]" for i in range(1, 5)]
    with pytest.raises(UserError, match="aliases grow"):
        read_yaml(write(tmp_path, "\n".join([*levels, "l5: [" + ",".join(["1"] * 3000) + "]"])))


def test_an_alias_of_itself_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="aliases grow"):
        read_yaml(write(tmp_path, "a: &a [*a]\n"))


def test_a_missing_file_is_a_missing_prerequisite(tmp_path: Path) -> None:
    with pytest.raises(MissingPrerequisite, match="no file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="cannot read"):
        read_yaml(tmp_path)


def test_the_bounds_leave_room_for_what_is_shipped() -> None:
    root = Path(__file__).resolve().parents[2]
    for path in (root / "submissions").glob("*.yaml"):
        assert path.stat().st_size * 4 < strict_yaml.MAX_BYTES
        read_yaml(path)
