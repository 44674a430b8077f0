# SPDX-License-Identifier: Apache-2.0
"""Tokenizers for benchmarks of language models: nothing is downloaded."""

from collections.abc import Iterable
from pathlib import Path

import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from voxelboard.benchmark.models.quiet import quiet_transformers


def save_tokenizer(folder: Path, texts: Iterable[str], vocab_size: int = 700) -> None:
    """A byte-level BPE trained on the texts, as a Transformers tokenizer in ``folder``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<pad>", "<s>", "</s>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    with quiet_transformers():
        transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>").save_pretrained(folder)
