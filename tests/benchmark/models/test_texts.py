# SPDX-License-Identifier: Apache-2.0
"""States of whole texts: equal to reading each by itself with nothing but Transformers, whatever the batch."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.models.baselines import RandomWordVectors
from voxelboard.benchmark.models.load import load_model
from voxelboard.benchmark.models.quiet import quiet_transformers
from voxelboard.benchmark.models.spec import ModelSpec
from voxelboard.benchmark.models.texts import read_texts

TEXTS = ["a little girl", "the dog went to the sea again and again", "a little girl", "the café was open…", "cat"]
LOADERS = {"gpt2": "causal", "llama": "causal", "bert": "masked", "roberta": "masked", "t5": "seq2seq"}


def _naive(folder: Path, max_length: int | None = None) -> np.ndarray:
    with quiet_transformers():
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    states = []
    for text in TEXTS:
        encoded = tokenizer(
            text,
            return_special_tokens_mask=True,
            return_tensors="pt",
            truncation=max_length is not None,
            max_length=max_length,
        )
        own = ~encoded["special_tokens_mask"][0].bool()
        with torch.no_grad():
            layers = model(input_ids=encoded["input_ids"], output_hidden_states=True).hidden_states
        states.append(torch.stack([layer[0, own].mean(0) for layer in layers]).numpy())
    return np.stack(states, axis=1)


@pytest.mark.parametrize("family", LOADERS)
@pytest.mark.parametrize("batch_size", [1, "auto"])
def test_texts_equal_reading_each_by_itself(
    family: str, batch_size: int | str, checkpoints: Callable[[str], Path]
) -> None:
    folder = checkpoints(family)
    model = load_model(ModelSpec(loader=LOADERS[family], source="local", path=folder), batch_size=batch_size)
    np.testing.assert_allclose(read_texts(model, TEXTS), _naive(folder), atol=1e-5)


def test_long_texts_are_cut_at_their_end_and_counted(new_checkpoint: Callable[..., Path]) -> None:
    folder = new_checkpoint("roberta", max_position_embeddings=9)  # of which two are for the padding's position
    model = load_model(ModelSpec(loader="masked", source="local", path=folder))
    np.testing.assert_allclose(read_texts(model, TEXTS), _naive(folder, model.identity.max_tokens), atol=1e-5)
    assert model.report.n_shortened > 0


def test_a_model_of_words_gives_the_mean_over_words(monkeypatch: pytest.MonkeyPatch) -> None:
    model = RandomWordVectors(5)
    found = read_texts(model, TEXTS)
    alone = {word: read_texts(model, [word])[0, 0] for word in ["a", "little", "girl"]}
    np.testing.assert_allclose(found[0, 0], np.mean(list(alone.values()), axis=0), atol=1e-6)
    np.testing.assert_array_equal(found[0, 0], found[0, 2])
    monkeypatch.setattr("voxelboard.benchmark.models.texts._CHUNK_WORDS", 4)
    np.testing.assert_allclose(read_texts(model, TEXTS), found, atol=1e-6)


def test_no_text_and_empty_texts() -> None:
    model = RandomWordVectors(5)
    assert read_texts(model, []).shape == (1, 0, 5)
    with pytest.raises(DataError, match="empty"):
        read_texts(model, ["a", " "])
