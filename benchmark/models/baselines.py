# SPDX-License-Identifier: Apache-2.0
"""The rows that every board carries: what a score is worth that needs no language model."""

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import UserError, unknown_name
from voxelboard.benchmark.models.base import ModelIdentity, Progress
from voxelboard.benchmark.protocol import ContextPolicy, hash_json
from voxelboard.benchmark.readers.base import StaticVectors
from voxelboard.benchmark.stimuli.simulated import ar1
from voxelboard.benchmark.stimuli.stories import Story

Float32Array = NDArray[np.float32]

_CONTEXT_AR = 0.95  # over words: as slow as the states of a language model (statistics.md 2.5)


class _Baseline:
    """One layer, no weights: everything but the vectors of a story's words."""

    n_layers = 1

    def __init__(self, name: str, width: int, seed: int, table_sha256: str = "") -> None:
        if width < 1 or seed < 0:
            raise UserError(f"baseline {name}: width must be 1 or more and the seed 0 or more, got {width} and {seed}")
        self.n_features = width
        self.seed = seed
        revision = hash_json({"name": name, "width": width, "seed": seed, "table": table_sha256})
        self.identity = ModelIdentity(
            loader="baseline",
            model_id=name,
            revision=revision,
            weights_sha256=table_sha256 or revision,
            tokenizer_sha256=hashlib.sha256(b"one token a word").hexdigest(),
            dtype="float32",
            n_parameters=0,
            max_tokens=None,
            weights="pretrained" if table_sha256 else "random",
            seed=seed,
        )

    def states(
        self,
        story: Story,
        context: ContextPolicy,  # noqa: ARG002 - a baseline has no context
        progress: Progress | None = None,
    ) -> Float32Array:
        """(1, n_words, n_features) float32."""
        states = self._vectors(story)[None]
        if progress is not None:
            progress(story.n_words, story.n_words)
        return states

    def _vectors(self, story: Story) -> Float32Array:
        raise NotImplementedError


class Constant(_Baseline):
    """The same vector for every word: with mean pooling it says only whether a TR has words."""

    def __init__(self, width: int = 1, seed: int = 0) -> None:
        super().__init__("constant", width, seed)
        self._vector = np.random.default_rng([seed, 11]).standard_normal(width).astype(np.float32)

    def _vectors(self, story: Story) -> Float32Array:
        return np.tile(self._vector, (story.n_words, 1))


class ContextNoise(_Baseline):
    """Slow noise (lag-1 autocorrelation .95 over words) of a model's width, new for every story."""

    def __init__(self, width: int, seed: int = 0) -> None:
        super().__init__("context-noise", width, seed)

    def _vectors(self, story: Story) -> Float32Array:
        rng = np.random.default_rng([self.seed, 12, _number(story.name)])
        return ar1(story.n_words, self.n_features, _CONTEXT_AR, rng).astype(np.float32)


class RandomWordVectors(_Baseline):
    """A Gaussian vector per word form (lower case), the same wherever it is heard: word identity and nothing else."""

    def __init__(self, width: int, seed: int = 0) -> None:
        super().__init__("random-word-vectors", width, seed)

    def _vectors(self, story: Story) -> Float32Array:
        vectors = {word: self._vector(word) for word in sorted({word.lower() for word in story.words})}
        return np.stack([vectors[word.lower()] for word in story.words])

    def _vector(self, word: str) -> Float32Array:
        rng = np.random.default_rng([self.seed, 13, _number(word)])
        return rng.standard_normal(self.n_features).astype(np.float32)


class Static(_Baseline):
    """Vectors from a table, looked up in lower case, then without punctuation.

    Words that the table lacks get the mean of its vectors: after z-scoring they say little, as they should.
    """

    def __init__(self, table: StaticVectors) -> None:
        digest = hashlib.sha256("\n".join(f"{word} {row}" for word, row in sorted(table.index.items())).encode())
        digest.update(np.ascontiguousarray(table.vectors, dtype="<f4").tobytes())
        super().__init__("static", table.vectors.shape[1], 0, digest.hexdigest())
        self._table = table
        self._unknown = table.vectors.mean(axis=0, dtype=np.float64).astype(np.float32)

    def _vectors(self, story: Story) -> Float32Array:
        index: Mapping[str, int] = self._table.index
        rows = [index.get(word.lower(), index.get(word.lower().strip(".,;:!?\"'()"))) for word in story.words]
        known = [self._unknown if row is None else self._table.vectors[row] for row in rows]
        return np.stack(known).astype(np.float32)


BASELINES = ("constant", "context-noise", "random-word-vectors", "static")


def baseline_model(
    name: str, width: int, seed: int = 0, table: StaticVectors | None = None
) -> Constant | ContextNoise | RandomWordVectors | Static:
    """The baseline called ``name``. ``width`` is that of the model it is set against; ``static`` takes its table's.

    Raises
    ------
    UserError
        for an unknown name, or ``static`` without a table.
    """
    if name == "constant":
        return Constant(width, seed)
    if name == "context-noise":
        return ContextNoise(width, seed)
    if name == "random-word-vectors":
        return RandomWordVectors(width, seed)
    if name != "static":
        raise unknown_name("baseline", name, BASELINES)
    if table is None:
        raise UserError("the static baseline needs a table of word vectors, and this data set has none")
    return Static(table)


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
