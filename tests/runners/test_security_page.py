# SPDX-License-Identifier: Apache-2.0
"""Each row of the threat model names its tests: all of them must exist, and hold a test."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "security.md"
_CODE = re.compile(r"`([^`]*)`")


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


TESTS = {path: names_in(path) for path in sorted((ROOT / "tests").rglob("test_*.py"))}


def rows() -> list[tuple[str, str]]:
    """(threat, cell of tests) of every table whose last column is headed ``test``."""
    found, in_table = [], False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            in_table = False
        elif cells[-1] == "test":
            in_table = True
        elif in_table and not set(cells[-1]) <= set("-: "):
            found.append((cells[0], cells[-1]))
    return found


def missing(named: str) -> bool:
    """Whether ``file.py``, ``path/file.py``, ``file.py::test`` or ``test`` (with a parameter) is nowhere below tests/."""
    file, _, test = named.rpartition("::") if "::" in named or not named.endswith(".py") else (named, "", "")
    test = test.partition("[")[0]
    files = [path for path in TESTS if not file or path.as_posix().endswith(f"/{file}")]
    return not any(test in TESTS[path] if test else TESTS[path] for path in files)


@pytest.mark.parametrize(("threat", "tests"), rows(), ids=[str(number) for number in range(len(rows()))])
def test_every_threat_has_tests_that_exist(threat: str, tests: str) -> None:
    named = _CODE.findall(tests)
    assert named, f"{threat}: no test is named"
    assert [name for name in named if missing(name)] == [], threat


def test_the_rows_are_found_and_a_name_that_is_nowhere_is_missed() -> None:
    assert len(rows()) >= 15
    assert missing("test_that_is_nowhere")
    assert missing("test_fences.py::test_a_timeout")
    assert missing("tests/runners/test_nothing.py")
    assert not missing("test_fences.py::test_a_model_has_no_network")
    assert not missing("test_a_model_has_no_network[x]")
