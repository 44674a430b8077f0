# SPDX-License-Identifier: Apache-2.0
"""Attributions through the store: resumed, keyed by what determines them, and refused where a model cannot give them."""

from dataclasses import replace
from pathlib import Path

import linear_language
import numpy as np
import pytest
import tiny_language
import torch

from voxelboard.benchmark.errors import DataError, UserError
from voxelboard.benchmark.features import attributions
from voxelboard.benchmark.features.attributions import attribution_features
from voxelboard.benchmark.features.methods import METHODS, choose_methods
from voxelboard.benchmark.features.resample import tr_mean
from voxelboard.benchmark.features.store import FeatureStore
from voxelboard.benchmark.models.alignment import FastTokenizer
from voxelboard.benchmark.models.contexts import plan_contexts
from voxelboard.benchmark.models.language import LanguageModel
from voxelboard.benchmark.protocol import V1

STORIES = {name: tiny_language.tale([*word], name) for name, word in (("one", "abcdefgh"), ("two", "hgfedcba"))}
CHEAP = ("activations", "gradient_norm", "erasure_zero", "conductance")


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    """Linear, without attention: every table is cheap."""
    tokenizer = FastTokenizer(tiny_language.byte_tokenizer(" ".join("abcdefgh"), start=False), "letters")
    module = linear_language.LinearLanguage(n_vocabulary=290)
    return LanguageModel(module, tokenizer, linear_language.IDENTITY, torch.device("cpu"), 0)


def test_features_are_the_mean_over_the_words_of_a_tr(lm: LanguageModel, tmp_path: Path) -> None:
    found = attribution_features(lm, STORIES, CHEAP, V1, FeatureStore(tmp_path))
    assert set(found.features) == set(CHEAP)
    assert not found.refused
    for name, story in STORIES.items():
        contexts = plan_contexts(story, 10, lm.tokenizer, None)
        words = attributions.plain_pass(lm, contexts, V1.attribution)["gradient_norm"][0]
        np.testing.assert_allclose(found.features["gradient_norm"][name][0], tr_mean(words, story), rtol=1e-6)
        assert found.features["conductance"][name].shape == (2, story.n_trs, 6)
        assert found.completeness[name].shape == (3, story.n_words, 3)


def test_a_run_that_stopped_goes_on_where_it_was(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = attribution_features(lm, STORIES, CHEAP, V1, FeatureStore(tmp_path / "whole"))
    calls: list[str] = []
    for group in ("plain", "path", "erasure"):
        original = attributions.PASSES[group]

        def watched(*arguments, group=group, original=original):
            calls.append(group)
            if calls == ["plain", "erasure", "path", "plain", "erasure"]:
                raise KeyboardInterrupt
            return original(*arguments)

        monkeypatch.setitem(attributions.PASSES, group, watched)
    with pytest.raises(KeyboardInterrupt):
        attribution_features(lm, STORIES, CHEAP, V1, FeatureStore(tmp_path / "cut"))
    done = len(calls)
    resumed = attribution_features(lm, STORIES, CHEAP, V1, FeatureStore(tmp_path / "cut"))
    assert calls[done:] == ["erasure", "path"]  # the first story and the second's first pass came from the store
    for name, tables in whole.features.items():
        for story, table in tables.items():
            np.testing.assert_array_equal(resumed.features[name][story], table)
    attribution_features(lm, STORIES, CHEAP, V1, FeatureStore(tmp_path / "cut"))
    assert len(calls) == done + 2


@pytest.mark.parametrize(
    "change", [{"target": "argmax"}, {"score": "logit"}, {"baseline": "zero"}, {"context_words": 3}]
)
def test_another_choice_of_the_protocol_is_never_a_stale_hit(
    lm: LanguageModel, tmp_path: Path, change: dict[str, object]
) -> None:
    store = FeatureStore(tmp_path)
    first = attribution_features(lm, STORIES, CHEAP, V1, store)
    other = replace(V1, attribution=replace(V1.attribution, **change))
    second = attribution_features(lm, STORIES, CHEAP, other, store)
    assert store.hits == 0
    shapes = [found.features["erasure_zero"]["one"].shape for found in (first, second)]
    tables = [found.features["conductance"]["one"] for found in (first, second)]
    assert shapes[0] != shapes[1] or not np.array_equal(*tables)


def test_progress_names_story_and_computation_and_ends_with_all_words(lm: LanguageModel, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    attribution_features(lm, STORIES, CHEAP, V1, FeatureStore(tmp_path), lambda *call: calls.append(call))
    for number in (1, 2):
        for group in ("plain", "path", "erasure"):
            own = [(done, total) for what, done, total in calls if what == f"attributions, story {number}/2, {group}"]
            assert own[-1] == (8, 8)
            assert own == sorted(own)


def test_attention_of_a_model_without_attention_is_refused_with_the_reason(lm: LanguageModel, tmp_path: Path) -> None:
    found = attribution_features(lm, STORIES, tuple(METHODS), V1, FeatureStore(tmp_path))
    assert "no attention weights" in found.refused["attention"]
    assert "attention" not in found.features
    assert set(found.features) == set(METHODS) - {"attention"}
    with pytest.raises(UserError, match="no attention weights") as refused:
        attribution_features(lm, STORIES, ("activations", "attention"), V1, FeatureStore(tmp_path))
    assert "gradient_norm" in refused.value.hint


def test_a_context_that_is_longer_than_the_models_is_refused(lm: LanguageModel) -> None:
    with pytest.raises(DataError, match=r"word 5 'f' and the 5 words before it have 6 tokens, more than the 5"):
        plan_contexts(STORIES["one"], 10, lm.tokenizer, 5)


def test_what_may_be_asked_for() -> None:
    assert choose_methods(["attributions"]) == tuple(METHODS)
    assert choose_methods(["conductance", "gradient_norm"]) == ("activations", "gradient_norm", "conductance")
    with pytest.raises(UserError, match=r"unknown --features 'gradient_nrm'.*Did you mean 'gradient_norm'"):
        choose_methods(["gradient_nrm"])
