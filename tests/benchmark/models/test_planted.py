# SPDX-License-Identifier: Apache-2.0
"""Planted language models know exactly as much as they should."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.models.simulated import PLANTED_SPACES, PlantedModel, planted_model
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.readers.simulated import open_simulated
from voxelboard.benchmark.stimuli.stories import make_story


@pytest.fixture(scope="module")
def data():
    return open_simulated("ci")


def states(model, stories):
    """(n_layers, n_words of all stories, n_features)"""
    return np.concatenate([model.states(story, V1.context) for story in stories], axis=1).astype(float)


def explained(X, Y):
    """Share of the variance of Y that a linear map of X explains, corrected for the number of columns."""
    X = np.column_stack([np.ones(len(X)), X])
    residual = Y - X @ np.linalg.lstsq(X, Y, rcond=None)[0]
    shrink = (len(X) - 1) / (len(X) - X.shape[1])
    return 1 - shrink * residual.var(axis=0).sum() / Y.var(axis=0).sum()


@pytest.mark.parametrize("q", [0.0, 0.3, 0.9])
def test_the_latents_explain_the_planted_share_of_the_states(data, q):
    stories = list(data.stories.values())
    latents = np.concatenate([np.hstack([s.annotations[k] for k in PLANTED_SPACES]) for s in stories])
    model = PlantedModel("m", q, n_layers=3, width=40, seed=2)
    for layer in states(model, stories):
        # integrators start at zero in each story, and junk takes 2 % and less
        assert explained(latents, layer) == pytest.approx(q, abs=0.06)


def test_layers_go_from_words_to_meaning(data):
    stories = list(data.stories.values())
    model = PlantedModel("m", 1.0, n_layers=6, width=60, seed=0)
    found = {}
    for space in PLANTED_SPACES:
        table = np.concatenate([s.annotations[space] for s in stories])
        found[space] = [explained(table, layer) for layer in states(model, stories)]
    assert np.argmax(found["lex"]) <= 1
    assert np.argmax(found["sem"]) >= 4
    assert found["lex"][0] > found["sem"][0]
    assert found["sem"][-1] > found["lex"][-1]


def test_fidelity_can_differ_by_space(data):
    stories = list(data.stories.values())
    model = planted_model("planted-lex0.0-syn0.0-sem1.0-d30-l4-s0")
    (layer,) = states(model, stories)[[2]]
    sem = np.concatenate([s.annotations["sem"] for s in stories])
    lex = np.concatenate([s.annotations["lex"] for s in stories])
    assert explained(sem, layer) > 0.35
    assert explained(lex, layer) < explained(sem, layer) / 3


def test_the_planted_order_comes_back_from_simulated_brains(data):
    """Ridge on the middle layer, delays of 1 to 4 TR, held-out story: better models predict better."""

    def design(story, layer):
        counts = np.bincount(story.word_trs, minlength=story.n_trs)[:, None]
        mean = np.zeros((story.n_trs, layer.shape[1]))
        np.add.at(mean, story.word_trs, layer)
        mean /= np.maximum(counts, 1)
        padded = np.vstack([np.zeros((4, mean.shape[1])), mean])
        return np.hstack([padded[4 - d : len(padded) - d] for d in (1, 2, 3, 4)])

    responses, signal = data.responses("sim01").runs, data.signal("sim01")["test01"]
    live = data.rois != "NULL"
    train = [name for name in data.stories if name.startswith("train")]

    def score(model):
        X = {name: design(story, model.states(story, V1.context)[2]) for name, story in data.stories.items()}
        fit = RidgeCV(alphas=np.logspace(1, 6, 6)).fit(
            np.concatenate([X[name] for name in train]), np.concatenate([responses[name][0] for name in train])
        )
        predicted = fit.predict(X["test01"])[:, live]
        return np.mean([np.corrcoef(predicted[:, v], signal[:, live][:, v])[0, 1] for v in range(live.sum())])

    r = [score(PlantedModel(f"q{q}", q, n_layers=5, width=48, seed=k)) for k, q in enumerate((0.9, 0.6, 0.3))]
    twin = score(PlantedModel("q0.9", 0.9, n_layers=5, width=48, weights="random"))
    assert r[0] > r[1] + 0.02 > r[2] + 0.04
    assert twin < r[0] / 1.5


def test_a_twin_knows_nothing_of_content(data):
    """Shuffling the latents among words changes a trained model and not its twin."""
    story = data.stories["train01"]
    order = np.random.default_rng(0).permutation(story.n_words)
    annotations = {k: v[order] if k in PLANTED_SPACES else v for k, v in story.annotations.items()}
    shuffled = replace(story, annotations=annotations)
    trained = planted_model("planted-q0.9-d24-l3-s1")
    twin = planted_model("planted-q0.9-d24-l3-s1", weights="random")
    assert not np.array_equal(trained.states(story, V1.context), trained.states(shuffled, V1.context))
    np.testing.assert_array_equal(twin.states(story, V1.context), twin.states(shuffled, V1.context))
    assert twin.states(story, V1.context).shape == trained.states(story, V1.context).shape


def test_a_twin_knows_the_form_of_words(data):
    stories = list(data.stories.values())
    twin = planted_model("planted-q0.9-d24-l3-s1", weights="random")
    length = np.array([[len(word)] for s in stories for word in s.words], dtype=float)
    position = np.concatenate([s.annotations["sentence_position"] for s in stories])
    for layer in states(twin, stories):
        assert explained(layer, length) > 0.9
        assert explained(layer, position) > 0.7


def test_twins_differ_by_seed_and_all_identities_differ(data):
    story = data.stories["train01"]
    name = "planted-q0.9-d24-l3-s1"
    models = [planted_model(name), *(planted_model(name, weights="random", seed=k) for k in (1, 2))]
    outputs = [model.states(story, V1.context) for model in models]
    assert len({output.tobytes() for output in outputs}) == 3
    for field in ("revision", "weights_sha256"):
        assert len({getattr(model.identity, field) for model in models}) == 3
    assert [model.identity.weights for model in models] == ["pretrained", "random", "random"]
    assert {model.identity.model_id for model in models} == {name}


def test_states_have_the_promised_form(data):
    story = data.stories["train01"]
    model = planted_model("planted-q0.5-d17-l1-s0")
    seen = []
    output = model.states(story, V1.context, lambda done, total: seen.append((done, total)))
    assert output.shape == (1, story.n_words, 17)
    assert output.dtype == np.float32
    assert np.isfinite(output).all()
    assert seen == [(story.n_words, story.n_words)]
    assert (model.n_layers, model.n_features, model.identity.loader) == (1, 17, "simulated")


def test_the_same_model_in_another_process_has_the_same_states(data):
    script = (
        "import hashlib\n"
        "from voxelboard.benchmark.models.baselines import ContextNoise, RandomWordVectors\n"
        "from voxelboard.benchmark.models.simulated import planted_model\n"
        "from voxelboard.benchmark.protocol import V1\n"
        "from voxelboard.benchmark.readers.simulated import open_simulated\n"
        "story = open_simulated('tiny').stories['test01']\n"
        "name = 'planted-q0.5-d9-l2-s4'\n"
        "models = [planted_model(name), planted_model(name, 'random'), ContextNoise(4), RandomWordVectors(4)]\n"
        "print(*(hashlib.sha256(m.states(story, V1.context).tobytes()).hexdigest() for m in models))\n"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "99")
    }
    assert len(hashes) == 1
    assert len(set(next(iter(hashes)).split())) == 4


def test_other_stories_are_refused():
    story = make_story("other", ["hello"], [0.0], [1.0], n_trs=10, tr=2.0)
    for weights in ("pretrained", "random"):
        with pytest.raises(UserError, match="planted models only read the simulated data set"):
            planted_model("planted-q0.9-d8-l2-s0", weights=weights).states(story, V1.context)


@pytest.mark.parametrize(
    "model_id",
    ["planted", "planted-q0.9", "planted-q1.5-d8-l2-s0", "planted-q0..9-d8-l2-s0", "planted-q0.9-d0-l2-s0", "gpt2"],
)
def test_ids_that_name_no_model_are_refused(model_id):
    with pytest.raises(UserError):
        planted_model(model_id)


def test_unknown_spaces_are_refused():
    with pytest.raises(UserError, match="fidelity must map lex, syn, sem"):
        PlantedModel("m", {"low": 0.5})
