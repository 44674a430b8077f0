# SPDX-License-Identifier: Apache-2.0
"""A small listener world whose answer is known: a few features of the words, an FIR response, and noise."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from voxelboard.benchmark.protocol import V1, Protocol
from voxelboard.benchmark.readers.base import CeilingKind, Responses, Segment, Split, StaticVectors
from voxelboard.benchmark.stimuli.stories import Story, make_story

N_FEATURES = 6


@dataclass
class ListenerWorld:
    """Satisfies ``NarrativeData``; ``features`` are what drives the voxels, ``truth`` the noise-free responses."""

    stories: dict[str, Story]
    runs: dict[str, dict[str, np.ndarray]]
    features: dict[str, np.ndarray]
    truth: dict[str, np.ndarray]
    split: Split
    ceiling_kind: CeilingKind
    name: str = "listener-world"
    version: str = "1"
    kind: str = "simulated"
    task: str = "narrative"
    scored_rois: tuple[str, ...] = ("A", "B")
    static_vectors: StaticVectors | None = None

    @property
    def subjects(self) -> tuple[str, ...]:
        return tuple(self.runs)

    def responses(self, subject: str) -> Responses:
        return Responses(subject, self.runs[subject], np.array(["A"] * 4 + ["B"] * 4 + ["silent"] * 2))


def make_world(kind: CeilingKind = "repeats", seed: int = 0, noise: float = 1.0, n_subjects: int = 2) -> ListenerWorld:
    """Five training stories and a test story of 120 TRs (repeated four times where repeats are the ceiling)."""
    rng = np.random.default_rng([seed, 99])
    n_trs, tr = 120, 2.0
    names = [f"train{i}" for i in range(5)] + ["test"]
    weights = rng.standard_normal((4 * N_FEATURES, 8))
    stories, features, truth = {}, {}, {}
    for name in names:
        onsets = np.sort(rng.uniform(0, n_trs * tr - 1, 300))
        words = ["".join(rng.choice(list("abcdefg"), rng.integers(1, 9))) for _ in onsets]
        stories[name] = make_story(name, words, onsets, onsets + 0.2, n_trs=n_trs, tr=tr)
        features[name] = rng.standard_normal((n_trs, N_FEATURES))
        delayed = np.concatenate(
            [np.vstack([np.zeros((d, N_FEATURES)), features[name][:-d]]) for d in (1, 2, 3, 4)], axis=1
        )
        signal = delayed @ weights / np.sqrt(4 * N_FEATURES)
        truth[name] = np.concatenate([signal, np.zeros((n_trs, 2))], axis=1)
    runs: dict[str, dict[str, np.ndarray]] = {}
    for subject in range(n_subjects):
        runs[f"s{subject}"] = {}
        for name in names:
            n_repeats = 4 if name == "test" and kind == "repeats" else 1
            noisy = truth[name] + noise * rng.standard_normal((n_repeats, n_trs, 10))
            runs[f"s{subject}"][name] = noisy.astype(np.float32)
    segments = tuple(Segment(name, 0, n_trs) for name in names)
    return ListenerWorld(stories, runs, features, truth, Split(((segments[:-1], segments[-1:]),)), kind)


@pytest.fixture(scope="session")
def world() -> Callable[..., ListenerWorld]:
    """Builds a :class:`ListenerWorld`."""
    return make_world


@pytest.fixture(scope="session")
def quick() -> Protocol:
    """The scored protocol with a smaller noise brain: its mean r still has a standard error below .008."""
    return replace(V1, name="quick", score=replace(V1.score, noise_brain_voxels=256))
