# SPDX-License-Identifier: Apache-2.0
"""One tokenizer for all versions of a corpus, and each version as a file of token ids."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.atomic import replace_file
from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.protocol import hash_json
from voxelboard.benchmark.stimuli.ablations import tag_vocabulary
from voxelboard.benchmark.stimuli.corpora import read_manifest, training_texts
from voxelboard.benchmark.stimuli.passages import batches

END = "<|endoftext|>"  # between passages
_TEXTS_AT_A_TIME = 1000


def train_tokenizer(texts: Iterable[str], vocabulary: int, folder: Path) -> Any:
    """Train a byte-level BPE in lower case, save it in ``folder``, and return it (a Transformers fast tokenizer).

    Every tag word is one token, in whatever version of the corpus; a tag takes the blank before it along. The tokenizer
    of a folder is read again if it was trained before.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if not (folder / "tokenizer_config.json").is_file():
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=[END],
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        tokenizer.add_tokens([AddedToken(tag, lstrip=True, normalized=False) for tag in tag_vocabulary()])
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END)
        folder.mkdir(parents=True, exist_ok=True)
        fast.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def token_file(corpus: Path, part: str, tokenizer: Any, folder: Path) -> NDArray[np.uint16 | np.uint32]:
    """(n_tokens,) the ids of a version of the corpus, passages divided by ``END``; memory-mapped, made when missing.

    ``part`` is ``train`` or ``validation``; ``folder`` holds the files of all versions.

    Raises
    ------
    DataError
        for a version without tokens.
    """
    manifest = read_manifest(corpus)
    key = hash_json([manifest.sha256, part, tokenizer_sha256(tokenizer)])
    path = folder / f"{corpus.name}-{part}-{key[:16]}.npy"
    if not path.is_file():
        kind = np.uint16 if len(tokenizer) <= np.iinfo(np.uint16).max else np.uint32
        ids = np.concatenate([np.zeros(0, dtype=kind), *_encode(training_texts(corpus, part), tokenizer, kind)])
        if not len(ids):
            raise DataError(
                f"the {part} part of {corpus.name} has no tokens",
                "the corpus is too small: a fiftieth of its passages is held out; use a larger share of it",
            )
        replace_file(path, lambda file: np.save(file, ids, allow_pickle=False))
    mapped: NDArray[np.uint16 | np.uint32] = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped


def _encode(texts: Iterable[str], tokenizer: Any, kind: type[np.unsignedinteger[Any]]) -> Iterator[NDArray[Any]]:
    end = tokenizer.convert_tokens_to_ids(END)
    for some in batches(texts, _TEXTS_AT_A_TIME):
        encoded = tokenizer(list(some), add_special_tokens=False, verbose=False)["input_ids"]
        yield np.array([i for ids in encoded for i in (*ids, end)], dtype=kind)


def tokenizer_sha256(tokenizer: Any) -> str:
    """Hash of the whole tokenizer: vocabulary, merges, added tokens."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def windows(ids: NDArray[Any], context: int) -> NDArray[Any]:
    """(n_windows, context) a view of the ids without what is left over; a corpus shorter than a window is repeated.

    Raises
    ------
    DataError
        for fewer than two tokens.
    """
    if len(ids) < 2:
        raise DataError(f"a corpus of {len(ids)} tokens; at least 2 are needed", "use a larger corpus")
    if len(ids) < context:
        ids = np.resize(ids, context)
    n_windows = len(ids) // context
    return ids[: n_windows * context].reshape(n_windows, context)
