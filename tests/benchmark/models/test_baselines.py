# SPDX-License-Identifier: Apache-2.0
"""The mandatory rows say what they should and nothing more."""

import numpy as np
import pytest

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.models.baselines import BASELINES, baseline_model
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.readers.base import StaticVectors
from voxelboard.benchmark.stimuli.stories import make_story

TABLE = StaticVectors("toy", {"a": 0, "dog": 1, "it's": 2}, np.array([[1, 2], [3, 6], [5, 1]], dtype=np.float32))


def story(words, name="story"):
    onsets = np.arange(len(words)) * 0.5
    return make_story(name, words, onsets, onsets + 0.4, n_trs=len(words) // 4 + 1, tr=2.0)


def vectors(model, of):
    (layer,) = model.states(of, V1.context)
    return layer


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_has_one_layer_of_finite_floats(name):
    words = story(["a", "dog", "barks"])
    model = baseline_model(name, width=5, table=TABLE)
    output = model.states(words, V1.context)
    assert output.shape == (1, 3, 2 if name == "static" else 5)
    assert output.shape[2] == model.n_features
    assert output.dtype == np.float32
    np.testing.assert_array_equal(output, baseline_model(name, width=5, table=TABLE).states(words, V1.context))
    assert (model.n_layers, model.identity.loader, model.identity.model_id) == (1, "baseline", name)


def test_the_constant_is_the_same_for_every_word_and_story():
    model = baseline_model("constant", width=3)
    both = np.concatenate([vectors(model, story(["a", "b"])), vectors(model, story(["c"], "other"))])
    assert (both == both[0]).all()
    assert both.any()


def test_context_noise_is_slow_and_new_in_every_story():
    model = baseline_model("context-noise", width=4)
    first, second = (vectors(model, story(["w"] * 20_000, name)).astype(float) for name in ("a", "b"))
    for series in first.T:
        assert np.corrcoef(series[:-1], series[1:])[0, 1] == pytest.approx(0.95, abs=0.01)
        assert series.std() == pytest.approx(1, abs=0.15)
    assert abs(np.corrcoef(first[:, 0], second[:, 0])[0, 1]) < 0.15
    assert not np.array_equal(first, vectors(baseline_model("context-noise", 4, seed=1), story(["w"] * 20_000, "a")))


def test_random_word_vectors_know_the_word_and_nothing_else():
    model = baseline_model("random-word-vectors", width=200)
    rows = vectors(model, story(["Dog", "cat", "dog"]))
    np.testing.assert_array_equal(rows[0], rows[2])
    np.testing.assert_array_equal(rows[1], vectors(model, story(["cat"], "elsewhere"))[0])
    assert abs(np.corrcoef(rows[0], rows[1])[0, 1]) < 0.3
    words = [f"w{k}" for k in range(500)]
    values = vectors(baseline_model("random-word-vectors", width=20), story(words))
    assert values.mean() == pytest.approx(0, abs=0.03)
    assert values.std() == pytest.approx(1, abs=0.03)


def test_static_vectors_come_from_the_table():
    rows = vectors(baseline_model("static", width=99, table=TABLE), story(["A", "dog,", "It's", "zebra"]))
    np.testing.assert_array_equal(rows, [[1, 2], [3, 6], [5, 1], [3, 3]])  # the last: the mean of the table


def test_the_identity_of_static_follows_its_table():
    other = StaticVectors("toy", TABLE.index, TABLE.vectors + 1)
    revisions = {baseline_model("static", 1, table=table).identity.revision for table in (TABLE, other)}
    assert len(revisions) == 2


@pytest.mark.parametrize(("name", "width"), [("statik", 4), ("static", 4), ("constant", 0)])
def test_baselines_that_cannot_be_made(name, width):
    with pytest.raises(UserError):
        baseline_model(name, width)
