# SPDX-License-Identifier: Apache-2.0
"""Loading: what is refused and why, what is hashed, and that nothing global is left changed."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from voxelboard.benchmark.errors import InvalidNumbers, MissingPrerequisite, UserError
from voxelboard.benchmark.models.load import describe_model, load_exact, load_model
from voxelboard.benchmark.models.spec import ModelSpec
from voxelboard.benchmark.protocol import ContextPolicy
from voxelboard.benchmark.stimuli.stories import Story

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NewCheckpoint = Callable[..., Path]


def local(folder: Path, loader: str = "causal", **options: Any) -> ModelSpec:
    return ModelSpec(loader=loader, source="local", path=folder, **options)


# --- the spec itself


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loader": "vision_language"}, "loader 'vision_language' is not built yet"),
        ({"loader": "causl"}, "Did you mean 'causal'"),
        ({"loader": "causal", "dtype": "fp32"}, "unknown dtype 'fp32'"),
        ({"loader": "causal", "revision": "main"}, "'main' of org/model is not a commit"),
        ({"loader": "causal", "id": "../model"}, "is not a repository"),
        ({"loader": "causal", "tokenizer_id": "org/other", "tokenizer_revision": "v1"}, "'v1' of org/other is not"),
        ({"loader": "causal", "source": "local"}, "needs a path"),
        ({"loader": "causal", "seed": -1}, "a seed is 0 or greater"),
    ],
)
def test_specs_that_name_no_model_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ModelSpec(**({"id": "org/model", "revision": COMMIT} | options))


def test_the_spec_imports_neither_torch_nor_transformers() -> None:
    import subprocess
    import sys

    code = "import sys, voxelboard.benchmark.models.spec; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"


# --- files that are missing, broken or dangerous


def test_pickled_weights_are_refused_before_they_are_opened(new_checkpoint: NewCheckpoint) -> None:
    folder = new_checkpoint()
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(UserError, match=r"not safetensors \(pytorch_model.bin\).*\n.*save_pretrained"):
        load_model(local(folder))


def test_pickles_beside_safetensors_are_never_opened(new_checkpoint: NewCheckpoint) -> None:
    folder = new_checkpoint()
    (folder / "pytorch_model.bin").write_bytes(b"not a pickle")
    assert load_model(local(folder)).n_layers == 4


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", "there is no config.json"),
        ("model.safetensors", "there are no weights"),
        ("tokenizer*", "there is no tokenizer"),
    ],
)
def test_missing_files_are_named(missing: str, message: str, new_checkpoint: NewCheckpoint) -> None:
    folder = new_checkpoint()
    for path in folder.glob(missing):
        path.unlink()
    with pytest.raises(MissingPrerequisite, match=message):
        load_model(local(folder))


def test_a_missing_folder_and_subfolder(new_checkpoint: NewCheckpoint, tmp_path: Path) -> None:
    with pytest.raises(MissingPrerequisite, match="there is no folder"):
        load_model(local(tmp_path / "nowhere"))
    with pytest.raises(MissingPrerequisite, match="there is no folder nowhere in the checkpoint"):
        load_model(local(new_checkpoint(), subfolder="nowhere"))


def test_a_tensor_that_is_missing_is_not_made_up(new_checkpoint: NewCheckpoint) -> None:
    folder = new_checkpoint()
    weights = load_file(folder / "model.safetensors")
    del weights["h.1.attn.c_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        UserError, match=r"1 weights of GPT2Model are not in the checkpoint.*h\.1\.attn\.c_proj\.weight"
    ):
        load_model(local(folder))


def test_a_missing_pooler_does_not_matter(new_checkpoint: NewCheckpoint) -> None:
    folder = new_checkpoint("bert")
    weights = {k: v for k, v in load_file(folder / "model.safetensors").items() if not k.startswith("pooler")}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert load_model(local(folder, "masked")).n_layers == 4


def test_weights_of_another_shape(new_checkpoint: NewCheckpoint) -> None:
    folder = new_checkpoint()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"n_embd": 32}))
    with pytest.raises(UserError, match="the weights cannot be loaded"):
        load_model(local(folder))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b"{", "config.json of the checkpoint is not JSON"),
        ("config.json", b"[]", "holds a list, expected a dict"),
        ("config.json", b'{"model_type": "gtp2"}', "config.json cannot be read"),
        ("config.json", b'{"model_type": "gpt2", "n_layer": "three"}', "config.json cannot be read"),
        ("tokenizer.json", b"{}", "the tokenizer cannot be read"),
        ("model.safetensors", b"\x10\0\0\0\0\0\0\0{", "the weights cannot be loaded"),
    ],
)
def test_broken_files(name: str, content: bytes, message: str, new_checkpoint: NewCheckpoint) -> None:
    folder = new_checkpoint()
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_model(local(folder))


def test_a_tokenizer_without_offsets_is_refused(new_checkpoint: NewCheckpoint) -> None:
    folder = new_checkpoint()
    (folder / "tokenizer.json").unlink()
    transformers.ByT5Tokenizer().save_pretrained(folder)
    with pytest.raises(UserError, match="no character offsets"):
        load_model(local(folder))


def test_nan_weights_stop_with_layer_and_word(new_checkpoint: NewCheckpoint, tale: Story) -> None:
    folder = new_checkpoint()
    weights = load_file(folder / "model.safetensors")
    weights["h.1.mlp.c_proj.bias"][3] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InvalidNumbers, match=r"the state of word 0 '“Hello,”' of story 'tale' in layer 2 is NaN"):
        load_model(local(folder)).states(tale, ContextPolicy(5))


@pytest.mark.parametrize("subfolder", ["..", "../checkpoint", "/tmp", "a/../../b", "..\\x"])
def test_a_subfolder_cannot_lead_out(subfolder: str, new_checkpoint: NewCheckpoint) -> None:
    with pytest.raises(UserError, match="leads out of the checkpoint's folder"):
        load_model(local(new_checkpoint(), subfolder=subfolder))


def test_links_cannot_lead_out(new_checkpoint: NewCheckpoint, tmp_path: Path) -> None:
    folder = new_checkpoint()
    elsewhere = tmp_path / "elsewhere.safetensors"
    (folder / "model.safetensors").rename(elsewhere)
    (folder / "model.safetensors").symlink_to(elsewhere)
    with pytest.raises(UserError, match=r"model\.safetensors is a link that leads out"):
        load_model(local(folder))


def test_shards_cannot_lead_out(new_checkpoint: NewCheckpoint) -> None:
    folder = new_checkpoint()
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    index = {"metadata": {}, "weight_map": {"wte.weight": "../model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="not a safetensors file beside it"):
        load_model(local(folder))


def test_sharded_weights_and_a_lost_shard(new_checkpoint: NewCheckpoint, tale: Story) -> None:
    folder = new_checkpoint()
    whole = load_model(local(folder)).states(tale, ContextPolicy(5))
    module = transformers.AutoModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    module.save_pretrained(folder, max_shard_size="20KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    np.testing.assert_array_equal(load_model(local(folder)).states(tale, ContextPolicy(5)), whole)
    shards[-1].unlink()
    with pytest.raises(MissingPrerequisite, match=f"the weights file {shards[-1].name} is missing"):
        load_model(local(folder))


def test_an_adapter_is_refused(new_checkpoint: NewCheckpoint) -> None:
    folder = new_checkpoint()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/elsewhere"}')
    with pytest.raises(UserError, match="its base model lies elsewhere"):
        load_model(local(folder))


# --- a loader that does not suit the model


@pytest.mark.parametrize(
    ("family", "loader", "message"),
    [
        ("bert", "causal", "not causal"),
        ("t5", "causal", "use loader: seq2seq"),
        ("bart", "masked", "use loader: seq2seq"),
        ("gpt2", "seq2seq", "no encoder-decoder"),
    ],
)
def test_the_loader_must_suit(family: str, loader: str, message: str, checkpoints: Callable[[str], Path]) -> None:
    with pytest.raises(UserError, match=message):
        load_model(local(checkpoints(family), loader))


def test_unknown_devices_and_dtypes(checkpoints: Callable[[str], Path]) -> None:
    with pytest.raises(UserError, match="device 'gpu' is unknown"):
        load_model(local(checkpoints("gpt2")), device="gpu")
    with pytest.raises(UserError, match="unknown dtype 'float8'"):
        load_model(local(checkpoints("gpt2")), dtype="float8")
    if not torch.cuda.is_available():
        with pytest.raises(MissingPrerequisite, match="PyTorch sees no GPU"):
            load_model(local(checkpoints("gpt2")), device="cuda")


# --- identity


def test_identity_of_a_local_checkpoint(new_checkpoint: NewCheckpoint) -> None:
    folder = new_checkpoint()
    identity = load_model(local(folder)).identity
    content = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert identity.weights_sha256 == hashlib.sha256(f"model.safetensors\0{content}\n".encode()).hexdigest()
    assert (identity.model_id, identity.loader, identity.dtype, identity.weights) == (
        folder.name, "causal", "float32", "pretrained",
    )  # fmt: skip
    assert identity.n_parameters == sum(t.numel() for t in load_file(folder / "model.safetensors").values())
    assert identity.max_tokens == 256


@pytest.mark.parametrize("changed", ["model.safetensors", "tokenizer.json", "config.json"])
def test_the_revision_of_a_local_checkpoint_follows_every_file(changed: str, new_checkpoint: NewCheckpoint) -> None:
    folder = new_checkpoint()
    before = load_model(local(folder)).identity
    assert load_model(local(folder)).identity == before
    if changed == "model.safetensors":
        weights = load_file(folder / changed)
        weights["wte.weight"][0, 0] += 1
        save_file(weights, folder / changed, metadata={"format": "pt"})
    else:
        (folder / changed).write_text((folder / changed).read_text() + "\n")
    assert load_model(local(folder)).identity.revision != before.revision


@pytest.mark.parametrize(
    ("family", "limit"), [("gpt2", 256), ("bert", 256), ("roberta", 129), ("t5", None), ("mamba", None)]
)
def test_longest_inputs(family: str, limit: int | None, checkpoints: Callable[[str], Path]) -> None:
    """RoBERTa: 130 rows, positions count from padding_idx + 1 = 1."""
    loader = {"gpt2": "causal", "mamba": "causal", "t5": "seq2seq"}.get(family, "masked")
    model = load_model(local(checkpoints(family), loader))
    assert model.identity.max_tokens == limit
    if limit is not None:
        ids = torch.full((1, limit), 5)
        assert torch.isfinite(model._backbone.hidden_states(ids, torch.ones_like(ids))[-1]).all()
        with pytest.raises((IndexError, RuntimeError)):
            model._backbone.hidden_states(torch.full((1, limit + 1), 5), torch.ones(1, limit + 1, dtype=torch.long))


@pytest.mark.parametrize(
    ("family", "loader"),
    [
        ("gpt2", "causal"),
        ("llama", "causal"),
        ("mamba", "causal"),
        ("bert", "masked"),
        ("roberta", "masked"),
        ("t5", "seq2seq"),
        ("bart", "seq2seq"),
    ],
)
def test_a_description_without_weights_equals_the_model(
    family: str, loader: str, new_checkpoint: NewCheckpoint
) -> None:
    folder = new_checkpoint(family)
    model = load_model(local(folder, loader))
    (folder / "model.safetensors").unlink()
    description = describe_model(local(folder, loader, dtype="bfloat16"))
    assert (description.n_layers, description.n_features) == (model.n_layers, model.n_features)
    assert description.n_parameters == model.identity.n_parameters
    assert description.weight_bytes == 2 * description.n_parameters
    assert description.max_tokens == model.identity.max_tokens


def test_weights_that_do_not_fit_on_the_device(
    checkpoints: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.nn.Module, "to", full)
    with pytest.raises(MissingPrerequisite, match="GiB of weights in float32 do not fit on cpu"):
        load_model(local(checkpoints("gpt2")))


def test_the_model_of_a_receipt_is_on_the_cpu_where_a_gpu_does_not_hold_it_too(
    checkpoints: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Any]] = []

    def load(_: ModelSpec, *, device: str, dtype: str, **options: Any) -> str:
        asked.append((device, options["batch_size"]))
        assert dtype == "float32"
        if device == "cuda":
            raise MissingPrerequisite("28.0 GiB of weights in float32 do not fit on cuda")
        return "model"

    monkeypatch.setattr("voxelboard.benchmark.models.load.load_model", load)
    spec = local(checkpoints("gpt2"))
    assert load_exact(spec, device="cuda") == "model"
    assert asked == [("cuda", 1), ("cpu", 1)]

    def fail(*_: Any, **__: Any) -> None:
        raise MissingPrerequisite("the checkpoint is not there")

    monkeypatch.setattr("voxelboard.benchmark.models.load.load_model", fail)
    with pytest.raises(MissingPrerequisite, match="not there"):
        load_exact(spec, device="cpu")


@pytest.fixture
def talkative() -> Iterator[None]:
    """Transformers logging all that it does."""
    before = logging.get_verbosity()
    logging.set_verbosity_info()
    yield
    logging.set_verbosity(before)


@pytest.mark.usefixtures("talkative")
def test_nothing_global_is_left_changed(
    checkpoints: Callable[[str], Path], tale: Story, capfd: pytest.CaptureFixture[str]
) -> None:
    def settings() -> tuple[object, ...]:
        return (
            torch.get_default_dtype(), torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled(),
            torch.get_float32_matmul_precision(), torch.get_rng_state().numpy().tobytes(), np.random.get_state()[1].tobytes(),  # noqa: NPY002
            logging.get_verbosity(), logging.is_progress_bar_enabled(),
            huggingface_hub.utils.are_progress_bars_disabled(),
        )  # fmt: skip

    folder = checkpoints("gpt2")
    capfd.readouterr()
    before = settings()
    for weights in ("pretrained", "random"):
        load_model(local(folder, weights=weights), dtype="bfloat16").states(tale, ContextPolicy(5))
    assert settings() == before
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
