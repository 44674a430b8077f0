# SPDX-License-Identifier: Apache-2.0
"""Retrieval against a full sort, the ranks by their names, ceilings and contrasts by closed forms."""

import numpy as np
import pytest

from voxelboard.benchmark.errors import DataError, InvalidNumbers, MissingPrerequisite, UserError
from voxelboard.benchmark.similarity.contrasts import PROBES, contrast_over_subjects, predicted_contrast
from voxelboard.benchmark.similarity.retrieval import (
    CaptionLibrary,
    caption_ceiling,
    diagonal_advantage,
    nearest,
    prediction_quality_ranks,
    ranks_in_library,
    similarity_table,
    write_library,
)
from voxelboard.benchmark.statistics.geometry import match_ranks, normalised_ranks

RNG = np.random.default_rng(2)


def full_sort(queries, library, metric):
    a, b = (np.asarray(x, dtype=np.float64) for x in (queries, library))
    if metric == "correlation":
        a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return a @ b.T


@pytest.mark.parametrize("metric", ["cosine", "correlation"])
@pytest.mark.parametrize("piece_bytes", [1, 3000, 1 << 27])
def test_the_nearest_are_those_of_a_full_sort_whatever_the_pieces(metric, piece_bytes):
    queries, library = RNG.standard_normal((7, 12)) + 1, RNG.standard_normal((500, 12)) + 1
    found = nearest(queries, library, 9, metric=metric, piece_bytes=piece_bytes)
    table = full_sort(queries, library, metric)
    assert np.array_equal(found.indices, np.argsort(-table, axis=1, kind="stable")[:, :9])
    assert found.similarity == pytest.approx(-np.sort(-table, axis=1)[:, :9], abs=1e-6)
    assert similarity_table(queries, library, metric) == pytest.approx(table, abs=1e-6)


@pytest.mark.parametrize("piece_bytes", [1, 400, 1 << 27])
def test_of_equal_entries_the_earlier_is_nearer(piece_bytes):
    library = np.tile(RNG.standard_normal((4, 6)), (25, 1))
    found = nearest(library[:4], library, 30, piece_bytes=piece_bytes)
    for query in range(4):
        assert found.indices[query, :25].tolist() == list(range(query, 100, 4))


def test_a_library_on_disk_is_searched_as_one_in_memory_and_knows_its_texts(tmp_path):
    texts = [f"caption {i} é" for i in range(300)]
    table = RNG.standard_normal((300, 16))
    place = {text: i for i, text in enumerate(texts)}
    library = write_library(
        tmp_path / "library", texts, lambda some: table[[place[t] for t in some]], "model x", batch=64
    )
    assert len(library) == 300
    assert library.model == "model x"
    found = nearest(table[[17, 200]], library.embeddings, 3)
    assert found.indices[:, 0].tolist() == [17, 200]
    assert library.texts(found.indices[:, 0]) == [texts[17], texts[200]]
    assert CaptionLibrary(tmp_path / "library").texts([299, 0]) == [texts[299], texts[0]]


def test_what_is_no_library_is_refused(tmp_path):
    with pytest.raises(MissingPrerequisite, match="no caption library"):
        CaptionLibrary(tmp_path)
    with pytest.raises(DataError, match="line break"):
        write_library(tmp_path, ["a\nb"], lambda texts: np.ones((len(texts), 2)), "m")
    write_library(tmp_path, ["a", "b"], lambda texts: RNG.standard_normal((len(texts), 2)), "m")
    (tmp_path / "captions.txt").write_text("a\n")
    with pytest.raises(DataError, match="damaged"):
        CaptionLibrary(tmp_path)


def test_bad_queries_are_refused():
    library = RNG.standard_normal((10, 4))
    with pytest.raises(UserError, match="k = 11"):
        nearest(library, library, 11)
    with pytest.raises(UserError, match="same model"):
        nearest(library[:, :3], library, 1)
    with pytest.raises(InvalidNumbers, match="query 2"):
        nearest(np.where(np.arange(10)[:, None] == 2, 0.0, library), library, 1)
    library[7, 0] = np.nan
    with pytest.raises(InvalidNumbers, match="library 7"):
        nearest(library[:3], library, 1, piece_bytes=1)


def test_a_noise_free_linear_brain_finds_every_caption_and_a_permuted_one_none():
    embedding = RNG.standard_normal((515, 20))
    brain = embedding @ RNG.standard_normal((20, 60))
    decoder = np.linalg.lstsq(brain[:200], embedding[:200], rcond=None)[0]
    decoded = brain[200:] @ decoder
    table = similarity_table(decoded, embedding[200:], "correlation")
    assert match_ranks(table).tolist() == [0.0] * 315
    assert ranks_in_library(decoded, embedding[200:], embedding[:200]).max() == 0
    permuted = match_ranks(table[RNG.permutation(315)])
    # a uniform rank of 0..314 has a mean of 157 and a standard error of 91 / sqrt(315) = 5.1
    assert permuted.mean() == pytest.approx(157, abs=16)
    assert normalised_ranks(table[RNG.permutation(315)]).mean() == pytest.approx(0.5, abs=0.05)


def test_ranks_in_a_library_count_what_is_nearer_and_half_of_what_is_as_near():
    query, truth = np.array([[1.0, 0.0]]), np.array([[1.0, 1.0]])
    library = np.array([[1.0, 0.1], [2.0, 2.0], [0.0, 1.0], [1.0, -1.0]])  # nearer, equal, farther, equal
    assert ranks_in_library(query, truth, library, piece_bytes=1).tolist() == [2.0]


def test_the_rank_of_the_paper_s_figures_is_another_number():
    targets = np.eye(5)
    predictions = targets + np.array([0.5, 0.1, 0.0, 0.9, 0.3])[:, None]
    assert prediction_quality_ranks(predictions, targets).tolist() == [3, 1, 0, 4, 2]
    assert match_ranks(similarity_table(predictions, targets)).tolist() == [0.0] * 5


def test_the_advantage_of_the_diagonal():
    assert diagonal_advantage(np.eye(4)) == pytest.approx(1.0)
    assert diagonal_advantage(np.ones((4, 4))) == pytest.approx(0.0)


def test_the_caption_ceiling_uses_every_caption():
    """Doerig et al.'s code keeps the last caption only; here each has its part."""
    five = RNG.standard_normal((5, 30))
    expected = np.mean([np.corrcoef(five[i], np.delete(five, i, axis=0).mean(axis=0))[0, 1] for i in range(5)])
    assert caption_ceiling([five])[0] == pytest.approx(expected, abs=1e-6)
    shifted = five.copy()
    shifted[0] = RNG.standard_normal(30)
    assert caption_ceiling([shifted])[0] != pytest.approx(expected, abs=1e-3)
    with pytest.raises(DataError, match="two or more"):
        caption_ceiling([five[:1]])


def test_a_planted_contrast_is_recovered():
    """Predicted contrast = W (mean of people - mean of places), exactly; over subjects where it is planted only."""
    people, places = RNG.standard_normal((5, 16)), RNG.standard_normal((5, 16))
    direction = people.mean(axis=0) - places.mean(axis=0)
    weights = []
    for _ in range(8):
        own = 0.3 * RNG.standard_normal((16, 200))
        own[:, :40] += 2 * direction[:, None] / np.linalg.norm(direction)
        weights.append(own)
    assert predicted_contrast(weights[0], people, places) == pytest.approx(direction @ weights[0])
    contrast = contrast_over_subjects(weights, people, places)
    assert contrast.significant[:40].mean() > 0.95
    assert contrast.significant[40:].mean() < 0.05
    with pytest.raises(DataError, match="features"):
        predicted_contrast(weights[0], people[:, :3], places)


def test_the_probes_are_three_groups_of_five_sentences():
    assert {name: len(set(sentences)) for name, sentences in PROBES.items()} == {"people": 5, "places": 5, "food": 5}
