# SPDX-License-Identifier: Apache-2.0
"""Letter I: what cannot matter does not."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.models.alignment import WordTokens
from voxelboard.benchmark.models.passages import Reading
from voxelboard.benchmark.models.pooling import pool_words
from voxelboard.benchmark.readers.base import Responses, Split
from voxelboard.benchmark.selftest.findings import Figure, Measurement
from voxelboard.benchmark.selftest.ranking import MIDDLE_LAYER, planted_llm
from voxelboard.benchmark.selftest.worlds import AlteredData, Float32Array, Workbench, World, digest
from voxelboard.benchmark.statistics.ranking import rank_influence

FloatArray = NDArray[np.float64]
Features = Mapping[str, Float32Array]

ROWS = ("raw", "unique")
TOLERANCE = 1e-6
WIDTH = 24


def _scores(world: World, features: Features) -> FloatArray:
    """(2, n_subjects) raw and unique scores."""
    encoding = world.encode(features)
    scores = [world.influence(world.tables(encoding.predictions[row])).mean(axis=1) for row in ROWS]
    return np.stack(scores)


def _base(bench: Workbench) -> tuple[World, dict[str, Float32Array]]:
    world = bench.small()
    return world, world.features(planted_llm(0.7, WIDTH, bench.seed), MIDDLE_LAYER)


def feature_invariances(bench: Workbench) -> Measurement:
    """I1: order, scale, sign, offset, duplicates and constants of features do not move a score."""
    world, features = _base(bench)
    rng = bench.rng(9, 1)
    order, signs = rng.permutation(WIDTH), rng.choice([-1.0, 1.0], WIDTH)
    scales, offsets = np.exp2(rng.integers(-6, 7, WIDTH)), rng.integers(-3, 4, WIDTH).astype(np.float64)
    constant = np.full((1, 1, 1), 7.0)
    changes: dict[str, Callable[[FloatArray], FloatArray]] = {
        "order": lambda x: x[..., order],
        "scale": lambda x: x * scales,
        "sign": lambda x: x * signs,
        "offset": lambda x: x + offsets,
        "duplicates": lambda x: np.concatenate([x, x], axis=2),
        "a constant": lambda x: np.concatenate([x, np.broadcast_to(constant, (*x.shape[:2], 1))], axis=2),
    }
    before = _scores(world, features)
    figures = []
    for name, change in changes.items():
        changed = {story: change(table.astype(np.float64)).astype(np.float32) for story, table in features.items()}
        moved = float(np.abs(_scores(world, changed) - before).max())
        figures.append(Figure(f"largest change of a score, {name}", moved, high=TOLERANCE))
    return Measurement(tuple(figures), "3 subjects, raw and unique")


def data_invariances(bench: Workbench) -> Measurement:
    """I2: order of voxels, subjects and training stories, and who else is scored, do not move a score."""
    world, features = _base(bench)
    before = _scores(world, features)
    order = bench.rng(9, 2).permutation(world.data.responses(world.data.subjects[0]).n_voxels)

    def shuffle(responses: Responses) -> Responses:
        runs = {name: run[:, :, order] for name, run in responses.runs.items()}
        return replace(responses, runs=MappingProxyType(runs), rois=responses.rois[order])

    train, test = world.data.split.folds[0]
    turned = tuple(reversed(world.data.subjects))
    any_order = [train[i] for i in bench.rng(9, 7).permutation(len(train))]
    others = {
        "voxels": AlteredData(world.data, shuffle),
        "stories": AlteredData(world.data, split=Split(((tuple(any_order), test),))),
        "subjects": AlteredData(world.data, subjects=turned),
    }
    moved = {}
    for name, data in others.items():
        after = _scores(World(data, world.protocol), features)
        moved[name] = np.abs((after[:, ::-1] if name == "subjects" else after) - before).max()
    figures = [Figure(f"largest change of a score, {name}", float(x), high=TOLERANCE) for name, x in moved.items()]
    return Measurement(tuple(figures), "3 subjects, raw and unique")


def widths(bench: Workbench) -> Measurement:
    """I3: the same information in more features scores the same."""
    n_worlds, sizes = bench.pick(2, 8), (WIDTH, 2 * WIDTH, bench.pick(6, 40) * WIDTH)
    scores = np.zeros((len(sizes), len(ROWS)))
    for k in range(n_worlds):
        world, rng = bench.small(k), bench.rng(9, 3, k)
        features = world.features(planted_llm(0.7, WIDTH, bench.seed + k), MIDDLE_LAYER)
        for i, width in enumerate(sizes):
            mixing, _ = np.linalg.qr(rng.standard_normal((width, WIDTH)))
            turned = {story: table @ mixing.T.astype(np.float32) for story, table in features.items()}
            scores[i] += _scores(world, turned if width > WIDTH else features).mean(axis=1) / n_worlds
    error = 3 * 0.004 / float(np.sqrt(n_worlds))  # sd of the spread in one world: .004, measured over 10
    return Measurement(
        tuple(
            Figure(f"spread of {row} scores", float(x), high=0.015, error=error)
            for row, x in zip(ROWS, np.ptp(scores, axis=0), strict=True)
        ),
        f"{sizes[0]} to {sizes[-1]} features, {n_worlds} worlds",
    )


def determinism(bench: Workbench) -> Measurement:
    """I4: the same inputs give the same bytes, prepared again and with another number of threads."""
    world, features = _base(bench)

    def predictions(world: World) -> str:
        return digest(*(fold for row in world.encode(features).predictions.values() for fold in row))

    first, again = predictions(world), predictions(World(world.data, world.protocol))
    n_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if n_threads > 1 else 2)
        threads = predictions(world)
    finally:
        torch.set_num_threads(n_threads)
    return Measurement(
        (
            Figure("prepared again and differ", float(first != again), 0, 0),
            Figure("other number of threads and differ", float(first != threads), 0, 0),
        ),
        "3 runs, SHA-256",
    )


def other_submissions(bench: Workbench) -> Measurement:
    """I5: a submission that comes or goes reorders no others and moves no score."""
    n_tables, n_models = bench.pick(100, 1000), 8
    rng = bench.rng(9, 5)
    reordered, moved = 0, 0.0
    for _ in range(n_tables):
        z = 0.02 * rng.standard_normal((n_models, 1, 1)) + 0.1 * rng.standard_normal((n_models, 6, 16))
        names = [f"m{i}" for i in range(n_models)]
        gone = int(rng.integers(n_models))
        rest = [i for i in range(n_models) if i != gone]
        full = {row.name: row.score for row in rank_influence(names, z).models if row.name != names[gone]}
        less = {row.name: row.score for row in rank_influence([names[i] for i in rest], z[rest]).models}
        reordered += list(full) != list(less)
        moved = max(moved, *(abs(full[name].high - less[name].high) for name in full))
    return Measurement(
        (Figure("boards reordered", reordered, 0, 0), Figure("largest change of an interval", moved, 0, 0)),
        f"{n_tables} boards of {n_models}",
    )


def tokenisation(bench: Workbench) -> Measurement:
    """I6: a word cut into more tokens of the same state has the same features."""
    states = torch.from_numpy(bench.rng(9, 6).standard_normal((20, 8)).astype(np.float32))
    pooled = []
    for pieces in (1, 2, 3):
        starts = np.arange(21) * pieces
        alignment = WordTokens(starts, np.arange(20 * pieces), np.zeros(20, dtype=np.bool_))
        reading = Reading(tuple(range(20)), (), alignment)  # type: ignore[arg-type]  # tokens are not looked at
        pooled.append(pool_words([states.repeat_interleave(pieces, dim=0)[None]], [reading]).numpy())
    moved = max(float(np.abs(other - pooled[0]).max()) for other in pooled[1:])
    return Measurement((Figure("largest change of a state", moved, high=TOLERANCE),), "20 words in 1 to 3 pieces")
