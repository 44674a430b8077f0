# SPDX-License-Identifier: Apache-2.0
"""Simulated listeners whose voxels follow the nouns of a story, its verbs, both, or nothing: the truth of an ablation."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import unknown_name
from voxelboard.benchmark.protocol import TaskName
from voxelboard.benchmark.readers.simulated import DEFAULT_PRESET, PRESETS, SimulatedNarrative
from voxelboard.benchmark.stimuli.grammar import PARTS_OF_SPEECH
from voxelboard.benchmark.stimuli.simulated import SpokenStory, sum_to_grid

FloatArray = NDArray[np.float64]

NAME = "simulated-ablation"
DRIVING = ("noun", "verb")


class SimulatedAblation(SimulatedNarrative):
    """The stories of ``simulated-narrative`` and listeners of another kind; satisfies ``NarrativeData``.

    A voxel of ``NOUN`` follows the meanings (``lex``) of the nouns and of no other word, one of ``VERB`` those of the verbs, one
    of ``BOTH`` either in equal parts, one of ``NULL`` nothing. Take the nouns away and what could be predicted of ``NOUN`` is
    gone, while ``VERB`` has lost nothing.
    """

    task: TaskName = "ablation"
    space_names = DRIVING
    roi_shares: Mapping[str, tuple[float, ...]] = {
        "NOUN": (1.0, 0.0),
        "VERB": (0.0, 1.0),
        "BOTH": (0.5, 0.5),
        "NULL": (0.0, 0.0),
    }

    def _space_grids(
        self, spoken: Sequence[SpokenStory], latents: Sequence[Mapping[str, FloatArray]]
    ) -> list[dict[str, FloatArray]]:
        grids = []
        for story, words in zip(spoken, latents, strict=True):
            parts = story.latents["syn"][:, -len(PARTS_OF_SPEECH) :]  # (n_words, n_parts) one-hot
            n_steps = story.n_trs * self.spec.oversampling
            grids.append(
                {
                    name: sum_to_grid(
                        words["lex"] * parts[:, [PARTS_OF_SPEECH.index(name)]], story.onsets, n_steps, self._step
                    )
                    for name in DRIVING
                }
            )
        return grids


@lru_cache(maxsize=2)
def open_simulated_ablation(preset: str = DEFAULT_PRESET, seed: int = 0) -> SimulatedAblation:
    """The data set of a preset, kept in this process; raises UserError for an unknown preset."""
    if preset not in PRESETS:
        raise unknown_name("preset of the simulated data set", preset, PRESETS)
    name = NAME if preset == DEFAULT_PRESET and seed == 0 else f"{NAME}:{preset}" + (f":{seed}" if seed else "")
    return SimulatedAblation(replace(PRESETS[preset], seed=seed), name)
