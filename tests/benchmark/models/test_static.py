# SPDX-License-Identifier: Apache-2.0
"""Static vectors: the table as it is, words that are not in it, and its random twin."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError
from voxelboard.benchmark.models.load import describe_model, load_model
from voxelboard.benchmark.models.spec import ModelSpec
from voxelboard.benchmark.models.static import StaticModel, read_word_vectors
from voxelboard.benchmark.protocol import ContextPolicy
from voxelboard.benchmark.readers.base import StaticVectors
from voxelboard.benchmark.stimuli.stories import Story

GLOVE = "the 0.5 -1 2e-1\nThe 7 7 7\ncat 1 2 3\n. . . 4 5 6\ndon't 0 0 1\ncat 9 9 9\n"
CONTEXT = ContextPolicy()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "glove.3d.txt"
    path.write_text(GLOVE)
    return path


def static(path: Path, **options: object) -> ModelSpec:
    return ModelSpec(loader="static", source="local", path=path, **options)


def test_words_are_found_exactly_then_lower_then_bare(table: Path, make_words: Callable[..., Story]) -> None:
    story = make_words(["the", "The", "THE", "cat", "“Cat,”", "Don’t", "zebra", "…"])
    model = load_model(static(table))
    expected = [[0.5, -1, 0.2], [7, 7, 7], [0.5, -1, 0.2], [1, 2, 3], [1, 2, 3], [0, 0, 1], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_array_equal(model.states(story, CONTEXT), np.array([expected], dtype=np.float32))
    assert model.report.n_out_of_vocabulary == 2
    assert model.report.out_of_vocabulary == 0.25


def test_a_compressed_table_and_a_word2vec_header(table: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed.txt.gz"
    packed.write_bytes(gzip.compress(GLOVE.encode()))
    headed = tmp_path / "headed.vec"
    headed.write_text("5 3\n" + GLOVE)
    plain = read_word_vectors(table)
    for path in (packed, headed):
        vectors = read_word_vectors(path)
        np.testing.assert_array_equal(vectors.vectors, plain.vectors)
        assert vectors.index == plain.index


def test_entries_with_blanks_and_doubles(table: Path) -> None:
    vectors = read_word_vectors(table)
    np.testing.assert_array_equal(vectors.vectors[vectors.index["cat"]], [1, 2, 3])


def test_a_word_of_several_dots_needs_the_width_first(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("a 1 2 3\n. . 4 5 6\n")
    assert read_word_vectors(path).index == {"a": 0, ". .": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no word vectors"),
        ("the 1 2 3\ncat 1 2\n", "line 2: expected a word and 3 finite numbers"),
        ("the 1 2 3\ncat 1 2 x\n", "line 2: expected a word and 3 finite numbers"),
        ("the 1 2 nan\n", "line 1: expected"),
        ("the\n", "line 1: expected"),
        ("the 1\n", "line 1: 'the 1' is neither a word2vec header nor a word vector"),
    ],
)
def test_broken_tables_name_the_line(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.txt"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        load_model(static(path))


def test_a_truncated_archive(tmp_path: Path) -> None:
    path = tmp_path / "cut.txt.gz"
    path.write_bytes(gzip.compress(GLOVE.encode())[:-12])
    with pytest.raises(DataError, match=r"not a whole \.gz file"):
        load_model(static(path))


def test_missing_tables_links_and_the_hub(table: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingPrerequisite, match="there is no file"):
        load_model(static(tmp_path / "nowhere.txt"))
    link = tmp_path / "inner" / "link.txt"
    link.parent.mkdir()
    link.symlink_to(table)
    with pytest.raises(UserError, match="link that leads out"):
        load_model(static(link))
    with pytest.raises(UserError, match="read from a file"):
        load_model(ModelSpec(loader="static", id="org/glove", revision="0" * 40))


def test_the_twin_has_one_gaussian_vector_for_each_entry(make_words: Callable[..., Story]) -> None:
    words = [f"w{i}" for i in range(200)]
    rng = np.random.default_rng(0)
    vectors = StaticVectors("t", {w: i for i, w in enumerate(words)}, rng.random((200, 50), dtype=np.float32))
    shuffled = StaticVectors("t", {w: 199 - i for i, w in enumerate(words)}, vectors.vectors)
    story = make_words([*words, "W3", "zebra"])
    states = StaticModel(vectors, weights="random", seed=4).states(story, CONTEXT)[0]
    np.testing.assert_array_equal(StaticModel(shuffled, weights="random", seed=4).states(story, CONTEXT)[0], states)
    np.testing.assert_array_equal(states[200], states[3])
    np.testing.assert_array_equal(states[201], 0)
    assert np.abs(np.corrcoef(states[:200]) - np.eye(200)).max() < 0.65  # 50 columns: sd of a correlation is .14
    assert abs(states[:200].mean()) < 0.04
    assert abs(states[:200].std() - 1) < 0.04
    assert not np.array_equal(StaticModel(vectors, weights="random", seed=5).states(story, CONTEXT)[0], states)


def test_identities_follow_table_and_seed(table: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text(GLOVE + "dog 3 2 1\n")
    specs = [static(table), static(other), static(table, weights="random"), static(table, weights="random", seed=1)]
    identities = [load_model(spec).identity for spec in specs]
    assert len({identity.weights_sha256 for identity in identities}) == 4
    assert load_model(specs[0]).identity == identities[0]
    assert identities[0].n_parameters == describe_model(specs[0]).n_parameters == 15


def test_a_table_in_memory_is_identified_by_its_numbers() -> None:
    vectors = np.eye(3, dtype=np.float32)
    one = StaticModel(StaticVectors("t", {"a": 0, "b": 1}, vectors))
    swapped = StaticModel(StaticVectors("t", {"a": 1, "b": 0}, vectors))
    renamed = StaticModel(StaticVectors("t", {"a": 0, "c": 1}, vectors))
    assert len({model.identity.weights_sha256 for model in (one, swapped, renamed)}) == 3
    assert one.identity.model_id == "t"


def test_the_context_does_not_matter(table: Path, make_words: Callable[..., Story]) -> None:
    model = load_model(static(table))
    story = make_words(["the", "cat", "the"])
    np.testing.assert_array_equal(model.states(story, ContextPolicy(1)), model.states(story, ContextPolicy(64)))
