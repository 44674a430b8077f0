# SPDX-License-Identifier: Apache-2.0
"""Letter D: choosing a layer does not raise a score."""

import numpy as np

from voxelboard.benchmark.models.baselines import ContextNoise
from voxelboard.benchmark.selftest.findings import Figure, Measurement
from voxelboard.benchmark.selftest.worlds import Float32Array, Tables, Workbench

N_LAYERS = 8


def layer_choice(bench: Workbench) -> Measurement:
    """D1: a model whose layers are all noise, its layer chosen inside the training data, and chosen on the test data."""
    nested, best = [], []
    n = bench.pick(4, 24)
    for k in range(n):
        world = bench.nulls(k % 3)
        layers = [world.features(ContextNoise(24, seed=bench.seed + 1000 + 50 * k + i)) for i in range(N_LAYERS)]
        features = {name: np.concatenate([layer[name] for layer in layers]) for name in layers[0]}
        by_layer: dict[int, Tables] = {}

        def keep(_fold: int, layer: int, predictions: Float32Array, found: dict[int, Tables] = by_layer) -> None:
            found[layer] = world.tables([predictions])  # noqa: B023 - called before the next world

        encoding = world.encode(features, keep)
        nested.append(world.score(world.tables(encoding.predictions["unique"])))
        values = np.array(
            [[t.totals()[0] / np.sqrt(t.totals()[1]) for t in layer.values()] for layer in by_layer.values()]
        )
        power = np.array([np.sqrt(t.totals()[2]) for t in by_layer[0].values()])
        best.append(float((values.max(axis=0) / power).mean()))
    error = 3 * 0.007 / float(np.sqrt(n))  # sd of one model's score: .007, measured over 40 of them
    return Measurement(
        (
            Figure("H_u, layer chosen in training", float(np.mean(nested)), -0.012, 0.012, error),
            Figure("H_u, layer chosen on test (teeth)", float(np.mean(best)), low=0.02),
        ),
        f"{n} null models of {N_LAYERS} layers",
    )
