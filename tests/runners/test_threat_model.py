# SPDX-License-Identifier: Apache-2.0
"""Each row of the tables of docs/security.md names tests, and they exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def rows() -> Iterator[tuple[str, str]]:
    """(threat, tests) of each row: first and last column of the tables that end with one called ``test``."""
    inside = False
    for line in PAGE.splitlines():
        columns = [part.strip() for part in line.strip("|").split("|")] if line.startswith("|") else []
        if not columns:
            inside = False
        elif columns[-1] == "test":
            inside = True
        elif inside and set(line) - set("|- "):
            yield columns[0], columns[-1]


def functions(file: str) -> dict[str, str]:
    """Name of each test function in the one file of that name -> its source, decorators among it."""
    (path,) = (ROOT / "tests").rglob(file)
    source = path.read_text(encoding="utf-8")
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            pieces = [ast.get_source_segment(source, part) or "" for part in (*node.decorator_list, node)]
            found[node.name] = "\n".join(pieces)
    return found


@pytest.mark.parametrize(("threat", "cell"), list(rows()), ids=[threat.replace(" ", "-")[:40] for threat, _ in rows()])
def test_a_threat_names_tests_that_exist(threat: str, cell: str) -> None:
    named = re.findall(r"`([^`]+)`", cell)
    assert named, f"no test for: {threat}"
    file = ""
    for name in named:
        place, separator, function = name.rpartition("::")
        file = place if separator else file
        assert file, f"{name}: say in which file"
        function, _, case = function.partition("[")
        known = functions(file)
        assert function in known, f"{file} has no {function}"
        assert case.rstrip("]…") in known[function], f"{function} has no case {case}"


def test_both_tables_are_read() -> None:
    threats = [threat for threat, _ in rows()]
    assert len(threats) >= 16
    assert "sends data away, fetches code" in threats
    assert "pickled weights run code" in threats
