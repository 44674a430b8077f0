# SPDX-License-Identifier: Apache-2.0
"""The folder of pages is replaced whole or not at all."""

import os
from pathlib import Path

import pytest

from voxelboard.benchmark.errors import UserError
from voxelboard.leaderboard.site import MARKER, check_output, replace_site


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_new_site_leaves_nothing_of_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "site"
    replace_site(target, lambda site: (site / "old.html").touch())
    replace_site(target, lambda site: (site / "new.html").touch())
    assert names(target) == {"new.html", MARKER}
    assert names(target.parent) == {"site"}


def test_a_failing_build_leaves_the_old_site(tmp_path: Path) -> None:
    target = tmp_path / "site"
    replace_site(target, lambda site: (site / "old.html").touch())

    def fail(site: Path) -> None:
        (site / "half.html").touch()
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        replace_site(target, fail)
    assert names(target) == {"old.html", MARKER}
    assert names(tmp_path) == {"site"}


def test_a_failing_swap_puts_the_old_site_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "site"
    replace_site(target, lambda site: (site / "old.html").touch())
    rename = os.replace

    def fail(source: Path, destination: Path) -> None:
        if source.name == "new":
            raise OSError(28, "No space left on device")
        rename(source, destination)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UserError, match="No space left on device") as error:
        replace_site(target, lambda site: (site / "new.html").touch())
    assert error.value.exit_code == 3
    assert names(target) == {"old.html", MARKER}
    assert names(tmp_path) == {"site"}


def test_folders_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    results, home = tmp_path / "results", tmp_path / "home"
    results.mkdir()
    home.mkdir()
    (home / "thesis.tex").touch()
    with pytest.raises(UserError, match="not an earlier render"):
        check_output(home, results)
    with pytest.raises(UserError, match="is a file"):
        check_output(home / "thesis.tex", results)
    for target in (results, results / "site", tmp_path):
        with pytest.raises(UserError, match="separate folders"):
            check_output(target, results)
    check_output(tmp_path / "new", results)
