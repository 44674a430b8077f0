# SPDX-License-Identifier: Apache-2.0
"""Language models with their heads: what is loaded, and what is refused before anything is explained."""

import json
from pathlib import Path

import linear_language
import numpy as np
import pytest
import tiny_language
import torch
import transformers

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.models.alignment import FastTokenizer
from voxelboard.benchmark.models.contexts import plan_contexts
from voxelboard.benchmark.models.language import LanguageModel, load_language_model
from voxelboard.benchmark.models.load import load_model
from voxelboard.benchmark.models.quiet import quiet_transformers
from voxelboard.benchmark.models.spec import ModelSpec


def spec(folder: Path, loader: str = "causal", **options: object) -> ModelSpec:
    return ModelSpec(loader=loader, source="local", path=folder, **options)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_language.save_language_model(tmp_path_factory.mktemp("gpt2"), "gpt2")


def test_it_has_the_body_and_the_hashes_of_the_model_whose_states_are_read(gpt2: Path) -> None:
    body, lm = load_model(spec(gpt2)), load_language_model(spec(gpt2))
    assert lm.identity.weights_sha256 == body.identity.weights_sha256
    assert lm.identity.tokenizer_sha256 == body.identity.tokenizer_sha256
    assert (lm.n_layers, lm.n_features, lm.n_heads, lm.n_attention_layers) == (4, 16, 2, 3)
    assert lm.identity.dtype == "float32"
    mean = lm._embedding.weight.double().mean(0).float()
    torch.testing.assert_close(lm.mean_embedding, mean)


def test_a_random_twin_has_the_body_of_the_twin_whose_states_are_read(gpt2: Path) -> None:
    twin = spec(gpt2, weights="random", seed=3)
    lm, body = load_language_model(twin), load_model(twin)
    ids = torch.arange(1, 7)[None]
    states = body._backbone.hidden_states(ids, torch.ones_like(ids))
    for one, other in zip(lm.read(lm.embed(ids)).hidden, states, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    again = load_language_model(twin)
    torch.testing.assert_close(again.read(again.embed(ids)).last, lm.read(lm.embed(ids)).last)


@pytest.mark.parametrize("loader", ["masked", "seq2seq", "sentence"])
def test_a_model_that_does_not_predict_the_next_word_is_refused(gpt2: Path, loader: str) -> None:
    with pytest.raises(UserError, match="attributions explain what a causal model says"):
        load_language_model(spec(gpt2, loader))


def test_a_quantised_model_is_refused(gpt2: Path, tmp_path: Path) -> None:
    for path in gpt2.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((gpt2 / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"is quantised \(gptq\): gradients of rounded weights") as refused:
        load_language_model(spec(tmp_path))
    assert "unquantised" in refused.value.hint


def test_a_checkpoint_without_its_head_is_refused(tmp_path: Path) -> None:
    config = transformers.LlamaConfig(**tiny_language.CONFIGS["llama"][1])  # its head is not tied to the embeddings
    with quiet_transformers():
        transformers.AutoModel.from_config(config).save_pretrained(tmp_path)
    tiny_language.byte_tokenizer(tiny_language.TEXT).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"lm_head.weight.*scores of words would be random"):
        load_language_model(spec(tmp_path))


def test_a_model_without_gradients_is_refused() -> None:
    class Frozen(linear_language.LinearLanguage):
        def states(self, embeddings, mask):
            return super().states(embeddings, mask).round()  # its derivative is 0

    tokenizer = FastTokenizer(tiny_language.byte_tokenizer("a b"), "letters")
    with pytest.raises(UserError, match="no gradient of its scores reaches its embeddings"):
        LanguageModel(Frozen(290), tokenizer, linear_language.IDENTITY, torch.device("cpu"), 0)


def test_tokens_of_a_context_belong_to_its_words(gpt2: Path) -> None:
    lm = load_language_model(spec(gpt2))
    story = tiny_language.tale()
    contexts = plan_contexts(story, 10, lm.tokenizer, None)
    decode = lm.tokenizer._tokenizer.decode
    for context in (contexts[4], contexts[20]):
        assert context.ids[0] == 1  # the start token belongs to no word
        np.testing.assert_array_equal(context.shares[:, 0], 0)
        for row in range(10):
            word = context.word - 10 + row
            tokens = context.ids[context.shares[row] > 0]
            assert decode(tokens).strip() == (story.words[word] if word >= 0 else "")
        assert decode(context.targets).strip() == story.words[context.word]
        np.testing.assert_array_equal(context.targets, context.ids[context.scored])
        assert context.own.sum() == pytest.approx(1.0)
        assert context.shares[:, context.scored].max() == 0


def test_a_token_of_two_words_counts_half_for_each() -> None:
    class TwoWords:
        """One token for each pair of words: 'a b', 'c d', then the rest."""

        name = "pairs"

        def encode(self, texts):
            from voxelboard.benchmark.models.alignment import Tokens

            found = []
            for text in texts:
                offsets = [(i, min(i + 3, len(text))) for i in range(0, len(text), 4)]
                none = np.zeros(len(offsets), dtype=bool)
                found.append(Tokens(np.arange(len(offsets)), np.array(offsets), none, none))
            return found

    contexts = plan_contexts(tiny_language.tale([*"abcde"]), 10, TwoWords(), None)
    whole = contexts[4]  # "a b", "c d", "e"
    np.testing.assert_array_equal(whole.shares[6:], [[0.5, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0.5, 0]])
    assert whole.scored.tolist() == [2]
    shared = contexts[3]  # "d" comes in the token of "c": it is explained, not explaining
    np.testing.assert_array_equal(shared.shares[7:], [[0.5, 0], [0.5, 0], [0, 0]])
    assert shared.scored.tolist() == [1]


@pytest.mark.gpu
def test_the_gpu_gives_the_attributions_of_the_cpu(gpt2: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    from voxelboard.benchmark.features.attribution_passes import erasure_pass, path_pass, plain_pass
    from voxelboard.benchmark.protocol import AttributionPolicy

    for compute in (plain_pass, path_pass, erasure_pass):
        tables = []
        for device in ("cpu", "cuda"):
            lm = load_language_model(spec(gpt2), device=device)
            contexts = plan_contexts(tiny_language.tale(), 10, lm.tokenizer, None)
            tables.append(compute(lm, contexts, AttributionPolicy()))
        for name, table in tables[0].items():
            np.testing.assert_allclose(tables[1][name], table, atol=1e-3 * max(1.0, np.abs(table).max()), err_msg=name)
