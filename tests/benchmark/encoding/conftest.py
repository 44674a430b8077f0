# SPDX-License-Identifier: Apache-2.0
"""A small world with a planted linear map: stories of different lengths, responses with slow noise."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.designs import Problem, SegmentedDesign, SegmentRows

LENGTHS = (70, 62, 81, 66, 75, 58)


@dataclass(frozen=True)
class World:
    design: SegmentedDesign
    train: tuple[SegmentRows, ...]
    test: tuple[SegmentRows, ...]
    dual: Problem
    primal: Problem
    responses: NDArray[np.float32]
    folds: NDArray[np.intp]  # five training stories, one fold each

    @property
    def X(self) -> NDArray[np.float64]:
        return self.primal.train.numpy()

    @property
    def X_test(self) -> NDArray[np.float64]:
        return self.primal.test.numpy()


def make_world(n_features: int, n_targets: int, seed: int = 0) -> World:
    rng = np.random.default_rng([seed, n_features])
    scale = np.arange(1, n_features + 1) ** -0.5
    mixing = np.linalg.qr(rng.standard_normal((n_features, n_features)))[0]
    features = {
        i: ((rng.standard_normal((n, n_features)) * scale) @ mixing + 3).astype(np.float32)
        for i, n in enumerate(LENGTHS)
    }
    segments = [SegmentRows(i, 0, n) for i, n in enumerate(LENGTHS)]
    design = SegmentedDesign(features, (1, 2, 3, 4), 5, 2.0, 120.0)
    train, test = tuple(segments[:-1]), tuple(segments[-1:])
    primal = design.problem(train, test, form="primal")
    X = primal.train.numpy()
    weights = rng.standard_normal((X.shape[1], n_targets)) / np.sqrt(X.shape[1])
    noise = rng.standard_normal((len(X) + 1, n_targets))
    # signal-to-noise from next to none to good, so that all alphas of a grid are in use
    size = np.geomspace(30, 0.1, n_targets)
    responses = (X @ weights + size * (noise[1:] + 0.5 * noise[:-1])).astype(np.float32)
    folds = np.repeat(np.arange(len(train)), [s.stop - 10 for s in train])
    return World(design, train, test, design.problem(train, test, form="dual"), primal, responses, folds)


@pytest.fixture(scope="session")
def world() -> World:
    """More columns (400) than rows (304): the dual regime."""
    return make_world(100, 300)


@pytest.fixture(scope="session")
def narrow() -> World:
    """Fewer columns (48) than rows: the primal regime."""
    return make_world(12, 300)


@pytest.fixture(scope="session")
def world_factory() -> Callable[..., World]:
    return make_world
