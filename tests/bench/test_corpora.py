# SPDX-License-Identifier: Apache-2.0
"""Throughput of corpus ablation: all versions together, beside the parser alone, which is the peer and the lower bound."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voxelboard.benchmark.stimuli.ablations import ablate, load_ablation
from voxelboard.benchmark.stimuli.corpora import CorpusRequest, prepare_corpus
from voxelboard.benchmark.stimuli.grammar import build_lexicon, generate_sentence, spell
from voxelboard.benchmark.stimuli.syntax import MODEL, load_parser

VERSIONS = ("original", "noun", "verb", "content", "function", "random-noun")


@pytest.fixture(scope="module")
def lines() -> list[str]:
    lexicon, rng = build_lexicon(), np.random.default_rng(0)
    sentences = [" ".join(spell(lexicon, generate_sentence(lexicon, k % 8, rng))) + "." for k in range(1000)]
    return [" ".join(sentences[k : k + 5]) for k in range(0, 1000, 5)]


def test_parser_alone(benchmark: Any, lines: list[str]) -> None:
    """spaCy's own pipe: the peer."""
    import importlib

    pipeline = importlib.import_module(MODEL).load(exclude=["ner", "lemmatizer"])
    n_tokens = benchmark.pedantic(lambda: sum(len(doc) for doc in pipeline.pipe(lines, batch_size=64)), rounds=3)
    benchmark.extra_info["tokens"] = n_tokens


def test_parser_with_phrases(benchmark: Any, lines: list[str]) -> None:
    parser = load_parser()
    parsed = benchmark.pedantic(lambda: list(parser.parse(lines)), rounds=3)
    benchmark.extra_info["tokens"] = sum(len(text.tokens) for text in parsed)


def test_six_versions_from_one_parse(benchmark: Any, lines: list[str]) -> None:
    parser = load_parser()
    parsed = list(parser.parse(lines))
    ablations = [load_ablation(name, parser) for name in VERSIONS]
    benchmark.pedantic(lambda: [ablate(text, ablation)[0] for ablation in ablations for text in parsed], rounds=3)
    benchmark.extra_info["tokens"] = sum(len(text.tokens) for text in parsed)


def test_corpus_on_disk(benchmark: Any, lines: list[str], tmp_path: Path) -> None:
    source = tmp_path / "corpus.txt"
    source.write_text("\n".join(lines), encoding="utf-8")
    numbers = iter(range(100))

    def make() -> int:
        request = CorpusRequest(source, tmp_path / str(next(numbers)), VERSIONS)
        return prepare_corpus(request)["original"].counts.words

    benchmark.extra_info["words"] = benchmark.pedantic(make, rounds=3)
