# SPDX-License-Identifier: Apache-2.0
"""``check``: what passes, what does not, and what ``--fix`` writes back."""

import json
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from voxelboard.benchmark.errors import MissingPrerequisite
from voxelboard.benchmark.submission import load_submission
from voxelboard.runners.checking import fix_revisions
from voxelboard.runners.cli import run_cli

ROOT = Path(__file__).resolve().parents[2]
COMMITS = {("openai-community/gpt2", "main"): "a" * 40, ("org/tok", "v1"): "b" * 40}
TEXT = """\
# a comment that stays
schema_version: 1
model:
  source: hf
  id: openai-community/gpt2   # the small one
  {revision}
  loader: causal
  dtype: float32
metadata: {{display_name: "GPT-2"}}
submitter: {{name: x, relation: third-party}}
"""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that knows two repositories."""
    import huggingface_hub
    from huggingface_hub.errors import RevisionNotFoundError

    # The hub's client moved from httpx to httpx2; its errors want a response of the one that it uses.
    http = import_module("httpx2" if find_spec("httpx2") else "httpx")

    def model_info(self: object, repo_id: str, *, revision: str, timeout: float) -> SimpleNamespace:
        if (repo_id, revision) not in COMMITS:
            request = http.Request("GET", "https://hub.invalid")
            raise RevisionNotFoundError("404", response=http.Response(404, request=request))
        return SimpleNamespace(sha=COMMITS[repo_id, revision])

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)


@pytest.mark.parametrize(
    ("line", "fixed"),
    [
        ("revision: main", "revision: " + "a" * 40),
        ("revision: 'main'  # moves", "revision: " + "a" * 40 + "  # moves"),
        ("revision:   main   ", "revision: " + "a" * 40 + "   "),
    ],
)
def test_fix_replaces_the_revision_and_nothing_else(tmp_path: Path, hub: None, line: str, fixed: str) -> None:
    path = tmp_path / "org__m.yaml"
    path.write_text(TEXT.format(revision=line), encoding="utf-8")
    assert fix_revisions(path) == [("model.revision", "main", "a" * 40)]
    assert path.read_text(encoding="utf-8") == TEXT.format(revision=fixed)
    assert load_submission(path).model.revision == "a" * 40
    assert fix_revisions(path) == [], "a pinned file is left alone"


def test_fix_adds_a_missing_revision_below_the_id_and_pins_the_tokenizer(tmp_path: Path, hub: None) -> None:
    path = tmp_path / "org__m.yaml"
    path.write_text(TEXT.format(revision="tokenizer: {id: org/tok, revision: v1}"), encoding="utf-8")
    assert fix_revisions(path) == [
        ("model.revision", "main", "a" * 40),
        ("model.tokenizer.revision", "v1", "b" * 40),
    ]
    fixed = f"revision: {'a' * 40}\n  tokenizer: {{id: org/tok, revision: {'b' * 40}}}"
    assert path.read_text(encoding="utf-8") == TEXT.format(revision=fixed)


def test_fix_of_an_unknown_branch_leaves_the_file(tmp_path: Path, hub: None) -> None:
    path = tmp_path / "org__m.yaml"
    path.write_text(TEXT.format(revision="revision: dev"), encoding="utf-8")
    with pytest.raises(MissingPrerequisite, match="does not know openai-community/gpt2 at 'dev'"):
        fix_revisions(path)
    assert path.read_text(encoding="utf-8") == TEXT.format(revision="revision: dev")


def test_check_tells_each_file_and_exits_with_the_worst(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "org__bad.yaml"
    bad.write_text(TEXT.format(revision="revision: main"), encoding="utf-8")
    good = ROOT / "submissions" / "voxelboard__planted-q0.9.yaml"
    assert run_cli(["check", "--quick", str(bad), str(good)]) == 2
    out, err = capsys.readouterr()
    assert out == f"{good}: ok (schema)\n"
    assert f"{bad}:6: model.revision: got 'main'" in err

    assert run_cli(["check", "--quick", "--json", str(bad), str(good)]) == 2
    report = json.loads(capsys.readouterr().out)
    assert [(entry["ok"], entry["passed"]) for entry in report] == [(False, []), (True, ["schema"])]


def test_check_runs_the_smallest_simulated_task(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The real science, on three tiny subjects: the model with planted truth has a score and nothing is stored."""
    text = (ROOT / "submissions" / "voxelboard__planted-q0.9.yaml").read_text(encoding="utf-8")
    small = here / "org__small.yaml"
    small.write_text(text.replace("planted-q0.9-d48-l4-s1", "planted-q0.9-d16-l2-s1"), encoding="utf-8")
    assert run_cli(["check", str(small)]) == 0
    out = capsys.readouterr().out
    assert "schema; revision " in out
    assert "on 2 layers" in out
    score = float(out.partition("unique ")[2].split()[0])
    assert score > 0.05
    assert not (here / "results").exists()
