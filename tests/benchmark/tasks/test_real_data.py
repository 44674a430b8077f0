# SPDX-License-Identifier: Apache-2.0
"""The narrative task on real fMRI, against figures that were computed independently of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from voxelboard.benchmark.features.confounds import letters
from voxelboard.benchmark.features.resample import tr_sum
from voxelboard.benchmark.models.static import read_word_vectors
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.readers.cards import load_card
from voxelboard.benchmark.readers.lebel2023_pcs import Lebel2023Components
from voxelboard.benchmark.tasks.cohort_scores import ModelFeatures
from voxelboard.benchmark.tasks.narrative import Narrative

# Mean test r over the first 10, 50 and 200 components with plain ridge on word count, letter count and GloVe.
REFERENCE = {"UTS01": (0.092, 0.130, 0.099), "UTS02": (0.215, 0.160, 0.145)}


@pytest.mark.timeout(600)
def test_word_counts_and_glove_predict_lebel_as_plain_ridge_does(shared_data: Path) -> None:
    data = Lebel2023Components(load_card("lebel2023-pcs"), shared_data / "lebel2023_pcs")
    table = read_word_vectors(shared_data / "glove25" / "glove.twitter.25d.11925.txt.gz")
    zero = np.zeros(table.vectors.shape[1])
    features = {}
    for name, story in data.stories.items():
        known = [table.index.get(word.lower()) for word in story.words]
        glove = np.stack([zero if row is None else table.vectors[row] for row in known])
        words = np.concatenate([np.ones((story.n_words, 1)), letters(story)[:, None], glove], axis=1)
        features[name] = tr_sum(words, story)[None].astype(np.float32)
    protocol = replace(V1, score=replace(V1.score, noise_brain_voxels=64, noise_brain_limit=0.05))
    results = Narrative().run(data, data.subjects, ModelFeatures(features), protocol, torch.device("cpu"))
    for result in results:
        r = result.arrays["voxel_r__raw"].astype(np.float64)
        found = [r[:n].mean() for n in (10, 50, 200)]
        np.testing.assert_allclose(found, REFERENCE[result.subject], atol=0.02)
        # A feature that knows only when a TR happened: nothing when stories are left out (+.64 under shuffled TRs).
        assert result.checks.oasm == 0
