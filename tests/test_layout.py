# SPDX-License-Identifier: Apache-2.0
"""Guards of the layout: whose ``datasets`` is imported, what a wheel holds, and what must say the same twice."""

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]
YAML_FOLDERS = ("datasets", "submissions", "results")
CODE_FOLDERS = {"benchmark", "leaderboard", "runners"}


def folder_of(package: str) -> Path:
    """The folder that the build takes for a package, by the longest prefix of the map."""
    parts = package.split(".")
    for length in range(len(parts), 0, -1):
        mapped = SETUPTOOLS["package-dir"].get(".".join(parts[:length]))
        if mapped is not None:
            return ROOT.joinpath(mapped, *parts[length:])
    raise AssertionError(f"{package} is not in package-dir")


@pytest.mark.parametrize("folder", YAML_FOLDERS)
def test_yaml_folders_hold_no_python(folder: str) -> None:
    assert [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".pyi", ".pyc")] == []


def environment() -> dict[str, str]:
    """As this process, but with our packages reachable in a checkout that is not installed."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / ".types"), os.environ.get("PYTHONPATH", "")])}


def test_datasets_is_the_library_in_every_situation(tmp_path: Path) -> None:
    find = "import importlib.util; print('FOUND', importlib.util.find_spec('datasets').origin)"
    module = tmp_path / "finder.py"
    module.write_text(find, encoding="utf-8")
    test = tmp_path / "test_finder.py"
    test.write_text(f"def test_it():\n    {find}\n", encoding="utf-8")
    with_module = {**environment(), "PYTHONPATH": f"{tmp_path}{os.pathsep}{environment()['PYTHONPATH']}"}
    alone = ["-c", os.devnull, "--rootdir", str(tmp_path), "-p", "no:cacheprovider", "-s", str(test)]
    for arguments in (
        ["-c", find],
        ["-m", "finder"],
        ["-m", "pytest", *alone],
        ["-m", "pytest", "--import-mode=importlib", *alone],
        ["-c", f"import pytest; pytest.main({alone})"],
    ):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=with_module,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        found = re.search(r"FOUND (\S+)", done.stdout)
        assert found is not None, done.stdout + done.stderr
        assert Path(found[1]).name == "__init__.py"
        assert ROOT / "datasets" not in Path(found[1]).parents


def test_the_package_list_is_what_lies_on_disk() -> None:
    on_disk = {"voxelboard"}
    for name in CODE_FOLDERS:
        for init in (ROOT / name).rglob("__init__.py"):
            on_disk.add(".".join(("voxelboard", *init.parent.relative_to(ROOT).parts)))
    assert set(SETUPTOOLS["packages"]) == on_disk | {"voxelboard.cards", "voxelboard.entries"}
    assert len(SETUPTOOLS["packages"]) == len(set(SETUPTOOLS["packages"]))
    stray = [
        path
        for name in CODE_FOLDERS
        for path in (ROOT / name).rglob("*.py")
        if not (path.parent / "__init__.py").exists()
    ]
    assert stray == [], "a folder without __init__.py would not be shipped"


def test_the_links_of_the_type_checkers_are_complete() -> None:
    links = {path.name: path.resolve() for path in (ROOT / ".types" / "voxelboard").iterdir()}
    mapped = {
        name.removeprefix("voxelboard."): (ROOT / folder).resolve()
        for name, folder in SETUPTOOLS["package-dir"].items()
        if name != "voxelboard"
    }
    umbrella = {
        path.name: path.resolve() for path in (ROOT / "src" / "voxelboard").iterdir() if path.name != "__pycache__"
    }
    links.pop("__pycache__", None)
    assert links == mapped | umbrella


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A source distribution of the tree, and the wheel that is built from it and not from the tree."""
    pytest.importorskip("setuptools")
    out = tmp_path_factory.mktemp("dist")
    source = tmp_path_factory.mktemp("source")
    ignored = {"__pycache__", ".git", ".tox", "build", "dist"}
    for name in ("pyproject.toml", "README.md", "LICENSE", "src", *CODE_FOLDERS, "datasets", "submissions"):
        copy(ROOT / name, source / name, ignored)
    build(source, "build_sdist", out)
    (sdist,) = out.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(out, filter="data")
    build(out / sdist.name.removesuffix(".tar.gz"), "build_wheel", out)
    (wheel,) = out.glob("*.whl")
    return sdist, wheel


def copy(source: Path, target: Path, ignored: set[str]) -> None:
    import shutil

    if source.is_dir():
        shutil.copytree(source, target, ignore=lambda folder, names: ignored & set(names))
    else:
        shutil.copy(source, target)


def build(source: Path, step: str, out: Path) -> None:
    code = f"from setuptools import build_meta; build_meta.{step}({str(out)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_holds_voxelboard_and_nothing_else(archives: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(archives[1]) as wheel:
        names = {PurePosixPath(name) for name in wheel.namelist()}
    tops = {name.parts[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"voxelboard"}

    expected = set()
    for package in SETUPTOOLS["packages"]:
        place = PurePosixPath(*package.split("."))
        folder = folder_of(package)
        patterns = ["*.py"] if package not in ("voxelboard.cards", "voxelboard.entries") else []
        for pattern in (*patterns, *SETUPTOOLS["package-data"].get(package, [])):
            expected |= {place / file.relative_to(folder).as_posix() for file in folder.glob(pattern) if file.is_file()}
    assert expected == {name for name in names if name.parts[0] == "voxelboard"}
    assert PurePosixPath("voxelboard/entries/openai-community__gpt2.yaml") in names
    assert PurePosixPath("voxelboard/cards/simulated-narrative.yaml") in names
    assert PurePosixPath("voxelboard/py.typed") in names


def test_an_unpacked_wheel_finds_its_yaml_far_from_the_checkout(archives: tuple[Path, Path], tmp_path: Path) -> None:
    with zipfile.ZipFile(archives[1]) as wheel:
        wheel.extractall(tmp_path / "site")
    code = (
        "from voxelboard.runners.cli import run_cli; import voxelboard; "
        "print(voxelboard.__file__); raise SystemExit(run_cli(['list', 'submissions', '--json']))"
    )
    clean = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=60, check=True
    )
    file, _, listing = done.stdout.partition("\n")
    assert Path(file).is_relative_to(tmp_path)
    assert len(json.loads(listing)) == len(list((ROOT / "submissions").glob("*.yaml")))


def requirement(text: str) -> tuple[str, str]:
    match = re.fullmatch(r"([A-Za-z0-9_.-]+)>=([0-9.]+)", text)
    assert match is not None, f"{text!r} is not of the form name>=version"
    return match[1].lower().replace("_", "-"), match[2]


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    return {package.lower().replace("_", "-"): version for package, version in found.items()}


def test_both_constraint_files_pin_every_direct_dependency() -> None:
    direct = dict(requirement(text) for text in PYPROJECT["project"]["dependencies"])
    extras = {
        name: version
        for texts in PYPROJECT["project"]["optional-dependencies"].values()
        for name, version in map(requirement, texts)
    }
    tested, lowest = pins("constraints.txt"), pins("constraints-lowest.txt")
    assert set(direct) | set(extras) <= set(tested)
    assert tested["torch"] == lowest["torch"] == "2.13.0"
    different = {
        name: (minimum, lowest.get(name))
        for name, minimum in direct.items()
        if not f"{lowest.get(name)}.0.0".startswith(f"{minimum}.")
    }
    assert different == {}, "the oldest versions that are tested are the ones that are promised"


def test_ci_runs_the_test_command_of_the_readme() -> None:
    commands = re.findall(r"^python3 -m venv .*$", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(commands) == 2
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert script[-1] == commands[1]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_every_python_file_names_its_licence() -> None:
    folders = [ROOT / name for name in (*CODE_FOLDERS, "src", "tests")]
    files = [path for folder in folders for path in folder.rglob("*.py")]
    spdx = "# SPDX-License-Identifier: Apache-2.0\n"
    assert [path for path in files if not path.read_text(encoding="utf-8").startswith(spdx)] == []


def test_versions_agree() -> None:
    import voxelboard

    assert f"\nversion: {voxelboard.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {voxelboard.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
