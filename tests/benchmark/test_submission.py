# SPDX-License-Identifier: Apache-2.0
"""Submissions: what is accepted, what is refused and how that is said."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from voxelboard.benchmark.errors import MissingPrerequisite, UserError
from voxelboard.benchmark.models.simulated import planted_model
from voxelboard.benchmark.revision import resolved_revision
from voxelboard.benchmark.submission import (
    baseline_submissions,
    list_submissions,
    load_submission,
    model_spec,
    submission_files,
    submission_schema,
)

ROOT = Path(__file__).resolve().parents[2]
SHA = "607a30d783dfa663caf39e06633721c8d4cfcd7e"
GOOD = f"""\
schema_version: 1
model:
  source: hf
  id: openai-community/gpt2
  revision: {SHA}
  loader: causal
  dtype: float32
metadata:
  display_name: GPT-2
submitter:
  name: somebody
  relation: third-party
"""


def write(folder: Path, text: str, name: str = "org__model.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_defaults_of_a_minimal_submission(tmp_path: Path) -> None:
    entry = load_submission(write(tmp_path, GOOD))
    assert entry.name == "org/model"
    assert (entry.track, entry.tasks, entry.weights, entry.seed) == ("fixed", ("narrative",), "pretrained", 0)
    assert entry.visibility == "public"
    spec = model_spec(entry)
    assert (spec.source, spec.id, spec.revision, spec.loader) == ("hf", "openai-community/gpt2", SHA, "causal")
    assert (spec.trust_remote_code, spec.tokenizer_id) == (False, "")
    assert resolved_revision(entry) == SHA


@pytest.mark.parametrize("revision", ["main", "v1.0", SHA[:12], SHA.upper(), SHA + "0", "refs/pr/1"])
def test_whatever_moves_is_refused_as_revision(tmp_path: Path, revision: str) -> None:
    path = write(tmp_path, GOOD.replace(SHA, revision))
    with pytest.raises(UserError, match=rf"{path.name}:5: model\.revision: got '{re.escape(revision)}'.*check --fix"):
        load_submission(path)


def test_a_commit_of_digits_only_is_a_commit(tmp_path: Path) -> None:
    digits = "1234567890" * 4
    assert load_submission(write(tmp_path, GOOD.replace(SHA, digits))).model.revision == digits


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  revision: ", "  revison: ", r":5: unknown key model\.revison; .*Did you mean 'revision'"),
        ("loader: causal", "loader: casual", r":6: model\.loader: got 'casual'; allowed: causal, .*mean 'causal'"),
        ("source: hf", "source: baseline", "baseline"),
        ("dtype: float32", "dtype: int8", r":7: model\.dtype: got 'int8'; allowed: float32, bfloat16, float16\."),
        ("  dtype: float32\n", "", r":2: model\.dtype is missing"),
        ("  dtype: float32", "  dtype: float32\n  path: /tmp", r":2: model: source hf has no path"),
        ("  id: openai-community/gpt2\n", "", r":2: model: source hf needs id"),
        ("id: openai-community/gpt2", "id: ../../etc", r":4: model\.id: got '../../etc'"),
        (f"  revision: {SHA}\n", "", r"source hf needs revision"),
        ("  dtype: float32", "  dtype: float32\n  trust_remote_code: true", "needs remote_code_sha256"),
        ("  dtype: float32", "  dtype: float32\n  subfolder: ../x", r":8: model\.subfolder: .*cannot leave"),
        ("  dtype: float32", "  dtype: float32\n  tokenizer: {id: a/b, revision: main}", r":8: model\.tokenizer\.rev"),
        ("schema_version: 1", "schema_version: 2", r":1: schema_version: got 2; allowed: 1"),
        ("schema_version: 1", "schema_version: 1\nseed: -1", r":2: seed: got -1"),
        ("schema_version: 1", "schema_version: 1\ntasks: []", r":2: tasks"),
        ("schema_version: 1", "schema_version: 1\ntasks: [naratives]", r":2: tasks\.0: .*mean 'narrative'"),
        ("schema_version: 1", "schema_version: 1\nvisibility: embargo:soon", r":2: visibility: allowed: public"),
        ("schema_version: 1", "schema_version: 1\nvisibility: '2030-01-01'", r":2: visibility: allowed: public"),
        ("schema_version: 1", "schema_version: 1\ntrack: open", "track open and the section `committed`"),
        ("schema_version: 1", "schema_version: 1\nname: just-a-name", r":2: name"),
        ("  display_name: GPT-2", "  display_name: GPT-2\n  n_parameters: many", r":10: metadata\.n_parameters: got"),
        ("relation: third-party", "relation: friend", r":12: submitter\.relation: got 'friend'"),
    ],
)
def test_faults_are_told_with_file_line_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(UserError, match=message) as caught:
        load_submission(write(tmp_path, GOOD.replace(old, new, 1)))
    assert caught.value.exit_code == 2
    assert "org__model.yaml" in caught.value.message


def test_an_embargo_and_an_open_track_entry_are_accepted(tmp_path: Path) -> None:
    text = GOOD + "visibility: embargo:2030-01-01\ntrack: open\ncommitted: {layer: 6}\n"
    entry = load_submission(write(tmp_path, text))
    assert entry.visibility == "embargo:2030-01-01"
    assert entry.committed is not None
    assert entry.committed.layer == 6


def test_the_committed_schema_is_the_generated_one() -> None:
    committed = json.loads((ROOT / "submissions" / "schema.json").read_text(encoding="utf-8"))
    assert committed == submission_schema()
    fields = committed["$defs"]["ModelEntry"]["properties"]
    assert "branch or tag moves" in fields["revision"]["description"]
    assert "baseline" not in json.dumps(fields), "the harness' own rows are not for files"


def test_all_shipped_submissions_load_and_name_the_schema() -> None:
    entries = list_submissions()
    assert len({entry.name for entry in entries}) == len(entries) >= 8
    for path in submission_files():
        assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=schema.json\n")


def test_the_demo_models_can_be_built_and_their_width_does_not_follow_their_quality() -> None:
    planted = [entry for entry in list_submissions() if entry.model.source == "simulated"]
    quality, widths = [], []
    for entry in planted:
        model = planted_model(entry.model.id or "")
        assert entry.label == f"voxelboard/planted-q{model.fidelity['sem']:g}"
        quality.append(model.fidelity["sem"])
        widths.append(model.n_features)
    assert sorted(quality) == [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    order = [width for _, width in sorted(zip(quality, widths, strict=True))]
    assert order not in (sorted(order), sorted(order, reverse=True))


@pytest.mark.parametrize("name", ["openai-community/gpt2", "openai-community__gpt2", "gpt2"])
def test_a_shipped_submission_is_found_by_name(name: str) -> None:
    assert load_submission(name).model.id == "openai-community/gpt2"


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match="Did you mean 'openai-community/gpt2'"):
        load_submission("openai-community/gpt-2")


def test_a_file_name_without_an_organisation_is_local(tmp_path: Path) -> None:
    assert load_submission(write(tmp_path, GOOD, "mine.yaml")).name == "local/mine"
    with pytest.raises(UserError, match="gives no name"):
        load_submission(write(tmp_path, GOOD, "my model!.yaml"))
    assert load_submission(write(tmp_path, "name: a/b\n" + GOOD, "my model!.yaml")).name == "a/b"


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    write(tmp_path, "name: org/model\n" + GOOD, "other__name.yaml")
    with pytest.raises(UserError, match="two submissions are called 'org/model'"):
        list_submissions(tmp_path)


def test_every_baseline_has_its_own_revision_and_the_oracle_needs_planted_truth() -> None:
    simulated = baseline_submissions(simulated=True)
    assert [entry.label for entry in simulated] == [
        f"voxelboard/{name}"
        for name in (
            "constant",
            "context-noise",
            "random-word-vectors",
            "static",
            "confounds",
            "spectral",
            "cross-subject",
            "oracle",
        )
    ]
    assert len({resolved_revision(entry) for entry in simulated}) == len(simulated)
    real = {entry.label for entry in baseline_submissions(simulated=False, static_vectors=False)}
    assert real == {entry.label for entry in simulated} - {"voxelboard/oracle", "voxelboard/static"}
    with pytest.raises(UserError, match="has no weights"):
        model_spec(simulated[0])


def local(tmp_path: Path, checkpoint: Path, **more: str) -> Path:
    model = {"source": "local", "path": str(checkpoint), "loader": "causal", "dtype": "float32", **more}
    content = {**yaml.safe_load(GOOD), "model": model}
    return write(tmp_path, yaml.safe_dump(content), "org__local.yaml")


def tiny_checkpoint(folder: Path) -> Path:
    """The files of a checkpoint as far as hashing and inference of the loader look at them."""
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"]}', encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    return folder


def test_a_checkpoint_folder_is_a_private_submission(tmp_path: Path) -> None:
    entry = load_submission(tiny_checkpoint(tmp_path / "my model"))
    assert (entry.name, entry.visibility) == ("local/my-model", "private")
    assert (entry.model.loader, entry.model.dtype) == ("causal", "float32")
    assert model_spec(entry).path == (tmp_path / "my model").resolve()


@pytest.mark.parametrize(
    ("architecture", "loader"),
    [("LlamaForCausalLM", "causal"), ("BertForMaskedLM", "masked"), ("T5ForConditionalGeneration", "seq2seq")],
)
def test_the_loader_is_told_from_the_architecture(tmp_path: Path, architecture: str, loader: str) -> None:
    folder = tiny_checkpoint(tmp_path / "m")
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture]}), encoding="utf-8")
    assert load_submission(folder).model.loader == loader


def test_a_folder_that_is_no_checkpoint_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingPrerequisite, match=r"no config\.json"):
        load_submission(tmp_path)
    (tmp_path / "config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(UserError, match="not a JSON object"):
        load_submission(tmp_path)
    (tmp_path / "config.json").write_text('{"architectures": ["Odd"]}', encoding="utf-8")
    with pytest.raises(UserError, match="from which no loader can be told"):
        load_submission(tmp_path)


def test_the_revision_of_a_local_checkpoint_is_its_content(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "one")
    first = resolved_revision(load_submission(local(tmp_path, checkpoint)))
    copy = tmp_path / "two"
    shutil.copytree(checkpoint, copy)
    assert resolved_revision(load_submission(local(tmp_path, copy))) == first
    assert re.fullmatch("[0-9a-f]{64}", first)

    pinned = local(tmp_path, copy, revision=first)
    assert resolved_revision(load_submission(pinned)) == first
    for file in ("model.safetensors", "config.json", "tokenizer.json"):
        content = (copy / file).read_bytes()
        (copy / file).write_bytes(content + b" ")
        with pytest.raises(UserError, match="it changed since it was submitted"):
            resolved_revision(load_submission(pinned))
        (copy / file).write_bytes(content)


def test_a_local_path_is_relative_to_its_file(tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path / "checkpoint")
    assert load_submission(local(tmp_path, Path("checkpoint"))).model.path == str((tmp_path / "checkpoint").resolve())


def test_a_checkpoint_cannot_reach_outside_its_folder(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "one")
    (tmp_path / "secret.json").write_text("{}", encoding="utf-8")
    (checkpoint / "generation_config.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(UserError, match="leads out"):
        resolved_revision(load_submission(local(tmp_path, checkpoint)))
