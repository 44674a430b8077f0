# SPDX-License-Identifier: Apache-2.0
"""Training throughput of the small preset: tokens a second through the Trainer, beside a bare loop of the same steps."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from voxelboard.benchmark.stimuli.ablations import Counts
from voxelboard.benchmark.stimuli.corpora import MANIFEST, Manifest
from voxelboard.benchmark.training.presets import ARCHITECTURES, PRESETS, Architecture, model_config
from voxelboard.benchmark.training.tokens import END, train_tokenizer
from voxelboard.benchmark.training.trainer import train_model

N_TOKENS = 100_000
# no measurement but those at the start and the end, no checkpoint but the last
PRESET = replace(PRESETS["small"], tokens=N_TOKENS, measurements=1, checkpoints=1, validation_windows=1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import json

    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(rng.choice(letters, int(rng.integers(2, 9)))) for _ in range(3000)]
    frequency = 1 / np.arange(1, len(words) + 1)
    lines = [" ".join(rng.choice(words, 40, p=frequency / frequency.sum())) for _ in range(1500)]
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "00000-0.train.txt").write_text("\n".join(lines[30:]) + "\n")
    (folder / "00000-0.validation.txt").write_text("\n".join(lines[:30]) + "\n")
    manifest = Manifest(
        "words", "", "none", 0, True, 1.0, 1, (), len(lines), 0, Counts(), "words", ("00000-0.train.txt",)
    )
    (folder / MANIFEST).write_text(json.dumps(asdict(manifest)))
    return folder


@pytest.fixture(scope="module")
def tokenizer(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    lines = (corpus / "00000-0.train.txt").read_text().splitlines()
    return train_tokenizer(lines, PRESET.vocabulary, tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def outputs(tmp_path: Path) -> Iterator[Path]:
    return (tmp_path / str(k) for k in range(100))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_trainer(
    benchmark: Any, corpus: Path, tokenizer: Any, outputs: Iterator[Path], tmp_path: Path, architecture: Architecture
) -> None:
    def train() -> Any:
        return train_model(PRESET, architecture, corpus, tokenizer, 0, next(outputs), tokens_folder=tmp_path / "tokens")

    result = benchmark.pedantic(train, rounds=3, warmup_rounds=1)
    benchmark.extra_info["tokens"] = result.tokens_seen


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bare_loop(benchmark: Any, tokenizer: Any, architecture: Architecture) -> None:
    """Forward, backward, clipping and AdamW, and nothing else: what the steps cost at the least."""
    from transformers import AutoModelForCausalLM

    end = tokenizer.convert_tokens_to_ids(END)
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, len(tokenizer), (PRESET.steps, 1, PRESET.context)))

    def train() -> float:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(model_config(PRESET, architecture, len(tokenizer), end))
        shape = PRESET.shapes[architecture]
        steps = torch.optim.AdamW(model.parameters(), lr=shape.learning_rate, betas=(PRESET.momentum, 0.98), fused=True)
        for window in ids:
            loss = model(input_ids=window, labels=window).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            steps.step()
            steps.zero_grad()
        return float(loss.detach())

    assert np.isfinite(benchmark.pedantic(train, rounds=3, warmup_rounds=1))
    benchmark.extra_info["tokens"] = PRESET.steps * PRESET.context
