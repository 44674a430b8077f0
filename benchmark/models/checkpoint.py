# SPDX-License-Identifier: Apache-2.0
"""Find the files of a checkpoint, refuse those that could run code, and hash the rest.

Only safetensors are loaded: a pickle runs code when it is opened. What the hub offers is looked at before any weight is
downloaded. A local checkpoint cannot refer to anything outside of its folder.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from voxelboard.benchmark.errors import MissingPrerequisite, UserError
from voxelboard.benchmark.models.hub import hub_folder
from voxelboard.benchmark.models.spec import ModelSpec

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5")
_SMALL_FILES = ("*.json", "*.txt", "*.model", "*.tiktoken", "*.py")
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "tekken.json")
_TOKENIZER_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt")
_MOST_JSON_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Checkpoint:
    """The files of a model on this machine.

    Attributes
    ----------
    name : for messages and identities.
    root : folder of the checkpoint.
    folder : where config.json and the weights lie (``root`` or below).
    tokenizer_folder : where the tokenizer lies.
    weights : the safetensors files; empty for a random twin.
    revision : commit on the hub, empty for a local checkpoint.
    """

    name: str
    root: Path
    folder: Path
    tokenizer_folder: Path
    weights: tuple[Path, ...]
    revision: str

    def config(self) -> dict[str, Any]:
        """The content of config.json."""
        config: dict[str, Any] = read_json(self.folder / "config.json")
        return config

    def weights_sha256(self) -> str:
        """Hash of the names and contents of the weight files."""
        return hash_files({path.name: path for path in self.weights})

    def tokenizer_sha256(self) -> str:
        """Hash of the names and contents of the tokenizer's files."""
        return hash_files({path.name: path for path in _tokenizer_files(self.tokenizer_folder)})

    def code_sha256(self) -> str:
        """Hash of the names and contents of all Python files, as a submission pins them."""
        return code_sha256(self.root)

    def resolved_revision(self, weights_sha256: str) -> str:
        """The commit, or for a local checkpoint the hash of its weights, tokenizer, settings and code."""
        if self.revision:
            return self.revision
        settings = {path.relative_to(self.root).as_posix(): path for path in sorted(self.root.rglob("*.json"))}
        parts = (weights_sha256, self.tokenizer_sha256(), hash_files(settings), self.code_sha256())
        return hashlib.sha256("|".join(parts).encode()).hexdigest()


def open_checkpoint(
    spec: ModelSpec, *, offline: bool, cache_dir: Path | None, with_weights: bool, with_tokenizer: bool = True
) -> Checkpoint:
    """Find the files that ``spec`` names, downloading what is missing unless ``offline``.

    Raises
    ------
    UserError
        for pickled weights and for paths that lead out of the checkpoint.
    MissingPrerequisite
        for a folder, repository, configuration, tokenizer or weights that are not there.
    """
    if spec.source == "local":
        root = _local_root(spec)
        _check_links(root, spec.name)
    else:
        root = _hub_root(spec, _SMALL_FILES, offline, cache_dir)
    folder = _transformer_folder(spec, root)
    if not (folder / "config.json").is_file():
        raise MissingPrerequisite(
            f"{spec.name}: there is no config.json in {_place(spec)}",
            "give the folder that Transformers' save_pretrained wrote (model.path, model.subfolder)",
        )
    weights: tuple[Path, ...] = ()
    if with_weights:
        weights = _find_weights(spec, root, folder, offline, cache_dir)
    tokenizer = _tokenizer_root(spec, folder, offline, cache_dir) if with_tokenizer else folder
    return Checkpoint(spec.name, root, folder, tokenizer, weights, spec.revision if spec.source == "hf" else "")


def _place(spec: ModelSpec) -> str:
    where = str(spec.path) if spec.source == "local" else f"{spec.id} at {spec.revision[:12]}"
    return f"{where}, subfolder {spec.subfolder!r}" if spec.subfolder else where


def _local_root(spec: ModelSpec) -> Path:
    path = Path(spec.path or "").expanduser()
    if not path.is_dir():
        raise MissingPrerequisite(f"there is no folder {path}", "correct model.path, or use source: hf with an id")
    return path.resolve()


def _hub_root(spec: ModelSpec, patterns: Iterable[str], offline: bool, cache_dir: Path | None) -> Path:
    return hub_folder(spec.id, spec.revision, tuple(patterns), offline=offline, cache_dir=cache_dir).path


def _transformer_folder(spec: ModelSpec, root: Path) -> Path:
    folder = inside(root, spec.subfolder, spec.name)
    modules = folder / "modules.json"
    if spec.loader == "sentence" and modules.is_file():
        folder = inside(folder, transformer_module_path(modules), spec.name)
    if not folder.is_dir():
        raise MissingPrerequisite(f"{spec.name}: there is no folder {folder.relative_to(root)} in the checkpoint")
    return folder


def transformer_module_path(modules: Path) -> str:
    """Where modules.json of a sentence model says that the transformer lies."""
    entries = read_json(modules, list)
    first: dict[str, Any] = entries[0] if entries and isinstance(entries[0], dict) else {}
    return str(first.get("path", ""))


def inside(root: Path, name: str, model: str) -> Path:
    """``root / name``, if that is below ``root``.

    Raises
    ------
    UserError
        for an absolute name, for ``..`` and for a link that leads out.
    """
    parts = PurePosixPath(name).parts
    path = root.joinpath(*parts)
    leads_out = PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name
    if leads_out or not path.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{model}: {name!r} leads out of the checkpoint's folder", "name a folder or file within it")
    return path


def _check_links(root: Path, model: str) -> None:
    """A local checkpoint must hold what it uses: links that lead out would make it another model tomorrow."""
    for path in root.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise UserError(
                f"{model}: {path.relative_to(root)} is a link that leads out of the checkpoint's folder",
                "copy the file into the folder; for a repository in the hub's cache use source: hf",
            )


def _find_weights(spec: ModelSpec, root: Path, folder: Path, offline: bool, cache_dir: Path | None) -> tuple[Path, ...]:
    """The safetensors files of ``folder``: those that are on disk, or that the hub says it has."""
    prefix = folder.relative_to(root)
    if spec.source == "local":
        names = {path.name for path in folder.iterdir()}
    else:
        listing = hub_folder(spec.id, spec.revision, (), offline=offline, cache_dir=cache_dir).names
        names = {PurePosixPath(name).name for name in listing if PurePosixPath(name).parent == PurePosixPath(prefix)}
    wanted = _choose_weights(names, folder, spec)
    if spec.source == "hf":
        _hub_root(spec, [(prefix / name).as_posix() for name in wanted], offline, cache_dir)
    for name in wanted:
        if not (folder / name).is_file():
            raise MissingPrerequisite(
                f"{spec.name}: the weights file {name} is missing", "download the checkpoint again, whole"
            )
    return tuple(folder / name for name in wanted)


def _choose_weights(names: set[str], folder: Path, spec: ModelSpec) -> list[str]:
    """Names of the files to load.

    The shards come from the index; one file with the standard name needs none.
    """
    if _SINGLE in names:
        return [_SINGLE]
    if _INDEX in names:
        shards = sorted({str(shard) for shard in read_json(folder / _INDEX).get("weight_map", {}).values()})
        for shard in shards:
            if PurePosixPath(shard).name != shard or not shard.endswith(".safetensors"):
                raise UserError(f"{spec.name}: {_INDEX} names {shard!r}, which is not a safetensors file beside it")
        return shards
    pickles = sorted(name for name in names if name.endswith(_PICKLES))
    if pickles:
        raise UserError(
            f"{spec.name}: the weights are not safetensors ({', '.join(pickles[:3])}); such files can run code when "
            "they are opened, so they are refused",
            "convert them where you trust them: AutoModel.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER) writes "
            f"{_SINGLE}; on the hub, ask the owner to merge the pull request of the safetensors converter",
        )
    raise MissingPrerequisite(
        f"{spec.name}: there are no weights in {_place(spec)}",
        f"{_SINGLE} or {_INDEX} is needed; weights: random needs none",
    )


def _tokenizer_root(spec: ModelSpec, folder: Path, offline: bool, cache_dir: Path | None) -> Path:
    place = folder
    if spec.tokenizer_id:
        place = hub_folder(
            spec.tokenizer_id, spec.tokenizer_revision, _SMALL_FILES, offline=offline, cache_dir=cache_dir
        ).path
    known = any((place / name).is_file() for name in (*_TOKENIZER_FILES, _TOKENIZER_SETTINGS[0]))
    if not known and not any(place.glob("*.model")):
        raise MissingPrerequisite(
            f"{spec.tokenizer_id or spec.name}: there is no tokenizer ({', '.join(_TOKENIZER_FILES)} or *.model)",
            "save the tokenizer beside the weights, or name a repository in model.tokenizer",
        )
    return place


def _tokenizer_files(folder: Path) -> list[Path]:
    named = [folder / name for name in (*_TOKENIZER_FILES, *_TOKENIZER_SETTINGS)]
    patterns = ("*.model", "*.tiktoken")
    return sorted({p for p in named if p.is_file()} | {p for pattern in patterns for p in folder.glob(pattern)})


def code_sha256(root: Path) -> str:
    """Hash of the names and contents of all Python files below ``root``, as a submission pins them."""
    return hash_files({path.relative_to(root).as_posix(): path for path in root.rglob("*.py")})


def hash_files(files: Mapping[str, Path]) -> str:
    """SHA-256 over names and contents, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(files):
        with files[name].open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{name}\0{content}\n".encode())
    return digest.hexdigest()


def read_json(path: Path, kind: type = dict) -> Any:
    """The content of a JSON file of a checkpoint, a ``kind``; one that is not is a UserError."""
    if path.stat().st_size > _MOST_JSON_BYTES:
        raise UserError(f"{path.name} of the checkpoint has more than {_MOST_JSON_BYTES >> 20} MiB")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path.name} of the checkpoint is not JSON: {error}", "download it again") from error
    if not isinstance(content, kind):
        raise UserError(f"{path.name} of the checkpoint holds a {type(content).__name__}, expected a {kind.__name__}")
    return content
