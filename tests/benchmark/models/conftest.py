# SPDX-License-Identifier: Apache-2.0
"""Tiny checkpoints of every family, built from configurations, and the naive way to read them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from voxelboard.benchmark.models import recurrent
from voxelboard.benchmark.models.quiet import quiet_transformers
from voxelboard.benchmark.protocol import ContextPolicy
from voxelboard.benchmark.stimuli.stories import Story, make_story

WORDS = [
    "“Hello,”",
    "said",
    "the",
    "naïve",
    "café",
    "owner",
    "to",
    "the",
    "cat.",
    "Don’t",
    "go",
    "–",
    "it’s",
    "日本",
    "time",
    "again",
    "and",
    "the",
    "dog",
    "and",
    "the",
    "cat",
    "went",
    "to",
    "the",
    "sea",
    "🙂",
    "where",
    "a",
    "little",
    "girl",
    "said",
    "that",
    "the",
    "dog’s",
    "café",
    "was",
    "open…",
    "again",
    "and",
    "again",
]
CORPUS = [" ".join(WORDS[4:]).replace("日本", "tea").replace("🙂", "")] * 3
SPECIALS = ["<pad>", "<s>", "</s>", "<unk>"]


def word_story(words: list[str], name: str = "tale") -> Story:
    onsets = np.arange(len(words)) * 0.5
    return make_story(name, words, onsets, onsets + 0.4, n_trs=len(words), tr=1.0)


def _byte_level(trim_offsets: bool = True) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=alphabet, special_tokens=SPECIALS, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim_offsets)
    return tokenizer


def _roberta_level() -> Tokenizer:
    tokenizer = _byte_level()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 1))
    return tokenizer


def _word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=150, special_tokens=specials, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def _unigram() -> Tokenizer:
    """Metaspace, byte fallback, an end token: T5's and Llama's kind."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.UnigramTrainer(vocab_size=330, unk_token="<unk>", special_tokens=special, show_progress=False),
    )
    content = json.loads(tokenizer.to_str())
    content["model"]["byte_fallback"] = True
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer


def _across_words() -> Tokenizer:
    """No pre-tokeniser, so that pieces such as "▁and▁the" cover several words."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    text = CORPUS[0].replace("again and again", "and the and the") + "日本🙂“,”Hl"
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=SPECIALS, show_progress=False, max_token_length=12)
    tokenizer.train_from_iterator([text] * 3, trainer)
    return tokenizer


def fast(tokenizer: Tokenizer) -> transformers.PreTrainedTokenizerFast:
    vocabulary = tokenizer.get_vocab()
    named = {
        role: piece
        for role, pieces in {
            "pad_token": ("<pad>", "[PAD]"),
            "unk_token": ("<unk>", "[UNK]"),
            "bos_token": ("<s>",),
            "eos_token": ("</s>",),
            "cls_token": ("[CLS]",),
            "sep_token": ("[SEP]",),
        }.items()
        for piece in pieces
        if piece in vocabulary
    }
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "byte_level": _byte_level,
    "byte_level_untrimmed": lambda: _byte_level(trim_offsets=False),
    "roberta_level": _roberta_level,
    "word_piece": _word_piece,
    "unigram": _unigram,
    "across_words": _across_words,
}


@pytest.fixture(scope="session")
def tokenizers() -> dict[str, transformers.PreTrainedTokenizerFast]:
    """Trained tokenizers by kind."""
    return {name: fast(make()) for name, make in TOKENIZERS.items()}


_LLAMA = {
    "vocab_size": 330,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_BERT = {
    "vocab_size": 330,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
}
# family -> (configuration class, its arguments, tokenizer, loader)
FAMILIES: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "gpt2": (
        "GPT2Config",
        {"vocab_size": 330, "n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 256, "initializer_range": 0.2}
        | {"bos_token_id": 1, "eos_token_id": 2},
        "byte_level",
        "causal",
    ),
    "gpt2_untrimmed": (
        "GPT2Config",
        {"vocab_size": 330, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 256, "initializer_range": 0.2}
        | {"bos_token_id": 1, "eos_token_id": 2},
        "byte_level_untrimmed",
        "causal",
    ),
    "llama": ("LlamaConfig", _LLAMA | {"initializer_range": 0.2}, "unigram", "causal"),
    "llama_across": ("LlamaConfig", _LLAMA | {"initializer_range": 0.2}, "across_words", "causal"),
    "qwen2": ("Qwen2Config", _LLAMA | {"initializer_range": 0.2}, "byte_level", "causal"),
    "mamba": (
        "MambaConfig",
        {"vocab_size": 330, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4, "initializer_range": 0.2},
        "byte_level",
        "causal",
    ),
    "lstm": ("LSTMConfig", {"vocab_size": 330, "hidden_size": 16, "num_hidden_layers": 2}, "byte_level", "recurrent"),
    "bert": ("BertConfig", _BERT, "word_piece", "masked"),
    "roberta": (
        "RobertaConfig",
        _BERT | {"max_position_embeddings": 130, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
        "roberta_level",
        "masked",
    ),
    "t5": (
        "T5Config",
        {"vocab_size": 330, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 3, "num_heads": 2, "pad_token_id": 0},
        "unigram",
        "seq2seq",
    ),
    "bart": (
        "BartConfig",
        {"vocab_size": 330, "d_model": 16, "encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 2}
        | {"decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 256}
        | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2, "init_std": 0.2},
        "roberta_level",
        "seq2seq",
    ),
}


@pytest.fixture(scope="session")
def checkpoints(
    tmp_path_factory: pytest.TempPathFactory, tokenizers: dict[str, transformers.PreTrainedTokenizerFast]
) -> Callable[[str], Path]:
    """The folder of a tiny checkpoint of a family; the same each time, not to be changed."""
    folders: dict[str, Path] = {}

    def build(family: str) -> Path:
        if family not in folders:
            folders[family] = tmp_path_factory.mktemp(family)
            save_checkpoint(folders[family], family, tokenizers)
        return folders[family]

    return build


def save_checkpoint(folder: Path, family: str, tokenizers: dict[str, Any], seed: int = 1, **changes: Any) -> None:
    config_class, arguments, tokenizer, _ = FAMILIES[family]
    recurrent.register()
    config = getattr(transformers, config_class, None) or getattr(recurrent, config_class)
    config = config(**(arguments | changes))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with quiet_transformers():
            transformers.AutoModel.from_config(config).save_pretrained(folder)
    tokenizers[tokenizer].save_pretrained(folder)


@pytest.fixture
def new_checkpoint(tmp_path: Path, tokenizers: dict[str, transformers.PreTrainedTokenizerFast]) -> Callable[..., Path]:
    """A checkpoint of one's own, to be broken."""

    def build(family: str = "gpt2", **changes: Any) -> Path:
        folder = tmp_path / "checkpoint"
        save_checkpoint(folder, family, tokenizers, **changes)
        return folder

    return build


def naive_states(folder: Path, story: Story, context: ContextPolicy) -> np.ndarray:
    """One text, one pass, one word at a time, with nothing but Transformers: (n_layers, n_words, n_features)."""
    with quiet_transformers():
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    states = []
    for word, (start, stop) in enumerate(story.spans):
        begin = story.spans[context.chunk_start(word)][0]
        encoded = tokenizer(
            story.text[begin:stop], return_offsets_mapping=True, return_special_tokens_mask=True, return_tensors="pt"
        )
        with torch.no_grad():
            layers = model(input_ids=encoded["input_ids"], output_hidden_states=True).hidden_states
        pieces = tokenizer.convert_ids_to_tokens(encoded["input_ids"][0])
        chosen = [
            i
            for i, (a, b) in enumerate(encoded["offset_mapping"][0].tolist())
            if not encoded["special_tokens_mask"][0, i]
            and pieces[i].strip("▁Ġ")
            and max(a, start - begin) < min(b, stop - begin)
        ]
        states.append(torch.stack([layer[0, chosen].mean(0) for layer in layers]).numpy())
    return np.stack(states, axis=1)


@pytest.fixture(scope="session")
def naive() -> Callable[[Path, Story, ContextPolicy], np.ndarray]:
    return naive_states


@pytest.fixture(scope="session")
def make_words() -> Callable[..., Story]:
    """A story from words, two words a TR."""
    return word_story


@pytest.fixture(scope="session")
def tale() -> Story:
    """38 words with curly quotes, accents, Japanese and an emoji."""
    return word_story(WORDS)
