# SPDX-License-Identifier: Apache-2.0
"""What a scene, or a caption of one, means to the simulated brains: categories, words, and who does what to whom.

Three spaces of known content. ``category``: which kinds there are. ``word``: all words, whatever their order. ``caption``:
what only the order of words says: who is first and who is second in a relation, and which quality belongs to which kind.
The vectors are the same for every seed: they are what the words of this world mean.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.stimuli.caption_grammar import Reading, Symbol, every_symbol
from voxelboard.benchmark.stimuli.scenes import KINDS

FloatArray = NDArray[np.float64]

SPACES = ("category", "word", "caption")
WIDTHS: Mapping[str, int] = {"category": 12, "word": 24, "caption": 24}
_WORLD_SEED = 20261124


@lru_cache(maxsize=1)
def _vectors() -> tuple[Mapping[Symbol, FloatArray], Mapping[str, FloatArray], FloatArray]:
    """Symbol -> word vector, kind -> category vector, and the maps of the first and the second in a relation."""
    rng = np.random.default_rng(_WORLD_SEED)
    symbols = {symbol: rng.standard_normal(WIDTHS["word"]) for symbol in every_symbol()}
    kinds = {kind: rng.standard_normal(WIDTHS["category"]) for kind in KINDS}
    roles = rng.standard_normal((2, WIDTHS["caption"], WIDTHS["word"])) / np.sqrt(WIDTHS["word"])
    return symbols, kinds, roles


def symbol_vector(symbol: Symbol) -> FloatArray:
    """(24,) what a word means by itself."""
    return _vectors()[0][symbol]


@lru_cache(maxsize=16384)
def _bound(first: Symbol, second: Symbol, relation: str) -> FloatArray:
    symbols, _, roles = _vectors()
    a, b = symbols[first], symbols[second]
    bound: FloatArray = roles[0] @ a + roles[1] @ b + a * b * _relation_vector(relation)
    return bound


def meaning(reading: Reading) -> dict[str, FloatArray]:
    """Space -> (width,) of what a text says; zeros for what it does not say."""
    symbols, kinds, _ = _vectors()
    said = [symbols[symbol] for symbol in reading.symbols]
    shown = sorted({kind for kind, _ in reading.actors})
    word = np.sum(said, axis=0) / np.sqrt(len(said)) if said else np.zeros(WIDTHS["word"])
    category = np.sum([kinds[kind] for kind in shown], axis=0) if shown else np.zeros(WIDTHS["category"])
    caption = np.zeros(WIDTHS["caption"])
    if reading.relation is not None:
        name, first, second = reading.relation
        a, b = (Symbol("kind", reading.actors[i][0]) for i in (first, second))
        caption += _bound(a, b, name)
    for kind, qualities in reading.actors:
        for quality in qualities:
            if quality.role == "colour":
                caption += symbols[quality] * symbols[Symbol("kind", kind)]
    return {"category": category, "word": word, "caption": caption}


def _relation_vector(name: str) -> FloatArray:
    return next(vector for symbol, vector in _vectors()[0].items() if symbol.name == name)


def meanings(readings: Sequence[Reading]) -> dict[str, FloatArray]:
    """Space -> (n_texts, width)."""
    found = [meaning(reading) for reading in readings]
    return {space: np.stack([one[space] for one in found]) for space in SPACES}
