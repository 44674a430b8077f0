# SPDX-License-Identifier: Apache-2.0
"""Tiny causal language models with their heads, as checkpoints in the exact format, and stories that they can read."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from voxelboard.benchmark.models.language import LanguageModel, load_language_model
from voxelboard.benchmark.models.quiet import quiet_transformers
from voxelboard.benchmark.models.spec import ModelSpec
from voxelboard.benchmark.stimuli.stories import Story, make_story

TEXT = (
    "once there was a little girl who went to the sea with her old dog and they looked for a boat until the boat came"
)
TALE = TEXT.split()
_SMALL = {"vocab_size": 290, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "initializer_range": 0.1}
_LLAMA = {
    **_SMALL,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", {**_SMALL, "n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 128}),
    "llama": ("LlamaConfig", _LLAMA),
    "gemma2": ("Gemma2Config", {**_LLAMA, "head_dim": 8, "final_logit_softcapping": 5.0}),  # a head that caps
    "mamba": ("MambaConfig", {**_SMALL, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}),
}


def tale(words: list[str] = TALE, name: str = "tale") -> Story:
    """Two words a TR of 2 s."""
    onsets = np.arange(len(words)) * 1.0
    return make_story(name, words, onsets, onsets + 0.5, n_trs=(len(words) + 1) // 2, tr=2.0)


def byte_tokenizer(text: str, vocab_size: int = 290, start: bool = True) -> transformers.PreTrainedTokenizerFast:
    """Byte-level BPE with few merges, so that words have several tokens; with ``start`` every text begins with <s>."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<pad>", "<s>", "</s>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    offsets = processors.ByteLevel(trim_offsets=True)
    if start:
        template = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
        tokenizer.post_processor = processors.Sequence([offsets, template])
    else:
        tokenizer.post_processor = offsets
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>")


def save_language_model(
    folder: Path, family: str, *, seed: int = 1, text: str = TEXT, start: bool = True, **changes: Any
) -> Path:
    """A checkpoint with its head, random weights; its tokenizer is trained on ``text``."""
    config_class, arguments = CONFIGS[family]
    config = getattr(transformers, config_class)(**{**arguments, **changes})
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        byte_tokenizer(text, config.vocab_size, start=start).save_pretrained(folder)
    return folder


def language_model(folder: Path, **options: Any) -> LanguageModel:
    return load_language_model(ModelSpec(loader="causal", source="local", path=folder), **options)
