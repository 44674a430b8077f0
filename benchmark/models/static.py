# SPDX-License-Identifier: Apache-2.0
"""Static word vectors: one vector for a word, whatever the context."""

import gzip
import hashlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError
from voxelboard.benchmark.models.base import ModelIdentity, Progress
from voxelboard.benchmark.models.report import ExtractionReport
from voxelboard.benchmark.models.spec import ModelSpec, Weights
from voxelboard.benchmark.protocol import ContextPolicy
from voxelboard.benchmark.readers.base import StaticVectors
from voxelboard.benchmark.stimuli.stories import Story

Float32Array = NDArray[np.float32]

_APOSTROPHES = str.maketrans("‘’", "''")
_LOOK_UP = b"exact, lower case, lower case without surrounding punctuation"

_MOST_LINE_BYTES = 4 << 20


class StaticModel:
    """A table of vectors as a model with one layer.

    A word is looked up as it is, then in lower case, then in lower case without punctuation around it; a word that
    is not found gets the zero vector and is counted in ``report``. With random weights every entry of the table
    has a Gaussian vector that depends on the entry and the seed only; what is not in the table stays zero.
    """

    n_layers = 1

    def __init__(
        self,
        vectors: StaticVectors,
        *,
        model_id: str = "",
        weights_sha256: str = "",
        weights: Weights = "pretrained",
        seed: int = 0,
    ) -> None:
        self._vectors = vectors
        self._random = weights == "random"
        self.n_features = int(vectors.vectors.shape[1])
        self.report: ExtractionReport | None = None
        sha256 = weights_sha256 or _table_sha256(vectors)
        self.identity = ModelIdentity(
            loader="static",
            model_id=model_id or vectors.name,
            revision=sha256,
            weights_sha256=hashlib.sha256(f"{sha256}|{seed}".encode()).hexdigest() if self._random else sha256,
            tokenizer_sha256=hashlib.sha256(_LOOK_UP).hexdigest(),
            dtype="float32",
            n_parameters=int(vectors.vectors.size),
            max_tokens=None,
            weights=weights,
            seed=seed if self._random else 0,
        )

    def states(self, story: Story, context: ContextPolicy, progress: Progress | None = None) -> Float32Array:  # noqa: ARG002
        """(1, n_words, n_features) float32: the vector of each word, zero for a word that is not in the table."""
        entries = [self._entry(word) for word in story.words]
        states = np.zeros((1, story.n_words, self.n_features), dtype=np.float32)
        for word, entry in enumerate(entries):
            if entry is not None:
                states[0, word] = self._vector(entry)
        missing = sum(entry is None for entry in entries)
        self.report = ExtractionReport(story.name, story.n_words, n_out_of_vocabulary=missing)
        if progress is not None:
            progress(story.n_words, story.n_words)
        return states

    def _entry(self, word: str) -> str | None:
        lower = word.lower().translate(_APOSTROPHES)
        for form in (word, lower, _strip_punctuation(lower)):
            if form in self._vectors.index:
                return form
        return None

    def _vector(self, entry: str) -> Float32Array:
        if not self._random:
            vector: Float32Array = self._vectors.vectors[self._vectors.index[entry]]
            return vector
        words = np.frombuffer(hashlib.sha256(entry.encode()).digest(), dtype="<u4")
        generator = np.random.default_rng([self.identity.seed, *words.tolist()])
        return generator.standard_normal(self.n_features).astype(np.float32)


def _strip_punctuation(word: str) -> str:
    inner = [i for i, letter in enumerate(word) if letter.isalnum()]
    return word[inner[0] : inner[-1] + 1] if inner else word


def _table_sha256(vectors: StaticVectors) -> str:
    digest = hashlib.sha256()
    for word, row in sorted(vectors.index.items()):
        digest.update(f"{word}\0".encode())
        digest.update(np.ascontiguousarray(vectors.vectors[row], dtype="<f4").tobytes())
    return digest.hexdigest()


def load_static(spec: ModelSpec) -> StaticModel:
    """Open the table that ``spec`` names.

    Raises
    ------
    UserError
        for a table on the hub, and for a link that leads out of the table's folder.
    MissingPrerequisite
        for a file that is not there.
    """
    if spec.source != "local" or spec.path is None:
        raise UserError("static vectors are read from a file", "set source: local and path to the table")
    path = spec.path.expanduser()
    if not path.is_file():
        raise MissingPrerequisite(
            f"there is no file {path}", "correct model.path; GloVe's text format is read, also .gz"
        )
    if path.resolve().parent != path.parent.resolve():
        raise UserError(f"{path.name} is a link that leads out of its folder", "copy the file into the folder")
    vectors = read_word_vectors(path)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return StaticModel(vectors, model_id=spec.name, weights_sha256=sha256, weights=spec.weights, seed=spec.seed)


def read_word_vectors(path: Path) -> StaticVectors:
    """Read a table in text form: a word and its numbers on each line, as GloVe; plain or ``.gz``.

    The header of word2vec's text format (number of words, number of columns) is skipped. Of a word that occurs twice, the
    first vector counts.

    Raises
    ------
    DataError
        for a line with another number of columns, a number that cannot be read, NaN or infinity, and an empty table.
    """
    index: dict[str, int] = {}
    rows: list[Float32Array] = []
    width = 0
    for number, line in _lines(path):
        parts = line.rstrip("\r\n ").split(" ")
        if number == 1 and len(parts) == 2:
            width = _header_width(path, parts)
            continue
        width = width or len(parts) - 1
        word = " ".join(parts[: len(parts) - width])  # a few entries of GloVe 840B contain blanks
        vector = _parse(" ".join(parts[len(parts) - width :])) if width > 0 else None
        if not word or vector is None or len(vector) != width or not np.isfinite(vector).all():
            raise DataError(
                f"{path.name}, line {number}: expected a word and {width or 'some'} finite numbers",
                "the file is truncated or not in GloVe's text format",
            )
        if word not in index:
            index[word] = len(rows)
            rows.append(vector)
    if not rows:
        raise DataError(
            f"{path.name} holds no word vectors", "GloVe's text format is a word and its numbers on each line"
        )
    return StaticVectors(name=path.name, index=index, vectors=np.stack(rows))


def _header_width(path: Path, parts: list[str]) -> int:
    if not all(part.isdigit() for part in parts) or parts[1] == "0":
        raise DataError(f"{path.name}, line 1: {' '.join(parts)!r} is neither a word2vec header nor a word vector")
    return int(parts[1])


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with cast("BinaryIO", gzip.open(path)) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_MOST_LINE_BYTES), b""), start=1):
                if len(line) == _MOST_LINE_BYTES:
                    raise DataError(f"{path.name}, line {number} has more than {_MOST_LINE_BYTES >> 20} MiB")
                yield number, line.decode(errors="replace")  # GloVe 840B holds a few broken bytes, in words only
    except (gzip.BadGzipFile, EOFError) as error:
        raise DataError(f"{path.name} is not a whole .gz file: {error}", "download it again") from error


def _parse(text: str) -> Float32Array | None:
    """(n_features,) float32, None where the text is not numbers."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy only warns about text that it cannot read
        try:
            return np.fromstring(text, dtype=np.float32, sep=" ")
        except (DeprecationWarning, ValueError):
            return None
