# SPDX-License-Identifier: Apache-2.0
"""A corpus, made in any number of processes and in any number of runs, has the same bytes."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError
from voxelboard.benchmark.stimuli import corpora
from voxelboard.benchmark.stimuli.corpora import CorpusRequest, prepare_corpus, read_manifest, training_texts
from voxelboard.benchmark.stimuli.grammar import build_lexicon, generate_sentence, spell
from voxelboard.benchmark.stimuli.passages import corpus_files, read_passages, split_passage
from voxelboard.benchmark.stimuli.syntax import MOST_CHARACTERS, Parser

VERSIONS = ("original", "noun", "random-noun", "remove-verb")


def write_corpus(folder: Path, n_lines: int = 700) -> Path:
    folder.mkdir()
    lexicon, rng = build_lexicon(), np.random.default_rng(0)
    lines = [" ".join(spell(lexicon, generate_sentence(lexicon, k % 8, rng))) + "." for k in range(n_lines)]
    (folder / "b.txt").write_text("\n\n".join(lines[: n_lines // 2]) + "\n", encoding="utf-8")
    (folder / "a.txt.gz").write_bytes(gzip.compress("\n".join(lines[n_lines // 2 :]).encode()))
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("source") / "corpus")


@pytest.fixture(scope="module")
def request_(source: Path, tmp_path_factory: pytest.TempPathFactory) -> CorpusRequest:
    return CorpusRequest(source, tmp_path_factory.mktemp("made"), VERSIONS)


@pytest.fixture(scope="module")
def made(request_: CorpusRequest) -> dict[str, corpora.Manifest]:
    return prepare_corpus(request_)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".parquet"
    }


@pytest.mark.usefixtures("made")
def test_two_processes_give_the_bytes_of_one(request_: CorpusRequest, tmp_path: Path) -> None:
    prepare_corpus(replace(request_, output=tmp_path), workers=2)
    assert contents(tmp_path) == contents(request_.output)


def test_what_was_stopped_is_resumed(
    request_: CorpusRequest, made: dict[str, corpora.Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = replace(request_, output=tmp_path)

    def stop(shards: int, passages: int) -> None:
        if shards == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(again, progress=stop)
    assert not (tmp_path / "noun" / "manifest.json").exists()
    with pytest.raises(DataError, match="holds no whole corpus"):
        read_manifest(tmp_path / "noun")
    parsed = []
    monkeypatch.setattr(corpora, "_parsed", lambda job, old=corpora._parsed: parsed.append(job.number) or old(job))
    assert prepare_corpus(again) == made
    assert parsed == [2]
    assert contents(tmp_path) == contents(request_.output)
    # a version that is asked for later is made from the stored parse
    monkeypatch.setattr(Parser, "parse", lambda *_: pytest.fail("parsed again"))
    later = prepare_corpus(replace(again, ablations=("verb",)))
    assert later["verb"].counts.words == made["noun"].counts.words


def test_counts_add_up_and_validation_is_the_same_passages(
    request_: CorpusRequest, made: dict[str, corpora.Manifest]
) -> None:
    folders = {name: request_.output / name for name in VERSIONS}
    texts = {name: (list(training_texts(f)), list(training_texts(f, "validation"))) for name, f in folders.items()}
    assert len(texts["original"][0]) + len(texts["original"][1]) == made["original"].passages == 700
    assert 2 <= len(texts["original"][1]) <= 40
    assert [len(part) for part in texts["noun"]] == [len(part) for part in texts["original"]]
    replaced = sum(text.count("NNOUN") for part in texts["noun"] for text in part)
    assert replaced == made["noun"].counts.replaced == made["random-noun"].counts.replaced
    assert made["remove-verb"].counts.removed > 0
    assert json.loads((folders["noun"] / "manifest.json").read_text())["parser"].startswith("en_core_web_sm 3.8")


def test_a_share_is_chosen_by_the_text_and_nested(request_: CorpusRequest, tmp_path: Path) -> None:
    half = prepare_corpus(replace(request_, output=tmp_path / "half", ablations=("original",), share=0.5))
    quarter = prepare_corpus(replace(request_, output=tmp_path / "quarter", ablations=("original",), share=0.25))
    texts = [set(training_texts(tmp_path / name / "original")) for name in ("half", "quarter")]
    assert 0.4 * 700 < len(texts[0]) < 0.6 * 700
    assert len(texts[1] - texts[0]) <= 0.05 * len(texts[1])  # those that are held out of the larger share
    assert half["original"].sha256 != quarter["original"].sha256


def test_jsonl_and_parquet_are_streamed(tmp_path: Path) -> None:
    from datasets import Dataset

    rows = {"text": ["A dog ran.", "", "It slept."], "number": [1, 2, 3]}
    Dataset.from_dict(rows).to_json(tmp_path / "a.jsonl")
    Dataset.from_dict(rows).to_parquet(tmp_path / "b.parquet")
    found = [(p.file, p.line, p.text) for p in read_passages(corpus_files(tmp_path))]
    assert found == [(f, n, t) for f in ("a.jsonl", "b.parquet") for n, t in ((1, "A dog ran."), (3, "It slept."))]
    Dataset.from_dict({"body": ["x"]}).to_json(tmp_path / "c.jsonl")
    with pytest.raises(DataError, match="without a column 'text'"):
        list(read_passages([tmp_path / "c.jsonl"]))


def test_an_empty_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingPrerequisite, match="no file or folder"):
        corpus_files(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no text"):
        corpus_files(tmp_path)
    (tmp_path / "a.txt").write_text("\n   \n")
    with pytest.raises(DataError, match=r"the corpus is empty: no text in a\.txt"):
        prepare_corpus(CorpusRequest(tmp_path / "a.txt", tmp_path / "out", ("noun",)))
    with pytest.raises(UserError, match="lies in the corpus"):
        CorpusRequest(tmp_path, tmp_path / "out", ("noun",))


def test_a_file_in_another_script_is_refused_and_a_foreign_line_is_left_out(tmp_path: Path) -> None:
    source = tmp_path / "corpus"
    source.mkdir()
    (source / "a.txt").write_text("The old dog slept in the house by the sea.\nΜῆνιν ἄειδε\n", encoding="utf-8")
    made = prepare_corpus(CorpusRequest(source, tmp_path / "out", ("original",)))["original"]
    assert (made.passages, made.skipped) == (1, 1)
    (source / "b.txt").write_text("Жила-была девочка\nA dog.\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"b\.txt: .*another script"):
        prepare_corpus(CorpusRequest(source, tmp_path / "out", ("original",)))


def test_a_line_of_a_megabyte_is_cut_at_sentences_and_garbage_is_refused(tmp_path: Path) -> None:
    line = "The dog ran. " * 80_000
    pieces = split_passage(line, "here")
    assert max(map(len, pieces)) <= MOST_CHARACTERS
    assert " ".join(pieces) == line.strip()
    assert all(piece.endswith(".") for piece in pieces)
    (tmp_path / "a.txt").write_text("A line.\n" + "x" * 1_000_000)
    with pytest.raises(DataError, match=r"a\.txt, line 2: 1,000,000 characters"):
        list(read_passages([tmp_path / "a.txt"]))


def test_other_encodings_and_broken_archives_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("naïve\n".encode("latin1"))
    with pytest.raises(DataError, match="not UTF-8"):
        list(read_passages([tmp_path / "a.txt"]))
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"A dog ran.\n" * 1000)[:-9])
    with pytest.raises(DataError, match="cannot be read"):
        list(read_passages([tmp_path / "b.txt.gz"]))


def test_requests_that_make_no_sense(tmp_path: Path, source: Path) -> None:
    with pytest.raises(UserError, match="share"):
        CorpusRequest(source, tmp_path, ("noun",), share=0)
    with pytest.raises(DataError, match="no file of"):
        corpus_files(source, ("lewis-carroll_*",))
    with pytest.raises(UserError, match="unknown ablation"):
        prepare_corpus(CorpusRequest(source, tmp_path, ("nuon",)))
    assert [path.name for path in corpus_files(source, ("a*",))] == ["b.txt"]
